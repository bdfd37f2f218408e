"""Bootstrap intervals: how much a number varies with the choice of the test videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from videoclip.types import IntArray, RealArray


def bootstrap_interval(
    statistic: Callable[[IntArray], float | Sequence[float]],
    groups: Sequence[str] | IntArray,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[RealArray, RealArray]:
    """Return the percentile interval of a statistic under resampling of whole groups.

    Items of one video are alike, so that resampling single items would give too narrow an interval:
    use the video of each item as its group.

    Args:
        statistic: One or M numbers computed from item indices (an item may occur several times).
        groups: (N,) group of each item, N > 0.
        rng: Source of the resamples.
        num_resamples: Resamples to draw.
        level: Share of the resamples inside the interval.

    Returns:
        Its lower and upper end; (M,) each of M numbers.
    """
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    items = np.argsort(group_of, kind="stable")
    num_groups = int(group_of.max()) + 1
    values = []
    for _ in range(num_resamples):
        drawn = np.bincount(rng.integers(num_groups, size=num_groups), minlength=num_groups)
        values.append(statistic(np.repeat(items, drawn[group_of[items]])))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
