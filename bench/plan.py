"""What a batch plan costs: shuffled, retrieved and mined, for 100,000 and 1,000,000 videos.

    python bench/plan.py [--videos 100000 1000000] [--kinds shuffled retrieval mined] [--json]

768-d vectors around 2,000 random topics, groups of 32, one thread. `retrieval` searches exactly:
V / 32 seeds against all V, which grows with the square of V. Where that would take longer than
`--limit` a sample of the seeds is measured and the whole is that, scaled (`sampled` says so). CPU
time, and the memory the plan adds at its peak. Kinds are processes of their own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from videoclip.config import PlanConfig
from videoclip.data.batch_plan import make_plan, nearest

RESULTS = Path(__file__).resolve().parent / "results"
DIM, TOPICS = 768, 2000
SAMPLE_SEEDS = 1024


def make_vectors(num_videos: int) -> np.ndarray:
    """Topics and their videos, with about as much variance within as between."""
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((TOPICS, DIM), dtype=np.float32)
    vectors = rng.standard_normal((num_videos, DIM), dtype=np.float32)
    for block in np.array_split(np.arange(num_videos), max(1, num_videos // 50_000)):
        vectors[block] += topics[rng.integers(TOPICS, size=len(block))]
    return vectors


def peak_memory() -> float:
    """Peak resident memory in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cpu_seconds(vectors: np.ndarray, seeds: np.ndarray, config: PlanConfig) -> float:
    """Least CPU time of a search, of two."""
    times = []
    for _ in range(2):
        started = time.process_time()
        nearest(vectors, seeds, config.num_neighbours)
        times.append(time.process_time() - started)
    return min(times)


def measure(kind: str, num_videos: int, limit: float) -> dict[str, float | bool]:
    """Make one plan, or search for a sample of its seeds."""
    torch.set_num_threads(1)
    config = PlanConfig(kind=kind, drop_nearest=2 if kind == "mined" else 0)
    vectors = None if kind == "shuffled" else make_vectors(num_videos)
    before = peak_memory()
    if kind == "retrieval" and vectors is not None:
        seeds = np.random.default_rng(1).choice(num_videos, SAMPLE_SEEDS, replace=False)
        few, many = (cpu_seconds(vectors, seeds[:n], config) for n in (1, SAMPLE_SEEDS))
        a_seed = (many - few) / (SAMPLE_SEEDS - 1)
        whole = few + a_seed * (num_videos // config.videos_per_batch)
        if whole > limit:
            return {"seconds": whole, "sampled": True, "memory_gib": peak_memory() - before}
    started = time.process_time()
    make_plan(config, num_videos, seed=0, epoch=1, vectors=vectors)
    spent = time.process_time() - started
    return {"seconds": spent, "sampled": False, "memory_gib": peak_memory() - before}


def main() -> None:
    """Measure every kind and size, print JSON and keep it under bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, nargs="+", default=[100_000, 1_000_000])
    kinds = ["shuffled", "retrieval", "mined"]
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of exact search")
    parser.add_argument("--one", action="store_true", help="measure in this process, the first")
    parser.add_argument("--json", action="store_true", help="accepted; the output is JSON anyway")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.kinds[0], options.videos[0], options.limit)))
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "plan.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for num_videos in options.videos:
        for kind in options.kinds:
            command = [sys.executable, __file__, "--one", "--kinds", kind]
            command += ["--videos", str(num_videos), "--limit", str(options.limit)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results[f"{kind}, {num_videos}"] = json.loads(output)
            path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
