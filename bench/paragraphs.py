"""DTW, OTAM and the caption average of paragraphs and videos, beside loops over pairs.

    python bench/paragraphs.py [--paragraphs 1000] [--videos 430] [--json]

Distances are random; paragraphs have 5 to 12 sentences and videos 5 to 40 clips, as in YouCook2
with its background. The loops are timed on some of the pairs and scaled to all.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from videoclip.evaluation.metrics.sequences import paragraph_costs

RESULTS = Path(__file__).resolve().parent / "results" / "paragraphs.json"
LOOPED_PAIRS = 200


def loop_over(distances: np.ndarray) -> float:
    """The DTW cost of one pair, cell by cell."""
    costs = np.full((distances.shape[0] + 1, distances.shape[1] + 1), np.inf)
    costs[0, 0] = 0.0
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            before = min(costs[i, j], costs[i, j + 1], costs[i + 1, j])
            costs[i + 1, j + 1] = distances[i, j] + before
    return float(costs[-1, -1])


def main() -> None:
    """Measure and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paragraphs", type=int, default=1000)
    parser.add_argument("--videos", type=int, default=430)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    num_sentences = rng.integers(5, 13, size=options.paragraphs)
    num_clips = rng.integers(5, 41, size=options.videos)
    distances = rng.random((num_sentences.sum(), num_clips.sum()), dtype=np.float32)
    wall, cpu = time.perf_counter(), time.process_time()
    costs = paragraph_costs(distances, num_sentences, num_clips)["DTW"]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = np.concatenate(([0], np.cumsum(num_sentences)))
    columns = np.concatenate(([0], np.cumsum(num_clips)))
    started = time.process_time()
    for _ in range(LOOPED_PAIRS):
        i, j = int(rng.integers(options.paragraphs)), int(rng.integers(options.videos))
        pair = distances[rows[i] : rows[i + 1], columns[j] : columns[j + 1]].astype(np.float64)
        assert abs(loop_over(pair) - costs[i, j]) < 1e-6
    loops = (time.process_time() - started) / LOOPED_PAIRS * costs.size
    results = {
        "pairs": costs.size,
        "all methods, wall seconds": wall,
        "all methods, CPU seconds": cpu,
        "DTW in loops, CPU seconds": loops,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(f"{name:<28} {value:10,.1f}")


if __name__ == "__main__":
    main()
