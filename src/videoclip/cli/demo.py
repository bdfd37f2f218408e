"""`videoclip demo`: the whole method in minutes, offline, on a CPU."""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from videoclip.errors import DataError


@dataclass(frozen=True)
class Demo:
    """Pre-train on a few synthetic narrated videos, then search in them and in real clips.

    Everything is written to one folder; the same command again continues an interrupted demo.
    """

    out: Path = Path("demo")
    """Folder to write to; the report is OUT/report.html."""
    videos: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder of your own videos to search in, instead of three clips that come with the demo."""
    quick: bool = False
    """One minute instead of four, with less meaningful numbers."""

    def run(self) -> int:
        """Run the demo and write the report."""
        from videoclip.demo import format_scores, render_report, run_demo, sample_clips
        from videoclip.features.extract import find_videos
        from videoclip.files import write_output

        began = time.perf_counter()
        folder = self.out / ("quick" if self.quick else "full")
        videos = sample_clips()
        if self.videos:
            files, failed = find_videos([self.videos])
            if not files:
                raise DataError(next(iter(failed.values())), self.videos)
            videos = [file.path for file in files]
        on_message = partial(print, file=sys.stderr, flush=True)
        num_videos, epochs = (16, 60) if self.quick else (64, 40)
        report = run_demo(folder, videos, num_videos, epochs, on_message)
        page = self.out / "report.html"
        write_output(page, render_report(report))
        for run in report.runs:
            print(f"{run.name:>8}: {format_scores(run)}")
        print(f"{page} written; {time.perf_counter() - began:.0f} s in all")
        print(f'now try: videoclip search "a rabbit" --library {folder / "library"}')
        return 0
