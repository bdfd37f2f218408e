from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.model.tiny_models import (
    TINY,
    forward_padded,
    layers_of,
    make_model,
    make_text,
    make_video,
)
from videoclip.config import ModelConfig
from videoclip.errors import ConfigError
from videoclip.model.encoders import TextEncoder, pool
from videoclip.model.losses.infonce import contrastive_loss
from videoclip.model.videoclip import VideoCLIP

BRIDGED = replace(TINY, num_bridge_classes=7, pooling="plain_mean", normalize=True)


@pytest.fixture
def model():
    model = make_model(BRIDGED)
    generator = torch.Generator().manual_seed(1)
    for buffer in [*model.video_encoder.bridge.buffers(), model.text_encoder.offset]:
        buffer.copy_(torch.randn(buffer.shape, generator=generator) / 2)
    torch.nn.init.zeros_(model.video_encoder.residual_scale)
    return model


def bridge_twin(model, features):
    """One clip (T, D), class by class."""
    bridge, rows = model.video_encoder.bridge, []
    for feature in features:
        logits = [w @ feature + b for w, b in zip(bridge.class_weight, bridge.class_bias)]
        weights = [(logit / BRIDGED.bridge_temperature).exp() for logit in logits]
        row = sum(w * e for w, e in zip(weights, bridge.class_embeddings)) / sum(weights)
        rows.append(row / row.norm())
    return torch.stack(rows)


def test_untrained_tokens_are_the_bridges(model):
    video, mask = make_video([9, 1, 4], 9)
    tokens = model.video_tokens(video, mask)
    for clip, real, row in zip(video, mask, tokens, strict=True):
        torch.testing.assert_close(row[real], bridge_twin(model, clip[real]))
        assert (row[~real] == 0).all()


def test_untrained_tokens_are_the_bridges_to_the_bit(model):
    video, mask = make_video([9, 1, 4], 9)
    hidden = model.video_encoder(video, mask).hidden[:, 1:-1]
    assert torch.equal(hidden[mask], model.video_encoder.bridge(video[mask]))


def test_a_clip_is_the_mean_of_its_tokens(model):
    video, mask = make_video([9, 1, 4], 9)
    torch.nn.init.constant_(model.video_encoder.residual_scale, 0.3)
    for clip, real, pooled in zip(video, mask, model.encode_video(video, mask), strict=True):
        tokens = model.video_encoder(clip[None, real], real[None, real]).hidden[0, 1:-1]
        mean = tokens.mean(dim=0)
        torch.testing.assert_close(pooled, mean / mean.norm())


def test_what_is_masked_is_never_read(model):
    torch.nn.init.constant_(model.video_encoder.residual_scale, 0.3)
    video, mask = make_video([9, 1, 4], 9)
    expected = model.encode_video(video, mask)
    spoiled = video.masked_fill(~mask[..., None], torch.nan)
    torch.testing.assert_close(model.encode_video(spoiled, mask), expected)


def test_packed_equals_padded(model):
    torch.nn.init.constant_(model.video_encoder.residual_scale, 0.3)
    batches = make_video([9, 1, 4], 9), make_text([3, 11, 0], 11)
    packed = model.encode_video(*batches[0]), model.encode_text(*batches[1])
    for layer in layers_of(model):
        layer.forward = partial(forward_padded, layer)
    padded = model.encode_video(*batches[0]), model.encode_text(*batches[1])
    torch.testing.assert_close(packed, padded)


def test_a_text_loses_the_offset_after_it_has_unit_length(model):
    text, mask = make_text([3, 11, 0], 11)
    plain = pool(TextEncoder.forward(model.text_encoder, text, mask), "plain_mean")
    centred = plain / plain.norm(dim=1, keepdim=True) - model.text_encoder.offset
    expected = centred / centred.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.encode_text(text, mask), expected)
    encoded = model.text_encoder(text, mask)
    assert (encoded.hidden[~encoded.mask] == 0).all()


def test_training_starts_at_the_bridge_and_leaves_it(model):
    (video, video_mask), (text, text_mask) = make_video([9, 1, 4], 9), make_text([3, 11, 2], 11)
    before = {name: buffer.clone() for name, buffer in model.video_encoder.bridge.named_buffers()}
    assert not any(name.startswith("video_encoder.bridge") for name, _ in model.named_parameters())
    losses, mlp_gradients = [], []
    for _ in range(30):
        embeddings = model.encode_video(video, video_mask), model.encode_text(text, text_mask)
        loss = contrastive_loss(*embeddings, temperature=0.1)
        names, parameters = zip(*model.named_parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                if gradient is not None:
                    parameter -= 0.05 * gradient
        losses.append(loss.item())
        mlp_gradients.append(gradients[names.index("video_encoder.mlp.linear2.weight")].norm())
    assert losses[-1] < 0.1 * losses[0]
    # The residual's scale moves first, and lets the rest be trained.
    assert mlp_gradients[0] == 0 < mlp_gradients[1]
    for name, buffer in model.video_encoder.bridge.named_buffers():
        assert torch.equal(buffer, before[name])


def test_a_bridged_model_is_saved_whole(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = VideoCLIP.from_pretrained(tmp_path)
    batches = make_video([9, 1, 4], 9), make_text([3, 11, 2], 11)
    assert torch.equal(again.encode_video(*batches[0]), model.encode_video(*batches[0]))
    assert torch.equal(again.encode_text(*batches[1]), model.encode_text(*batches[1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "mean"}, "needs model.pooling 'plain_mean'"),
        ({"pooling": "plain_mean", "shared_encoder": True}, "exclude each other"),
        ({"pooling": "plain_mean", "bridge_temperature": 0.0}, "must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(num_bridge_classes=7, **settings)
