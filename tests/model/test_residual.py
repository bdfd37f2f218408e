"""Towers that add a learned residual to the frozen embeddings of a dual encoder."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from tests.model.tiny_models import (
    TINY,
    forward_padded,
    layers_of,
    make_model,
    make_text,
    make_video,
)
from videoclip.config import ModelConfig, from_dict
from videoclip.errors import CheckpointError, ConfigError
from videoclip.model.dual_encoder import FrozenTowers, load_dual_encoder
from videoclip.model.losses.infonce import contrastive_loss
from videoclip.model.videoclip import VideoCLIP

RESIDUAL = replace(TINY, dual_encoder="tiny", pooling="plain_mean", normalize=True)


class Frames(nn.Module):
    """A frozen linear map: (N, D) -> (N, E)."""

    def __init__(self, config):
        super().__init__()
        self.map = nn.Linear(config.feature_dim, config.hidden_size)

    def forward(self, features):
        return F.normalize(self.map(features), dim=-1)


class Texts(nn.Module):
    """A frozen mean of word vectors: (B, L) -> (B, E)."""

    def __init__(self, config):
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.drop = nn.Dropout(0.5)  # which must never act

    def forward(self, text, text_mask):
        return F.normalize(self.drop((self.words(text) * text_mask[..., None]).sum(dim=1)), dim=-1)


def dual_encoder(seed=3, fingerprint="tiny 1"):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FrozenTowers(Frames(RESIDUAL), Texts(RESIDUAL), fingerprint)


@pytest.fixture
def known(monkeypatch):
    """Dual encoders that can be loaded by name."""
    found = {"tiny": dual_encoder()}
    monkeypatch.setattr("videoclip.model.dual_encoder.load_by_name", found.__getitem__)
    return found


@pytest.fixture
def model(known):
    model = make_model(RESIDUAL)
    for tower in (model.video_encoder, model.text_encoder):
        nn.init.zeros_(tower.residual_scale)
    return model


def batches():
    return make_video([9, 1, 4], 9), make_text([3, 11, 2], 11)


def open_residuals(model, scale=0.3):
    for tower in (model.video_encoder, model.text_encoder):
        nn.init.constant_(tower.residual_scale, scale)


@pytest.mark.parametrize("training", [False, True])
def test_an_untrained_model_is_its_dual_encoder_to_the_bit(model, known, training):
    model.train(training)
    (video, video_mask), (text, text_mask) = batches()
    hidden = model.video_encoder(video, video_mask).hidden[:, 1:-1]
    assert torch.equal(hidden[video_mask], known["tiny"].frames(video[video_mask]))
    assert (hidden[~video_mask] == 0).all()
    state = model.text_encoder(text, text_mask)
    assert torch.equal(state.hidden[:, 0], known["tiny"].texts(text, text_mask))


def test_an_untrained_video_tower_does_not_run_its_residual_outside_training(model):
    model.video_encoder.bert.forward = None
    assert model.encode_video(*batches()[0]).isfinite().all()


def test_a_clip_is_the_mean_of_its_tokens(model):
    video, mask = make_video([9, 1, 4], 9)
    open_residuals(model)
    for clip, real, pooled in zip(video, mask, model.encode_video(video, mask), strict=True):
        tokens = model.video_encoder(clip[None, real], real[None, real]).hidden[0, 1:-1]
        mean = tokens.mean(dim=0)
        torch.testing.assert_close(pooled, mean / mean.norm())


def test_what_is_masked_is_never_read(model):
    open_residuals(model)
    video, mask = make_video([9, 1, 4], 9)
    expected = model.encode_video(video, mask)
    spoiled = video.masked_fill(~mask[..., None], torch.nan)
    torch.testing.assert_close(model.encode_video(spoiled, mask), expected)


def test_packed_equals_padded(model):
    open_residuals(model)
    video, text = batches()
    packed = model.encode_video(*video), model.encode_text(*text)
    for layer in layers_of(model):
        layer.forward = partial(forward_padded, layer)
    padded = model.encode_video(*video), model.encode_text(*text)
    torch.testing.assert_close(packed, padded)


def test_training_starts_at_the_dual_encoder_and_changes_the_residuals_alone(model, known):
    video, text = batches()
    frozen = [*known["tiny"].frames.parameters(), *known["tiny"].texts.parameters()]
    before = [parameter.clone() for parameter in frozen]
    names, parameters = zip(*model.named_parameters())
    assert {name.split(".")[1] for name in names} == {"mlp", "bert", "residual_scale"}
    model.train()
    losses, last_layers = [], []
    for _ in range(30):
        embeddings = model.encode_video(*video), model.encode_text(*text)
        loss = contrastive_loss(*embeddings, temperature=0.1)
        gradients = dict(
            zip(
                names,
                torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True),
            )
        )
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients.values(), strict=True):
                parameter -= 0.05 * gradient
        losses.append(loss.item())
        last_layers.append(
            [
                gradients["video_encoder.mlp.linear2.weight"].norm(),
                gradients["text_encoder.mlp.2.weight"].norm(),
            ]
        )
    assert losses[-1] < 0.1 * losses[0]
    # The residuals' scales move first, and let the rest be trained.
    assert last_layers[0] == [0, 0] and min(last_layers[1]) > 0
    assert all(map(torch.equal, before, frozen))
    assert all(parameter.grad is None for parameter in frozen)


def test_a_model_folder_has_no_frozen_weights_and_is_read_with_them(model, tmp_path):
    open_residuals(model)
    model.save_pretrained(tmp_path)
    again = VideoCLIP.from_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "start" in name]
    video, text = batches()
    assert torch.equal(again.encode_video(*video), model.encode_video(*video))
    assert torch.equal(again.encode_text(*text), model.encode_text(*text))
    assert again.config.dual_encoder_fingerprint == "tiny 1"


def test_a_model_is_not_read_onto_another_dual_encoder(model, known, tmp_path):
    model.save_pretrained(tmp_path)
    known["tiny"] = dual_encoder(seed=4, fingerprint="tiny 2")
    with pytest.raises(CheckpointError, match=r"another version of 'tiny'.*tiny 1, found tiny 2"):
        VideoCLIP.from_pretrained(tmp_path)


def test_a_local_dual_encoder_is_named_relative_to_the_model(known, tmp_path, monkeypatch):
    folder = tmp_path / "one" / "clip"
    folder.mkdir(parents=True)
    monkeypatch.setattr("videoclip.model.dual_encoder.load_by_name", lambda name: known["tiny"])
    make_model(replace(RESIDUAL, dual_encoder=str(folder))).save_pretrained(tmp_path / "one" / "m")
    assert json.loads((tmp_path / "one/m/config.json").read_text())["dual_encoder"] == "../clip"
    (tmp_path / "one").rename(tmp_path / "two")
    moved = VideoCLIP.from_pretrained(tmp_path / "two" / "m").config
    assert moved.dual_encoder == str(tmp_path / "two" / "clip")


def test_frozen_parts_move_with_the_model_and_stay_in_eval_mode(model, known):
    model.train().double()
    assert known["tiny"].texts.words.weight.dtype == torch.float64
    assert not known["tiny"].texts.training
    assert not any(p.requires_grad for p in known["tiny"].texts.parameters())
    assert model.with_classes(["pour"]).dual_encoder is known["tiny"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "mean", "normalize": True}, "needs model.pooling 'plain_mean'"),
        ({"pooling": "plain_mean"}, "and model.normalize"),
        ({"pooling": "plain_mean", "shared_encoder": True}, "exclude each other"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(dual_encoder="tiny", **settings)


def test_an_unknown_dual_encoder_is_named():
    with pytest.raises(ConfigError, match="no dual encoder 'startr'"):
        load_dual_encoder(replace(RESIDUAL, dual_encoder="startr"))


def test_a_model_of_the_earlier_starter_is_refused_by_name_and_others_are_read(tmp_path):
    make_model(TINY).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    old = {**settings, "num_bridge_classes": 0, "bridge_temperature": 2.0}
    (tmp_path / "checksums.json").unlink()
    path.write_text(json.dumps(old))
    assert VideoCLIP.from_pretrained(tmp_path).config == TINY
    path.write_text(json.dumps({**old, "num_bridge_classes": 1000}))
    with pytest.raises(CheckpointError, match="the starter of an older videoclip: train again"):
        VideoCLIP.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="pretrain starter"):
        from_dict(ModelConfig, {"num_bridge_classes": 1000})
