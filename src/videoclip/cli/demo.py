"""`videoclip demo`: the whole method in minutes, offline, on a CPU."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, ClassVar

from tyro.conf import arg

SILENT_SECONDS = 1.5
"""After which the elapsed time is printed."""


@dataclass(frozen=True)
class Demo:
    """Find moments in real clips, then pre-train on a few synthetic narrated videos.

    Everything is written to one folder; the same command again continues an interrupted demo.
    """

    stray: ClassVar[str] = "name a folder of your own videos as --videos FOLDER"

    out: Path = Path("demo")
    """Folder to write to; the report is OUT/report.html."""
    videos: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder of your own videos to search in, instead of three clips that come with the demo."""
    quick: bool = False
    """One minute instead of four, with less meaningful numbers."""

    def run(self) -> int:
        """Run the demo and write the report."""
        from videoclip.features.extract import videos_in

        began = time.perf_counter()
        videos = videos_in(self.videos) if self.videos else []
        with _heartbeat() as print_line:
            print_line("loading torch ...")
            from videoclip import demo
            from videoclip.files import write_output

            folder = self.out / ("quick" if self.quick else "full")
            videos = videos or demo.sample_clips()
            num_videos, epochs = (16, 60) if self.quick else (64, 40)
            report = demo.run_demo(folder, videos, num_videos, epochs, print_line)
            page = self.out / "report.html"
            write_output(page, demo.render_report(report))
        for run in report.runs:
            print(f"{run.name:>8}: {demo.format_scores(run)}")
        print(f"{page} written; {time.perf_counter() - began:.0f} s in all")
        print(f"now try: videoclip search a rabbit in a meadow --library {folder / 'library'}")
        return 0


@contextmanager
def _heartbeat() -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a line on stderr; in between, the elapsed time is printed."""
    began, printed, ended = time.monotonic(), Event(), Event()

    def print_line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        printed.set()

    def beat() -> None:
        while not ended.is_set():
            if not printed.wait(SILENT_SECONDS):
                seconds = time.monotonic() - began
                print(f"      ... {seconds:.0f} s", file=sys.stderr, flush=True)
            printed.clear()

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield print_line
    finally:
        ended.set()
        printed.set()
        thread.join()
