"""The sigmoid loss: every pair of the batch is a yes-or-no question of its own."""

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.config import LossConfig
from videoclip.model.losses import PairEmbeddings, check_pairs


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return the loss over the pairs of all processes."""
    return sigmoid_loss(pairs.all_video, pairs.all_text, pairs.temperature, pairs.bias)


def sigmoid_loss(
    video: Tensor, text: Tensor, temperature: float | Tensor = 1.0, bias: float | Tensor = 0.0
) -> Tensor:
    """Logistic loss of every pair of the batch: summed over pairs, averaged over rows.

    Args:
        video: (B, E).
        text: (B, E).
        temperature: Similarities are divided by it.
        bias: Added to the logits; negative, since most pairs do not match.

    Source: SigLIP (arXiv 2303.15343), algorithm 1.
    """
    check_pairs(video, text)
    logits = video @ text.T / temperature + bias
    signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)
