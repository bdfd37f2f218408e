"""Clips cut out of videos, and thumbnails of moments.

A clip is exact to the frame by encoding, or made quickly by copying packets.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from videoclip.errors import ConfigError, DataError, DecodeError, VideoCLIPError, printable
from videoclip.features.contained import call, grab_frame, probe, stream
from videoclip.features.decode import Fit
from videoclip.features.video_file import open_container
from videoclip.files import atomic_file, report_disk_errors
from videoclip.zeroshot.moments import Moment

DEFAULT_CODECS = ("libx264", "aac", {"crf": "18", "preset": "veryfast"})
"""Video, audio and options of a visually lossless quality."""
VP9_OPTIONS = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "5"}
CODECS = {"webm": ("libvpx-vp9", "libopus", VP9_OPTIONS)}
"""The same for containers that do not take H.264 and AAC."""
OPUS_RATE = 48_000
"""Samples per second; Opus supports few others."""
MICROSECONDS = 1_000_000
SOUND_LEAD = 1
"""Seconds by which sound may be stored before the pictures of its time."""
ENCODING_MEMORY = 4 << 30
"""Bytes that reading and encoding a clip may take."""
THUMBNAIL_PIXELS = 320
"""Longer side."""


def cut_clip(
    source: Path | str,
    start: float,
    end: float,
    out: Path | str,
    *,
    padding: float = 0.0,
    fast: bool = False,
) -> tuple[float, float]:
    """Write the part of a video between two times, with its sound, to a file of its own.

    Args:
        source: The video.
        start: Seconds, 0 being where a player starts the file.
        end: Seconds, exclusive; may be beyond the end of the video.
        out: The file to write, atomically; its extension selects the container.
        padding: Seconds to add before and after, as far as the video goes.
        fast: Copy packets without decoding: nearly free and lossless, but the clip starts at the
            keyframe before `start`. Otherwise it has exactly the frames shown in [start, end), as
            H.264 and AAC, or VP9 and Opus in WebM.

    Returns:
        The seconds of the video at which the written clip starts and ends.

    Raises:
        ConfigError: If the span is empty or the container unsuitable.
        DecodeError: If the video cannot be read, or ends before the span.
        DataError: If the file cannot be written, or is the video itself.
    """
    source, out = Path(source), Path(out)
    if not 0 <= start < end < math.inf:
        raise ConfigError(f"a clip must start at 0 or later and end after its start: {start}-{end}")
    if not 0 <= padding < math.inf:
        raise ConfigError(f"padding must be a number of seconds, 0 or more, not {padding}")
    info = probe(source)
    if out.exists() and out.samefile(source):
        raise DataError("is the video itself, which would be lost; choose another file", out)
    if start >= info.duration:
        raise DecodeError(f"ends at {info.duration:g} s, before {start:g} s", source)
    first, last = _to_fraction(max(0.0, start - padding)), _to_fraction(end + padding)
    try:
        with report_disk_errors(out), atomic_file(out) as partial:
            if fast:
                first = call(source, _copy, source, first, last, partial)
            else:
                size = info.width, info.height
                steps = stream(
                    source, _encode, source, first, last, partial, size, memory=ENCODING_MEMORY
                )
                for _ in steps:
                    pass
    except FFmpegError as error:
        raise DecodeError(f"cannot be cut to {out.name} ({error.strerror})", source) from error
    return float(first), min(float(last), info.duration)


def cut_moments(
    moments: Sequence[Moment],
    out: Path,
    failed: list[VideoCLIPError],
    padding: float = 0.0,
    *,
    fast: bool = False,
) -> Iterator[tuple[Path, Moment]]:
    """Cut moments out of their videos; yield each clip's file and the moment that it holds.

    Args:
        moments: What to cut.
        out: Folder of the clips; or, with an extension, the file of a single one, which must not
            exist.
        failed: Gets the error of each moment that cannot be cut.
        padding: As for `cut_clip`.
        fast: As for `cut_clip`.
    """
    is_file = len(moments) == 1 and bool(out.suffix)
    for number, moment in enumerate(moments, start=1):
        try:
            clip = out if is_file else out / _clip_name(number, moment, fast)
            if is_file and clip.exists():
                raise DataError("already exists; choose another file", clip)
            span = moment.start, moment.end
            start, end = cut_clip(moment.path, *span, clip, padding=padding, fast=fast)
        except VideoCLIPError as error:
            failed.append(error)
            continue
        yield clip, replace(moment, start=start, end=end)


def _clip_name(number: int, moment: Moment, fast: bool) -> str:
    """Return a descriptive file name; names sort in the order of the moments."""
    label = _shorten(re.sub(r"[^\w]+", "-", moment.label.lower()).strip("-"), 40)
    name = _shorten(printable(moment.video_id), 60)
    end = min(moment.end, probe(moment.path).duration)
    parts = [f"{number:03d}", name, f"{moment.start:.1f}-{end:.1f}s", label]
    suffix = moment.path.suffix if fast else ".mp4"  # copied packets fit their own container
    return "_".join(part for part in parts if part) + suffix


def _shorten(text: str, length: int) -> str:
    """Return the first characters of a text, in UTF-8 at most twice as many bytes.

    File systems count bytes, at most 255.
    """
    return text[:length].encode()[: 2 * length].decode(errors="ignore")


def _to_fraction(seconds: float) -> Fraction:
    """The decimal number that was meant: as a float, 0.3 is a little less than 3 / 10."""
    return Fraction(seconds).limit_denominator(MICROSECONDS)


def _create(out: Path) -> Any:
    """Open a container for writing."""
    try:
        return av.open(f"file:{out}", "w")
    except ValueError as error:  # how PyAV reports an unknown extension
        raise ConfigError(
            f"'{out.suffix}' is not a video file extension; try .mp4 or .mkv"
        ) from error


def _add_copied_stream(target: Any, stream: Any) -> Any:
    """Add a stream that takes the packets of another one."""
    try:
        return target.add_stream_from_template(stream)
    except ValueError as error:
        raise ConfigError(
            f"{target.format.name} cannot hold {stream.codec_context.name}; keep the extension of "
            "the original, use .mkv, or omit --fast"
        ) from error


def _start_time(container: Any) -> Fraction:
    """Time of the container's clock, in seconds, at which a player starts."""
    return Fraction(container.start_time or 0, MICROSECONDS)


