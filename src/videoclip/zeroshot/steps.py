"""Step localisation: from the gain of each step at each frame to one span for each step.

A frame is what one feature stands for. All functions maximise the sum of the gains of the frames
that are assigned to steps; a frame of background gains nothing.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from videoclip.types import BoolArray, RealArray

Span: TypeAlias = tuple[int, int]
"""Half-open range of frames."""


def order_steps(
    gains: RealArray, *, exactly_one: bool = False, optional: bool = False
) -> list[Span | None]:
    """Find the spans of steps that happen in their order, with background between them.

    A dynamic programme over the steps, all frames at once: O(T K) time.

    Args:
        gains: (T, K) of assigning frame t to step k, for instance log p.
        exactly_one: Each step takes exactly one frame; otherwise a run of frames.
        optional: Steps that gain nothing where their turn is are left out; otherwise every step
            gets at least one frame, which needs T >= K.

    Returns:
        For each step its span, or None if it is left out.

    Source: CrossTask (Zhukov et al. 2019), whose dynamic programme the released evaluation uses
    with `exactly_one`. Of equally good answers a step begins as early as it can, but a last step
    that is not optional takes the last frame if that is as good.
    """
    num_frames, num_steps = gains.shape
    assert optional or num_frames >= num_steps > 0, "each step needs a frame of its own"
    gains = gains.astype(np.float64)
    sums = np.concatenate((np.zeros((1, num_steps)), np.cumsum(gains, axis=0)))  # (T + 1, K)
    # Best totals of the steps so far within the first t frames, t = 0..T.
    total: RealArray = np.zeros(num_frames + 1)
    stages: list[tuple[RealArray, RealArray, RealArray]] = []
    for step in range(num_steps):
        before = total
        entered = before - sums[:, step]  # with the step beginning at frame t
        runs = before[:-1] + gains[:, step]
        if not exactly_one:
            runs = np.maximum.accumulate(entered)[:-1] + sums[1:, step]
        ending = np.concatenate(([-np.inf], runs))  # with the step ending before frame t
        stages.append((before, entered, ending))
        total = np.maximum.accumulate(ending)
        if optional:
            total = np.maximum(total, before)

    spans: list[Span | None] = [None] * num_steps
    limit = num_frames
    for step in range(num_steps - 1, -1, -1):
        before, entered, ending = stages[step]
        end = int(ending[: limit + 1].argmax())
        if optional and before[limit] >= ending[end]:
            continue
        if not optional and step == num_steps - 1 and ending[limit] >= ending[end]:
            end = limit
        start = end - 1 if exactly_one else int(entered[:end].argmax())
        spans[step] = (start, end)
        limit = start
    return spans


def assign_steps(logits: RealArray, *, exactly_one: bool = False) -> BoolArray:
    """Assign frames to the steps of a task, in their order, by the log-probabilities of the steps.

    Args:
        logits: (T, K) similarities of frames with step texts, divided by the temperature.
        exactly_one: As of `order_steps`. Otherwise a frame counts only if it is likelier than
            chance, since background would always be best.

    Returns:
        (T, K), True where a frame is assigned to a step.

    Source: as released, with `exactly_one`.
    """
    num_frames, num_steps = logits.shape
    chance = 0.0 if exactly_one else np.log(num_steps)
    spans = order_steps(log_softmax(logits) + chance, exactly_one=exactly_one)
    return step_mask(spans, num_frames)


def best_spans(gains: RealArray) -> list[Span | None]:
    """Find the best span of each step by itself, in any order.

    Args:
        gains: (T, K).

    Returns:
        For each step the span with the largest sum of gains, or None if no frame gains anything.
    """
    return [order_steps(column[:, None], optional=True)[0] for column in gains.T]


def subtract_rivals(gains: RealArray) -> RealArray:
    """Make frames count against a step, by the difference, where another step gains more.

    Steps of one task resemble each other: by itself, each would extend into its neighbours.

    Args:
        gains: (T, K).

    Returns:
        (T, K), unchanged where a step gains most.
    """
    best = gains.max(axis=1, keepdims=True)
    return np.where(best > gains, gains - best, gains)


def step_mask(spans: Sequence[Span | None], num_frames: int) -> BoolArray:
    """Return (T, K), True where a frame lies in the span of a step."""
    mask = np.zeros((num_frames, len(spans)), dtype=bool)
    for step, span in enumerate(spans):
        if span:
            mask[slice(*span), step] = True
    return mask


def log_softmax(logits: RealArray) -> RealArray:
    """Return log-probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
