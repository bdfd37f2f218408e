"""Every loss against a twin written with loops, straight from its definition."""

import json
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from videoclip.config import LossConfig
from videoclip.errors import ConfigError
from videoclip.model.losses import PairEmbeddings, load_loss
from videoclip.model.losses.infonce import contrastive_loss, soft_targets
from videoclip.model.losses.mil_nce import mil_nce_loss
from videoclip.model.losses.sigmoid import sigmoid_loss

SIZES = [(1, 3), (2, 5), (7, 4)]


def random_pairs(num_pairs, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, num_pairs, width, generator=generator)


def naive_direction(rows, columns, temperature):
    """Mean over rows of -log softmax at the diagonal."""
    total = 0.0
    for i in range(len(rows)):
        logits = [float(rows[i] @ columns[j]) / temperature for j in range(len(columns))]
        total -= logits[i] - math.log(sum(math.exp(logit) for logit in logits))
    return total / len(rows)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_contrastive_loss_equals_its_definition(size, temperature):
    video, text = random_pairs(*size)
    to_text = naive_direction(video, text, temperature)
    to_video = naive_direction(text, video, temperature)
    for direction, expected in {
        "both": to_text + to_video,
        "video_to_text": to_text,
        "text_to_video": to_video,
    }.items():
        loss = contrastive_loss(video, text, temperature, direction=direction)
        assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_global_negatives_equal_the_big_batch():
    video, text = random_pairs(6, 4)
    halves = [
        contrastive_loss(
            video[rows], text[rows], all_video=video, all_text=text, first_row=rows.start
        )
        for rows in (slice(0, 3), slice(3, 6))
    ]
    torch.testing.assert_close(torch.stack(halves).mean(), contrastive_loss(video, text))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("num_candidates", [1, 4])
def test_mil_nce_equals_its_definition(num_candidates, temperature):
    generator = torch.Generator().manual_seed(3)
    video = torch.randn(5, 4, generator=generator)
    text = torch.randn(5, num_candidates, 4, generator=generator)
    loss = mil_nce_loss(video, text, temperature)
    video, expected = video / temperature, 0.0
    for i in range(5):
        positives = sum(math.exp(float(video[i] @ text[i, c])) for c in range(num_candidates))
        everything = sum(
            math.exp(float(video[i] @ text[j, c])) + math.exp(float(video[j] @ text[i, c]))
            for j in range(5)
            for c in range(num_candidates)
        )
        expected -= math.log(positives / everything) / 5
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    if temperature == 1.0:
        assert loss == mil_nce_loss(video, text)


def test_sigmoid_loss_equals_its_definition():
    video, text = random_pairs(5, 3)
    expected = 0.0
    for i in range(5):
        for j in range(5):
            logit = float(video[i] @ text[j]) / 0.5 - 2.0
            expected += math.log1p(math.exp(-logit if i == j else logit)) / 5
    assert float(sigmoid_loss(video, text, 0.5, -2.0)) == pytest.approx(expected, rel=1e-5)
    assert sigmoid_loss(video, text) == sigmoid_loss(video, text, 1.0, 0.0)


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that an operation returns."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("kind", ["infonce", "text_to_video", "video_to_text", "sigmoid"])
@pytest.mark.parametrize("sizes", [(3, 4), (20, 9)])
def test_global_negatives_are_compared_in_chunks(kind, sizes):
    """The twin compares all rows at once on one process."""
    num_rows, first_row = sum(sizes), sizes[0]

    def leaves():
        video, text = random_pairs(num_rows, 2)
        return [x.double().requires_grad_() for x in (video, text, *torch.tensor([0.3, -1.5]))]

    ours, expected = leaves(), leaves()
    pieces = []
    for rows in (slice(0, first_row), slice(first_row, num_rows)):
        video, text, *scalars = ours
        pairs = PairEmbeddings(video[rows], text[rows], video, text, rows.start, 2, *scalars)
        with LargestTensor() as seen:
            pieces.append(load_loss(kind)(pairs, LossConfig(kind=kind)))
            pieces[-1].backward(retain_graph=True)
        assert seen.largest < (rows.stop - rows.start) * num_rows
    video, text, *scalars = expected
    whole = PairEmbeddings(video, text, video, text, 0, 1, *scalars)
    loss = load_loss(kind)(whole, LossConfig(kind=kind))
    loss.backward()
    torch.testing.assert_close(sum(pieces) / 2, loss, rtol=1e-6, atol=0.0, check_dtype=False)
    for a, b in zip(ours, expected, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if b.grad is not None:
            torch.testing.assert_close(a.grad / 2, b.grad, rtol=1e-5, atol=1e-6)


def test_soft_targets_are_distributions_that_favour_likely_false_negatives():
    logits = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    targets = soft_targets(logits, 0.4)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))
    assert targets[0, 1] > 5 * targets[0, 2]
    assert (targets.argmax(dim=1) == torch.arange(3)).all()
    torch.testing.assert_close(soft_targets(logits, 0.0), torch.eye(3))


def test_soft_targets_soften_the_loss_and_need_local_negatives():
    video, text = random_pairs(4, 3)
    assert contrastive_loss(video, text, soft_target_share=0.3) != contrastive_loss(video, text)
    with pytest.raises(ConfigError, match="local"):
        contrastive_loss(video[:2], text[:2], all_video=video, soft_target_share=0.3)


def test_shapes_must_fit():
    video, text = random_pairs(4, 3)
    for loss in (contrastive_loss, sigmoid_loss):
        with pytest.raises(ConfigError, match=r"\(4, 3\) and \(3, 3\)"):
            loss(video, text[:3])
    with pytest.raises(ConfigError, match="MIL-NCE"):
        mil_nce_loss(video, text)


def test_low_precision_logits_are_summed_in_float32():
    video, text = random_pairs(64, 8)
    low = contrastive_loss(video.bfloat16(), text.bfloat16())
    assert low.dtype == torch.float32


@pytest.mark.parity
def test_losses_equal_the_released_ones(shared):
    cases = json.loads((shared / "golden/loss/loss.json").read_text())
    with np.load(shared / "golden/loss/loss.npz") as file:
        arrays = dict(file)
    for case in cases:
        i = case["case"]
        video = torch.tensor(arrays[f"video_{i}"], requires_grad=True)
        text = torch.tensor(arrays[f"text_{i}"], requires_grad=True)
        tau = case["tau"]
        loss = contrastive_loss(video, text, tau)
        loss.backward()
        values = {
            "MMContraLoss": loss,
            "T2VContraLoss": contrastive_loss(video, text, tau, direction="text_to_video"),
            "V2TContraLoss": contrastive_loss(video, text, tau, direction="video_to_text"),
        }
        for name, value in values.items():
            assert value.item() == pytest.approx(case[name], rel=1e-5, abs=1e-5)
        for tensor, name in ((video, "video"), (text, "text")):
            expected = torch.tensor(arrays[f"grad_{name}_{i}"])
            atol = 1e-4 * max(expected.abs().max().item(), 1e-3)
            torch.testing.assert_close(tensor.grad, expected, atol=atol, rtol=0)
