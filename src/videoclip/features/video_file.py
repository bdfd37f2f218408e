"""Read one video file: open it, read the times of its frames, decode only the wanted frames.

Frame times are read from packets, without decoding. They give a plan of what to decode: frames
that are neither wanted nor referred to by others are skipped, and after the last wanted frame of a
group the decoder waits for the next keyframe. The decoded frames are identical to those of
decoding everything.

FFmpeg itself prints nothing (PyAV's default); every failure is a DecodeError of one line.
"""

import math
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.stream import Discard, Disposition

from videoclip.errors import DecodeError, VideoCLIPError, one_line
from videoclip.types import BoolArray, IntArray

SKIPS_EXACTLY = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Decoders whose other frames stay identical when unreferenced frames are skipped (tested)."""

SEEKS_EXACTLY = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Containers with an index of keyframes and correct timestamps, by FFmpeg's names."""

MAX_BROKEN_SHARE = 0.1
"""Share of packets that may fail to decode before a video counts as unreadable."""

# What a file may claim; work and memory are bounded by these and by the frames it really has.
MAX_GAP = 120.0
"""Seconds from one frame to the next; a longer gap is taken for a damaged timestamp and cut."""
MAX_HOURS = 24
"""Length of a video."""
MAX_FRAMES = 5_000_000
"""Frames of a video; 23 hours at 60 per second."""
MAX_PIXELS = 8192 * 4320
"""Pixels of a frame, as stored and as scaled: 8K, also that of cinemas."""
MAX_MEMORY = 1 << 30
"""Bytes that reading a video may take in its process."""
MAX_CPU = 120.0
"""Seconds of processor time that opening a video, or one step to its next frame, may take."""
MAX_SILENCE = 300.0
"""Seconds after which a process without progress is ended and its file listed."""
MAX_PIXEL_ASPECT = 10
"""Width of a pixel over its height, or the reverse; else it counts as square."""
FORMATS = (
    "aac,apng,asf,av1,avi,dv,flac,flv,gif,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,mpeg,"
    "mpegts,mpegvideo,mxf,nut,obu,ogg,rm,srt,swf,vc1,wav,webp,webvtt,wtv,yuv4mpegpipe,"
    "bmp_pipe,jpeg_pipe,png_pipe,ppm_pipe,tiff_pipe,webp_pipe"
)
"""FFmpeg's names of the formats that are read: none opens another file than the one it is."""

MICROSECONDS = 1_000_000

