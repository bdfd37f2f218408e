"""The re-ranker, trained with the towers, tells apart what their embeddings cannot hold.

Held-out narration decides whether and how much it counts.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.config import LossConfig, ModelConfig, OptimConfig, PretrainConfig
from videoclip.distributed import World
from videoclip.errors import DataError
from videoclip.evaluation.held_out import RerankerWeight
from videoclip.model.batch import Batch
from videoclip.model.hub import load_config
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import read_log
from videoclip.training.trainer import Trainer
from videoclip.zeroshot.rerank import corrections, rerank_clips

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


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


def config_with(num_cross_layers, **changes):
    config = tiny_config(validation_videos=5, **changes)
    return replace(config, model=replace(config.model, num_cross_layers=num_cross_layers))


def test_a_run_chooses_the_weight_and_a_continued_run_the_same(corpus, tmp_path):
    config = config_with(1, epochs=3, save_every_updates=1)
    run = {"tokenizer": tokenizer(), "show_progress": False}
    result = pretrain(config, corpus, tmp_path, **run)
    assert isinstance(result.kept, RerankerWeight) and result.kept.num_videos == 5
    assert VideoCLIP.from_pretrained(tmp_path / "model").reranker.weight == result.kept.weight
    assert [e["kept"]["weight"] for e in read_log(tmp_path) if "kept" in e] == [result.kept.weight]
    expected = (tmp_path / "model" / "model.safetensors").read_bytes()
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda path: path.name)
    (newest / "COMPLETE").unlink()
    pretrain(config, corpus, tmp_path, **run)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == expected


def test_the_towers_are_trained_as_without_a_reranker(corpus, tmp_path):
    config = tiny_config(epochs=4, validation_share=0.25)
    towers = []
    for layers in (0, 1):
        run = replace(config, model=replace(config.model, num_cross_layers=layers))
        out = tmp_path / str(layers)
        pretrain(run, corpus, out, tokenizer=tokenizer(), show_progress=False)
        weights = load_file(out / "model" / "model.safetensors")
        towers.append({k: v for k, v in weights.items() if not k.startswith("reranker.")})
    assert towers[0].keys() == towers[1].keys()
    assert all(torch.equal(v, towers[1][k]) for k, v in towers[0].items())


def test_a_reranker_is_added_to_trained_towers_which_stay_as_they_are(corpus, tmp_path):
    run = {"tokenizer": tokenizer(), "show_progress": False}
    towers = pretrain(config_with(0, epochs=1), corpus, tmp_path / "towers", **run).model_folder
    config = config_with(1, epochs=1, frozen=("video_encoder.", "text_encoder.", "log_temperature"))
    both = pretrain(config, corpus, tmp_path / "both", init_from=towers, **run).model_folder
    assert load_config(both).num_cross_layers == 1
    before, after = (VideoCLIP.from_pretrained(folder).state_dict() for folder in (towers, both))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


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
        video = model.encode_video(test.video, test.video_mask)
        towers = model.similarity(model.encode_text(test.text, test.text_mask), video)
        words, clips = test.text.tolist(), list(test.video.numpy())
        model.reranker.weight.fill_(1.0)
        both = rerank_clips(
            lambda n, m, known: known + corrections(model, words, clips, n, m), towers.numpy(), 20
        )
    alone, reranked = (
        float((similarity.argmax(dim=1) == torch.arange(200)).float().mean())
        for similarity in (towers, torch.from_numpy(both))
    )
    assert reranked > alone + 0.3
