"""Losses of seconds against naive twins that look at one second after the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from tests.test_embedding import make_embedder, make_features
from videoclip.config import FinetuneConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.distributed import World
from videoclip.training.per_second import (
    ClassLoss,
    LabelTextLoss,
    PerSecondExample,
    PerSecondSource,
    StepLoss,
    WindowBatch,
)
from videoclip.training.trainer import Trainer

WIDE = replace(TINY, normalize=True, temperature=0.2, learn_temperature=True)


def batch(targets, num_texts=4):
    return WindowBatch(*make_video([9, 4], 9), *make_text([3, 1, 5, 2][:num_texts], 5), targets)


def trainer_of(loss, **settings):
    return Trainer(loss, FinetuneConfig(**settings), World(), run_length=1)


def seconds(windows):
    return [(w, t) for w, mask in enumerate(windows.video_mask) for t in range(int(mask.sum()))]


def test_steps_are_questions_of_their_own():
    rng = torch.Generator().manual_seed(0)
    targets = (torch.rand(2, 9, 4, generator=rng) > 0.7).float()
    model, windows = make_model(WIDE), batch(targets)
    with torch.no_grad():
        loss = StepLoss(model)(windows, World())
        tokens = model.video_tokens(windows.video, windows.video_mask, attend_cls=False)
        texts = model.encode_text(windows.text, windows.text_mask)
        terms = []
        for w, t in seconds(windows):
            for k in range(4):
                p = torch.sigmoid(tokens[w, t] @ texts[k] / model.temperature)
                terms.append(-torch.log(p if targets[w, t, k] else 1 - p).item())
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("kind", [LabelTextLoss, ClassLoss])
def test_labels_exclude_each_other(kind):
    targets = torch.arange(18).view(2, 9) % 4
    model = make_model(replace(WIDE, classes=("a", "b", "c")))
    windows = batch(targets, num_texts=4)
    with torch.no_grad():
        loss = kind(model)(windows, World())
        if kind is ClassLoss:
            logits = model.classify(windows.video, windows.video_mask)
        else:
            tokens = model.video_tokens(windows.video, windows.video_mask, attend_cls=False)
            texts = model.encode_text(windows.text, windows.text_mask)
            logits = tokens @ texts.T / model.temperature
        terms = []
        for w, t in seconds(windows):
            terms.append(-torch.log_softmax(logits[w, t], 0)[targets[w, t]].item())
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_frozen_label_texts_are_read_once():
    model = make_model(WIDE)
    trainer = trainer_of(LabelTextLoss(model), frozen=("text_encoder.",), seed=0)
    windows = batch(torch.zeros(2, 9, dtype=torch.int64))
    first = trainer.forward_backward(windows, 0)
    model.text_encoder.forward = None  # would fail if it were called again
    assert trainer.forward_backward(windows, 0) == first
    assert all(p.grad is None for p in model.text_encoder.parameters())
    other = trainer_of(StepLoss(make_model(WIDE)))
    windows = batch(torch.zeros(2, 9, 4))
    assert trainer._flops(windows) < other._flops(windows)


@pytest.fixture
def make_source(tmp_path):
    """Return a source of seven videos of 9, 10, ... seconds, whose targets are their seconds."""

    def make_source(rate=1.0, world=None, step=2, num_training=4):
        spec = FeatureSpec(
            dim=12, features_per_second=rate, backbone="test", normalized=True, fingerprint="x"
        )
        store = FeatureStore.open_or_create(tmp_path / f"store {rate}", spec)
        texts = ("w1 w2", " ".join(f"w{i}" for i in range(30)))
        videos = []
        for i in range(7):
            if f"v{i}" not in store:
                store.append(f"v{i}", make_features(int((9 + i) * rate), seed=i))
            videos.append(
                PerSecondExample(f"v{i}", texts, lambda num, rate: np.arange(num) // int(rate))
            )
        parts = videos[:num_training], videos[num_training:]
        config = FinetuneConfig(benchmark="coin", window_step=step)
        return PerSecondSource(config, parts, make_embedder(), store, world or World())

    return make_source


@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_windows_begin_every_few_seconds_whatever_the_rate(make_source, rate):
    source = make_source(rate)
    longest = source._model.max_video_tokens
    for number, windows in enumerate(source.validation(), start=4):
        features = make_features(int((9 + number) * rate), seed=number)
        starts = windows.targets[:, 0].tolist()
        assert starts == list(range(0, 2 * len(starts), 2))
        for start, video, mask, targets in zip(
            starts, windows.video, windows.video_mask, windows.targets, strict=True
        ):
            rows = slice(int(start * rate), int(start * rate) + longest)
            expected = torch.from_numpy(features[rows].astype(np.float16)).float()
            torch.testing.assert_close(video[mask], expected)
            assert targets[mask].tolist() == [t // rate for t in range(len(features))][rows]
        assert starts[-1] * rate + longest >= len(features) > starts[-2] * rate + longest
        assert windows.text_mask.sum(dim=1).tolist() == [2, source._model.max_text_tokens]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_processes_share_the_videos(make_source, size):
    def videos_of(batches):
        return [int(windows.targets.max()) for windows in batches]

    sources = [make_source(world=World(rank, size)) for rank in range(size)]
    held_out = sorted(v for source in sources for v in videos_of(source.validation()))
    assert held_out == videos_of(make_source().validation())
    for epoch in (1, 2):
        shared = [videos_of(s.batches(epoch, 0, embed=None, plan_path=None)) for s in sources]
        whole = videos_of(make_source().batches(epoch, 0, embed=None, plan_path=None))
        number = 4 // size
        assert [list(turn) for turn in zip(*shared, strict=True)] == [
            whole[i * size : (i + 1) * size] for i in range(number)
        ]
        later = [videos_of(s.batches(epoch, 1, embed=None, plan_path=None)) for s in sources]
        assert later == [own[1:] for own in shared]
    assert make_source(num_training=7).validation() is None
