"""What one gets without a model: chance, and the strongest trivial answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, permutations
from math import comb

import numpy as np
from numpy.typing import NDArray

from videoclip.evaluation.metrics.moments import (
    MOMENT_IOU,
    MOMENTS,
    NUM_COUNTED,
    moment_index,
)

__all__ = [
    "chance_ranks",
    "even_steps",
    "frequency_ranking",
    "random_moments",
    "random_steps",
]

Moment = tuple[int, int]


def chance_ranks(num_right: NDArray[np.int64], num_candidates: int) -> NDArray[np.float64]:
    """Return (M,) the probability that the best right candidate is among the first k, k = 1..M.

    Args:
        num_right: (N,) right candidates of each query; the others are in random order among them.
        num_candidates: M, right ones included.
    """
    k = np.arange(num_candidates)
    total = np.zeros(num_candidates)
    for right, count in zip(*np.unique(num_right, return_counts=True), strict=True):
        # The first k are all wrong: (M - right - i) / (M - i) for each place i.
        all_wrong = np.cumprod(np.clip((num_candidates - right - k) / (num_candidates - k), 0, 1))
        total += count * (1 - all_wrong)
    return np.asarray(total / len(num_right))


def frequency_ranking(annotations: Sequence[Sequence[Moment]]) -> NDArray[np.int64]:
    """Order DiDeMo's moments by how often annotators of other videos marked them."""
    marked = [moment_index(*moment) for moments in annotations for moment in moments]
    return np.argsort(-np.bincount(marked, minlength=len(MOMENTS)), kind="stable")


def random_moments(annotations: Sequence[Sequence[Moment]]) -> tuple[float, float, float]:
    """Return the expected rank@1, rank@5 and mIoU of DiDeMo's moments in random order, exactly.

    How often the annotators agree decides a sentence's chances, not on what.
    """
    patterns = Counter(tuple(sorted(Counter(moments).values())) for moments in annotations)
    within = np.sum([num * _chance_within(pattern) for pattern, num in patterns.items()], axis=0)
    overlaps = [
        np.sort(MOMENT_IOU[:, [moment_index(*m) for m in moments]])[:, -NUM_COUNTED:].mean()
        for moments in annotations
    ]
    rank_1, rank_5 = (within / len(annotations)).tolist()
    return rank_1, rank_5, float(np.mean(overlaps))


def _chance_within(pattern: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the chances (2,) that the mean of the nearest three ranks is at most 1 and 5.

    Args:
        pattern: How many annotators marked each of the different moments of a sentence.
    """
    num, seen = len(pattern), min(len(pattern), NUM_COUNTED)
    # Where the first few of the marked moments stand, and how likely that is.
    places = np.array(list(combinations(range(1, len(MOMENTS) + 1), seen)))
    weights = np.array([comb(len(MOMENTS) - last, num - seen) for last in places[:, -1].tolist()])
    orders = Counter(permutations(pattern, seen))
    chances = np.zeros(2)
    for order, count in orders.items():
        ranks = np.repeat(places, order, axis=1)[:, :NUM_COUNTED].mean(axis=1)
        chances += count * np.array([weights[ranks <= k].sum() for k in (1, 5)])
    return np.asarray(chances / (weights.sum() * orders.total()))


def random_steps(num_frames: int, num_steps: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Give each step one frame, at random but in order: (T, K)."""
    return _at(np.sort(rng.choice(num_frames, num_steps, replace=False)), num_frames)


def even_steps(num_frames: int, num_steps: int) -> NDArray[np.bool_]:
    """Spread the steps evenly over the video: (T, K)."""
    return _at(((np.arange(num_steps) + 0.5) * num_frames / num_steps).astype(int), num_frames)


def _at(frames: NDArray[np.int64], num_frames: int) -> NDArray[np.bool_]:
    assignment = np.zeros((num_frames, len(frames)), dtype=bool)
    assignment[frames, np.arange(len(frames))] = True
    return assignment