def _copy(source: Path, start: Fraction, end: Fraction, out: Path) -> Fraction:
    """Copy packets from the keyframe before `start`; return its time."""
    with open_container(source) as container, _create(out) as target:
        origin = _start_time(container)
        best = [container.streams.best("video"), container.streams.best("audio")]
        streams = {s.index: _add_copied_stream(target, s) for s in best if s is not None}
        container.seek(int((origin + start) * MICROSECONDS))
        zero: Fraction | None = None  # the clip's own start, on the container's clock
        for packet in container.demux([s for s in best if s is not None]):
            if packet.pts is None:
                continue
            time = packet.pts * packet.time_base
            if zero is None and packet.stream is best[0] and packet.is_keyframe:
                zero = time
            if zero is None or time < zero or time - origin >= end:
                continue
            shift = round(zero / packet.time_base)
            packet.pts -= shift
            if packet.dts is not None:  # Matroska has none, and the muxer works them out
                packet.dts -= shift
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
        return start if zero is None else zero - origin


def _encode(
    source: Path, start: Fraction, end: Fraction, out: Path, size: tuple[int, int]
) -> Iterator[None]:
    """Encode the frames, at a size (width, height), and the sound of [start, end).

    Yields:
        Nothing, after each frame and piece of sound.
    """
    with open_container(source) as container, _create(out) as target:
        video, audio = container.streams.best("video"), container.streams.best("audio")
        video_codec, audio_codec, options = CODECS.get(target.format.name, DEFAULT_CODECS)
        tracks: dict[Any, Any] = {}
        if audio is not None:
            layout, rate = audio.codec_context.layout, audio.codec_context.sample_rate
            rate = OPUS_RATE if audio_codec == "libopus" else rate
            tracks[audio] = target.add_stream(audio_codec, rate=rate, layout=layout)
        rate = video.average_rate or Fraction(25)
        try:
            track = tracks[video] = target.add_stream(video_codec, rate=rate, options=options)
        except ValueError as error:  # how PyAV reports a container of sound or pictures
            raise ConfigError(
                f"'{out.suffix}' is not a video file extension; try .mp4 or .mkv"
            ) from error
        track.pix_fmt = "yuv420p"
        track.width, track.height = (max(2, pixels & ~1) for pixels in size)
        track.time_base = track.codec_context.time_base = video.time_base

        def write_picture(frame: Any, time: Fraction) -> None:
            frame = _rotate_upright(frame).reformat(track.width, track.height, "yuv420p")
            frame.pts, frame.time_base = round(time / video.time_base), video.time_base
            frame.pict_type = av.video.frame.PictureType.NONE
            target.mux(track.encode(frame))

        opening: Any = None  # the frame that is on screen when the clip begins
        num_samples = 0
        for stream, frame, time in _decode(container, list(tracks), start, end):
            if stream is audio:
                if samples := _trim_samples(frame, time, end - start):
                    if not num_samples:  # sound may begin after the clip
                        num_samples = max(0, round(time * frame.sample_rate))
                    samples.pts = num_samples
                    num_samples += samples.samples
                    target.mux(tracks[audio].encode(samples))
            elif time <= 0:
                opening = frame
            else:
                if opening is not None:
                    write_picture(opening, Fraction(0))
                    opening = None
                write_picture(frame, time)
            yield
        if opening is not None:
            write_picture(opening, Fraction(0))
        for written in tracks.values():
            target.mux(written.encode(None))


