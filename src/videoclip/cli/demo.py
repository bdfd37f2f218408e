"""`videoclip demo`: the whole method in minutes, offline, on a CPU."""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from tyro.conf import arg

from videoclip.errors import DataError


@dataclass(frozen=True)
class Demo:
    """Find moments in real clips, then pre-train on a few synthetic narrated videos.

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
        began = time.perf_counter()
        videos = self._own_videos() if self.videos else None
        with _Heartbeat() as heart:
            heart.print("loading torch ...")
            from videoclip.demo import format_scores, render_report, run_demo, sample_clips
            from videoclip.files import write_output

            folder = self.out / ("quick" if self.quick else "full")
            videos = videos or sample_clips()
            num_videos, epochs = (16, 60) if self.quick else (64, 40)
            report = run_demo(folder, videos, num_videos, epochs, heart.print)
            page = self.out / "report.html"
            write_output(page, render_report(report))
        for run in report.runs:
            print(f"{run.name:>8}: {format_scores(run)}")
        print(f"{page} written; {time.perf_counter() - began:.0f} s in all")
        print(f'now try: videoclip search "a rabbit" --library {folder / "library"}')
        return 0

    def _own_videos(self) -> list[Path]:
        from videoclip.features.extract import find_videos

        assert self.videos is not None
        files, failed = find_videos([self.videos])
        if not files:
            raise DataError(next(iter(failed.values())), self.videos)
        return [file.path for file in files]


class _Heartbeat:
    """Prints lines on stderr, and the elapsed time whenever there was no line for 1.5 seconds."""

    SECONDS = 1.5

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._printed, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._ended.set()
        self._printed.set()
        self._thread.join()

    def print(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)
        self._printed.set()

    def _beat(self) -> None:
        while not self._ended.is_set():
            if not self._printed.wait(self.SECONDS):
                seconds = time.monotonic() - self._began
                print(f"      ... {seconds:.0f} s", file=sys.stderr, flush=True)
            self._printed.clear()
