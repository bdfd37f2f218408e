"""Time of `videoclip index` on an unchanged folder of 10,000 videos.

    python bench/unchanged.py [--videos N]

The videos are links to one clip of the shared folder; every second one has subtitles. Their rows
are written directly to the catalogue, with the values that indexing would give. The whole command
is timed, including the start of Python and of the model: wall-clock time and CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from videoclip.data.subtitles import read_subtitles
from videoclip.embedding import Embedder
from videoclip.library.library import VideoLibrary

RESULTS = Path(__file__).parent / "results" / "unchanged.json"
CLIP = Path(__file__).resolve().parents[2] / "shared" / "videos" / "mdn_rabbit.mp4"
SUBTITLES = "WEBVTT\n\n00:01.000 --> 00:02.000\nA rabbit in a meadow.\n"


def fill(folder: Path, library: Path, num_videos: int) -> None:
    """Create the folder and a library in which it is indexed."""
    first = folder / "0" / "00000.mp4"
    with VideoLibrary(library, Embedder.from_pretrained("starter"), model="starter") as opened:
        for number in range(num_videos):
            path = folder / str(number % 100) / f"{number:05d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            if number == 0:
                path.write_bytes(CLIP.read_bytes())
            else:
                path.hardlink_to(first)
            if number % 2:
                path.with_suffix(".vtt").write_text(SUBTITLES)
        opened.update(first)
        (known,) = opened.videos()
        catalog = opened._catalog
        with catalog.writing():
            for path in sorted(folder.rglob("*.mp4")):
                beside = path.with_suffix(".vtt")
                has_subtitles = beside.exists()
                video = replace(
                    known,
                    path=str(path),
                    narration_path=str(beside) if has_subtitles else None,
                    narration_mtime_ns=beside.stat().st_mtime_ns if has_subtitles else None,
                )
                catalog.add(video, read_subtitles(beside) if has_subtitles else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, library = Path(name) / "videos", Path(name) / "library"
        fill(folder, library, arguments.videos)
        command = [sys.executable, "-m", "videoclip", "index", str(folder), "--library"]
        times = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.perf_counter()
            done = subprocess.run(
                [*command, str(library), "--json"], check=True, capture_output=True, env=os.environ
            )
            wall = time.perf_counter() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            report = json.loads(done.stdout)
            assert report["unchanged"] == arguments.videos, report
            times.append((wall, cpu))
    result = {
        "videos": arguments.videos,
        "wall s": round(min(wall for wall, _ in times), 2),
        "CPU s": round(min(cpu for _, cpu in times), 2),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
