"""Ordered steps in one video: the CrossTask assignment and its recall."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_softmax", "order_steps", "recall_counts"]

FloatArray = NDArray[np.floating]
_STAY, _FROM_GAP, _FROM_STEP = range(3)


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return log-probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def order_steps(cost: FloatArray, *, exactly_one: bool = True) -> NDArray[np.bool_]:
    """Give every step its frames at the least total cost, in the order of the steps.

    Between, before and after steps there may be background, which costs nothing. O(T K) time.

    Args:
        cost: (T, K), T >= K; of giving frame t to step k, for instance -log p.
        exactly_one: Each step takes exactly one frame; otherwise a run of at least one.

    Returns:
        (T, K), True where the frame belongs to the step.

    Source: the dynamic programme of CrossTask (Zhukov et al. 2019), which the released evaluation
    uses with `exactly_one`. Among equally cheap answers a step begins as early as it can, but the
    last step takes the last frame if that is as cheap.
    """
    num_frames, num_steps = cost.shape
    assert num_frames >= num_steps > 0, "each step needs a frame of its own"
    return _one_frame_each(cost) if exactly_one else _runs_of_frames(cost)


def _one_frame_each(cost: FloatArray) -> NDArray[np.bool_]:
    """Go step by step, all frames at once: the steps before have had their frames before."""
    num_frames, num_steps = cost.shape
    frames = np.arange(num_frames)
    total: FloatArray = cost[:, 0].astype(np.float64)  # with the step so far at each frame
    earliest = np.empty((num_steps - 1, num_frames), dtype=np.int64)  # cheapest frame up to here
    for step in range(1, num_steps):
        least = np.concatenate(([np.inf], np.minimum.accumulate(total)[:-1]))  # of frames before
        earliest[step - 1] = np.maximum.accumulate(np.where(total < least, frames, 0))
        total = cost[:, step] + np.concatenate(([np.inf], np.minimum(least, total)[:-1]))
    frame = int(total[:-1].argmin()) if num_frames > 1 else 0
    if total[-1] <= total[frame]:
        frame = num_frames - 1
    assignment = np.zeros((num_frames, num_steps), dtype=bool)
    for step in range(num_steps - 1, -1, -1):
        assignment[frame, step] = True
        if step:
            frame = int(earliest[step - 1, frame - 1])
    return assignment


def _runs_of_frames(cost: FloatArray) -> NDArray[np.bool_]:
    """Go frame by frame, all steps at once."""
    num_frames, num_steps = cost.shape
    step = np.full(num_steps, np.inf)  # cheapest way to be in step k at the last frame seen
    gap = np.full(num_steps + 1, np.inf)  # ... to be in background after k steps
    gap[0] = 0.0
    came_from = np.empty((num_frames, num_steps), dtype=np.int8)
    gap_from_step = np.empty((num_frames, num_steps), dtype=bool)
    for frame in range(num_frames):
        previous = np.concatenate(([np.inf], step[:-1]))
        options = np.stack((step, gap[:-1], previous))  # (3, K)
        came_from[frame] = options.argmin(axis=0)
        gap_from_step[frame] = step < gap[1:]
        gap[1:] = np.minimum(gap[1:], step)
        step = options.min(axis=0) + cost[frame]
    return _trace_back(came_from, gap_from_step, in_gap=bool(gap[-1] < step[-1]))


def _trace_back(
    came_from: NDArray[np.int8], gap_from_step: NDArray[np.bool_], *, in_gap: bool
) -> NDArray[np.bool_]:
    """Follow the choices from the last frame to the first."""
    num_frames, num_steps = came_from.shape
    assignment = np.zeros((num_frames, num_steps), dtype=bool)
    k = num_steps - 1  # the step one is in, or the last one before the gap one is in
    for frame in range(num_frames - 1, -1, -1):
        if k < 0:
            break
        if in_gap:
            in_gap = not gap_from_step[frame, k]
            continue
        assignment[frame, k] = True
        origin = came_from[frame, k]
        if origin != _STAY:
            in_gap = bool(origin == _FROM_GAP)
            k -= 1
    return assignment


def recall_counts(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[int, int]:
    """Count the steps found in one video, and the steps there are to find.

    A step is found if one of the frames given to it lies in one of its true segments.

    Args:
        predicted: (T, K) assignment.
        true: (T, K), True in the true segments.

    Source: CrossTask; step recall of a task is found / present, pooled over its videos.
    """
    return int((predicted & true).any(axis=0).sum()), int(true.any(axis=0).sum())
