"""Exact search in a library of a million windows, compared with reading its vectors once.

    python bench/search.py [--windows N] [--dim E] [--json]

Reading once is the time torch takes to add up the same bytes, in memory, in the same process.
Vectors and queries are random directions, the hardest case for the int8 copy; embedding the query
is left out, since it takes the same time in any library. The first query includes making the copy.
Other times are medians of several rounds, in which all measurements take turns, on as many threads
as torch uses (OMP_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from videoclip.config import ModelConfig
from videoclip.embedding import window_spans
from videoclip.library.catalog import IndexedVideo
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.confidence import BIAS_UNIT, hub_biases

RESULTS = Path(__file__).parent / "results" / "search.json"
SECONDS_PER_VIDEO = 120
ROUNDS = 7


class RandomText:
    """Replaces the model: a random direction for each text."""

    fingerprint = "random"

    def __init__(self, dim: int) -> None:
        self.config = ModelConfig(hidden_size=dim, num_heads=1)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return random directions, always the same for the same text."""
        seeds = [list(text.encode()) for text in texts]
        vectors = [
            np.random.default_rng(seed).normal(size=self.config.hidden_size) for seed in seeds
        ]
        return np.stack([v / np.linalg.norm(v) for v in vectors]).astype(np.float32)


def video_of(number: int, seconds: int, num_windows: int) -> IndexedVideo:
    """Return the catalogue entry of one of many equally long videos; every other one is wide."""
    return IndexedVideo(
        path=f"/videos/{number:06d}.mp4",
        size=1,
        mtime_ns=1,
        content_hash=str(number),
        duration=float(seconds),
        width=640 + 640 * (number % 2),
        height=360,
        frame_rate=25.0,
        num_features=seconds,
        first_row=number * num_windows,
        num_windows=num_windows,
        narration_path=None,
        narration_mtime_ns=None,
        added="2026-01-01",
    )


def fill(library: VideoLibrary, num_windows: int, dim: int) -> None:
    """Add videos to a library as an update would, but without files."""
    per_video = len(window_spans(SECONDS_PER_VIDEO, 1.0))
    rng = np.random.default_rng(0)
    store, catalog = library._catalog.vectors(), library._catalog
    with catalog.writing():
        for number in range(num_windows // per_video):
            vectors = rng.standard_normal((per_video, dim), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            biases = hub_biases(vectors, library._unrelated.scenes) / BIAS_UNIT
            vectors = np.concatenate((vectors, biases[:, None]), axis=1)
            with store.path.open("ab") as file:  # without waiting for the disk after each video
                file.write(vectors.astype(np.float16).tobytes())
            catalog.add(video_of(number, SECONDS_PER_VIDEO, per_video), [])


def measure(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return median milliseconds of each; they take turns.

    On one thread this is CPU time, which other programs on the machine hardly disturb.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, do in work.items():
            started = clock()
            do()
            times[name].append(1e3 * (clock() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoLibrary(folder, RandomText(arguments.dim)) as library,
    ):
        fill(library, arguments.windows, arguments.dim)
        store = library._catalog.vectors()
        num_rows = library._snapshot().num_rows
        queries = [f"query number {number}" for number in range(32)]
        pictures = SearchOptions(speech=0.0)
        work: dict[str, Callable[[], object]] = {
            "one query": lambda: library.search(queries[0], speech=0.0),
            "filtered": lambda: library.search(queries[0], speech=0.0, where="width > 700"),
            "32 queries": lambda: library.search_many(queries, pictures),
        }
        started = time.perf_counter()
        work["one query"]()
        first = 1e3 * (time.perf_counter() - started)
        for do in work.values():  # before the copy that is read below takes memory as well
            do()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        numbers = torch.from_numpy(np.fromfile(store.path, dtype=np.float32))
        times = measure({"reading once": numbers.sum} | work)
    one = times["one query"]
    result = {
        "windows": num_rows,
        "dim": arguments.dim,
        "threads": torch.get_num_threads(),
        "milliseconds": {name: round(value, 1) for name, value in times.items()},
        "first query": round(first, 1),
        "one query / reading once": round(one / times["reading once"], 2),
        "filtered / one query": round(times["filtered"] / one, 2),
        "32 queries / one query": round(times["32 queries"] / one, 2),
        "peak resident MiB": resident,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2) if arguments.json else _table(result))


def _table(result: dict[str, object]) -> str:
    return "\n".join(f"{name:>32}  {value}" for name, value in result.items())


if __name__ == "__main__":
    main()
