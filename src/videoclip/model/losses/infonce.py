"""InfoNCE: a softmax over the batch's texts for each video, and over its videos for each text."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.config import LossConfig
from videoclip.errors import ConfigError
from videoclip.model.losses import (
    LOWEST_LOGIT,
    PairEmbeddings,
    check_pairs,
    compare_in_chunks,
    overlapping,
    places,
)

Direction = Literal["both", "text_to_video", "video_to_text"]


def loss(pairs: PairEmbeddings, config: LossConfig, direction: Direction = "both") -> Tensor:
    """Return the method's loss: this process's pairs among the candidates of all processes."""
    value = contrastive_loss(
        pairs.video,
        pairs.text,
        pairs.temperature,
        direction=direction,
        all_video=pairs.all_video,
        all_text=pairs.all_text,
        first_row=pairs.first_row,
        soft_target_share=config.soft_target_share,
        ignored=overlapping(places(pairs)) if config.ignore_overlapping else None,
    )
    # Where a process has more rows than others, its mean counts for more.
    return value * (len(pairs.video) * pairs.num_processes / len(pairs.all_video))


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
    ignored: Tensor | None = None,
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
        ignored: (B, B) bool, True where two different pairs are no negatives of each other.

    Returns:
        The loss, a scalar.

    Raises:
        ConfigError: If the shapes do not fit each other.

    Source: paper, section 3.2 (equations 4 and 5); each a mean over the batch, as released.
    """
    check_pairs(video, text)
    all_video = video if all_video is None else all_video
    all_text = text if all_text is None else all_text
    if soft_target_share and len(all_video) != len(video):
        raise ConfigError("soft targets need local negatives: set loss.negatives to 'local'")

    def compare(rows: Tensor, columns: Tensor) -> Tensor:
        if len(columns) == len(rows):
            hard = torch.arange(first_row, first_row + len(rows), device=rows.device)
            logits = rows @ columns.T / temperature
            if ignored is not None:
                logits = logits.float().masked_fill(ignored, LOWEST_LOGIT)
            return _cross_entropy(logits, hard, soft_target_share)
        term = partial(_term, first_row=first_row, ignored=ignored)
        return compare_in_chunks(rows, columns, temperature, 0.0, first_row, term) / len(rows)

    if ignored is not None:
        ignored = ignored & ~torch.eye(len(ignored), dtype=torch.bool, device=ignored.device)
    losses = []
    if direction in ("both", "video_to_text"):
        losses.append(compare(video, all_text))
    if direction in ("both", "text_to_video"):
        losses.append(compare(text, all_video))
    return torch.stack(losses).sum()


def _term(logits: Tensor, pairs: Tensor, *, first_row: int, ignored: Tensor | None) -> Tensor:
    """Return the summed loss of (n, M) logits, of which row i is a pair with column `pairs[i]`."""
    if ignored is not None:
        own = slice(first_row, first_row + len(ignored))
        lowest = torch.zeros_like(logits)
        lowest[:, own] = ignored[pairs - first_row] * LOWEST_LOGIT
        logits = logits + lowest
    return F.cross_entropy(logits, pairs, reduction="sum")


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
