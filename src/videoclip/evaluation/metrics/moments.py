"""Moments in one video: DiDeMo's 21 candidates, recall at an overlap, average precision.

Spans are rows (start, end) in seconds, half open; DiDeMo's are inclusive indices of five-second
chunks, as in its files.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHUNK_SECONDS",
    "MOMENTS",
    "MOMENT_IOU",
    "NUM_COUNTED",
    "average_precision",
    "didemo_agreement",
    "didemo_ranking",
    "moment_index",
    "span_iou",
    "suppress_overlaps",
]

CHUNK_SECONDS = 5
NUM_CHUNKS = 6
MOMENTS: tuple[tuple[int, int], ...] = (
    *((chunk, chunk) for chunk in range(NUM_CHUNKS)),
    *itertools.combinations(range(NUM_CHUNKS), 2),
)
"""DiDeMo's candidates (first chunk, last chunk), inclusive: single chunks, then longer ones."""

_INDEX = {moment: i for i, moment in enumerate(MOMENTS)}
NUM_COUNTED = 3
"""Annotators that count: the three nearest to the prediction (there are four or more)."""


def span_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, M) overlap ratios of spans (N, 2) and (M, 2); 0 where both are empty."""
    start = np.maximum(a[:, None, 0], b[None, :, 0])
    end = np.minimum(a[:, None, 1], b[None, :, 1])
    shared = np.clip(end - start, 0.0, None)  # (N, M)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0])[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


_CHUNKS = np.array([(first, last + 1) for first, last in MOMENTS], dtype=np.float64)
MOMENT_IOU = span_iou(_CHUNKS, _CHUNKS)
"""(21, 21) overlap ratios of the candidates."""


def moment_index(first: int, last: int) -> int:
    """Return the place in MOMENTS of an annotated moment; a KeyError if there is none such."""
    return _INDEX[first, last]


def didemo_ranking(similarity: NDArray[np.floating], num_valid: int) -> NDArray[np.int64]:
    """Order the candidates of one video by their mean similarity with a sentence.

    Args:
        similarity: (T,) of every second's state with the sentence. Rows past `num_valid`, where
            given, are padding that the released code averages too; without them a candidate is
            the mean of what the video has.
        num_valid: Seconds of video there are; candidates that begin later are left out.

    Returns:
        Indices into MOMENTS, best first.
    """
    reachable = [i for i, (first, _) in enumerate(MOMENTS) if first * CHUNK_SECONDS < num_valid]
    means = [
        similarity[first * CHUNK_SECONDS : (last + 1) * CHUNK_SECONDS].mean()
        for first, last in (MOMENTS[i] for i in reachable)
    ]
    order = np.argsort(-np.array(means), kind="stable")
    return np.array(reachable, dtype=np.int64)[order]


def didemo_agreement(
    ranking: NDArray[np.int64], annotated: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """Compare one ranking with what the annotators marked.

    Returns:
        The mean of the three smallest ranks (from 1) of annotated moments, and the mean of the
        three largest overlaps of the first candidate with them. A moment that was not ranked has
        no rank; if none was, the rank is infinite.

    Source: the metric of LocalizingMoments, as used by the released evaluation.
    """
    marked = np.array([moment_index(*moment) for moment in annotated])
    place = np.full(len(MOMENTS), np.inf)
    place[ranking] = np.arange(1, len(ranking) + 1)
    ranks = np.sort(place[marked])[:NUM_COUNTED]
    known = ranks[np.isfinite(ranks)]
    overlaps = np.sort(MOMENT_IOU[ranking[0], marked])[-NUM_COUNTED:]
    return float(known.mean()) if len(known) else float("inf"), float(overlaps.mean())


def suppress_overlaps(
    spans: NDArray[np.float64], similarity: NDArray[np.floating], max_iou: float, top_k: int
) -> NDArray[np.int64]:
    """Pick the most similar spans, leaving out those that overlap a picked one too much.

    Args:
        spans: (N, 2).
        similarity: (N,).
        max_iou: A span is left out if its overlap ratio with a picked one exceeds this.
        top_k: Spans to pick at most.

    Returns:
        Indices of the picked spans, most similar first.
    """
    remaining = np.argsort(-similarity, kind="stable")
    picked: list[int] = []
    while len(remaining) and len(picked) < top_k:
        best, remaining = remaining[0], remaining[1:]
        picked.append(int(best))
        remaining = remaining[span_iou(spans[best][None], spans[remaining])[0] <= max_iou]
    return np.array(picked, dtype=np.int64)


def average_precision(
    predicted: NDArray[np.float64], true: NDArray[np.float64], min_iou: float
) -> float:
    """Return the interpolated average precision of one query's ranked spans.

    Args:
        predicted: (N, 2), most similar first.
        true: (M, 2), M > 0; each can be found once, by the prediction that overlaps it most.
        min_iou: Overlap ratio from which a prediction counts as right.

    Source: the detection measure of the ActivityNet and QVHighlights evaluations.
    """
    overlaps = span_iou(predicted, true)  # (N, M)
    found = np.zeros(len(true), dtype=bool)
    right = np.zeros(len(predicted), dtype=bool)
    for i, row in enumerate(overlaps):
        open_row = np.where(found, -1.0, row)
        best = int(open_row.argmax())
        if open_row[best] >= min_iou:
            found[best] = right[i] = True
    num_right = np.cumsum(right)
    precision = num_right / np.arange(1, len(right) + 1)
    best_later = np.maximum.accumulate(precision[::-1])[::-1]  # precision at this recall or more
    return float((best_later * right).sum() / len(true))
