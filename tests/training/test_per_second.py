"""Losses of seconds against naive twins that look at one second after the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.config import FinetuneConfig
from videoclip.distributed import World
from videoclip.training.per_second import (
    ClassLoss,
    LabelTextLoss,
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
