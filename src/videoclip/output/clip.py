"""Clips cut out of videos: exact to the frame by encoding, or quickly by copying packets."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.error import FFmpegError

from videoclip.errors import ConfigError, DataError, DecodeError
from videoclip.features.decode import probe
from videoclip.files import atomic_file

DEFAULT_CODECS = ("libx264", "aac", {"crf": "18", "preset": "veryfast"})
"""Video, audio and options of a visually lossless quality."""
CODECS = {"webm": ("libvpx-vp9", "libopus", {"crf": "24", "b": "0", "deadline": "realtime"})}
"""The same for containers that do not take H.264 and AAC."""
OPUS_RATE = 48_000
"""Samples per second; Opus supports few others."""
MICROSECONDS = 1_000_000


def cut_clip(
    source: Path | str, start: float, end: float, out: Path | str, *, fast: bool = False
) -> Path:
    """Write the part of a video between two times, with its sound, to a file of its own.

    Args:
        source: The video.
        start: Seconds, 0 being where a player starts the file.
        end: Seconds, exclusive; may be beyond the end of the video.
        out: The file to write, atomically; its extension selects the container.
        fast: Copy packets without decoding: nearly free and lossless, but the clip starts at the
            keyframe before `start`. Otherwise it has exactly the frames shown in [start, end), as
            H.264 and AAC, or VP9 and Opus in WebM.

    Returns:
        The written file.

    Raises:
        ConfigError: If the span is empty or the container unsuitable.
        DecodeError: If the video cannot be read, or ends before the span.
        DataError: If the file cannot be written.
    """
    source, out = Path(source), Path(out)
    if not 0 <= start < end:
        raise ConfigError(f"a clip must start at 0 or later and end after its start: {start}-{end}")
    info = probe(source)
    if start >= info.duration:
        raise DecodeError(f"ends at {info.duration:g} s, before {start:g} s", source)
    try:
        with atomic_file(out) as partial:
            if fast:
                _copy(source, _to_fraction(start), _to_fraction(end), partial)
            else:
                size = (info.width, info.height)
                _encode(source, _to_fraction(start), _to_fraction(end), partial, size)
    except FFmpegError as error:
        raise DecodeError(f"cannot be cut to {out.name} ({error.strerror})", source) from error
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", out) from error
    return out


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


def _copy(source: Path, start: Fraction, end: Fraction, out: Path) -> None:
    """Copy packets from the keyframe before `start`."""
    with av.open(f"file:{source}") as container, _create(out) as target:
        origin = _start_time(container)
        best = [container.streams.best("video"), container.streams.best("audio")]
        streams = {s.index: _add_copied_stream(target, s) for s in best if s is not None}
        container.seek(int((origin + start) * MICROSECONDS))
        zero: Fraction | None = None  # the clip's own start, on the container's clock
        for packet in container.demux([s for s in best if s is not None]):
            if packet.dts is None or packet.pts is None:
                continue
            time = packet.pts * packet.time_base
            if zero is None and packet.stream is best[0] and packet.is_keyframe:
                zero = time
            if zero is None or time < zero or time - origin >= end:
                continue
            shift = round(zero / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = streams[packet.stream.index]
            target.mux(packet)


def _encode(source: Path, start: Fraction, end: Fraction, out: Path, size: tuple[int, int]) -> None:
    """Encode the frames, at a size (width, height), and the sound of [start, end)."""
    with av.open(f"file:{source}") as container, _create(out) as target:
        video, audio = container.streams.best("video"), container.streams.best("audio")
        tracks: dict[Any, _VideoTrack | _AudioTrack] = {}
        if audio is not None:
            tracks[audio] = _AudioTrack(target, audio, start, end)
        tracks[video] = _VideoTrack(target, video, start, end, size)
        origin = _start_time(container)
        container.seek(int((origin + start) * MICROSECONDS))
        for packet in container.demux(list(tracks)):
            for frame in packet.decode():
                if frame.pts is not None:
                    tracks[packet.stream].add(frame, frame.pts * frame.time_base - origin)
            if all(track.is_complete for track in tracks.values()):
                break
        for track in tracks.values():
            track.finish()


class _VideoTrack:
    """The video track of a clip that is being written."""

    def __init__(
        self, target: Any, source: Any, start: Fraction, end: Fraction, size: tuple[int, int]
    ) -> None:
        self._target, self._start, self._end = target, start, end
        codec, _, options = CODECS.get(target.format.name, DEFAULT_CODECS)
        self._stream = target.add_stream(
            codec, rate=source.average_rate or Fraction(25), options=options
        )
        self._stream.pix_fmt = "yuv420p"
        self._stream.width, self._stream.height = (max(2, pixels & ~1) for pixels in size)
        self._time_base = self._stream.time_base = source.time_base
        self._stream.codec_context.time_base = source.time_base
        self._previous: Any = None
        self.is_complete = False

    def add(self, frame: Any, time: Fraction) -> None:
        """Take the next frame; the frame that is on screen at the start belongs to the clip."""
        if time <= self._start:
            self._previous = frame
        elif time < self._end:
            self._write_previous()
            self._write(frame, time - self._start)
        else:
            self.is_complete = True

    def _write_previous(self) -> None:
        if self._previous is not None:
            self._write(self._previous, Fraction(0))
            self._previous = None

    def _write(self, frame: Any, time: Fraction) -> None:
        frame = _rotate_upright(frame)
        frame = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
        frame.pts, frame.time_base = round(time / self._time_base), self._time_base
        frame.pict_type = av.video.frame.PictureType.NONE
        self._target.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what is left."""
        self._write_previous()
        self._target.mux(self._stream.encode(None))


class _AudioTrack:
    """The audio track of a clip that is being written, exact to the sample."""

    def __init__(self, target: Any, source: Any, start: Fraction, end: Fraction) -> None:
        self._target, self._start, self._end = target, start, end
        _, codec, _ = CODECS.get(target.format.name, DEFAULT_CODECS)
        self._rate = OPUS_RATE if codec == "libopus" else source.codec_context.sample_rate
        layout = source.codec_context.layout
        self._stream = target.add_stream(codec, rate=self._rate, layout=layout)
        self._resampler = av.AudioResampler("fltp", layout, self._rate)
        self._fifo = AudioFifo()
        self._num_samples = 0
        self.is_complete = False

    def add(self, frame: Any, time: Fraction) -> None:
        """Take the samples of a frame that lie in the clip."""
        first = round((self._start - time) * self._rate)
        last = round((self._end - time) * self._rate)
        self.is_complete = last <= 0
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
        self._encode(partial=False)

    def finish(self) -> None:
        """Write what is left."""
        self._encode(partial=True)
        self._target.mux(self._stream.encode(None))

    def _encode(self, partial: bool) -> None:
        """Encode in frames of the size that the codec wants; the last may be partial."""
        size = self._stream.codec_context.frame_size or 1024
        while self._fifo.samples >= size or (partial and self._fifo.samples):
            self._target.mux(self._stream.encode(self._fifo.read(size, partial)))


def _rotate_upright(frame: Any) -> Any:
    """The frame as a player shows it: phones store frames rotated and note the angle."""
    turns = round(frame.rotation / 90) % 4
    if not turns:
        return frame
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
