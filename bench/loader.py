"""How fast clip pairs reach the training step, and how long the step waits for them.

    python bench/loader.py [--gigabytes 2] [--json]

A warm store of videos of some minutes, 512-d features; batches of 512 clip pairs as the paper draws
them, collated to padded float32: in this process (CPU time) and by two workers (wall time, and CPU
time of all three processes). Then the `small` recipe on features of its width: the share of a
step's CPU time that making its batch takes, which is what it would wait without workers.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from videoclip.config import ClipConfig, ModelConfig, PretrainConfig
from videoclip.data.clips import Narration
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.narrated import NarratedCorpus, NarratedVideo
from videoclip.distributed import World
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import small
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.narrated import Feed, Group
from videoclip.training.trainer import Purpose, Trainer

RESULTS = Path(__file__).resolve().parent / "results"
SECONDS, VIDEOS_PER_BATCH = 400, 32


def make_corpus(folder: Path, dim: int, num_videos: int) -> NarratedCorpus:
    """Videos of 400 s with a cue of some words every four seconds."""
    rng, videos = np.random.default_rng(0), []
    rows = rng.standard_normal((SECONDS, dim)).astype(np.float16)
    with FeatureStore.create(folder, FeatureSpec(dim, 1.0, "made", False, "made")) as store:
        for i in range(num_videos):
            store.append(f"v{i}", rows)
            starts = np.arange(0.0, SECONDS, 4.0)
            ids = tuple(rng.integers(0, 30000, n).astype(np.int32) for n in [9] * len(starts))
            videos.append(NarratedVideo(f"v{i}", Narration(starts, starts + 4, ids)))
    return NarratedCorpus(videos, FeatureStore.open(folder))


def groups(num_videos: int, number: int) -> list[Group]:
    """Random videos, as a shuffled plan has them."""
    rng = np.random.default_rng(1)
    return [
        Group(rng.choice(num_videos, VIDEOS_PER_BATCH).tolist(), (1, Purpose.TRAINING, 1, place))
        for place in range(number)
    ]


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def pairs_per_second(corpus: NarratedCorpus, num_workers: int, number: int) -> dict[str, float]:
    """Rates of batches taken as fast as they come."""
    feed = Feed(corpus, ClipConfig(), ModelConfig(), num_workers)
    started, cpu_started, num_pairs = time.perf_counter(), cpu(), 0
    for batch in feed.batches(groups(len(corpus), number)):
        num_pairs += len(batch)
    wall, spent = time.perf_counter() - started, cpu() - cpu_started
    return {"per second": num_pairs / wall, "per CPU second": num_pairs / spent}


def wait_share(config: PretrainConfig, corpus: NarratedCorpus) -> float:
    """CPU time of making batches over that of making and training on them."""
    loss = ContrastiveLoss(VideoCLIP(config.model), config.loss)
    trainer = Trainer(loss, config, World(), 100)
    feed = Feed(corpus, config.clips, config.model)
    making = training = 0.0
    for group in groups(len(corpus), 4):
        started = time.process_time()
        batch = feed.batch(group)
        made = time.process_time()
        trainer.step(batch)
        making, training = made - started, time.process_time() - made  # the last one counts
    return making / (making + training)


def main() -> None:
    """Measure, print a table or JSON, and keep the JSON under bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num_videos = int(options.gigabytes * 1e9 / (SECONDS * 512 * 2))
    with tempfile.TemporaryDirectory() as name:
        corpus = make_corpus(Path(name) / "store", 512, num_videos)
        for video_id in corpus.video_ids:
            corpus.store.read(video_id)  # into the page cache
        result = {
            "gigabytes": options.gigabytes,
            "pairs, this process": pairs_per_second(corpus, 0, 20),
            "pairs, two workers": pairs_per_second(corpus, 2, 60),
        }
        config = small()
        wide = make_corpus(Path(name) / "wide", config.model.feature_dim, 200)
        result["share of making batches in a step of small"] = wait_share(config, wide)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "loader.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
