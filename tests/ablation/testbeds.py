"""A test bed whose features encode the steps directly, a model that can read them, and runs."""

import functools
import shutil
from dataclasses import replace

import numpy as np
import pytest

from videoclip.ablation import runs as module
from videoclip.ablation.runs import VARIANTS, Variant, run_ablation
from videoclip.ablation.testbed import TestBed
from videoclip.config import OptimConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.features.backbones.motion import APPEARANCE_DIM, FEATURE_DIM
from videoclip.recipes import tiny
from videoclip.synthetic.annotate import descriptions
from videoclip.synthetic.narrate import label
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import write_texts

CONFIG = SyntheticConfig(
    seed=5,
    num_tasks=4,
    num_new_tasks=2,
    num_steps=20,
    steps_per_video=(3, 4),
    step_seconds=(4.0, 8.0),
    gap_seconds=(2.0, 3.0),
    test_share=0.5,
)


def make_testbed(folder, num_videos=24):
    """Features are the number of the step shown, one-hot, in the part that stands for motion."""
    videos = write_texts(folder, CONFIG, num_videos)
    spec = FeatureSpec(FEATURE_DIM, 1.0, "one-hot", normalized=False, fingerprint="1")
    with FeatureStore.open_or_create(folder / "features", spec) as store:
        for video in videos:
            rows = np.zeros((round(video.duration), spec.dim), np.float32)
            for shown in video.shown:
                seconds = slice(int(shown.start), int(np.ceil(shown.end)))
                rows[seconds, APPEARANCE_DIM + shown.step.step_id] = 1
            store.append(video.video_id, rows)
    return TestBed.open(folder)


class Reader:
    """Reads such features, as far as `sight` goes: the rest of its answers is noise."""

    name = "reader"
    temperature = 0.1

    def __init__(self, bed, sight=1.0):
        self.sight, self.rng = sight, np.random.default_rng(0)
        self.num_steps = len(bed.world.steps)
        self.steps = {label(step): step.step_id for step in bed.world.steps}
        for video in bed.videos:
            for shown, text in zip(video.shown, descriptions(bed.world, video), strict=True):
                self.steps[text] = shown.step.step_id

    def check(self, spec):
        assert spec.backbone == "one-hot"

    def embed_text(self, texts):
        return np.eye(self.num_steps, dtype=np.float32)[[self.steps[text] for text in texts]]

    def embed_windows(self, features, spans):
        return np.stack([self._look(features[a:b]).mean(axis=0) for a, b in spans])

    def embed_seconds(self, features, *, attend_cls):
        return self._look(features)

    def _look(self, features):
        seen = features[:, APPEARANCE_DIM : APPEARANCE_DIM + self.num_steps].astype(np.float32)
        noise = self.rng.standard_normal(seen.shape).astype(np.float32)
        return self.sight * seen + (1 - self.sight) * noise


def quick():
    run = tiny()
    model = replace(run.model, num_video_layers=1, num_text_layers=1, num_cross_layers=1)
    return replace(
        run,
        model=replace(model, hidden_size=32, num_heads=2, intermediate_size=32),
        optim=OptimConfig(optimizer="adamw", lr=3e-3, warmup_updates=0, total_updates=0),
        plan=replace(run.plan, kind="shuffled", videos_per_batch=12, num_neighbours=12),
        epochs=2,
    )


def quick_mined():
    run = quick()
    return replace(run, plan=replace(run.plan, kind="mined", first_epoch=1))


@pytest.fixture
def little(tmp_path, monkeypatch):
    """A folder with a world, and variants that train in a second."""
    variants = {
        "plain": Variant("plain", "", quick()),
        "mined": Variant("mined", "plain", quick_mined()),
        "again": Variant("re-ranked", "plain", quick(), rerank_top=5, trained_as="plain"),
        "taught": Variant("by a teacher", "mined", quick_mined(), teacher="plain"),
    }
    usual = dict(VARIANTS)
    VARIANTS.clear()
    VARIANTS.update(variants)
    make_testbed(tmp_path / "worlds" / "little")
    monkeypatch.setattr(module, "build_testbed", lambda folder, *_: TestBed.open(folder))
    yield tmp_path
    VARIANTS.clear()
    VARIANTS.update(usual)


@functools.cache
def finished(folder):
    """Finish three of these variants in a folder, once for all tests; return the messages."""
    messages = []
    make_testbed(folder / "worlds" / "little")
    run_ablation(
        folder,
        "little",
        CONFIG,
        24,
        variants=("again", "plain", "mined"),
        seeds=(1,),
        on_message=messages.append,
    )
    return messages


@pytest.fixture
def out(little, tmp_path_factory):
    """The same with finished runs."""
    folder = tmp_path_factory.getbasetemp() / "finished"
    finished(folder)
    shutil.copytree(folder / "runs", little / "runs")
    return little