NO_VIDEOS = "no videos in this folder; name one that holds files such as .mp4, .mkv or .webm"
NOT_REGULAR = "not a regular file (a pipe, socket or device)"
NO_FRAME = "no frame can be decoded; the file is damaged, copy or download it again"


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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make any failure inside the block a DecodeError: one file among many stops no others."""
    try:
        yield
    except VideoCLIPError:
        raise
    except Exception as error:
        raise DecodeError(_reason(path, error), path) from error


def open_container(path: Path) -> Any:
    """Open a single media file for reading; "file:" keeps FFmpeg from taking a name for a URL."""
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise DecodeError(NOT_REGULAR, path)
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    return av.open(f"file:{path}", metadata_errors="replace", options=options)


def pixel_aspect_of(stream: Any) -> Fraction:
    """Return the width of a pixel over its height; 1 if that is unknown or implausible."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return aspect if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT else Fraction(1)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file; yield its PyAV container and best video stream, set to decode on one thread.

    Raises:
        DecodeError: If it is not a readable video, also for failures inside the `with` block.
    """
    with reading(path), open_container(path) as container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            what = "only sound" if container.streams.audio else "no video stream"
            raise DecodeError(f"the file contains {what}", path)
        if stream.codec_context is None:
            raise DecodeError("the video codec is not supported", path)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        # One process per core is 1.4 times faster than one process with many threads.
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "SLICE"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield container, stream


def find_frame_times(path: Path) -> FrameTimes:
    """Read the timestamps of all frames of a video, without decoding.

    Raises:
        DecodeError: If the file cannot be read, has no frames or is cut off.
    """
    with open_video(path) as (container, stream):
        frame_rate = float(stream.average_rate or stream.guessed_rate or 25)
        origin = None
        if container.start_time is not None:
            origin = Fraction(container.start_time, MICROSECONDS) / stream.time_base
        frame_times = read_frame_times(
            islice(container.demux(stream), MAX_FRAMES),
            stream.time_base,
            origin,
            frame_rate,
            reorders=stream.codec_context.has_b_frames,
        )
        promised = _promised_duration(container)
    if frame_times is None:
        raise DecodeError("the video has no frames", path)
    # Some containers count their duration from timestamp 0, others from the first timestamp.
    skipped = max(0.0, float(frame_times.origin * frame_times.time_base))
    shortest = promised * 0.98 - 1.0  # what is shorter than this is taken for cut off
    if frame_times.duration + skipped < shortest:
        end = skipped + max(frame_times.duration, _end_of_all_streams(path))
        if end < shortest:
            raise DecodeError(
                f"the file is cut off after {end:.1f} of {promised:.1f} s; "
                "copy or download it again",
                path,
            )
    if cut := float(frame_times.cut[-1]):
        warnings.warn(
            f"{path}: {cut:,.0f} s without frames are left out, and times after them are earlier: "
            f"gaps of more than {MAX_GAP:g} s are taken for damage",
            stacklevel=2,
        )
    duration = max(frame_times.duration - cut, 1 / max(frame_rate, 1.0))
    if duration > MAX_HOURS * 3600:
        raise DecodeError(f"claims to last more than {MAX_HOURS} hours; split it", path)
    return replace(frame_times, duration=duration)


def decode_frames(
    path: Path, times: FrameTimes, wanted: IntArray
) -> Iterator[tuple[int, Any, Fraction]]:
    """Decode the wanted frames, and as few others as possible.

    Args:
        path: The video file.
        times: Timestamps of the same file.
        wanted: Timestamps of the wanted frames.

    Yields:
        Timestamp (ascending), PyAV frame and pixel aspect ratio. All wanted frames are among them,
        identical to those of decoding everything, unless their packets are damaged.

    Raises:
        DecodeError: If no frame, or too few, can be decoded.
    """
    actions = np.full(len(times.timestamps), Action.DECODE, dtype=np.int8)
    if times.per_packet:
        actions = plan_packets(times.timestamps, times.is_key, wanted)
    latest = None
    with open_video(path) as (container, stream):
        pixel_aspect = pixel_aspect_of(stream)
        frames = _decode(container, stream, actions, path)
        for position, frame in enumerate(frames):
            if times.per_packet and frame.pts is not None:
                timestamp = int(frame.pts)
            else:  # frames leave the decoder in order, so each has the next timestamp
                timestamp = int(times.visible[min(position, len(times.visible) - 1)])
            if latest is None or timestamp >= latest:
                latest = timestamp
                yield timestamp, frame, pixel_aspect
    if latest is None:
        raise DecodeError(NO_FRAME, path)


def decode_near(path: Path, seconds: float) -> tuple[Any, Fraction] | None:
    """Seek to the keyframe before a time and decode from there to the frame on screen.

    Args:
        path: The video file.
        seconds: Time in the video; beyond its end, the last frame is returned.

    Returns:
        PyAV frame and pixel aspect ratio; None if the container has no index to seek by.

    Raises:
        DecodeError: If there is no such frame.
    """
    with open_video(path) as (container, stream):
        if container.format.name not in SEEKS_EXACTLY:
            return None
        start = Fraction(container.start_time or 0, MICROSECONDS)
        target = (start + Fraction(seconds)) / stream.time_base
        container.seek(int(target), stream=stream)
        latest = None
        no_plan = np.zeros(0, dtype=np.int8)
        for frame in _decode(container, stream, no_plan, path):
            if latest is not None and (frame.pts or 0) > target:
                break
            latest = frame
        if latest is None:
            raise DecodeError(NO_FRAME, path)
        return latest, pixel_aspect_of(stream)


def _decode(
    container: Any, stream: Any, actions: npt.NDArray[np.int8], path: Path
) -> Iterator[Any]:
    """Yield frames as they leave the decoder, applying to each packet its planned action."""
    codec = stream.codec_context
    skip_unreferenced = "NONREF" if codec.name in SKIPS_EXACTLY else "DEFAULT"
    position = num_broken = 0
    waiting = False  # for the next keyframe
    for packet in container.demux(stream):
        action = Action.DECODE
        if packet.size and position < len(actions):
            action = Action(actions[position])
            position += 1
        to_keyframe = action is Action.TO_KEYFRAME
        if action is Action.SKIP or (waiting and (to_keyframe or not packet.size)):
            continue
        if waiting:
            codec.flush_buffers()
        waiting = to_keyframe
        codec.skip_frame = skip_unreferenced if action is Action.REFERENCE else "DEFAULT"
        try:
            # Decoding None outputs the frames that the decoder holds back for reordering.
            yield from codec.decode(None) if waiting else codec.decode(packet)
        except FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            num_broken += 1
            if num_broken > MAX_BROKEN_SHARE * len(actions) > 0:
                raise DecodeError(
                    f"{num_broken} of the first {position} frames are damaged; "
                    "copy or download it again",
                    path,
                ) from error


def _promised_duration(container: Any) -> float:
    """Duration in seconds by the header; 0 if it has none or FFmpeg estimated it by bit rate."""
    guessed = container.format.flags & av.format.Flags.no_timestamps.value
    return 0.0 if guessed or not container.duration else container.duration / MICROSECONDS


def _end_of_all_streams(path: Path) -> float:
    """Return the end of the last packet of any stream in seconds; audio may be longer."""
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


def os_reason(path: Path, error: OSError) -> str:
    """Return in a few words why the system cannot open a file or list a folder."""
    if isinstance(error, FileNotFoundError):
        return "a link to a file that does not exist" if path.is_symlink() else _missing(str(path))
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return (error.strerror or str(error)).lower()


def _missing(path: str) -> str:
    """Return that there is no such file and, where the name shows it, why."""
    advice = {
        r"\bhttps?:/": "an address: download the video first, then name its file",
        r"^~|/~(/|$)": "~ in quotes is not your home folder; leave out the quotes",
        r"\b[A-Za-z]:\\": "a path of Windows; in WSL, C:\\Videos is /mnt/c/Videos",
        r"[*?]": "no name fits this pattern; check the folder, and leave out quotes",
    }
    found = (why for pattern, why in advice.items() if re.search(pattern, path))
    return "no such file" + "".join(f" ({why})" for why in islice(found, 1))


def _reason(path: Path, error: Exception) -> str:
    """Return in a few words why a file cannot be opened or decoded."""
    if isinstance(error, MemoryError):
        return f"needs more than {MAX_MEMORY / 2**30:g} GiB of memory to be read"
    if not isinstance(error, (OSError, FFmpegError)):
        return f"cannot be read ({one_line(error)})"
    if not isinstance(error, FFmpegError) or isinstance(
        error, (FileNotFoundError, PermissionError)
    ):
        return os_reason(path, error)
    if path.is_dir():  # `find_videos` lists a folder only if it has no videos
        return "a folder; name one video file"
    if path.stat().st_size == 0:
        return "the file is empty (0 bytes)"
    detail = getattr(error, "strerror", None) or type(error).__name__
    return f"not a video, or damaged ({detail})"


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
