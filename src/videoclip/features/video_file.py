"""Read one video file: open it, read the times of its frames, decode only the wanted frames.

Frame times are read from packets, without decoding. They give a plan of what to decode: frames
that are neither wanted nor referred to by others are skipped, and after the last wanted frame of a
group the decoder waits for the next keyframe. The decoded frames are identical to those of
decoding everything.

FFmpeg itself prints nothing (PyAV's default); every failure is a DecodeError of one line.
"""

import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.stream import Discard, Disposition

from videoclip.data.sources import is_plain, open_binary, status_of
from videoclip.errors import DecodeError, VideoCLIPError, one_line
from videoclip.features.frame_times import (
    MAX_GAP,
    Action,
    FrameTimes,
    plan_packets,
    read_frame_times,
)
from videoclip.types import IntArray

SKIPS_EXACTLY = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Decoders whose other frames stay identical when unreferenced frames are skipped (tested)."""

SEEKS_EXACTLY = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Containers with an index of keyframes and correct timestamps, by FFmpeg's names."""

MAX_BROKEN_SHARE = 0.1
"""Share of packets that may fail to decode before a video counts as unreadable."""

# What a file may claim; work and memory are bounded by these and by the frames it really has.
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
    """Open a single media file for reading; "file:" keeps FFmpeg from taking a name for a URL.

    The file may be a member of a tar archive, or in object storage.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    if not is_plain(path):
        return av.open(open_binary(path), metadata_errors="replace", options=options)
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise DecodeError(NOT_REGULAR, path)
    # By its name FFmpeg takes a JPEG file of more than 2 kB for `image2`, which is not read.
    name = "jpeg_pipe" if _is_jpeg(path) else None
    return av.open(f"file:{path}", format=name, metadata_errors="replace", options=options)


def _is_jpeg(path: Path) -> bool:
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"


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
    everything = np.full(len(times.timestamps), Action.DECODE, dtype=np.int8)
    plans = [everything]
    if times.per_packet:
        # All wanted frames may be damaged: those before the first keyframe of a recording are.
        plans.insert(0, plan_packets(times.timestamps, times.is_key, wanted))
    latest = None
    for actions in plans:
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
        if latest is not None:
            return
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
        r"\b[A-Za-z]:[\\/]": "a path of Windows; in WSL, C:\\Videos is /mnt/c/Videos",
        r"\bfile:/": "name the file without file://",
        r"\\": "folders are written with / here, not \\",
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
    if status_of(path).st_size == 0:
        return "the file is empty (0 bytes)"
    detail = getattr(error, "strerror", None) or type(error).__name__
    return f"not a video, or damaged ({detail})"
