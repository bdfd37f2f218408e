"""Time of `videoclip index` on a new folder of 1,000 videos of one frame each.

    python bench/one_frame_files.py [--videos N] [--workers N] [--json]

The whole command is timed, including the start of Python, of the model and of the workers:
wall-clock time, and processor time of all its processes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

RESULTS = Path(__file__).parent / "results" / "one_frame_files.json"
WIDTH, HEIGHT = 320, 240


def write_files(folder: Path, num_videos: int) -> None:
    """Write videos of one frame, each with another picture."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(num_videos):
        picture = np.kron(rng.integers(256, size=(6, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
        with av.open(str(folder / f"{number:05d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder / "videos", arguments.videos)
        command = [sys.executable, "-m", "videoclip", "index", str(folder / "videos"), "--json"]
        command += ["--library", str(folder / "library")]
        if arguments.workers is not None:
            command += ["--workers", str(arguments.workers)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wall = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "videos": len(json.loads(done.stdout)["added"]),
        "wall_seconds": wall,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"{result['videos']} videos of one frame indexed in {wall:.1f} s, "
        f"{result['cpu_seconds']:.1f} CPU s"
    )


if __name__ == "__main__":
    main()
