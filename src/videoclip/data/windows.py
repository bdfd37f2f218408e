"""Splitting a long video into overlapping windows, and averaging their outputs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sliding_windows(num_features: int, window: int, step: int) -> list[tuple[int, int]]:
    """Return half-open windows of a video, one every `step` features; the last may be shorter.

    Source: released evaluation of CrossTask and COIN: windows begin at 0, step, 2 step, ... until
    the rest fits one window.
    """
    assert window >= step > 0, "windows must cover all positions"
    num_steps = max(0, -(-(num_features - window) // step))
    return [(i * step, min(i * step + window, num_features)) for i in range(num_steps + 1)]


def average_windows(
    values: NDArray[np.floating], windows: Sequence[tuple[int, int]]
) -> NDArray[np.floating]:
    """Return the mean of overlapping windows at each position.

    Args:
        values: (sum of window lengths, K), the windows one after another.
        windows: Half-open ranges of positions that cover 0..T-1.

    Returns:
        (T, K).
    """
    num_positions = max(stop for _, stop in windows)
    total = np.zeros((num_positions, values.shape[1]), dtype=values.dtype)
    counts = np.zeros((num_positions, 1), dtype=values.dtype)
    first = 0
    for start, stop in windows:
        total[start:stop] += values[first : first + stop - start]
        counts[start:stop] += 1
        first += stop - start
    assert counts.all(), "windows must cover all positions"
    return np.asarray(total / counts)
