"""What clip pairs, captions and batch plans cost; CPU time, in one run.

    python bench/clip_pairs.py [--videos N] [--json]

Clip pairs come from a store of videos of some minutes with 512-d features, as in pre-training:
drawn alone, with their features read, and collated to a batch of 512. A video's sequence of single
coin tosses, as released, is the peer of drawing. Captions are a rolling WebVTT file of 20,000 cues,
beside pysubs2 reading it. Plans are for N videos of 768-d vectors, beside one matrix product of the
seeds with all vectors, which no exact search can do without.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysubs2
import torch

from videoclip.config import ClipConfig, PlanConfig
from videoclip.data.batch_plan import make_plan
from videoclip.data.clips import Narration
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.narrated import NarratedCorpus, NarratedVideo
from videoclip.data.subtitles import read_subtitles
from videoclip.model.batch import collate

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
NUM_VIDEOS, VIDEOS_PER_BATCH, DIM, MAX_TOKENS = 400, 32, 512, 61


def cpu_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Return the least CPU time of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def make_corpus(folder: Path, rng: np.random.Generator) -> NarratedCorpus:
    """Write videos of 200 to 600 seconds with a cue every four."""
    videos = []
    with FeatureStore.create(folder, FeatureSpec(DIM, 1.0, "made", False, "made")) as store:
        for i in range(NUM_VIDEOS):
            seconds = int(rng.integers(200, 600))
            store.append(f"v{i}", rng.standard_normal((seconds, DIM)).astype(np.float16))
            starts = np.sort(rng.uniform(0, seconds, seconds // 4))
            lengths = rng.integers(3, 14, len(starts))
            ids = tuple(rng.integers(0, 30000, n).astype(np.int32) for n in lengths)
            videos.append(NarratedVideo(f"v{i}", Narration(starts, starts + 4, ids)))
    return NarratedCorpus(videos, FeatureStore.open(folder))


def measure_pairs(folder: Path) -> dict[str, float]:
    """Clip pairs per CPU second: drawn, read, collated, and tossed coin by coin."""
    sys.path.insert(0, str(ROOT))
    from tests.data import clip_twin

    rng, config = np.random.default_rng(0), ClipConfig()
    corpus = make_corpus(folder, rng)
    videos = rng.choice(NUM_VIDEOS, VIDEOS_PER_BATCH, replace=False).tolist()
    captions = [
        {"start": n.starts, "end": n.ends, "cap": n.token_ids}
        for n in (corpus[i].narration for i in videos)
    ]
    coins = random.Random(0)

    def twin() -> None:
        for i, caption in zip(videos, captions, strict=True):
            for _ in range(config.clips_per_video):
                clip_twin.draw("overlapped", caption, corpus.num_seconds(i), coins)

    works: dict[str, Callable[[], object]] = {
        "drawn": lambda: [corpus.draw_pairs(i, config, rng, MAX_TOKENS) for i in videos],
        "read": lambda: [corpus.draw(i, config, rng, MAX_TOKENS) for i in videos],
        "collated": lambda: collate(
            [
                (rows, ids)
                for i in videos
                for rows, (ids,) in corpus.draw(i, config, rng, MAX_TOKENS)
            ],
            0,
        ),
        "coin by coin": twin,
    }
    num_pairs = len(videos) * config.clips_per_video
    return {name: num_pairs / cpu_seconds(work) for name, work in works.items()}


def write_rolling(path: Path, num_lines: int) -> None:
    """Write what a video site does: each line with word times, held, then above the next."""

    def stamp(seconds: float) -> str:
        return f"{int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{seconds % 60:06.3f}"

    rng = np.random.default_rng(0)
    blocks, previous = ["WEBVTT\n"], " "
    for i, numbers in enumerate(rng.integers(0, 3000, (num_lines, 6))):
        words = [f"word{number}" for number in numbers]
        timed = "".join(
            f"<{stamp(2 * i + 0.2 * k)}><c> {word}</c>" for k, word in enumerate(words[1:], 1)
        )
        blocks.append(f"{stamp(2 * i)} --> {stamp(2 * i + 1.99)}\n{previous}\n{words[0]}{timed}\n")
        previous = " ".join(words)
        blocks.append(f"{stamp(2 * i + 1.99)} --> {stamp(2 * i + 2)}\n{previous}\n \n")
    path.write_text("\n".join(blocks), encoding="utf-8")


def measure_captions(path: Path) -> dict[str, float]:
    """CPU seconds to read and clean a long rolling file, and for pysubs2 to read it."""
    write_rolling(path, 10_000)
    return {
        "read and cleaned": cpu_seconds(lambda: read_subtitles(path)),
        "pysubs2, read only": cpu_seconds(lambda: pysubs2.load(str(path), encoding="utf-8")),
    }


def measure_plans(num_videos: int) -> dict[str, float]:
    """CPU seconds of an epoch's plan, and of the matrix product inside it."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, num_videos // 50), 768), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), num_videos)]
    vectors += rng.standard_normal(vectors.shape, dtype=np.float32)
    base = torch.from_numpy(vectors)
    seeds = base[: max(1, num_videos // VIDEOS_PER_BATCH)]

    def plan(config: PlanConfig) -> Callable[[], object]:
        return lambda: make_plan(config, num_videos, seed=0, epoch=1, vectors=vectors)

    def product() -> None:
        for part in seeds.split(256):
            part @ base.T

    return {
        "retrieval": cpu_seconds(plan(PlanConfig()), rounds=1),
        "mined": cpu_seconds(plan(PlanConfig(kind="mined", drop_nearest=4)), rounds=1),
        "seeds times vectors": cpu_seconds(product, rounds=1),
    }


def main() -> None:
    """Measure, print a table or JSON, and keep the JSON under bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result: dict[str, object] = {
            "clip pairs per CPU second": measure_pairs(Path(name) / "store"),
            "20,000 rolling cues, CPU seconds": measure_captions(Path(name) / "rolling.vtt"),
            f"plan of {options.videos} videos, CPU seconds": measure_plans(options.videos),
        }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "clip_pairs.json").write_text(json.dumps(result, indent=2) + "\n")
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for title, figures in result.items():
        print(title)
        for name, value in figures.items():  # type: ignore[attr-defined]
            print(f"  {name:<22}{value:>12,.2f}" if value < 100 else f"  {name:<22}{value:>12,.0f}")


if __name__ == "__main__":
    main()
