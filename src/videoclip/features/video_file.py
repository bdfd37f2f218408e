"""One video file: opening it, its timeline and its decoded pictures, every failure in plain words.

FFmpeg itself stays silent (PyAV's default), so what a user reads is the one line raised here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.stream import Discard, Disposition

from videoclip.errors import DecodeError
from videoclip.features.timeline import Action, Timeline, plan_packets, read_timeline

__all__ = ["decode_near", "decode_pictures", "find_timeline", "open_video"]

SKIPS_EXACTLY = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Decoders that can leave out pictures nobody refers to without touching any other (tested)."""

SEEKS_EXACTLY = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Containers with an index of keyframes and true times, by FFmpeg's names."""

MAX_BROKEN_SHARE = 0.1
"""Share of packets that may fail to decode before a video counts as unreadable."""

MICROSECONDS = 1_000_000


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
