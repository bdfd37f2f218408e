"""A synthetic world as its annotations and made-up features: what is shown is in the vectors."""

import csv
import re

import numpy as np

from tests.training.tiny_corpus import tiny_config
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder
from videoclip.model.videoclip import VideoCLIP
from videoclip.synthetic.annotate import annotation_files
from videoclip.synthetic.narrate import label
from videoclip.synthetic.world import SyntheticConfig, SyntheticWorld

DIM = 24
NOISE = 0.3
CONFIG = SyntheticConfig(
    seed=3, num_tasks=2, num_new_tasks=2, num_steps=12, steps_per_task=(4, 5),
    steps_per_video=(3, 4), new_task_share=0.0, step_seconds=(3.0, 8.0), gap_seconds=(1.0, 4.0),
)  # fmt: skip


def labelled_world(folder, num_videos=80):
    """Write `annotations` and `store` of a small world into a folder; return its vocabulary."""
    world = SyntheticWorld(CONFIG)
    videos = [world.video(i) for i in range(num_videos)]
    texts = annotation_files(world, videos)
    for name, text in texts.items():
        path = folder / "annotations" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    rng = np.random.default_rng(0)
    looks = {}
    spec = FeatureSpec(DIM, 1.0, "told", False, "0")
    with FeatureStore.create(folder / "store", spec) as store:
        for video in videos:
            rows = NOISE * rng.normal(size=(int(np.ceil(video.duration)), DIM))
            for shown in video.shown:
                for word in label(shown.step).split():
                    look = looks.setdefault(word, rng.normal(size=DIM))
                    rows[int(shown.start) : int(np.ceil(shown.end))] += look
            store.append(video.video_id, rows.astype(np.float16))
    words = sorted(set(re.findall(r"[a-z]+", " ".join(texts.values()).lower())))
    return Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])


def untrained(tokenizer, **changes):
    """A tiny model that knows nothing of that world."""
    import dataclasses

    import torch

    config = dataclasses.replace(
        tiny_config().model,
        feature_dim=DIM,
        backbone="told",
        vocab_size=tokenizer.vocab_size,
        max_video_tokens=16,
        max_text_tokens=24,
        hidden_size=48,
        dropout=0.0,
        **changes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Embedder(VideoCLIP(config), tokenizer)


def open_validation(folder):
    """Let the CrossTask files name no validation video, so that the split has training videos."""
    path = folder / "annotations" / "crosstask" / "videos_val.csv"
    path.write_text("")
    with (path.parent / "videos.csv").open(newline="") as file:
        return len(list(csv.reader(file)))
