"""Contrastive losses over a batch of clip pairs: embeddings in, one scalar out.

Every module of this package is a loss and has a function `loss(pairs, config)`; adding one is
adding a file (docs/adding.md). The module's name is what the setting `loss.kind` takes.

Row i of the video embeddings and row i of the text embeddings belong together; every other pair is
a negative. Each loss has a naive twin, written with loops, in tests/model/test_losses.py.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.config import LossConfig
from videoclip.errors import ConfigError


class PairEmbeddings(NamedTuple):
    """What a loss compares.

    Attributes:
        video: (B, E) embeddings of this process's video clips.
        text: (B, E) embeddings of its text clips; (C * B, E) with C candidates a `mil_nce` clip.
        all_video: (M, E) rows of all processes, gathered with gradient, where `loss.negatives` is
            "global"; else `video` itself.
        all_text: Likewise for `text`.
        first_row: Row of `video[0]` in `all_video`.
        num_processes: How many processes' rows `all_video` has.
        temperature: Scalar that similarities are divided by.
        bias: Scalar that may be added to the logits; 0 unless the model learns it.
        spans: (B, 5) places of this process's pairs in their videos, see `PlacedBatch`; None where
            they are not known.
        words: (B, L) word-piece ids of its text clips, -1 where padded; None where unknown.
    """

    video: Tensor
    text: Tensor
    all_video: Tensor
    all_text: Tensor
    first_row: int
    num_processes: int
    temperature: Tensor
    bias: Tensor
    spans: Tensor | None = None
    words: Tensor | None = None


Term = Callable[[Tensor, Tensor], Tensor]
"""From logits (n, M) and the column (n,) of each row's pair to the sum of the rows' losses."""
LOWEST_LOGIT = -1e4
"""Stands for minus infinity, of which gradients would be NaN."""
NUM_CHUNKS = 8
"""Parts of this process's rows that are compared with all columns one after the other."""
Loss = Callable[[PairEmbeddings, LossConfig], Tensor]
"""Returns this process's loss, a scalar; the mean over processes is the loss of the step."""


def load_loss(kind: str) -> Loss:
    """Return the loss that `loss.kind` names; only its own module is imported."""
    loss: Loss = importlib.import_module(f"{__name__}.{kind}").loss
    return loss


def compare_in_chunks(
    rows: Tensor,
    columns: Tensor,
    temperature: float | Tensor,
    bias: float | Tensor,
    first_row: int,
    term: Term,
) -> Tensor:
    """Return the sum of a term over the logits of B rows with M columns, a scalar.

    The (B, M) logits never exist at once: a part of the rows is compared at a time, and compared
    again for the gradient.

    Args:
        rows: (B, E).
        columns: (M, E).
        temperature: Similarities are divided by it.
        bias: Added to the logits.
        first_row: Column that row 0 is the pair of; row i is the pair of column `first_row + i`.
        term: Its gradient by the logits comes from autograd.
    """
    scalars = (
        torch.as_tensor(x, dtype=torch.float32, device=rows.device) for x in (temperature, bias)
    )
    total: Tensor = _CompareInChunks.apply(rows, columns, *scalars, first_row, term)  # type: ignore[no-untyped-call]
    return total


