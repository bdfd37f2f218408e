"""Moment retrieval: overlap ratio, average precision, and DiDeMo's ranks.

Spans are rows (start, end) in seconds, half open; DiDeMo's are inclusive indices of five-second
chunks, as in its files.
"""

from collections.abc import Sequence

import numpy as np

from videoclip.types import BoolArray, IntArray, RealArray
from videoclip.zeroshot.moments import DIDEMO_CANDIDATES

CANDIDATE_INDEX = {candidate: i for i, candidate in enumerate(DIDEMO_CANDIDATES)}
"""Index in `DIDEMO_CANDIDATES` of a moment: its first and last chunk."""
NUM_COUNTED = 3
"""Annotators that count: the three nearest to the prediction, of four or more."""


def span_iou(a: RealArray, b: RealArray) -> RealArray:
    """Return (N, M) overlap ratios of spans (N, 2) and (M, 2); 0 where both are empty.

    The union of spans that overlap is measured from the first start to the last end, as the
    published evaluations of moment retrieval do, so that ratios at a threshold round alike.
    """
    starts, ends = (a[:, None, 0], b[None, :, 0]), (a[:, None, 1], b[None, :, 1])
    shared = np.clip(np.minimum(*ends) - np.maximum(*starts), 0.0, None)  # (N, M)
    union = np.maximum(*ends) - np.minimum(*starts)
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


_CHUNKS = np.array([(first, last + 1) for first, last in DIDEMO_CANDIDATES], dtype=np.float64)
CANDIDATE_IOU = span_iou(_CHUNKS, _CHUNKS)
"""(21, 21) overlap ratios of the candidates."""


def didemo_agreement(
    ranking: IntArray, annotated: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """Return mean rank and overlap of one ranking with the moments that annotators marked.

    Args:
        ranking: (R,) indices into `DIDEMO_CANDIDATES`, best first.
        annotated: One moment of each annotator.

    Returns:
        The mean of the three smallest ranks (from 1) of annotated moments, and the mean of the
        three largest overlaps of the first candidate with them. A moment that was not ranked,
        since it lies beyond the features, is missed: its rank is infinite.

    Source: the metric of LocalizingMoments. Deviation: the released evaluation ignores annotators
    whose moment was not ranked.
    """
    marked = np.array([CANDIDATE_INDEX[moment] for moment in annotated])
    place = np.full(len(DIDEMO_CANDIDATES), np.inf)
    place[ranking] = np.arange(1, len(ranking) + 1)
    ranks = np.sort(place[marked])[:NUM_COUNTED]
    overlaps = np.sort(CANDIDATE_IOU[ranking[0], marked])[-NUM_COUNTED:]
    return float(ranks.mean()), float(overlaps.mean())


def average_precision(overlaps: RealArray, min_iou: float) -> float:
    """Return the interpolated average precision of one query's ranked spans.

    Args:
        overlaps: As for `match_spans`, M > 0.
        min_iou: Least overlap ratio of a correct prediction.

    Source: the detection measure of the ActivityNet and QVHighlights evaluations.
    """
    return interpolated_precision(match_spans(overlaps, min_iou), overlaps.shape[1])


def match_spans(overlaps: RealArray, min_iou: float) -> BoolArray:
    """Return which predictions (N,) are correct: matched with a true span that none before took.

    Args:
        overlaps: (N, M) overlap ratios (`span_iou`) of predictions, most similar first, with true
            spans. Each of these is matched once, by the first prediction that overlaps it most; of
            true spans that a prediction overlaps equally, the last is matched.
        min_iou: Least overlap ratio of a correct prediction.
    """
    correct, taken = (np.zeros(number, dtype=bool) for number in overlaps.shape)
    for i, row in enumerate(overlaps if len(taken) else ()):
        open_row = np.where(taken, -1.0, row)
        best = len(row) - 1 - int(open_row[::-1].argmax())
        if open_row[best] >= min_iou:
            taken[best] = correct[i] = True
    return correct


def interpolated_precision(correct: BoolArray, num_true: int) -> float:
    """Return the area below precision, the largest at each recall or a higher one.

    Args:
        correct: (N,) whether each prediction is, most similar first.
        num_true: How many could be found, at least 1.
    """
    precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    best_later = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_later * correct).sum() / num_true)


def recalled_spans(predicted: RealArray, true: RealArray, min_ious: Sequence[float]) -> float:
    """Return how many true spans (M, 2) some prediction (N, 2) overlaps, as a mean over ratios.

    Source: the average recall of the ActivityNet proposal task.
    """
    best = span_iou(predicted, true).max(axis=0, initial=0.0)  # (M,)
    return float(np.mean([(best >= min_iou).sum() for min_iou in min_ious]))


def highlight_precision(similarities: RealArray, positive: BoolArray) -> float:
    """Return the interpolated average precision of the clips of one video.

    Args:
        similarities: (C,) of each clip; equal ones share a rank.
        positive: (C,) whether a clip is a highlight; the result is 0 if none is.

    Source: QVHighlights (arXiv 2107.09609).
    """
    order = np.argsort(-similarities, kind="stable")
    ranked = similarities[order]
    ends = np.append(ranked[1:] != ranked[:-1], True)  # of runs of equal similarities
    correct = np.cumsum(positive[order])[ends]
    precision = correct / (np.flatnonzero(ends) + 1)
    best_later = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_later * np.diff(correct, prepend=0)).sum() / max(1, positive.sum()))
