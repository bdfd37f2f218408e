"""Clips cut out of videos: to the frame by encoding anew, or at once by copying packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.error import FFmpegError

from videoclip.errors import ConfigError, DataError, DecodeError
from videoclip.features.decode import probe

__all__ = ["cut_clip"]

DEFAULT = ("libx264", "aac", {"crf": "18", "preset": "veryfast"})
"""Video, audio and a quality that is visually without loss."""
CODECS = {"webm": ("libvpx-vp9", "libopus", {"crf": "24", "b": "0", "deadline": "realtime"})}
"""Likewise of containers that do not take H.264 and AAC."""
OPUS_RATE = 48_000
"""Samples a second; Opus takes few others."""
MICROSECONDS = 1_000_000


def cut_clip(
    source: Path | str, start: float, end: float, out: Path | str, *, fast: bool = False
) -> Path:
    """Write the part of a video between two times, with its sound, as its own file.

    Args:
        source: The video.
        start: Seconds, 0 being where a player starts the file.
        end: Seconds, exclusive; beyond the end of the video it is cut there.
        out: The file to write, of the type its extension says. It appears whole or not at all.
        fast: Copy packets without decoding: nearly free and without loss, but the clip begins at
            the keyframe before `start`. Else every frame shown in [start, end) is there and no
            other, as H.264 and AAC, or VP9 and Opus in WebM.

    Returns:
        The written file.

    Raises:
        ConfigError: If the span is empty.
        DecodeError: If the video cannot be read, or ends before the span.
        DataError: If the file cannot be written.
    """
    source, out = Path(source), Path(out)
    if not 0 <= start < end:
        raise ConfigError(f"a clip must begin at 0 or later and end after it begins: {start}-{end}")
    info = probe(source)
    if start >= info.duration:
        raise DecodeError(f"it ends at {info.duration:g} s, before {start:g} s", source)
    aside = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", out) from error
    try:
        if fast:
            _copy(source, _exact(start), _exact(end), aside)
        else:
            _encode(source, _exact(start), _exact(end), aside, (info.width, info.height))
        aside.replace(out)
    except FFmpegError as error:
        raise DecodeError(f"cannot be cut to {out.name} ({error.strerror})", source) from error
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", out) from error
    finally:
        aside.unlink(missing_ok=True)
    return out


def _exact(seconds: float) -> Fraction:
    """The time that is meant: 0.3 is a little less than the third frame's, as a binary number."""
    return Fraction(seconds).limit_denominator(MICROSECONDS)


def _create(out: Path) -> Any:
    """Open a file to write, of the type its extension says."""
    try:
        return av.open(f"file:{out}", "w")
    except ValueError as error:  # PyAV's answer to a type it does not know
        raise ConfigError(
            f"'{out.suffix}' is not a type of video file: try .mp4 or .mkv"
        ) from error


def _copied_stream(target: Any, stream: Any) -> Any:
    """A stream that takes the packets of another one."""
    try:
        return target.add_stream_from_template(stream)
    except ValueError as error:
        raise ConfigError(
            f"{target.format.name} cannot hold {stream.codec_context.name}: keep the type of the "
            "original, take .mkv, or leave out --fast"
        ) from error


def _origin(container: Any) -> Fraction:
    """Seconds of the container's clock at which a player starts."""
    return Fraction(container.start_time or 0, MICROSECONDS)


