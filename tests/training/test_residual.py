"""Learning on top of a dual encoder: it learns, forgets nothing, and keeps no harm."""

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.model.tiny_models import tiny_dual_encoder
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.config import LossConfig, OptimConfig
from videoclip.data.narrated import NarratedCorpus, NarratedVideo
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.evaluation.held_out import Interpolation
from videoclip.model.encoders import residuals_of
from videoclip.model.videoclip import VideoCLIP
from videoclip.training import pretrain as module
from videoclip.training.run_folder import read_log

pretrain = functools.partial(module.pretrain, tokenizer=tokenizer(), show_progress=False)
PLAIN = tiny_config(
    epochs=12,
    validation_videos=12,
    optim=OptimConfig(optimizer="adamw", lr=1e-2, warmup_updates=4, total_updates=0),
    loss=LossConfig(residual_weight=0.1),
)
CONFIG = replace(
    PLAIN, model=replace(PLAIN.model, dual_encoder="tiny", pooling="plain_mean", dropout=0.0)
)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    towers = tiny_dual_encoder(CONFIG.model)
    monkeypatch.setattr("videoclip.model.dual_encoder.load_by_name", lambda name: towers)
    return towers


def start():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VideoCLIP(CONFIG.model).eval()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"), num_videos=48)


def shuffled(corpus):
    """The same videos, each with the narration of another."""
    narrations = [video.narration for video in corpus]
    order = np.random.default_rng(0).permutation(len(corpus))
    videos = [
        NarratedVideo(video.video_id, narrations[i]) for video, i in zip(corpus, order, strict=True)
    ]
    return NarratedCorpus(videos, corpus.store)


@pytest.fixture(scope="module")
def learned(corpus, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        towers = tiny_dual_encoder(CONFIG.model)
        patch.setattr("videoclip.model.dual_encoder.load_by_name", lambda name: towers)
        return pretrain(CONFIG, corpus, tmp_path_factory.mktemp("run") / "run", init_from=start())


def test_it_learns_and_says_what_it_kept(learned):
    kept = learned.kept
    assert kept.share > 0 and kept.low > 0 and kept.num_videos == 12
    assert kept.score > kept.start + 0.3
    assert str(kept).startswith(f"kept {kept.share:.0%} of what was learned: mean reciprocal rank")
    (entry,) = [e for e in read_log(learned.model_folder.parent) if "kept" in e]
    assert Interpolation(**entry["kept"]) == kept
    assert str(kept) in (learned.model_folder / "README.md").read_text()


def test_the_saved_model_is_the_start_plus_the_share(learned):
    model = VideoCLIP.from_pretrained(learned.model_folder)
    newest = max((learned.model_folder.parent / "checkpoints").iterdir()) / "model"
    whole = VideoCLIP.from_pretrained(newest)
    for residual, full in zip(residuals_of(model), residuals_of(whole), strict=True):
        torch.testing.assert_close(residual.scale, learned.kept.share * full.scale)
        assert full.scale.any()


def test_what_is_unlike_the_training_data_is_embedded_as_before(learned):
    embedders = [
        Embedder(model, tokenizer())
        for model in (start(), VideoCLIP.from_pretrained(learned.model_folder))
    ]
    features = -np.abs(np.random.default_rng(1).normal(size=(6, 16)))
    before, after = (embedder.embed_features(features).tokens for embedder in embedders)
    np.testing.assert_allclose(after, before, atol=1e-3)


def test_the_start_is_kept_where_narration_is_shuffled(corpus, tmp_path):
    result = pretrain(CONFIG, shuffled(corpus), tmp_path / "run", init_from=start())
    assert result.kept.share == 0 and result.kept.low <= 0
    assert str(result.kept).startswith("kept the start, since training made retrieval not clearly")
    model, before = VideoCLIP.from_pretrained(result.model_folder).eval(), start()
    video, mask = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    assert torch.equal(model.encode_video(video, mask), before.encode_video(video, mask))
    text, mask = torch.full((1, 2), 5), torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(model.encode_text(text, mask), before.encode_text(text, mask))
    assert model.temperature.item() == pytest.approx(CONFIG.model.temperature)


class Killed(Exception):
    pass


def test_a_continued_run_equals_an_unbroken_one(learned, corpus, tmp_path):
    config = replace(CONFIG, save_every_updates=10)

    def kill(entry):
        if entry["update"] == 37:
            raise Killed

    with pytest.raises(Killed):
        pretrain(config, corpus, tmp_path / "run", init_from=start(), on_log=kill)
    result = pretrain(config, corpus, tmp_path / "run", init_from=start())
    assert result.kept == learned.kept
    weights = [(r.model_folder / "model.safetensors").read_bytes() for r in (result, learned)]
    assert weights[0] == weights[1]
    again = pretrain(config, corpus, tmp_path / "run", init_from=start())
    assert again.kept == result.kept
    assert (again.model_folder / "model.safetensors").read_bytes() == weights[0]
    assert len([e for e in read_log(tmp_path / "run") if "kept" in e]) == 1


def test_without_enough_held_out_videos_all_is_kept_unchecked(corpus, tmp_path):
    config = replace(CONFIG, epochs=1, validation_videos=4)
    result = pretrain(config, corpus, tmp_path / "run", init_from=start())
    assert result.kept == Interpolation(1.0, 4)
    assert "kept all that was learned, unchecked: 4 held-out videos" in str(result.kept)


def test_another_dual_encoder_takes_the_place_of_the_recipes(corpus, tmp_path):
    recipe = replace(PLAIN, model=module.starter().model, epochs=1)
    result = pretrain(recipe, corpus, tmp_path / "run", init_from=start())
    stored = json.loads((result.model_folder / "config.json").read_text())
    assert stored["dual_encoder"] == "tiny" and stored["hidden_size"] == 32
    changed = replace(recipe, model=replace(recipe.model, intermediate_size=3))
    with pytest.raises(ConfigError, match="intermediate_size: 768 -> 3"):
        pretrain(changed, corpus, tmp_path / "other", init_from=start())
