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

    REST = 0
    """Withhold it, and everything up to the next keyframe: nothing wanted is there."""
    SKIP = 1
    """Withhold it alone: nothing that follows refers to it."""
    REFERENCE = 2
    """Decode it only if other pictures refer to it."""
    DECODE = 3
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
        seconds: npt.NDArray[np.float64] = shifted * float(self.time_base)
        return seconds

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
    return (np.arange(num_samples(duration, per_second), dtype=np.float64) + 0.5) / per_second


def plan_packets(
    stamps: npt.NDArray[np.int64],
    is_key: npt.NDArray[np.bool_],
    wanted: npt.NDArray[np.int64],
) -> npt.NDArray[np.int8]:
    """Decide what to do with each packet so that all wanted pictures come out unharmed.

    The decoder rests from the last wanted packet before a keyframe to the keyframe. Pictures stored
    after a keyframe but shown before it may refer to pictures before it, and nothing later refers
    to them. If one of them is wanted, the group before is kept to its end; else they are skipped.

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
    needs_tail = False  # whether the group that follows refers back to the one at hand
    for start, stop in zip(reversed(bounds[:-1]), reversed(bounds[1:])):
        group, group_wanted = actions[start:stop], is_wanted[start:stop]
        leading = stamps[start:stop] < stamps[start]
        refers_back = bool((leading & group_wanted).any())
        if not refers_back:
            group[leading] = Action.SKIP
        if not needs_tail:
            last = np.flatnonzero(group_wanted)[-1:] + 1
            group[int(last.sum()) :] = Action.REST
        needs_tail = refers_back
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
    step = 1 / (Fraction(frame_rate) * time_base)
    has_stamps = None not in pts and not (reorders and _keeps_order(pts, dts))
    stamps = np.array(pts if None not in pts else _without_gaps(dts, step), dtype=np.int64)
    shown = np.array(is_shown, dtype=np.bool_)
    last = int(np.where(shown, stamps, stamps.min()).argmax())
    end = int(stamps[last]) + (lengths[last] or step)
    first = Fraction(int(stamps[shown].min())) if origin is None else origin
    return Timeline(
        stamps=stamps,
        is_key=np.array(is_key, dtype=np.bool_),
        is_shown=shown,
        has_stamps=has_stamps,
        time_base=time_base,
        origin=first,
        duration=float((end - first) * time_base),
    )


def _keeps_order(pts: list[int], dts: list[int | None]) -> bool:
    """Whether showing lags decoding by a constant: untrue of a stream that reorders pictures."""
    return len({shown - decoded for shown, decoded in zip(pts, dts) if decoded is not None}) == 1


def _without_gaps(stamps: list[int | None], step: Fraction) -> list[int]:
    """Give packets without a time the one that follows from the packet before; at first, 0."""
    filled: list[int] = []
    following = Fraction(0)
    for stamp in stamps:
        filled.append(round(following) if stamp is None else stamp)
        following = step + (following if stamp is None else stamp)
    return filled
