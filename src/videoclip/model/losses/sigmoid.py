"""The sigmoid loss: every pair of the batch is a yes-or-no question of its own."""

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.config import LossConfig
from videoclip.model.losses import PairEmbeddings, check_pairs, compare_in_chunks


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return this process's share of the loss: its videos with the texts of all processes."""
    if len(pairs.all_video) == len(pairs.video):
        return sigmoid_loss(pairs.video, pairs.text, pairs.temperature, pairs.bias)
    total = compare_in_chunks(
        pairs.video, pairs.all_text, pairs.temperature, pairs.bias, pairs.first_row, _sum_of_rows
    )
    return total * (pairs.num_processes / len(pairs.all_video))


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
    return _sum_of_rows(logits, torch.arange(len(logits), device=logits.device)) / len(logits)


def _sum_of_rows(logits: Tensor, pairs: Tensor) -> Tensor:
    """Return the summed loss of (n, M) logits, of which row i is a pair with column `pairs[i]`."""
    signs = torch.full_like(logits, -1.0).scatter_(1, pairs[:, None], 1.0)
    return -F.logsigmoid(signs * logits).sum()
