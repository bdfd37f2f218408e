"""Bootstrap intervals: how much a number varies with the choice of the test videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    groups: Sequence[str] | NDArray[np.int64],
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic under resampling of whole groups.

    Items of one video are alike, so that resampling single items would give too narrow an interval:
    use the video of each item as its group.

    Args:
        statistic: Number computed from item indices (an item may occur several times).
        groups: (N,) group of each item, N > 0.
        rng: Source of the resamples.
        num_resamples: Resamples to draw.
        level: Share of the resamples inside the interval.
    """
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    items = np.argsort(group_of, kind="stable")
    num_groups = int(group_of.max()) + 1
    values = np.empty(num_resamples)
    for i in range(num_resamples):
        drawn = np.bincount(rng.integers(num_groups, size=num_groups), minlength=num_groups)
        values[i] = statistic(np.repeat(items, drawn[group_of[items]]))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
