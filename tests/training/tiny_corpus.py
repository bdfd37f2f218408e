"""A dozen made-up narrated videos: each is about one thing, shown and said all the time."""

import numpy as np

from videoclip.config import ClipConfig, ModelConfig, OptimConfig, PlanConfig, PretrainConfig
from videoclip.data.clips import Narration
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.narrated import NarratedCorpus, NarratedVideo
from videoclip.data.tokenizer import Tokenizer

DIM = 16
SPEC = FeatureSpec(
    dim=DIM, features_per_second=1.0, backbone="made-up", normalized=False, fingerprint="0"
)
THINGS = (
    "egg",
    "pan",
    "oil",
    "salt",
    "rice",
    "fish",
    "soup",
    "cake",
    "leaf",
    "bread",
    "tea",
    "ice",
)


def tokenizer():
    return Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *THINGS, "the", "now"])


def tiny_corpus(folder, num_videos=12, seed=0):
    """The videos, with their features in a store in `folder`."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(len(THINGS), DIM))
    words, store, videos = tokenizer(), FeatureStore.open_or_create(folder, SPEC), []
    for i in range(num_videos):
        thing = i % len(THINGS)
        seconds = int(rng.integers(20, 40))
        name = f"{THINGS[thing]}-{i}"
        features = looks[thing] + 0.1 * rng.normal(size=(seconds, DIM))
        if name not in store:
            store.append(name, features.astype(np.float16))
        starts = np.arange(0.0, seconds - 4, 4.0)
        ids = np.array(words.encode(f"now the {THINGS[thing]} the {THINGS[thing]}"), np.int32)
        narration = Narration(starts, starts + 3.5, (ids,) * len(starts))
        videos.append(NarratedVideo(name, narration))
    return NarratedCorpus(videos, store)


def tiny_config(**changes):
    model = ModelConfig(
        feature_dim=DIM,
        backbone="made-up",
        normalized_features=False,
        hidden_size=32,
        num_video_layers=1,
        num_text_layers=1,
        num_heads=2,
        intermediate_size=64,
        dropout=0.1,
        vocab_size=len(THINGS) + 6,
        max_positions=40,
        cls_id=2,
        sep_id=3,
        max_video_tokens=8,
        max_text_tokens=16,
        normalize=True,
        temperature=0.1,
        learn_temperature=True,
    )
    clips = ClipConfig(
        clips_per_video=2,
        min_text_tokens=3,
        max_text_tokens=10,
        min_video_seconds=2,
        max_video_seconds=8,
    )
    defaults = {
        "name": "test",
        "model": model,
        "clips": clips,
        "plan": PlanConfig(kind="shuffled", videos_per_batch=6, num_neighbours=8),
        "optim": OptimConfig(
            optimizer="adamw", lr=3e-3, warmup_updates=4, total_updates=0, schedule="cosine"
        ),
        "epochs": 2,
        "precision": "fp32",
    }
    return PretrainConfig(**{**defaults, **changes})
