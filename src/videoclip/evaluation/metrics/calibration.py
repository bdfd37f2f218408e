"""How well scores separate right from wrong, and how honest probabilities are."""

import numpy as np

from videoclip.types import BoolArray, IntArray, RealArray

NUM_BINS = 15


def roc_auc(scores: RealArray, positive: BoolArray) -> float:
    """Return the chance that a positive has a higher score than a negative, ties counting half.

    NaN if all are of one kind.
    """
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # ranks from 1, the middle one of ties
    above = middle[place][positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def calibration_error(confidences: RealArray, correct: RealArray) -> float:
    """Return the expected calibration error: how far accuracy is from the mean confidence.

    Args:
        confidences: (N,) probability of each answer given.
        correct: (N,) whether it is right, or the share of it that is.

    Source: Guo et al. 2017 (arXiv 1706.04599), with 15 bins of equal width.
    """
    bins = np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, correct - confidences, NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def brier_scores(probabilities: RealArray, answers: IntArray) -> RealArray:
    """Return (N,) squared distances of probabilities (N, C) from 1 for the answer and 0 for others.

    0 is best; 2 where another choice was certain.
    """
    wanted = np.arange(probabilities.shape[1]) == answers[:, None]
    return np.asarray(((probabilities - wanted) ** 2).sum(axis=1))