def _decode(
    container: Any, streams: list[Any], start: Fraction, end: Fraction
) -> Iterator[tuple[Any, Any, Fraction]]:
    """Yield (stream, frame, seconds after `start`) from the keyframe before it to `end`."""
    origin = _start_time(container) + start
    lead = SOUND_LEAD if len(streams) > 1 else 0
    container.seek(int(max(_start_time(container), origin - lead) * MICROSECONDS))
    running = set(streams)
    for packet in container.demux(streams):
        for frame in packet.decode():
            if frame.pts is None:
                continue
            time = frame.pts * frame.time_base - origin
            if time >= end - start:
                running.discard(packet.stream)
            else:
                yield packet.stream, frame, time
        if not running:
            return


def _trim_samples(frame: Any, time: Fraction, duration: Fraction) -> Any:
    """Return the sound of a frame within a clip, exact to the sample; None if there is none.

    Args:
        frame: Decoded sound.
        time: Seconds from the start of the clip to the frame; may be negative.
        duration: Seconds of the clip.
    """
    first, last = (max(0, round((t - time) * frame.sample_rate)) for t in (0, duration))
    if first >= min(last, frame.samples):
        return None
    values = 1 if frame.format.is_planar else frame.layout.nb_channels  # of one sample, in a row
    kept = np.ascontiguousarray(frame.to_ndarray()[:, first * values : last * values])
    trimmed = av.AudioFrame.from_ndarray(kept, frame.format.name, frame.layout)
    trimmed.sample_rate, trimmed.time_base = frame.sample_rate, Fraction(1, frame.sample_rate)
    return trimmed


def _rotate_upright(frame: Any) -> Any:
    """The frame as a player shows it: phones store frames rotated and note the angle."""
    turns = round(frame.rotation / 90) % 4
    if not turns:
        return frame
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")


def write_thumbnail(moment: Moment, folder: Path) -> Path:
    """Write the frame at the best second of a moment as a JPEG and return its path.

    Its name depends only on the video and that second.

    Raises:
        DecodeError: If the video cannot be read any more.
    """
    name = _shorten(printable(moment.video_id), 80)
    path = folder / f"{name}-{round(moment.best * 1000):09d}.jpg"
    frame = grab_frame(moment.path, moment.best, Fit(THUMBNAIL_PIXELS))
    with atomic_file(path) as partial:
        Image.fromarray(frame).save(partial, quality=85)
    return path