class _CompareInChunks(torch.autograd.Function):
    """See `compare_in_chunks`."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor,
        temperature: Tensor,
        bias: Tensor,
        first_row: int,
        term: Term,
    ) -> Tensor:
        ctx.save_for_backward(rows, columns, temperature, bias)
        ctx.chunks, ctx.term = _chunks(len(rows), first_row, rows.device), term
        scalars = (temperature, bias)
        parts = [term(_logits(rows[part], columns, *scalars), own) for part, own in ctx.chunks]
        return torch.stack(parts).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, temperature, bias = ctx.saved_tensors
        of_rows = torch.zeros_like(rows, dtype=torch.float32)
        of_columns = torch.zeros_like(columns, dtype=torch.float32)
        of_temperature, of_bias = torch.zeros_like(temperature), torch.zeros_like(bias)
        for part, own in ctx.chunks:
            logits = _logits(rows[part], columns, temperature, bias).requires_grad_()
            with torch.enable_grad():
                value = ctx.term(logits, own)
            (of_logits,) = torch.autograd.grad(value, logits, gradients[0])
            torch.mm(of_logits, columns.float(), out=of_rows[part])
            of_columns.addmm_(of_logits.T, rows[part].float())
            of_bias += of_logits.sum()
            of_temperature -= of_logits.mul_(logits.detach().sub_(bias)).sum() / temperature
        of_both = of_rows.div_(temperature).to(rows), of_columns.div_(temperature).to(columns)
        return *of_both, of_temperature, of_bias, None, None


def _chunks(num_rows: int, first_row: int, device: torch.device) -> list[tuple[slice, Tensor]]:
    """Return the parts of the rows, each with the columns of its pairs."""
    size = -(-num_rows // NUM_CHUNKS)
    parts = [slice(i, min(i + size, num_rows)) for i in range(0, num_rows, size)]
    return [
        (part, torch.arange(first_row + part.start, first_row + part.stop, device=device))
        for part in parts
    ]


def _logits(rows: Tensor, columns: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
    """Return (n, M) logits in float32, whatever precision the embeddings are in."""
    return (rows @ columns.T).float().div_(temperature).add_(bias)


def softmax_loss(
    logits: Tensor,
    targets: Tensor | None = None,
    ignored: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of a softmax over each row's columns plus that over its rows.

    Args:
        logits: (B, B).
        targets: (B, B), how much two belong together, at least 0; by default only i and i do.
        ignored: (B, B) bool, True where two are neither positive nor negative.
        weights: (B,), how much each row and each column counts; by default all alike.
    """
    logits = logits.float()
    targets = torch.eye(len(logits), device=logits.device) if targets is None else targets
    if ignored is not None:
        ignored = ignored & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(ignored, LOWEST_LOGIT)
        targets = targets.masked_fill(ignored, 0)
    share = torch.ones(len(logits), device=logits.device) if weights is None else weights
    # Cross-entropy is linear in its targets.
    of_rows = targets / targets.sum(dim=1, keepdim=True) * share[:, None]
    of_columns = targets / targets.sum(dim=0) * share
    return F.cross_entropy(logits, of_rows) + F.cross_entropy(logits.T, of_columns.T)


def seconds_loss(
    text: Tensor,
    seconds: Tensor,
    mask: Tensor,
    temperature: float | Tensor,
    ignored: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return InfoNCE in which the best seconds of a clip stand for it.

    The seconds of a clip count as in a softmax over the seconds of all clips, any of which may
    match a text: words are about some of the seconds around them, nobody knows which.

    Args:
        text: (B, E).
        seconds: (B, T, E) of each clip.
        mask: (B, T), True where real.
        temperature: Similarities are divided by it.
        ignored: See `softmax_loss`.
        weights: See `softmax_loss`.

    Source: MIL-NCE (arXiv 1912.06430), with seconds in the place of candidate texts.
    """
    logits = torch.einsum("ie,jte->ijt", text, seconds) / temperature
    logits = logits.masked_fill(~mask, LOWEST_LOGIT).logsumexp(dim=2)
    return softmax_loss(logits, ignored=ignored, weights=weights)


def overlapping(spans: Tensor) -> Tensor:
    """Return (B, B) bool, True for two pairs of one video whose words or whose seconds overlap.

    Args:
        spans: See `PairEmbeddings`.
    """

    def overlap(starts: Tensor, ends: Tensor) -> Tensor:
        return torch.minimum(ends[:, None], ends) > torch.maximum(starts[:, None], starts)

    video, *times = spans.unbind(dim=1)
    return (video[:, None] == video) & (overlap(*times[:2]) | overlap(*times[2:]))


def by_video(pairs: PairEmbeddings) -> tuple[Tensor, Tensor]:
    """Return the clips and the texts (V, C, E) of each of V videos, each in order of time.

    Raises:
        ConfigError: If the places of the pairs are not known.
    """
    spans = places(pairs)
    num_videos, sides = int(spans[-1, 0]) + 1, []
    for embeddings, times in ((pairs.video, spans[:, 3:]), (pairs.text, spans[:, 1:3])):
        order = times.sum(dim=1).view(num_videos, -1).argsort(dim=1, stable=True)
        rows = embeddings.view(num_videos, -1, embeddings.shape[1])
        sides.append(rows.take_along_dim(order[..., None], dim=1))
    return sides[0], sides[1]


def places(pairs: PairEmbeddings) -> Tensor:
    """Return the places of pairs in their videos.

    Raises:
        ConfigError: If they are not known.
    """
    if pairs.spans is None:
        raise ConfigError("this loss needs clips of narrated videos: use it in pre-training")
    return pairs.spans


def check_pairs(video: Tensor, text: Tensor) -> None:
    """Raise a ConfigError unless both are (B, E)."""
    if video.ndim != 2 or video.shape != text.shape:
        raise ConfigError(
            f"the loss needs two (B, E) arrays of one shape, got {shapes_of(video, text)}"
        )


def shapes_of(*arrays: Tensor) -> str:
    """Return the shapes of arrays for a message."""
    return " and ".join(str(tuple(a.shape)) for a in arrays)
