"""Reciprocal rank fusion: one order out of several that cannot be compared by value."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

__all__ = ["fuse_ranks"]

ItemT = TypeVar("ItemT", bound=Hashable)

DAMPING = 60
"""Source: Cormack, Clarke and Buettcher, SIGIR 2009; flat over a wide range around it."""


def fuse_ranks(
    rankings: Sequence[tuple[float, Sequence[ItemT]]], damping: int = DAMPING
) -> dict[ItemT, float]:
    """Add up `weight / (damping + rank)` over the rankings an item is in, ranks from 1.

    Args:
        rankings: Weight and items, best first, of each ranking; an item counts where it is first.
        damping: The larger, the less the first places matter.

    Returns:
        Items with their sums, best first; equal sums keep the order of appearance.
    """
    sums: dict[ItemT, float] = {}
    for weight, items in rankings:
        for rank, item in enumerate(dict.fromkeys(items), start=1):
            sums[item] = sums.get(item, 0.0) + weight / (damping + rank)
    return dict(sorted(sums.items(), key=lambda pair: -pair[1]))
