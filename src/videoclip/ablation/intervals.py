"""Differences between models with paired bootstrap intervals over seeds and test videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000

Sums: TypeAlias = NDArray[np.float64]
"""(S, V, 2) numerators and denominators of one measure by seed and test video."""


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


def difference(ours: Sums, theirs: Sums) -> Interval:
    """Return how much higher a ratio is, with its interval.

    Seeds and test videos are resampled with replacement, the same ones for both, so that what is
    hard for both does not widen the interval.

    Args:
        ours: (S, V, 2).
        theirs: The same of the other model; (V, 2) if it has no seed.
    """
    theirs = np.broadcast_to(theirs, ours.shape)
    return _bootstrap((ours, theirs), lambda sums: ratio(sums[0]) - ratio(sums[1]))


def error_reduction(ours: Sums, theirs: Sums) -> Interval:
    """Return which share of another model's errors is gone; arguments as of `difference`."""
    return _bootstrap(
        (ours, theirs), lambda sums: (ratio(sums[0]) - ratio(sums[1])) / (1 - ratio(sums[1]))
    )


def quotient(ours: Sums, theirs: Sums) -> Interval:
    """Return one ratio divided by another; arguments as of `difference`."""
    return _bootstrap((ours, theirs), lambda sums: ratio(sums[0]) / ratio(sums[1]))


def _bootstrap(
    parts: Sequence[Sums], statistic: Callable[[list[Sums]], NDArray[np.float64]]
) -> Interval:
    """Compute a statistic of the sums over seeds and videos, once and under resampling."""
    rng = np.random.default_rng(0)
    num_seeds, num_videos, _ = parts[0].shape
    seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), NUM_RESAMPLES)
    videos = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), NUM_RESAMPLES)
    drawn = [np.einsum("bs,bv,svc->bc", seeds, videos, part, optimize=True) for part in parts]
    low, high = np.quantile(statistic(drawn), (0.025, 0.975))
    value = statistic([part.sum(axis=(0, 1)) for part in parts])
    return Interval(float(value), float(low), float(high))


def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2) sums to (...) ratios; 0 where there are no questions."""
    result: NDArray[np.float64] = np.divide(
        sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] > 0
    )
    return result