def _copy(source: Path, start: Fraction, end: Fraction, out: Path) -> None:
    """Copy packets from the keyframe before `start`."""
    with av.open(f"file:{source}") as container, _create(out) as target:
        origin = _origin(container)
        wanted = [container.streams.best("video"), container.streams.best("audio")]
        streams = {s.index: _copied_stream(target, s) for s in wanted if s is not None}
        container.seek(int((origin + start) * MICROSECONDS))
        zero: Fraction | None = None  # the clip's own start, on the container's clock
        for packet in container.demux([s for s in wanted if s is not None]):
            if packet.dts is None or packet.pts is None:
                continue
            is_video = packet.stream is wanted[0]
            at = packet.pts * packet.time_base
            if zero is None and is_video and packet.is_keyframe:
                zero = at
            if zero is None or at < zero or at - origin >= end:
                continue
            shift = round(zero / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = streams[packet.stream.index]
            target.mux(packet)


def _encode(source: Path, start: Fraction, end: Fraction, out: Path, size: tuple[int, int]) -> None:
    """Encode what is shown, at a size (width, height), and heard in [start, end)."""
    with av.open(f"file:{source}") as container, _create(out) as target:
        video, audio = container.streams.best("video"), container.streams.best("audio")
        sound = _Sound(target, audio, start, end) if audio is not None else None
        pictures = _Pictures(target, video, start, end, size)
        origin = _origin(container)
        container.seek(int((origin + start) * MICROSECONDS))
        streams = [stream for stream in (video, audio) if stream is not None]
        for packet in container.demux(streams):
            for frame in packet.decode():
                if frame.pts is None:
                    continue
                time = frame.pts * frame.time_base - origin
                if packet.stream is video:
                    pictures.add(frame, time)
                elif sound is not None:
                    sound.add(frame, time)
            if pictures.is_over and (sound is None or sound.is_over):
                break
        pictures.finish()
        if sound is not None:
            sound.finish()


class _Pictures:
    """The picture track of a clip that is being written."""

    def __init__(
        self, target: Any, source: Any, start: Fraction, end: Fraction, size: tuple[int, int]
    ) -> None:
        self._target, self._start, self._end = target, start, end
        rate = source.average_rate or Fraction(25)
        codec, _, quality = CODECS.get(target.format.name, DEFAULT)
        self._stream = target.add_stream(codec, rate=rate, options=quality)
        self._stream.pix_fmt = "yuv420p"
        self._stream.width, self._stream.height = (max(2, pixels & ~1) for pixels in size)
        self._time_base = self._stream.time_base = source.time_base
        self._stream.codec_context.time_base = source.time_base
        self._before: Any = None
        self.is_over = False

    def add(self, frame: Any, time: Fraction) -> None:
        """Take the next frame in order; the one shown when the clip begins belongs to it."""
        if time <= self._start:
            self._before = frame
        elif time < self._end:
            self._begin()
            self._write(frame, time - self._start)
        else:
            self.is_over = True

    def _begin(self) -> None:
        if self._before is not None:
            self._write(self._before, Fraction(0))
            self._before = None

    def _write(self, frame: Any, time: Fraction) -> None:
        frame = _upright(frame)
        frame = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
        frame.pts, frame.time_base = round(time / self._time_base), self._time_base
        frame.pict_type = av.video.frame.PictureType.NONE
        self._target.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._begin()
        self._target.mux(self._stream.encode(None))


class _Sound:
    """The sound track of a clip that is being written, cut to the sample."""

    def __init__(self, target: Any, source: Any, start: Fraction, end: Fraction) -> None:
        self._target, self._start, self._end = target, start, end
        _, codec, _ = CODECS.get(target.format.name, DEFAULT)
        self._rate = OPUS_RATE if codec == "libopus" else source.codec_context.sample_rate
        layout = source.codec_context.layout
        self._stream = target.add_stream(codec, rate=self._rate, layout=layout)
        self._resampler = av.AudioResampler("fltp", layout, self._rate)
        self._fifo = AudioFifo()
        self._num_samples = 0
        self.is_over = False

    def add(self, frame: Any, time: Fraction) -> None:
        """Take the samples of a frame that lie in the clip."""
        first = round((self._start - time) * self._rate)
        last = round((self._end - time) * self._rate)
        self.is_over = last <= 0
        for piece in self._resampler.resample(frame):
            samples = piece.to_ndarray()[:, max(0, first) : max(0, last)]
            if samples.shape[1]:
                kept = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(samples), "fltp", piece.layout
                )
                kept.sample_rate = self._rate
                kept.pts, kept.time_base = self._num_samples, Fraction(1, self._rate)
                self._num_samples += kept.samples
                self._fifo.write(kept)
        self._drain(partial=False)

    def finish(self) -> None:
        self._drain(partial=True)
        self._target.mux(self._stream.encode(None))

    def _drain(self, partial: bool) -> None:
        for frame in _pieces(self._fifo, self._stream.codec_context.frame_size or 1024, partial):
            self._target.mux(self._stream.encode(frame))


def _pieces(fifo: Any, size: int, partial: bool) -> Iterator[Any]:
    while fifo.samples >= size or (partial and fifo.samples):
        yield fifo.read(size, partial)


def _upright(frame: Any) -> Any:
    """The frame as it is shown: phones store pictures lying and say how to turn them."""
    turns = round(frame.rotation / 90) % 4
    if not turns:
        return frame
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
