"""Contrastive objectives over a batch of B clip pairs: embeddings in, one scalar out.

Row i of `video` and row i of `text` belong together; every other pair of the batch is a negative.
Each function has a naive twin, written with loops, in tests/model/test_losses.py.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.errors import ConfigError

__all__ = [
    "contrastive_loss",
    "mil_nce_loss",
    "sigmoid_loss",
    "soft_targets",
]

Direction = Literal["both", "text_to_video", "video_to_text"]


def contrastive_loss(
    video: Tensor,
    text: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    direction: Direction = "both",
    all_video: Tensor | None = None,
    all_text: Tensor | None = None,
    first_row: int = 0,
    soft_target_share: float = 0.0,
) -> Tensor:
    """Symmetric InfoNCE: the two directions are summed, each a mean over the B rows.

    Args:
        video: (B, E) embeddings of the video clips.
        text: (B, E) embeddings of the text clips.
        temperature: Similarities are divided by it; 1 in the paper.
        direction: One direction alone for fine-tuning: a softmax over videos for each text
            (`text_to_video`) or over texts for each video (`video_to_text`).
        all_video: (M, E) candidates for the texts; default `video`. Global negatives are the rows
            of all processes, gathered with gradient.
        all_text: (M, E) candidates for the videos; default `text`.
        first_row: Row of this batch's first pair among the candidates.
        soft_target_share: Share of each target spread over likely false negatives, see
            `soft_targets`; 0 gives one-hot targets. It needs local negatives.

    Returns:
        The loss, a scalar.

    Raises:
        ConfigError: If the shapes do not fit each other.

    Source: paper, section 3.2 (equations 4 and 5); each a mean over the batch, as released.
    """
    _check_pairs(video, text)
    all_video = video if all_video is None else all_video
    all_text = text if all_text is None else all_text
    if soft_target_share and len(all_video) != len(video):
        raise ConfigError("soft targets need local negatives: set loss.negatives to 'local'")
    hard = torch.arange(first_row, first_row + len(video), device=video.device)
    losses = []
    if direction in ("both", "video_to_text"):
        losses.append(_cross_entropy(video @ all_text.T / temperature, hard, soft_target_share))
    if direction in ("both", "text_to_video"):
        losses.append(_cross_entropy(text @ all_video.T / temperature, hard, soft_target_share))
    return torch.stack(losses).sum()


def mil_nce_loss(video: Tensor, text: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """MIL-NCE: any of the C candidate texts of a video may be its match.

    Args:
        video: (B, E).
        text: (B, C, E), the candidates of each video.
        temperature: Similarities are divided by it.

    Source: MIL-NCE (arXiv 1912.06430), the paper's ablation; the positives count in the row and
    in the column of the denominator, as in that work's released loss.
    """
    if video.ndim != 2 or text.ndim != 3 or len(video) != len(text):
        raise ConfigError(f"MIL-NCE needs (B, E) and (B, C, E), got {_shapes(video, text)}")
    logits = torch.einsum("ie,jce->ijc", video, text) / temperature  # (B, B, C)
    positives = logits.diagonal().T  # (B, C)
    rows = logits.flatten(1)  # video i with every text
    columns = logits.transpose(0, 1).flatten(1)  # texts of i with every video
    denominator = torch.cat([rows, columns], dim=1).logsumexp(dim=1)
    return (denominator - positives.logsumexp(dim=1)).mean()


def sigmoid_loss(
    video: Tensor, text: Tensor, temperature: float | Tensor = 1.0, bias: float | Tensor = 0.0
) -> Tensor:
    """Every pair of the batch as a yes-or-no question: summed over pairs, averaged over rows.

    Args:
        video: (B, E).
        text: (B, E).
        temperature: Similarities are divided by it.
        bias: Added to the logits; negative, since most pairs do not match.

    Source: SigLIP (arXiv 2303.15343), algorithm 1.
    """
    _check_pairs(video, text)
    logits = video @ text.T / temperature + bias
    signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


@torch.no_grad()
def soft_targets(logits: Tensor, share: float, num_iterations: int = 5) -> Tensor:
    """Targets that admit false negatives: (B, B) rows that sum to one.

    The batch's own similarities, balanced by Sinkhorn's iteration so that no popular column takes
    everything, say where the remaining `share` of each row goes; 1 - share stays on the diagonal.

    Source: faulty-negative rectification of Norton (arXiv 2401.16702), in our own form.
    """
    log_plan = logits.float()
    for _ in range(num_iterations):
        log_plan = log_plan - log_plan.logsumexp(dim=0, keepdim=True)
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True)
    one_hot = torch.eye(len(logits), device=logits.device)
    return (1 - share) * one_hot + share * log_plan.exp()


def _cross_entropy(logits: Tensor, hard: Tensor, soft_target_share: float) -> Tensor:
    """Mean cross-entropy of (B, M) logits in float32, whatever precision they came in."""
    logits = logits.float()
    if soft_target_share:
        return F.cross_entropy(logits, soft_targets(logits, soft_target_share))
    return F.cross_entropy(logits, hard)


def _check_pairs(video: Tensor, text: Tensor) -> None:
    if video.ndim != 2 or video.shape != text.shape:
        raise ConfigError(
            f"the loss needs two (B, E) arrays of one shape, got {_shapes(video, text)}"
        )


def _shapes(*arrays: Tensor) -> str:
    """Shapes of arrays, for a message."""
    return " and ".join(str(tuple(a.shape)) for a in arrays)
