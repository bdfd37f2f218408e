"""Gradient caching at the paper's batch: 512 pairs in chunks against all of them at once."""

from dataclasses import replace

import pytest

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.config import PretrainConfig
from videoclip.distributed import World
from videoclip.model.batch import Batch
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.trainer import Trainer

LEARNED = replace(TINY, normalize=True, temperature=0.2, learn_temperature=True)
NUM_PAIRS = 512


def gradient(chunk_pairs):
    """The loss of the batch, and its gradient by name of parameter."""
    video = make_video([1 + 7 * i % 9 for i in range(NUM_PAIRS)], 9)
    text = make_text([5 * i % 12 for i in range(NUM_PAIRS)], 11)
    model = make_model(LEARNED)
    config = PretrainConfig(chunk_pairs=chunk_pairs)
    trainer = Trainer(ContrastiveLoss(model, config.loss), config, World(), run_length=1)
    loss = trainer.forward_backward(Batch(*video, *text), 0)
    return loss.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk_pairs", [32, 100])  # 100: the last chunk is shorter
def test_512_pairs_in_chunks_have_the_gradient_of_the_whole_batch(chunk_pairs):
    whole_loss, whole = gradient(0)
    loss, chunked = gradient(chunk_pairs)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert chunked.keys() == whole.keys() and "log_temperature" in whole
    squares = sum(float(g.square().sum()) for g in whole.values())
    errors = sum(float((chunked[n] - g).square().sum()) for n, g in whole.items())
    assert errors**0.5 <= 1e-5 * squares**0.5
