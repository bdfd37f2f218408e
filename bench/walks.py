"""Count the source files that one search, and one update with one new video, pass through.

    python bench/walks.py

A file counts when one of its functions runs, in any thread, between the call and its result; what
only runs while a module is imported does not count. A new library is made of one clip with
subtitles; the update adds a second clip, the search is the first one after it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import videoclip
from videoclip.embedding import Embedder
from videoclip.library.library import VideoLibrary

PACKAGE = f"{Path(videoclip.__file__).parent}{os.sep}"
CLIPS = Path(__file__).resolve().parents[2] / "shared" / "videos"
LAYERS = {"model/encoders.py", "model/transformer.py"}
"""Files that only define layers, run inside the forward pass of a backbone or model."""
SUBTITLES = "WEBVTT\n\n00:01.000 --> 00:02.000\nA rabbit in a meadow.\n"


@contextmanager
def functions_run() -> Iterator[dict[str, list[str]]]:
    """Collect the names of the package's functions that run inside the block, by file."""
    found: dict[str, list[str]] = {}
    seen: set[CodeType] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or code in seen:
            return
        seen.add(code)
        if code.co_filename.startswith(PACKAGE) and code.co_name != "<module>":
            file = code.co_filename.removeprefix(PACKAGE)
            found.setdefault(file, []).append(code.co_qualname)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def walk(title: str, call: Callable[[], object], last: str, functions: bool) -> None:
    """Run a call and print the files it passed through, in order.

    Args:
        title: Name of the walk.
        call: What to run.
        last: File at which the walk is at its goal; files after it are listed apart.
        functions: Whether to print the functions too.
    """
    with functions_run() as found:
        call()
    files = list(found)
    goal = files.index(last) + 1 if last else len(files)
    num_layers = len(LAYERS.intersection(files[:goal]))
    print(f"{title}: {goal} files, of which {num_layers} are layers inside networks")
    for number, file in enumerate(files, start=1):
        if number == goal + 1:
            print(f"  after that, {len(files) - goal} more:")
        print(f"  {file}  {', '.join(found[file]) if functions else ''}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", action="store_true", help="print the functions too")
    functions = parser.parse_args().functions
    embedder = Embedder.from_pretrained("starter")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in ("mdn_frog.mp4", "mdn_rabbit.mp4"):
            shutil.copy(CLIPS / clip, folder)
            (folder / clip).with_suffix(".vtt").write_text(SUBTITLES)
        with VideoLibrary(folder / "library", embedder, model="starter") as library:
            library.update(folder / "mdn_frog.mp4")
            walk(
                "update(path) to a stored vector",
                lambda: library.update(folder / "mdn_rabbit.mp4"),
                "library/vectors.py",
                functions,
            )
            walk(
                "search(query) to moments",
                lambda: library.search("a rabbit in a meadow"),
                "",
                functions,
            )


if __name__ == "__main__":
    main()
