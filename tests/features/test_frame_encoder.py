"""An image backbone in the training graph: features, gradients, and a folder at the end."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.make_video import numbered_picture, write_video
from videoclip.config import ModelConfig
from videoclip.data.frame_store import FrameStore
from videoclip.errors import ConfigError, IndexMismatchError
from videoclip.features.backbones import image
from videoclip.features.frame_encoder import FrameEncoder, store_frames

transformers = pytest.importorskip("transformers")
from tests.features.tiny_image_models import (  # noqa: E402  (needs transformers)
    SQUARE_PROCESSOR,
    VISION,
    clip,
    resnet,
    save,
)

MODEL = ModelConfig(backbone="image:tiny", feature_dim=20)


def loaded(make, folder):
    torch.manual_seed(0)
    model, processor, _ = make()
    return image.load(str(save(model, processor, folder)))


def vit_classifier():
    return (
        transformers.ViTForImageClassification(transformers.ViTConfig(**VISION)),
        SQUARE_PROCESSOR,
        16,
    )


@pytest.fixture
def encoder(tmp_path):
    return FrameEncoder(loaded(resnet, tmp_path / "resnet"), frames_at_once=3)


def batch(encoder, lengths=(4, 1, 3)):
    spec, rng = encoder.frames, np.random.default_rng(0)
    shape = (len(lengths), max(lengths), spec.height, spec.width, 3)
    frames = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return frames, mask


def test_features_are_those_of_the_frozen_backbone(encoder):
    frames, mask = batch(encoder)
    features = encoder(frames, mask)
    assert features.shape == (3, 4, 20)
    assert features[~mask].abs().sum() == 0
    frozen = encoder.backbone.embed_frames(frames[mask].numpy())
    np.testing.assert_allclose(features[mask].detach(), frozen, atol=1e-5)


def test_neither_chunks_nor_training_mode_change_a_gradient(encoder):
    frames, mask = batch(encoder)
    gradients = []
    for frames_at_once in (1, 3, 99):
        encoder.frames_at_once = frames_at_once
        encoder.train().zero_grad()
        encoder(frames, mask).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    assert all(g.abs().sum() > 0 for g in gradients[0])
    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(one.abs().max()))
    assert not any(module.training for module in encoder.modules())


def test_the_saved_folder_is_a_backbone(encoder, tmp_path):
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    encoder.save_pretrained(tmp_path / "trained")
    again = image.load(str(tmp_path / "trained"))
    frames, mask = batch(encoder)
    with torch.no_grad():
        expected = encoder(frames, mask)[mask]
    np.testing.assert_allclose(again.embed_frames(frames[mask].numpy()), expected, atol=1e-5)
    assert again.preprocessing == encoder.backbone.preprocessing


def test_an_untrained_pooler_is_left_out_for_good(tmp_path):
    source = loaded(vit_classifier, tmp_path / "vit")
    encoder = FrameEncoder(source)
    frames, mask = batch(encoder, (2,))
    encoder(frames, mask).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    encoder.save_pretrained(tmp_path / "trained")
    again = image.load(str(tmp_path / "trained"))
    assert not again.has_pooler
    np.testing.assert_array_equal(
        again.embed_frames(frames[0].numpy()), source.embed_frames(frames[0].numpy())
    )


def test_frames_of_videos_are_stored_once(encoder, tmp_path):
    pictures = [numbered_picture(i) for i in range(30)]
    good = write_video(tmp_path / "good.mp4", pictures, rate=10)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    store = FrameStore.open_or_create(tmp_path / "frames", encoder.frames)
    steps = []
    videos = {good: "good", bad: "bad"}
    failed = store_frames(videos, store, encoder, lambda *step: steps.append(step))
    assert store.video_ids == ["good"]
    assert steps == [(1, 2), (2, 2)]
    assert failed.keys() == {bad}
    assert store.num_features("good") == 3
    (frames,) = store.read_windows([("good", 0, 3)])
    features = np.concatenate(list(encoder.backbone.features_for(good)))
    np.testing.assert_allclose(
        encoder(torch.from_numpy(frames)[None], torch.ones(1, 3, dtype=torch.bool))[0].detach(),
        features,
        atol=1e-5,
    )
    assert store_frames({good: "good"}, store, encoder) == {}
    assert store.num_features("good") == 3


def test_what_does_not_fit_is_named(encoder, tmp_path):
    store = FrameStore.open_or_create(tmp_path / "frames", encoder.frames)
    encoder.check(store, MODEL)
    with pytest.raises(ConfigError, match="features of width 20 per second"):
        encoder.check(store, ModelConfig(backbone="image:tiny", feature_dim=21))
    with pytest.raises(IndexMismatchError, match="has features; create a FrameStore"):
        encoder.check(object(), MODEL)
    for change in ({"height": 16}, {"width": 16}, {"frames_per_second": 2.0}, {"resize": "crop"}):
        other = replace(encoder.frames, **change)
        folder = tmp_path / "-".join(change)
        message = re.escape(f"expects {encoder.frames}, but the corpus has {other}; create")
        with pytest.raises(IndexMismatchError, match=message):
            encoder.check(FrameStore.open_or_create(folder, other), MODEL)
    encoder.check(None, MODEL)  # frames are yet to be stored
    with pytest.raises(ConfigError, match="per second, and the model expects others"):
        encoder.check(None, replace(MODEL, features_per_second=2.0))
    with pytest.raises(ConfigError, match="has a text encoder"):
        FrameEncoder(loaded(clip, tmp_path / "clip"))
