"""Annotated spans as targets for single frames."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from videoclip.benchmarks.examples import Segment
from videoclip.types import BoolArray, IntArray


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
) -> IntArray:
    """Return (T,) the label of each frame, 0 where there is none; later segments overwrite earlier.

    Source: released COIN evaluation: seconds floor(start) to ceil(end) of each segment.
    """
    targets = np.zeros(num_frames, dtype=np.int64)
    for segment in segments:
        first, last = frame_span(segment.start, segment.end, num_frames, frames_per_second)
        targets[first:last] = segment.label
    return targets


def step_targets(
    segments: Iterable[Segment], num_frames: int, num_steps: int, frames_per_second: float = 1.0
) -> BoolArray:
    """Return (T, K), True where a frame lies in a segment of a step; a frame may lie in several.

    A segment's label is its step's index, from 0.
    """
    targets = np.zeros((num_frames, num_steps), dtype=bool)
    for segment in segments:
        first, last = frame_span(segment.start, segment.end, num_frames, frames_per_second)
        targets[first:last, segment.label] = True
    return targets
