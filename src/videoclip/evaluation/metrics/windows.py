"""Long videos in short windows, and annotated spans as targets of frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from videoclip.benchmarks.examples import Segment

__all__ = ["average_windows", "frame_span", "label_targets", "sliding_windows", "step_targets"]


def sliding_windows(num_frames: int, window: int, step: int) -> list[tuple[int, int]]:
    """Cut frames into half-open windows that begin every `step` frames; the last may be shorter.

    Source: released evaluation of CrossTask and COIN: windows begin at 0, step, 2 step, ... until
    what remains fits one window.
    """
    assert window >= step > 0, "windows must cover every frame"
    num_steps = max(0, math.ceil((num_frames - window) / step))
    return [(i * step, min(i * step + window, num_frames)) for i in range(num_steps + 1)]


def average_windows(
    values: NDArray[np.floating], windows: Sequence[tuple[int, int]]
) -> NDArray[np.floating]:
    """Average what overlapping windows say about each frame.

    Args:
        values: (sum of window lengths, K), the windows one after another.
        windows: Half-open frame ranges that cover every frame.

    Returns:
        (T, K).
    """
    frames = np.concatenate([np.arange(start, end) for start, end in windows])
    total = np.zeros((frames.max() + 1, values.shape[1]), dtype=values.dtype)
    np.add.at(total, frames, values)
    mean: NDArray[np.floating] = total / np.bincount(frames)[:, None].astype(values.dtype)
    return mean


def frame_span(
    start: float, end: float, num_frames: int, frames_per_second: float = 1.0
) -> tuple[int, int]:
    """Return the half-open range of frames that a span in seconds touches, within the video.

    It is empty (start == end) only if the span lies outside the video.
    """
    first = min(max(math.floor(start * frames_per_second), 0), num_frames)
    last = min(math.ceil(end * frames_per_second), num_frames)
    return first, max(first, last)


def label_targets(
    segments: Iterable[Segment], num_frames: int, frames_per_second: float = 1.0
) -> NDArray[np.int64]:
    """Return (T,) the label of each frame, 0 where there is none; later segments overwrite.

    Source: released COIN evaluation: seconds floor(start) to ceil(end) of each segment.
    """
    targets = np.zeros(num_frames, dtype=np.int64)
    for segment in segments:
        first, last = frame_span(segment.start, segment.end, num_frames, frames_per_second)
        targets[first:last] = segment.label
    return targets


def step_targets(
    segments: Iterable[Segment], num_frames: int, num_steps: int, frames_per_second: float = 1.0
) -> NDArray[np.bool_]:
    """Return (T, K), True where a frame lies in a segment of a step; a frame may lie in several.

    A segment's label is its step's index, from 0.
    """
    targets = np.zeros((num_frames, num_steps), dtype=bool)
    for segment in segments:
        first, last = frame_span(segment.start, segment.end, num_frames, frames_per_second)
        targets[first:last, segment.label] = True
    return targets
