"""`videoclip demo`: the whole story in minutes, offline, on a CPU."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Demo"]


@dataclass(frozen=True)
class Demo:
    """Learn from a small narrated world, then find moments in it and in real clips.

    Everything is written to one folder; the same command again continues where it was.
    """

    out: Path = Path("demo")
    """Folder for everything; the report is OUT/report.html."""
    videos: Path | None = None
    """Folder of your own videos to search in; by default three clips that ship in a package."""
    quick: bool = False
    """A minute instead of four; the numbers mean less."""

    def run(self) -> int:
        """Tell the story and write the report."""
        from videoclip.demo.report import render
        from videoclip.demo.story import FULL, QUICK, sample_clips, scores_line, tell
        from videoclip.features.extract import find_videos

        began = time.perf_counter()
        folder = self.out / ("quick" if self.quick else "full")
        videos = sample_clips()
        if self.videos:
            videos = [file.path for file in find_videos([self.videos])[0]]
        story = tell(folder, videos, QUICK if self.quick else FULL, _say)
        report = self.out / "report.html"
        report.write_text(render(story), encoding="utf-8")
        for training in story.trainings:
            print(f"{training.name:>8}: {scores_line(training)}")
        print(f"{report} written; {time.perf_counter() - began:.0f} s in all")
        print(f'now try: videoclip search "a rabbit" --library {folder / "library"}')
        return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
