"""Towers that add a learned residual to the frozen embeddings of a dual encoder."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from tests.model.tiny_models import (
    TINY,
    make_model,
    make_text,
    make_video,
    tiny_dual_encoder,
)
from videoclip.config import ModelConfig
from videoclip.errors import CheckpointError, ConfigError
from videoclip.model.dual_encoder import load_dual_encoder
from videoclip.model.encoders import Residual, residuals_of
from videoclip.model.losses.infonce import contrastive_loss
from videoclip.model.videoclip import VideoCLIP

RESIDUAL = replace(TINY, dual_encoder="tiny", pooling="plain_mean", normalize=True)


@pytest.fixture
def known(monkeypatch):
    """Dual encoders that can be loaded by name."""
    found = {"tiny": tiny_dual_encoder(RESIDUAL)}
    monkeypatch.setattr("videoclip.model.dual_encoder.load_by_name", found.__getitem__)
    return found


@pytest.fixture
def model(known):
    model = make_model(RESIDUAL)
    open_residuals(model, 0.0)
    return model


def batches():
    return make_video([9, 1, 4], 9), make_text([3, 11, 2], 11)


def open_residuals(model, scale=0.3):
    for residual in residuals_of(model):
        nn.init.constant_(residual.scale, scale)


@pytest.mark.parametrize("training", [False, True])
def test_an_untrained_model_is_its_dual_encoder_to_the_bit(model, known, training):
    model.train(training)
    (video, video_mask), (text, text_mask) = batches()
    hidden = model.video_encoder(video, video_mask).hidden[:, 1:-1]
    assert torch.equal(hidden[video_mask], known["tiny"].frames(video[video_mask]))
    assert (hidden[~video_mask] == 0).all()
    state = model.text_encoder(text, text_mask)
    assert torch.equal(state.hidden[:, 0], known["tiny"].texts(text, text_mask))


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


def test_a_second_is_embedded_alike_in_every_clip(model):
    open_residuals(model)
    video, mask = make_video([9, 1, 4], 9)
    tokens = model.video_tokens(video, mask)
    alone = model.video_tokens(video[:1, 3:4], mask[:1, 3:4])
    torch.testing.assert_close(tokens[0, 3], alone[0, 0])
    assert (tokens[~mask] == 0).all()


def test_training_starts_at_the_dual_encoder_and_changes_the_residuals_alone(model, known):
    video, text = batches()
    frozen = [*known["tiny"].frames.parameters(), *known["tiny"].texts.parameters()]
    before = [parameter.clone() for parameter in frozen]
    names, parameters = zip(*model.named_parameters())
    assert {name.split(".")[1] for name in names} == {"residual"}
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
                gradients["video_encoder.residual.linear1.weight"].norm(),
                gradients["text_encoder.residual.linear1.weight"].norm(),
            ]
        )
    assert losses[-1] < 0.1 * losses[0]
    # The residuals' scales move first, and let the rest be trained.
    assert last_layers[0] == [0, 0] and min(last_layers[1]) > 0
    assert all(map(torch.equal, before, frozen))
    assert all(parameter.grad is None for parameter in frozen)


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_residual_is_added_near_its_examples_and_not_far_from_them():
    residual = Residual(12, RESIDUAL)
    far = unit(50, 16, seed=1)
    assert (residual.gate(far) == 1).all()  # until it is fitted
    centre = unit(1, 16)
    near = F.normalize(centre + 0.1 * unit(400, 16, seed=2), dim=-1)
    residual.fit_gate(near)
    assert (residual.gate(near) == 1).float().mean() > 0.8
    assert residual.gate(far).max() < 1e-3
    # Half of it where the squared distance is 1 + log(2) / 16 times the radius.
    residual.examples.copy_(centre.expand_as(residual.examples))
    cosine = 1 - residual.radius * (1 + math.log(2) / 16) / 2
    side = F.normalize(far[:1] - (far[:1] @ centre.T) * centre, dim=-1)
    row = cosine * centre + (1 - cosine**2).sqrt() * side
    torch.testing.assert_close(residual.gate(row), torch.tensor([[0.5]]), atol=1e-3, rtol=0)


def test_a_residual_that_learns_again_is_still_added_where_it_was():
    residual, centres = Residual(12, RESIDUAL), unit(2, 16)
    some, others = (F.normalize(c + 0.05 * unit(400, 16, seed=2), dim=-1) for c in centres)
    residual.fit_gate(some)
    assert residual.gate(others).max() < 1e-3
    residual.fit_gate(others)
    for rows in (some, others):
        assert (residual.gate(rows) == 1).float().mean() > 0.6


def test_equal_examples_do_not_divide_by_zero():
    residual = Residual(12, RESIDUAL)
    residual.fit_gate(unit(1, 16))
    assert residual.gate(unit(1, 16)) == 1
    assert residual.gate(unit(1, 16, seed=1)) == 0


def test_what_is_far_from_the_training_data_is_embedded_as_before(model):
    (video, video_mask), (text, text_mask) = batches()
    before = model.encode_video(video, video_mask), model.encode_text(text, text_mask)
    open_residuals(model)
    assert not torch.allclose(model.encode_video(video, video_mask), before[0], atol=1e-2)
    for residual in residuals_of(model):
        residual.fit_gate(F.normalize(unit(1, 16, seed=9) + 0.01 * unit(40, 16), dim=-1))
    after = model.encode_video(video, video_mask), model.encode_text(text, text_mask)
    torch.testing.assert_close(after, before)


def test_drift_is_the_mean_squared_length_of_what_is_added(model):
    (video, video_mask), (text, text_mask) = batches()
    start = model.video_encoder(video, video_mask)
    assert (start.drift == 0).all() and (model.text_encoder(text, text_mask).drift == 0).all()
    open_residuals(model)
    encoded = model.video_encoder(video, video_mask)
    added = (encoded.hidden - start.hidden).square().sum(dim=2)  # (B, T + 2)
    expected = torch.stack([row[1:-1][real].mean() for row, real in zip(added, video_mask)])
    torch.testing.assert_close(encoded.drift, expected)
    of_text = model.text_encoder(text, text_mask)
    added = (of_text.hidden - model.text_encoder.start(text, text_mask)[:, None]).square()
    torch.testing.assert_close(of_text.drift, added.sum(dim=(1, 2)))


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
    known["tiny"] = tiny_dual_encoder(RESIDUAL, seed=4, fingerprint="tiny 2")
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


def test_a_model_of_the_earlier_starter_is_refused_by_its_setting(tmp_path):
    make_model(TINY).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    (tmp_path / "checksums.json").unlink()
    path.write_text(json.dumps({**settings, "num_bridge_classes": 1000}))
    with pytest.raises(CheckpointError, match="unknown setting 'num_bridge_classes'"):
        VideoCLIP.from_pretrained(tmp_path)
