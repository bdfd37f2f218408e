"""When the frames of a video are shown, and which packets to decode for some of them.

Frame times are read from packets, without decoding. Where damage has left a long gap, it is cut.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from videoclip.types import BoolArray, IntArray

MAX_GAP = 120.0
"""Seconds from one frame to the next; a longer gap is taken for a damaged timestamp and cut."""


class Action(IntEnum):
    """What to do with one packet."""

    TO_KEYFRAME = 0
    """Leave it out, and everything up to the next keyframe: no wanted frame is there."""
    SKIP = 1
    """Leave out this packet alone: no later frame refers to it."""
    REFERENCE = 2
    """Decode it only if other frames refer to it."""
    DECODE = 3
    """Decode it: a wanted frame."""


@dataclass(frozen=True)
class FrameTimes:
    """Timestamps of all N frames of a video stream, in the order in which they are stored.

    Attributes:
        timestamps: (N,) presentation time of each frame, in units of `time_base`.
        is_key: (N,) whether decoding can start there.
        is_visible: (N,) False where an edit list hides the frame.
        per_packet: Whether each timestamp belongs to its packet. If not (AVI, some muxers), the
            timestamps are right as a set: frame i to leave the decoder has the i-th smallest.
        time_base: Seconds per unit.
        origin: Timestamp of second 0, where a player starts: the start of the container.
        duration: Seconds from second 0 to the end of the last frame.
    """

    timestamps: IntArray
    is_key: BoolArray
    is_visible: BoolArray
    per_packet: bool
    time_base: Fraction
    origin: Fraction
    duration: float

    @cached_property
    def visible(self) -> IntArray:
        """Timestamps of the visible frames, ascending."""
        return np.sort(self.timestamps[self.is_visible])

    def seconds(self, timestamps: IntArray) -> npt.NDArray[np.float64]:
        """Convert timestamps to seconds from the start of the video, without what is cut."""
        seconds = (timestamps - float(self.origin)) * float(self.time_base)
        return np.asarray(seconds - self.cut[np.searchsorted(self.visible, timestamps, "right")])

    @cached_property
    def cut(self) -> npt.NDArray[np.float64]:
        """(V + 2,) seconds left out up to the start (0), each visible frame and the end."""
        shown = (self.visible - float(self.origin)) * float(self.time_base)
        gaps = np.diff(shown, prepend=(0.0, 0.0), append=self.duration)
        return np.asarray(np.cumsum(np.maximum(gaps - MAX_GAP, 0.0)))

    def on_screen(self, times: npt.NDArray[np.float64]) -> IntArray:
        """Return the timestamp of the frame on screen at each time; the first one before it."""
        index = np.searchsorted(self.seconds(self.visible), times, side="right") - 1
        return self.visible[np.maximum(index, 0)]

    def nearest_keyframe(self, times: npt.NDArray[np.float64]) -> IntArray:
        """Return the timestamp of the keyframe nearest to each time; the earlier one of a tie."""
        keys = np.sort(self.timestamps[self.is_key & self.is_visible])
        if not len(keys):  # all keyframes are hidden, or none is marked
            keys = self.visible[:1]
        middles = (self.seconds(keys)[1:] + self.seconds(keys)[:-1]) / 2
        return keys[np.searchsorted(middles, times, side="left")]


def num_samples(duration: float, per_second: float) -> int:
    """Return the number of sample times within a video; at least 1.

    So the last, partial interval counts if more than half of it is there: at 1 per second 10.4 s
    of video have 10 samples and 10.6 s have 11.
    """
    return max(1, math.ceil(duration * per_second - 0.5))


def sample_times(duration: float, per_second: float) -> npt.NDArray[np.float64]:
    """Return the sample times in seconds: the middle (k + 0.5) / per_second of each interval."""
    return (np.arange(num_samples(duration, per_second), dtype=np.float64) + 0.5) / per_second


def plan_packets(timestamps: IntArray, is_key: BoolArray, wanted: IntArray) -> npt.NDArray[np.int8]:
    """Choose an action for each packet so that every wanted frame is decoded exactly.

    After the last wanted packet of a group everything is left out up to the next keyframe. Frames
    that are stored after a keyframe but shown before it may refer to frames before that keyframe,
    and no later frame refers to them. If one of them is wanted, the group before is decoded to its
    end; otherwise they are skipped.

    Args:
        timestamps: (N,) presentation times, in stored order.
        is_key: (N,) whether decoding can start there.
        wanted: Timestamps of the wanted frames.

    Returns:
        (N,) `Action` of each packet.
    """
    actions = np.full(len(timestamps), Action.REFERENCE, dtype=np.int8)
    is_wanted = np.isin(timestamps, wanted)
    actions[is_wanted] = Action.DECODE
    starts = np.flatnonzero(is_key)
    if not len(starts):
        return actions
    bounds = [*starts.tolist(), len(timestamps)]
    needs_tail = False  # whether the following group refers back to this one
    for start, stop in zip(reversed(bounds[:-1]), reversed(bounds[1:])):
        group, group_wanted = actions[start:stop], is_wanted[start:stop]
        leading = timestamps[start:stop] < timestamps[start]
        refers_back = bool((leading & group_wanted).any())
        if not refers_back:
            group[leading] = Action.SKIP
        if not needs_tail:
            last = np.flatnonzero(group_wanted)[-1:] + 1
            group[int(last.sum()) :] = Action.TO_KEYFRAME
        needs_tail = refers_back
    return actions


def read_frame_times(
    packets: Iterable[Any],
    time_base: Fraction,
    origin: Fraction | None,
    frame_rate: float,
    reorders: bool,
) -> FrameTimes | None:
    """Collect the timestamps of a stream from its demuxed packets.

    Args:
        packets: PyAV packets of one video stream; empty ones are left out.
        time_base: Seconds per unit of their timestamps.
        origin: Timestamp of second 0; None: that of the first frame.
        frame_rate: Frames per second, for streams whose packets have no duration.
        reorders: Whether the decoder may output frames in another order than they are stored.

    Returns:
        The timestamps, or None if there is no visible frame.
    """
    rows = [
        (p.pts, p.dts, p.duration or 0, p.is_keyframe, not p.is_discard) for p in packets if p.size
    ]
    if not any(visible for *_, visible in rows):
        return None
    pts, dts, lengths, is_key, visible = (list(column) for column in zip(*rows))
    step = 1 / (Fraction(frame_rate) * time_base)
    per_packet = None not in pts and not (reorders and _keeps_order(pts, dts))
    timestamps = np.array(pts if None not in pts else _fill_gaps(dts, step), dtype=np.int64)
    is_visible = np.array(visible, dtype=np.bool_)
    last = int(np.where(is_visible, timestamps, timestamps.min()).argmax())
    end = int(timestamps[last]) + (lengths[last] or step)
    first = Fraction(int(timestamps[is_visible].min())) if origin is None else origin
    return FrameTimes(
        timestamps=timestamps,
        is_key=np.array(is_key, dtype=np.bool_),
        is_visible=is_visible,
        per_packet=per_packet,
        time_base=time_base,
        origin=first,
        duration=float((end - first) * time_base),
    )


def _keeps_order(pts: list[int], dts: list[int | None]) -> bool:
    """Whether presentation follows decoding by a constant: false for streams that reorder."""
    return len({p - d for p, d in zip(pts, dts) if d is not None}) == 1


def _fill_gaps(timestamps: list[int | None], step: Fraction) -> list[int]:
    """Replace each missing timestamp by the one before it plus a step; the first one by 0."""
    filled: list[int] = []
    following = Fraction(0)
    for timestamp in timestamps:
        filled.append(round(following) if timestamp is None else timestamp)
        following = step + (following if timestamp is None else timestamp)
    return filled
