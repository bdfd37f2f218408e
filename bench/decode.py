"""What sampling a video costs, beside decoding all of it; CPU time, in one run.

    python bench/decode.py [--video FILE] [--json]

The peer is `ffmpeg -i FILE -f null -`, or PyAV decoding everything where ffmpeg is not installed.
The default video is one minute of 1280x720 at 30 pictures a second, H.264, made of the real clips
in the shared folder. Each figure is the least of several rounds, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from videoclip.features.decode import sample_frames
from videoclip.features.resize import Squash

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
CLIPS = ROOT.parent / "shared" / "videos"
SIZE = Squash(224, 224)
SECONDS, RATE, WIDTH, HEIGHT = 60, 30, 1280, 720
# Large sources first: what is scaled up has little detail and is cheap to decode.
SOURCES = (
    "aa_jesse_dance.mp4",
    "bigbuckbunny.mp4",
    "vllama_skateboarding_dog.mp4",
    "vllama_IronMan.mp4",
    "vllama_dog_barking.mp4",
    "vllama_applausing.mp4",
    "mdn_rabbit.mp4",
)


def make_clip(path: Path) -> None:
    """Join real clips into one video of the size and rate that the figures speak of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial.mp4")
    with av.open(str(aside), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "medium", "crf": "23"}
        for position, picture in zip(range(SECONDS * RATE), _pictures(), strict=False):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = position, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    aside.replace(path)


def _pictures() -> Iterator[np.ndarray]:
    while True:
        for name in SOURCES:
            for frame in sample_frames(CLIPS / name, RATE):
                yield frame.rgb(Squash(WIDTH, HEIGHT, "bicubic"))


def sample(path: Path, mode: str) -> None:
    """Sample one frame a second at 224 pixels, as extraction does."""
    for frame in sample_frames(path, 1.0, mode=mode):  # type: ignore[arg-type]
        frame.rgb(SIZE)


def decode_all(path: Path) -> None:
    """Decode everything with PyAV on one thread."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for _ in container.decode(video=0):
            pass


def run_ffmpeg(path: Path, threads: int) -> None:
    command = ["ffmpeg", "-v", "quiet", "-threads", str(threads), "-i", str(path)]
    subprocess.run([*command, "-f", "null", "-"], check=True)


def cpu_seconds(work: Callable[[], None]) -> float:
    """CPU time of this process and the children it waited for."""

    def now() -> float:
        usages = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    start = now()
    work()
    return now() - start


def wall_seconds(path: Path, num_workers: int, videos: int) -> float:
    """Wall time to sample a video several times with so many processes, started beforehand."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_workers) as pool:
        pool.starmap(sample, [(path, "fast")] * num_workers, chunksize=1)
        start = time.perf_counter()
        pool.starmap(sample, [(path, "exact")] * videos, chunksize=1)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, default=RESULTS / "clip_720p30.mp4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    path: Path = arguments.video
    if not path.exists():
        print(f"making {path} (once)", file=sys.stderr)
        make_clip(path)
    tasks: dict[str, Callable[[], None]] = {
        "PyAV, all pictures": lambda: decode_all(path),
        "exact, 1 a second": lambda: sample(path, "exact"),
        "fast, 1 a second": lambda: sample(path, "fast"),
    }
    peer = "PyAV, all pictures"
    if shutil.which("ffmpeg"):
        peer = "ffmpeg -f null"
        tasks = {
            peer: lambda: run_ffmpeg(path, 0),
            "ffmpeg -threads 1": lambda: run_ffmpeg(path, 1),
        } | tasks
    least = {
        name: min(round_[name] for round_ in rounds)
        for rounds in [
            [{n: cpu_seconds(task) for n, task in tasks.items()} for _ in range(arguments.rounds)]
        ]
        for name in tasks
    }
    walls = [(wall_seconds(path, 1, 4), wall_seconds(path, 2, 4)) for _ in range(arguments.rounds)]
    speed_up = max(one / two for one, two in walls)
    result = {
        "video": path.name,
        "peer": peer,
        "cpu_seconds": least,
        "ratios": {name: seconds / least[peer] for name, seconds in least.items()},
        "speed_up_of_two_workers": speed_up,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "decode.json").write_text(json.dumps(result, indent=2))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{path.name}: CPU seconds, and over {peer}")
    for name, seconds in least.items():
        print(f"  {name:<22}{seconds:8.2f}{seconds / least[peer]:8.2f}x")
    print(f"two workers: {speed_up:.2f} times the throughput of one (wall time)")


if __name__ == "__main__":
    main()
