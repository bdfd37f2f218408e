"""The packed routines against what torch does, one sequence at a time."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from videoclip.model.transformer import (
    BertEncoder,
    Packing,
    attend,
    attend_padded,
    dropout,
    linear,
)

LENGTHS = torch.tensor([3, 1, 7, 3, 9, 1])
HEADS, WIDTH = 2, 16
PACKING = Packing(torch.arange(9) < LENGTHS[:, None])


def one_by_one(qkv):
    rows = []
    for part in qkv.split(LENGTHS.tolist()):
        heads = part.view(len(part), 3, HEADS, -1).permute(1, 2, 0, 3)
        attended = F.scaled_dot_product_attention(*heads)
        rows.append(attended.transpose(0, 1).flatten(1))
    return torch.cat(rows)


def ours(qkv):
    return attend(qkv, PACKING, HEADS)


def padded(qkv):
    return attend_padded(qkv, Packing(PACKING.mask.to(qkv.device)), HEADS)


def with_gradients(function, *inputs):
    """The result and, for a fixed weighting of it, the gradients of all inputs."""
    result = function(*inputs)
    weights = torch.linspace(-1, 1, result.numel()).view_as(result).to(result)
    return result, *torch.autograd.grad((result * weights).sum(), inputs)


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    return torch.randn(int(LENGTHS.sum()), 3 * WIDTH, requires_grad=True)


@pytest.mark.parametrize("function", [ours, padded])
def test_attention_is_that_of_each_sequence_alone(qkv, function):
    assert_equal(with_gradients(function, qkv), with_gradients(one_by_one, qkv))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_attention_on_a_gpu_is_that_of_the_cpu(qkv):
    on_gpu = [x.cpu() for x in with_gradients(padded, qkv.detach().cuda().requires_grad_())]
    assert_equal(on_gpu, with_gradients(ours, qkv))


def test_attention_differentiates_its_dropout():
    torch.manual_seed(0)
    lengths = torch.tensor([2, 1, 3, 2])  # few numbers: each is moved up and down
    packing = Packing(torch.arange(3) < lengths[:, None])
    qkv = torch.randn(int(lengths.sum()), 3 * 4, requires_grad=True, dtype=torch.float64)

    def seeded(x):
        torch.manual_seed(1)
        return attend(x, packing, HEADS, 0.3)

    assert torch.autograd.gradcheck(seeded, qkv)
    assert not torch.equal(seeded(qkv), attend(qkv, packing, HEADS))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("num_rows", [1, 600])
def test_a_product_is_that_of_torch(gelu, num_rows):
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 4), torch.randn(num_rows, 5, requires_grad=True)
    inputs = (x, layer.weight, layer.bias)
    assert_equal(
        with_gradients(lambda *_: linear(x, layer, gelu=gelu), *inputs),
        with_gradients(lambda *_: layer(F.gelu(x) if gelu else x), *inputs),
    )


def test_a_frozen_layer_passes_gradients_on():
    layer, x = nn.Linear(5, 4).requires_grad_(False), torch.randn(3, 5, requires_grad=True)
    linear(x, layer).sum().backward()
    assert x.grad is not None and layer.weight.grad is None


@pytest.mark.parametrize("gelu", [False, True])
def test_autocast_is_followed(gelu):
    torch.manual_seed(0)
    layer, x = nn.Linear(32, 4), torch.randn(3, 32, requires_grad=True)
    exact = with_gradients(lambda *_: linear(x, layer, gelu=gelu), x, layer.weight, layer.bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = with_gradients(lambda *_: linear(x, layer, gelu=gelu), x, layer.weight, layer.bias)
    assert low[0].dtype == torch.bfloat16 and {g.dtype for g in low[1:]} == {torch.float32}
    for a, b in zip(low, exact, strict=True):
        torch.testing.assert_close(a.float(), b, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_independently(rate):
    torch.manual_seed(0)
    x = torch.ones(1000, 1001, requires_grad=True)
    result = dropout(x, rate)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert torch.equal(gradient, result)
    dropped = (result == 0).float()
    assert dropped.mean().item() == pytest.approx(rate, abs=0.002)
    assert result.mean().item() == pytest.approx(1, abs=0.004)
    for shift in (1, 2, 3, 4):  # four decisions share a draw of the generator
        together = (dropped[:, shift:] * dropped[:, :-shift]).mean().item()
        assert together == pytest.approx(rate**2, abs=0.002)


def train_once(recompute):
    """Gradients of one step with dropout, and the bytes kept for the backward pass."""
    model = make_model(replace(TINY, dropout=0.2, num_text_layers=4, num_video_layers=4)).train()
    for module in model.modules():
        if isinstance(module, BertEncoder):
            module.recompute = recompute
    kept = 0

    def keep(tensor):
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        video = model.encode_video(*make_video([9, 4, 7], 9))
        text = model.encode_text(*make_text([11, 3, 8], 11))
        loss = (video @ text.T).square().mean()
    after_forward = kept
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, after_forward


def test_recomputed_layers_give_the_same_gradients_from_less_memory():
    (plain, much), (again, little) = train_once(False), train_once(True)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert little < 0.5 * much
