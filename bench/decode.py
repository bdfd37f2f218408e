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

from videoclip.features.decode import Mode, Squash, sample_frames

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


def sample(path: Path, mode: Mode) -> float:
    """Sample one frame a second at 224 pixels, as extraction does; return the CPU time it took."""
    start = time.process_time()
    for frame in sample_frames(path, 1.0, mode=mode):
        frame.rgb(SIZE)
    return time.process_time() - start


def decode_all(path: Path) -> None:
    """Decode everything with PyAV on one thread."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for _ in container.decode(video=0):
            pass


def run_ffmpeg(path: Path, threads: int) -> None:
    command = ["ffmpeg", "-v", "quiet", "-threads", str(threads), "-i", str(path)]
    subprocess.run([*command, "-f", "null", "-"], check=True)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process and the children it waited for."""

    def now() -> float:
        usages = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    start = now()
    work()
    return now() - start


def with_workers(path: Path, num_workers: int, num_videos: int) -> tuple[float, float]:
    """Wall and CPU time to sample a video several times with so many processes."""
    with multiprocessing.get_context("spawn").Pool(num_workers) as pool:
        pool.starmap(sample, [(path, "fast")] * num_workers, chunksize=1)  # they have started
        start = time.perf_counter()
        used = pool.starmap(sample, [(path, "exact")] * num_videos, chunksize=1)
        return time.perf_counter() - start, sum(used)


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
    tasks: dict[str, Callable[[], object]] = {
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
    least = dict.fromkeys(tasks, float("inf"))
    for _ in range(arguments.rounds):
        for name, task in tasks.items():
            least[name] = min(least[name], cpu_seconds(task))
    rounds = [(with_workers(path, 1, 4), with_workers(path, 2, 4)) for _ in range(arguments.rounds)]
    # On a machine with other work the wall says little; what two workers cost each other shows in
    # the CPU time that the same videos take with two and with one.
    by_wall = max(one / two for (one, _), (two, _) in rounds)
    by_cpu = 2 * min(one for (_, one), _ in rounds) / min(two for _, (_, two) in rounds)
    result = {
        "video": path.name,
        "peer": peer,
        "cpu_seconds": least,
        "ratios": {name: seconds / least[peer] for name, seconds in least.items()},
        "speed_up_of_two_workers": {"wall": by_wall, "cpu": by_cpu},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "decode.json").write_text(json.dumps(result, indent=2))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{path.name}: CPU seconds, and over {peer}")
    for name, seconds in least.items():
        print(f"  {name:<22}{seconds:8.2f}{seconds / least[peer]:8.2f}x")
    print(
        f"two workers: {by_wall:.2f} times the throughput of one by the wall, {by_cpu:.2f} by CPU "
        "time (what two free cores give)"
    )


if __name__ == "__main__":
    main()
