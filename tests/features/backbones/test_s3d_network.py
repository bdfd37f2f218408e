"""S3D-G against the stages of the released network, with weights rebuilt from their recipe."""

import numpy as np
import pytest
import torch

from videoclip.features.backbones.s3d import (
    FlatConv3d,
    ZeroPaddedMaxPool,
    space_to_depth,
)


@pytest.mark.parity
def test_weights_have_the_published_names_and_the_recipe_rebuilds_them(network, facts):
    state = network.state_dict()
    assert len(state) == 537
    assert set(state) == set(facts["tensors"])
    for name, entry in facts["tensors"].items():
        values = state[name].double().flatten()
        assert list(state[name].shape) == entry["shape"]
        np.testing.assert_allclose(values.sum(), entry["sum"], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(values[:3], entry["first"], rtol=0, atol=0)


@pytest.mark.parity
@pytest.mark.parametrize("video", [0, 1])
def test_every_stage_matches_the_release(network, golden, video):
    prefix = f"video_{video}_stage_"
    stages = [
        k.removeprefix(prefix)[:-6]
        for k in golden.files
        if k.startswith(prefix) and k.endswith("_shape")
    ]
    seen = {}
    hooks = [
        network.get_submodule(stage).register_forward_hook(
            lambda _module, _inputs, output, stage=stage: seen.__setitem__(stage, output)
        )
        for stage in stages
    ]
    clips = torch.from_numpy(golden[f"video_{video}_uint8"]).float() / 255
    with torch.inference_mode():
        mixed = network.mixed_features(clips)
        embedding = network(clips)
    for hook in hooks:
        hook.remove()

    assert len(seen) == len(stages) == 17
    for stage, output in seen.items():
        largest = float(output.abs().max())
        assert list(output.shape) == golden[f"{prefix}{stage}_shape"].tolist(), stage
        stats = torch.stack([output.mean(), output.std(), output.min(), output.max()])
        for ours, key in ((output.flatten()[:64], "head"), (stats, "stats")):
            theirs = golden[f"{prefix}{stage}_{key}"]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * largest, err_msg=stage)
    for ours, key in ((mixed, "mixed_5c"), (embedding, "embedding")):
        theirs = golden[f"video_{video}_{key}"]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parity
def test_text_embeddings_match_the_release(network, golden):
    with torch.inference_mode():
        ours = network.text_module(torch.from_numpy(golden["text_ids"]))
    theirs = golden["text_embedding"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def test_space_to_depth_puts_every_pixel_where_the_formula_says():
    clips = torch.arange(2 * 3 * 4 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 4, 6)
    folded = space_to_depth(clips)
    assert folded.shape == (2, 24, 2, 2, 3)
    for b, c, t, h, w in np.ndindex(*clips.shape):
        channel = ((t % 2 * 2 + h % 2) * 2 + w % 2) * 3 + c
        assert folded[b, channel, t // 2, h // 2, w // 2] == clips[b, c, t, h, w]


@pytest.mark.parametrize("kernel", [(1, 1, 1), (1, 3, 3), (3, 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_flat_convolution_equals_the_3d_one(kernel, layout):
    convolution = FlatConv3d(5, 4, kernel)
    x = torch.rand(2, 5, 6, 7, 8, generator=torch.Generator().manual_seed(1))
    naive = torch.nn.Conv3d.forward(convolution, x)
    ours = convolution(x.to(memory_format=layout))
    np.testing.assert_allclose(ours.detach(), naive.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 7), (3, 2, 8), (2, 2, 7), (3, 2, 1)])
def test_max_pool_equals_a_naive_loop(kernel, stride, size):
    x = torch.rand(1, 1, 1, 1, size, generator=torch.Generator().manual_seed(size))
    ours = ZeroPaddedMaxPool((1, 1, kernel), (1, 1, stride))(x).flatten()
    low = (kernel - stride) // 2
    naive = []
    for k in range(-(-size // stride)):
        start = k * stride - low
        inside = [float(x[..., i]) for i in range(start, start + kernel) if 0 <= i < size]
        naive.append(max(inside))
    assert ours.tolist() == pytest.approx(naive)
