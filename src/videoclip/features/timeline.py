"""When each picture of a video is shown, and which packets must be decoded to get some of them.

Everything here works on packets alone; no picture is decoded. The plan is what makes sampling
cheap: pictures that nobody asked for and nobody refers to are never decoded, and after the last
picture wanted from a group of pictures the decoder rests until the next keyframe. Pictures that
are decoded come out exactly as if everything had been.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Action", "Timeline", "num_samples", "plan_packets", "read_timeline", "sample_times"]


class Action(IntEnum):
    """What to do with one packet."""

    DROP = 0
    """Nothing wanted depends on it: do not show it to the decoder."""
    REFERENCE = 1
    """Decode it only if other pictures refer to it."""
    DECODE = 2
    """A picture that was asked for."""


@dataclass(frozen=True)
class Timeline:
    """The packets of one video stream, in the order in which they are stored.

    Attributes:
        stamps: (N,) int64 time at which each picture appears, in units of `time_base`.
        is_key: (N,) bool, whether decoding can start there.
        is_shown: (N,) bool, False where an edit list hides the picture.
        has_stamps: Whether the stamps belong to their packets. If not (AVI, careless muxers), they
            are right as a whole, and the i-th picture to leave the decoder is shown at the i-th.
        time_base: Seconds per unit.
        origin: Stamp of second 0, where a player starts: the start of the container.
        duration: Seconds from second 0 to the end of the last picture.
    """

    stamps: npt.NDArray[np.int64]
    is_key: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    has_stamps: bool
    time_base: Fraction
    origin: Fraction
    duration: float

    @cached_property
    def shown(self) -> npt.NDArray[np.int64]:
        """Stamps of the pictures a viewer sees, in the order in which they appear."""
        return np.sort(self.stamps[self.is_shown])

    def seconds(self, stamps: npt.NDArray[np.int64] | int) -> npt.NDArray[np.float64]:
        """Return stamps as seconds from the start of the video."""
        shifted = np.asarray(stamps, dtype=np.float64) - float(self.origin)
        return shifted * self.time_base.numerator / self.time_base.denominator

    def shown_at(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return the stamp of the picture on screen at each time; before the first, the first."""
        index = np.searchsorted(self.seconds(self.shown), times, side="right") - 1
        return self.shown[np.maximum(index, 0)]

    def nearest_key(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return the stamp of the keyframe nearest to each time; of two equally near, the first."""
        keys = np.sort(self.stamps[self.is_key & self.is_shown])
        if not len(keys):  # hidden or unmarked: the first picture is all there is to start from
            keys = self.shown[:1]
        middles = (self.seconds(keys)[1:] + self.seconds(keys)[:-1]) / 2
        return keys[np.searchsorted(middles, times, side="left")]


def num_samples(duration: float, per_second: float) -> int:
    """Return how many samples a video has: one per sample time within it, and at least one.

    So the last, partial interval counts if more than half of it is there: at 1 per second 10.4 s
    of video have 10 samples and 10.6 s have 11.
    """
    return max(1, math.ceil(duration * per_second - 0.5))


def sample_times(duration: float, per_second: float) -> npt.NDArray[np.float64]:
    """Return the middles (k + 0.5) / per_second of the intervals that samples stand for."""
    return (np.arange(num_samples(duration, per_second)) + 0.5) / per_second


def plan_packets(
    stamps: npt.NDArray[np.int64],
    is_key: npt.NDArray[np.bool_],
    wanted: npt.NDArray[np.int64],
) -> npt.NDArray[np.int8]:
    """Decide what to do with each packet so that all wanted pictures come out unharmed.

    Between two keyframes, packets after the last wanted one are dropped. Pictures stored after a
    keyframe but shown before it may refer to the group before; when one of them is wanted, that
    group is kept to its end, else they are dropped with the tail that they might need.

    Args:
        stamps: (N,) presentation times, in stored order.
        is_key: (N,) whether decoding can start there.
        wanted: Stamps of the pictures asked for.

    Returns:
        (N,) `Action` of each packet.
    """
    actions = np.full(len(stamps), Action.REFERENCE, dtype=np.int8)
    is_wanted = np.isin(stamps, wanted)
    actions[is_wanted] = Action.DECODE
    starts = np.flatnonzero(is_key)
    if not len(starts):
        return actions
    bounds = [*starts.tolist(), len(stamps)]
    needs_tail = False  # whether the group after the one at hand refers back to it
    for start, stop in zip(reversed(bounds[:-1]), reversed(bounds[1:])):
        leading = stamps[start:stop] < stamps[start]
        inside = np.flatnonzero(is_wanted[start:stop])
        if not needs_tail:
            last = int(inside[-1]) + 1 if len(inside) else 0
            actions[start + last : stop] = Action.DROP
        needs_tail = bool((leading & is_wanted[start:stop]).any())
        if not needs_tail:
            actions[start:stop][leading] = Action.DROP
    return actions


def read_timeline(
    packets: Iterable[Any],
    time_base: Fraction,
    origin: Fraction | None,
    frame_rate: float,
    reorders: bool,
) -> Timeline | None:
    """Collect the timeline of a stream from its demuxed packets.

    Args:
        packets: PyAV packets of one video stream; empty ones are left out.
        time_base: Seconds per unit of their stamps.
        origin: Stamp of second 0; None: the first picture.
        frame_rate: Pictures per second, for streams whose packets have no duration.
        reorders: Whether the decoder may show pictures in another order than they are stored.

    Returns:
        The timeline, or None if no picture is ever shown.
    """
    rows = [
        (p.pts, p.dts, p.duration or 0, p.is_keyframe, not p.is_discard) for p in packets if p.size
    ]
    if not any(is_shown for *_, is_shown in rows):
        return None
    pts, dts, lengths, is_key, is_shown = (list(column) for column in zip(*rows))
    # Equal times of decoding and showing in a stream that reorders cannot be true of each packet.
    has_stamps = None not in pts and not (reorders and pts == dts)
    stamps = np.array(pts if has_stamps else _without_gaps(dts), dtype=np.int64)
    shown = np.array(is_shown, dtype=np.bool_)
    first = Fraction(int(stamps[shown].min())) if origin is None else origin
    last = int(np.where(shown, stamps, stamps.min()).argmax())
    length = lengths[last] * time_base if lengths[last] else 1 / Fraction(frame_rate)
    return Timeline(
        stamps=stamps,
        is_key=np.array(is_key, dtype=np.bool_),
        is_shown=shown,
        has_stamps=has_stamps,
        time_base=time_base,
        origin=first,
        duration=float((int(stamps[last]) - first) * time_base + length),
    )


def _without_gaps(stamps: list[int | None]) -> list[int]:
    """Give packets without any time the one before theirs; at the start, 0."""
    filled, latest = [], 0
    for stamp in stamps:
        latest = latest if stamp is None else stamp
        filled.append(latest)
    return filled
