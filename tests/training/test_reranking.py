"""The re-ranker, trained with the towers, tells apart what their embeddings cannot hold."""

import numpy as np
import pytest
import torch

from videoclip.config import LossConfig, ModelConfig, OptimConfig, PretrainConfig
from videoclip.distributed import World
from videoclip.errors import DataError
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.batch import Batch
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.trainer import Trainer
from videoclip.zeroshot.rerank import rerank_clips

NUM_THINGS, DIM, SECONDS, WORDS, NUM_STEPS = 60, 32, 8, 4, 300


def draw(number, rng, looks):
    """Videos that show eight of the same twenty things, texts that name four of the eight."""
    pool = rng.permutation(NUM_THINGS)[:20]
    shown = np.stack([rng.permutation(pool)[:SECONDS] for _ in range(number)])
    said = np.stack([row[np.sort(rng.permutation(SECONDS)[:WORDS])] for row in shown])
    video = looks[shown] + 0.3 * rng.normal(size=(*shown.shape, DIM))
    return Batch(
        torch.from_numpy(video.astype(np.float32)),
        torch.ones(number, SECONDS, dtype=torch.bool),
        torch.from_numpy(said + 3),
        torch.ones(number, WORDS, dtype=torch.bool),
    )


def make_model():
    torch.manual_seed(0)
    return VideoCLIP(
        ModelConfig(
            feature_dim=DIM,
            hidden_size=32,
            num_heads=4,
            intermediate_size=64,
            num_video_layers=1,
            num_text_layers=1,
            num_cross_layers=1,
            vocab_size=NUM_THINGS + 3,
            max_positions=20,
            cls_id=1,
            sep_id=2,
            max_video_tokens=SECONDS,
            max_text_tokens=WORDS,
            normalize=True,
            temperature=0.07,
            dropout=0.0,
        )
    )


def some_batch():
    rng = np.random.default_rng(0)
    return draw(6, rng, rng.normal(size=(NUM_THINGS, DIM)))


def test_the_vectors_of_a_plan_cost_no_re_ranking(monkeypatch):
    loss = ContrastiveLoss(make_model(), LossConfig())
    trainer = Trainer(loss, PretrainConfig(), World(), run_length=1)
    whole = trainer.validation_loss(iter([some_batch()]))
    monkeypatch.setattr("videoclip.training.contrastive.reranking_loss", None)  # cannot be called
    video, text = trainer.embed(some_batch())
    assert video.shape == text.shape == (6, 32)
    assert float(loss.embed(some_batch()).reranking) == 0
    with pytest.raises(TypeError):
        trainer.validation_loss(iter([some_batch()]))
    assert whole > 0


def test_features_that_are_no_numbers_are_refused_as_without_a_re_ranker():
    loss = ContrastiveLoss(make_model(), LossConfig())
    batch = some_batch()
    batch.video[2, 1, 3] = torch.nan
    with pytest.raises(DataError, match="features hold NaN"):
        loss(batch, World())


@pytest.mark.slow
def test_it_finds_the_video_that_the_towers_have_among_their_best():
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(NUM_THINGS, DIM))
    model = make_model()
    optim = OptimConfig(
        optimizer="adamw", lr=2e-3, schedule="cosine", warmup_updates=20, total_updates=NUM_STEPS
    )
    loss = ContrastiveLoss(model, LossConfig())
    trainer = Trainer(loss, PretrainConfig(optim=optim), World(), NUM_STEPS)
    for _ in range(NUM_STEPS):
        trainer.step(draw(64, rng, looks))

    model.eval()
    test = draw(200, rng, looks)
    with torch.inference_mode():
        video = model.video_encoder(test.video, test.video_mask)
        text = model.text_encoder(test.text, test.text_mask)
        towers = model.similarity(model.pool(text), model.pool(video))
        both = rerank_clips(
            lambda n, m, known: model.reranker(video[m], text[n], known), towers.numpy(), 20
        )
    alone, reranked = (
        float((similarity.argmax(dim=1) == torch.arange(200)).float().mean())
        for similarity in (towers, torch.from_numpy(both))
    )
    assert reranked > alone + 0.3
