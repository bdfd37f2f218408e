"""From heights second by second to labelled spans: free order, or steps in their order.

Both maximise one sum: every second inside a span adds its height over the threshold, a second of
background adds nothing. Pure functions of arrays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["free_labels", "free_spans", "ordered_spans", "without_rivals"]

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]


def free_labels(gains: FloatArray, switch_cost: float) -> IntArray:
    """Label every second so that the sum of gains minus the cost of switching is largest.

    Args:
        gains: (T, K) of each label at each second; background gains nothing.
        switch_cost: Taken off wherever the label changes, so that flicker does not pay.

    Returns:
        (T,) labels from 1; 0 is background.
    """
    steps, num_labels = gains.shape
    padded = np.concatenate((np.zeros((steps, 1)), gains), axis=1)  # (T, K + 1)
    came_from = np.zeros((steps, num_labels + 1), dtype=np.int64)
    total = padded[0].copy()
    stay = np.arange(num_labels + 1)
    for t in range(1, steps):
        best = int(total.argmax())
        switched = total[best] - switch_cost
        came_from[t] = np.where(total >= switched, stay, best)
        total = np.maximum(total, switched) + padded[t]
    labels = np.empty(steps, dtype=np.int64)
    labels[-1] = int(total.argmax())
    for t in range(steps - 1, 0, -1):
        labels[t - 1] = came_from[t, labels[t]]
    return labels


def without_rivals(gains: FloatArray) -> FloatArray:
    """Let a second that suits another label better speak against this one, by the difference.

    Steps of one task resemble each other, so that each alone would reach into its neighbours.

    Args:
        gains: (T, K).

    Returns:
        (T, K); where a label gains most, as it was.
    """
    if gains.shape[1] < 2:
        return gains
    second, first = np.partition(gains, -2, axis=1)[:, -2:].T  # (T,) each
    rival = np.where(gains == first[:, None], second[:, None], first[:, None])
    return np.where(rival > gains, gains - rival, gains)


def free_spans(gains: FloatArray) -> list[tuple[int, int] | None]:
    """The best span of each label by itself.

    Args:
        gains: (T, K).

    Returns:
        For each label the half-open span of seconds with the largest sum, or None where no second
        gains anything.
    """
    return [_best_span(column) for column in gains.T]


def _best_span(gains: FloatArray) -> tuple[int, int] | None:
    """Kadane's algorithm on prefix sums: the largest difference of a later and an earlier one."""
    sums = np.concatenate(([0.0], np.cumsum(gains)))
    lowest = np.minimum.accumulate(sums)
    stop = int(np.argmax(sums - lowest))
    if sums[stop] - lowest[stop] <= 0:
        return None
    return int(np.argmin(sums[: stop + 1])), stop


def ordered_spans(gains: FloatArray) -> list[tuple[int, int] | None]:
    """Spans of steps that come in their order, each at most once, with background between.

    A dynamic programme over seconds and twice the steps (before and inside each): a step that
    gains nothing anywhere in its turn is left out.

    Args:
        gains: (T, K) of step k at each second.

    Returns:
        For each step its half-open span of seconds, or None.
    """
    steps, num_steps = gains.shape
    # State 2k: after step k - 1, in background. State 2k + 1: inside step k.
    num_states = 2 * num_steps + 1
    total = np.full(num_states, -np.inf)
    total[0] = 0.0
    came_from = np.zeros((steps, num_states), dtype=np.int64)
    adds = np.zeros((steps, num_states))
    adds[:, 1::2] = gains
    states = np.arange(num_states)
    for t in range(steps):
        # From any earlier state, for steps may be left out; inside a step from itself or from
        # before it. The state itself wins ties, then the latest.
        reach = np.maximum.accumulate(total)
        latest = np.maximum.accumulate(np.where(total == reach, states, 0))
        came_from[t] = np.where(total == reach, states, latest)
        total = reach + adds[t]
    labels = np.empty(steps, dtype=np.int64)
    state = int(total.argmax())
    for t in range(steps - 1, -1, -1):
        labels[t] = state
        state = int(came_from[t, state])
    spans: list[tuple[int, int] | None] = []
    for k in range(num_steps):
        inside = np.flatnonzero(labels == 2 * k + 1)
        spans.append((int(inside[0]), int(inside[-1]) + 1) if len(inside) else None)
    return spans
