"""One video file: opening it, the times of its pictures, and decoding only the pictures wanted.

The timeline of a file is read from its packets without decoding a picture. From it follows a plan
for decoding: pictures that are neither wanted nor referred to are not decoded, and after the last
wanted picture of a group the decoder pauses until the next keyframe. The pictures that are decoded
equal those of decoding everything.

FFmpeg itself prints nothing (PyAV's default); every failure is one line in a DecodeError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.stream import Discard, Disposition

from videoclip.errors import DecodeError

__all__ = [
    "Action",
    "Timeline",
    "decode_near",
    "decode_pictures",
    "find_timeline",
    "num_samples",
    "open_video",
    "plan_packets",
    "read_timeline",
    "sample_times",
]

SKIPS_EXACTLY = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Decoders that can leave out pictures nobody refers to without touching any other (tested)."""

SEEKS_EXACTLY = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Containers with an index of keyframes and true times, by FFmpeg's names."""

MAX_BROKEN_SHARE = 0.1
"""Share of packets that may fail to decode before a video counts as unreadable."""

MICROSECONDS = 1_000_000


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


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file and give its PyAV container and best video stream, set up for one thread.

    Raises:
        DecodeError: If it is not a readable video; also for failures inside the `with` block.
    """
    try:
        # "file:" keeps FFmpeg from taking a name for an address, and playlists off the network.
        with av.open(f"file:{path}") as container:
            stream = container.streams.best("video")
            if stream is None or stream.disposition & Disposition.attached_pic:
                what = "only sound in it" if container.streams.audio else "no video in it"
                raise DecodeError(f"there is {what}", path)
            if stream.codec_context is None:
                raise DecodeError("its video codec is not supported", path)
            for other in container.streams:
                if other is not stream:
                    other.discard = Discard.all
            # One process per core is 1.4 times faster than one process with many threads.
            stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "SLICE"
            yield container, stream
    except (OSError, FFmpegError) as error:
        raise DecodeError(_reason(path, error), path) from error


def find_timeline(path: Path) -> Timeline:
    """Read through a video without decoding it.

    Raises:
        DecodeError: If it cannot be read, has no picture or is cut off.
    """
    with open_video(path) as (container, stream):
        frame_rate = float(stream.average_rate or stream.guessed_rate or 25)
        origin = None
        if container.start_time is not None:
            origin = Fraction(container.start_time, MICROSECONDS) / stream.time_base
        timeline = read_timeline(
            container.demux(stream),
            stream.time_base,
            origin,
            frame_rate,
            reorders=stream.codec_context.has_b_frames,
        )
        promised = _promised_duration(container)
    if timeline is None:
        raise DecodeError("there are no pictures in it (0 frames)", path)
    # Some containers count their duration from stamp 0, others from the first.
    skipped = max(0.0, float(timeline.origin * timeline.time_base))
    if timeline.duration + skipped < _least(promised):
        ends = skipped + max(timeline.duration, _end_of_all_streams(path))
        if ends < _least(promised):
            raise DecodeError(
                f"it ends after {ends:.1f} of {promised:.1f} s and seems cut off; "
                "copy or download it again",
                path,
            )
    return timeline


def decode_pictures(
    path: Path, timeline: Timeline, wanted: npt.NDArray[np.int64]
) -> Iterator[tuple[int, Any, Fraction]]:
    """Decode what it takes to show the wanted pictures.

    Args:
        path: The video file.
        timeline: Of the same file.
        wanted: Stamps of the wanted pictures.

    Yields:
        Stamp, PyAV frame and pixel aspect ratio, stamps rising. All wanted pictures are among
        them, identical to those of plain decoding, unless their packets are damaged.

    Raises:
        DecodeError: If no picture, or too few, can be decoded.
    """
    actions = np.full(len(timeline.stamps), Action.DECODE, dtype=np.int8)
    if timeline.has_stamps:
        actions = plan_packets(timeline.stamps, timeline.is_key, wanted)
    latest = None
    with open_video(path) as (container, stream):
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        frames = _decode(container, stream, actions, path)
        for position, frame in enumerate(frames):
            if timeline.has_stamps and frame.pts is not None:
                stamp = int(frame.pts)
            else:  # pictures come in order, each at the next time there is
                stamp = int(timeline.shown[min(position, len(timeline.shown) - 1)])
            if latest is None or stamp >= latest:
                latest = stamp
                yield stamp, frame, pixel_aspect
    if latest is None:
        raise DecodeError("none of its pictures can be decoded; it is damaged", path)


def decode_near(path: Path, seconds: float, *, exact: bool) -> tuple[Any, Fraction] | None:
    """Seek to a time and decode no more than it takes to show its picture.

    Args:
        path: The video file.
        seconds: When; beyond the end, the last picture.
        exact: Whether to go on from the keyframe before to the picture on screen.

    Returns:
        PyAV frame and pixel aspect ratio; None if the container has no index to seek by.

    Raises:
        DecodeError: If there is no such picture.
    """
    with open_video(path) as (container, stream):
        if container.format.name not in SEEKS_EXACTLY:
            return None
        start = Fraction(container.start_time or 0, MICROSECONDS)
        target = (start + Fraction(seconds)) / stream.time_base
        container.seek(int(target), stream=stream)
        shown = None
        no_plan = np.zeros(0, dtype=np.int8)
        for frame in _decode(container, stream, no_plan, path):
            if shown is not None and (not exact or (frame.pts or 0) > target):
                break
            shown = frame
        if shown is None:
            raise DecodeError("none of its pictures can be decoded; it is damaged", path)
        return shown, stream.sample_aspect_ratio or Fraction(1)


def _decode(
    container: Any, stream: Any, actions: npt.NDArray[np.int8], path: Path
) -> Iterator[Any]:
    """Yield frames as they leave the decoder, each packet treated as planned."""
    codec = stream.codec_context
    idle = "NONREF" if codec.name in SKIPS_EXACTLY else "DEFAULT"
    position = num_broken = 0
    resting = False
    for packet in container.demux(stream):
        action = Action.DECODE
        if packet.size and position < len(actions):
            action = Action(actions[position])
            position += 1
        if action is Action.SKIP or (resting and (action is Action.REST or not packet.size)):
            continue
        if resting:
            codec.flush_buffers()
        resting = action is Action.REST
        codec.skip_frame = idle if action is Action.REFERENCE else "DEFAULT"
        try:
            # Before the decoder rests it hands out what it holds back for reordering.
            yield from codec.decode(None) if resting else codec.decode(packet)
        except FFmpegError as error:
            num_broken += 1
            if num_broken > MAX_BROKEN_SHARE * len(actions) > 0:
                raise DecodeError(
                    f"{num_broken} of its first {position} pictures are damaged; "
                    "copy or download it again",
                    path,
                ) from error


def _promised_duration(container: Any) -> float:
    """Seconds the header promises; 0 where it says nothing or FFmpeg guesses from the bit rate."""
    guessed = container.format.flags & av.format.Flags.no_timestamps.value
    return 0.0 if guessed or not container.duration else container.duration / MICROSECONDS


def _least(promised: float) -> float:
    """Shortest reading of a promised duration that is not taken for a cut-off file."""
    return promised * 0.98 - 1.0


def _end_of_all_streams(path: Path) -> float:
    """Seconds to the end of the last packet of any stream: sound may be longer than pictures."""
    end = 0.0
    with open_video(path) as (container, _):
        start = (container.start_time or 0) / MICROSECONDS
        for stream in container.streams:
            stream.discard = Discard.default
        for packet in container.demux():
            if packet.pts is not None:
                stop = float((packet.pts + (packet.duration or 0)) * packet.time_base) - start
                end = max(end, stop)
    return end


def _reason(path: Path, error: Exception) -> str:
    """Say in a few words why a file cannot be opened or read."""
    if path.is_symlink() and not path.exists():
        return f"it is a link to {path.readlink()}, which does not exist"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if path.is_dir():  # how `find_videos` lists one
        return "there are no videos in this folder"
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty (0 bytes)"
    detail = getattr(error, "strerror", None) or type(error).__name__
    return f"it is not a video, or damaged ({detail})"


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
