"""Baselines that need no model: chance, and the strongest trivial answers."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, permutations
from math import comb

import numpy as np

from videoclip.evaluation.metrics.moments import CANDIDATE_INDEX, CANDIDATE_IOU, NUM_COUNTED
from videoclip.types import BoolArray, IntArray, RealArray
from videoclip.zeroshot.moments import DIDEMO_CANDIDATES

Chunks = tuple[int, int]
"""First and last chunk of a moment of DiDeMo, inclusive."""


def chance_ranks(num_correct: IntArray, num_candidates: int) -> RealArray:
    """Return (M,) the probability that a correct candidate is among the first k, for k = 1..M.

    Args:
        num_correct: (N,) correct candidates of each query; all candidates are in random order.
        num_candidates: M, correct ones included.
    """
    k = np.arange(num_candidates)
    total = np.zeros(num_candidates)
    for correct, count in zip(*np.unique(num_correct, return_counts=True), strict=True):
        # The first k are all wrong: (M - correct - i) / (M - i) for each place i.
        all_wrong = np.cumprod(np.clip((num_candidates - correct - k) / (num_candidates - k), 0, 1))
        total += count * (1 - all_wrong)
    return np.asarray(total / len(num_correct))


def frequency_ranking(annotations: Sequence[Sequence[Chunks]]) -> IntArray:
    """Order DiDeMo's moments by how often annotators of other videos marked them."""
    marked = [CANDIDATE_INDEX[moment] for moments in annotations for moment in moments]
    return np.argsort(-np.bincount(marked, minlength=len(DIDEMO_CANDIDATES)), kind="stable")


def random_moments(annotations: Sequence[Sequence[Chunks]]) -> tuple[float, float, float]:
    """Return the expected rank@1, rank@5 and mIoU of DiDeMo's moments in random order, exactly.

    The chances of a sentence depend on how many of its annotators agree, not on the moment.
    """
    patterns = Counter(tuple(sorted(Counter(moments).values())) for moments in annotations)
    within = np.sum([num * _chance_within(pattern) for pattern, num in patterns.items()], axis=0)
    overlaps = [
        np.sort(CANDIDATE_IOU[:, [CANDIDATE_INDEX[m] for m in moments]])[:, -NUM_COUNTED:].mean()
        for moments in annotations
    ]
    rank_1, rank_5 = (within / len(annotations)).tolist()
    return rank_1, rank_5, float(np.mean(overlaps))


def _chance_within(pattern: tuple[int, ...]) -> RealArray:
    """Return the chances (2,) that the mean of the nearest three ranks is at most 1 and 5.

    Args:
        pattern: How many annotators marked each of the different moments of a sentence.
    """
    num, counted = len(pattern), min(len(pattern), NUM_COUNTED)
    # Ranks of the first few of the marked moments, and the number of orders with those ranks.
    places = np.array(list(combinations(range(1, len(DIDEMO_CANDIDATES) + 1), counted)))
    weights = np.array(
        [comb(len(DIDEMO_CANDIDATES) - last, num - counted) for last in places[:, -1].tolist()]
    )
    orders = Counter(permutations(pattern, counted))
    chances = np.zeros(2)
    for order, count in orders.items():
        ranks = np.repeat(places, order, axis=1)[:, :NUM_COUNTED].mean(axis=1)
        chances += count * np.array([weights[ranks <= k].sum() for k in (1, 5)])
    return np.asarray(chances / (weights.sum() * orders.total()))


def random_steps(num_frames: int, num_steps: int, rng: np.random.Generator) -> BoolArray:
    """Give each step one frame, at random but in order: (T, K)."""
    frames = np.sort(rng.choice(num_frames, num_steps, replace=False))
    return single_frames(frames, num_frames)


def even_steps(num_frames: int, num_steps: int) -> BoolArray:
    """Spread the steps evenly over the video: (T, K)."""
    return single_frames(even_frames(num_frames, num_steps), num_frames)


def even_frames(num_frames: int, number: int) -> IntArray:
    """Return (N,) frames at equal distances, half a distance from both ends of the video."""
    return np.asarray(((np.arange(number) + 0.5) * num_frames / number).astype(int))


def single_frames(frames: IntArray, num_frames: int) -> BoolArray:
    """Return (T, K), True where a frame is that (K,) of a step."""
    return np.asarray(np.arange(num_frames)[:, None] == frames)
