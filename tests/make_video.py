"""Tiny videos of every kind, written in milliseconds, whose pictures say their own number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

NUM_BITS = 10
_QUIET = {"libx265": {"x265-params": "log-level=none"}}


def numbered_picture(number: int, width: int = 80, height: int = 48) -> np.ndarray:
    """Show a number as stripes (black 0, white 1, the first bit left) over a moving gradient."""
    rows = np.arange(height)[:, None] * 3 + number * 5
    columns = np.arange(width)[None] * 2 + number * 3
    picture = np.stack([rows + 0 * columns, columns + 0 * rows, rows + columns], -1) % 256
    bits = number >> np.arange(NUM_BITS) & 1
    stripes = np.repeat(bits * 255, -(-width // NUM_BITS))[:width]
    picture[: height // 2] = stripes[None, :, None]
    return picture.astype(np.uint8)


def number_shown(picture: np.ndarray) -> int:
    """Read the number off a picture of any size, as decoded."""
    height, width = picture.shape[:2]
    middles = ((np.arange(NUM_BITS) + 0.5) * width / NUM_BITS).astype(int)
    bits = picture[height // 4, middles].mean(-1) > 127
    return int((bits << np.arange(NUM_BITS)).sum())


def write_video(
    path: Path,
    pictures: int | Iterable[np.ndarray] = 30,
    *,
    rate: int = 10,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    rotation: int = 0,
    pixel_aspect: Fraction | None = None,
    sound_seconds: float = 0.0,
    container: str | None = None,
    **options: str | int,
) -> Path:
    """Write a video.

    Args:
        path: Where; the suffix chooses the container.
        pictures: (H, W, 3) RGB, or how many numbered ones; 0 writes a stream without pictures.
        rate: Pictures per second.
        codec: Encoder.
        pix_fmt: Pixel format it gets.
        times: When each picture appears, in units of 1 / rate; default 0, 1, 2, ...
        rotation: Degrees to turn counter-clockwise for showing.
        pixel_aspect: Width of a pixel over its height.
        sound_seconds: Length of a silent sound track; 0: none.
        container: Format, where the suffix does not say it.
        **options: Of the encoder.
    """
    if isinstance(pictures, int):
        pictures = [numbered_picture(number) for number in range(pictures)]
    pictures = list(pictures)
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.options = _QUIET.get(codec, {}) | {k: str(value) for k, value in options.items()}
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (48, 80)
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.thread_count = 1
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        sound = output.add_stream("aac", rate=8000) if sound_seconds else None
        for position, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = times[position] if times else position
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        if pictures:
            output.mux(stream.encode(None))
        else:
            output.start_encoding()
        if sound is not None:
            _write_silence(output, sound, sound_seconds)
    return path


def write_sound(path: Path, seconds: float = 1.0, *, cover: bool = False) -> Path:
    """Write a file with sound only, perhaps with a cover picture as music files have."""
    with av.open(str(path), "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=8000)
        if cover:
            stream = output.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = 80, 48, "yuvj420p"
            stream.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(numbered_picture(0), format="rgb24")
            frame.pts = 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        _write_silence(output, sound, seconds)
    return path


def _write_silence(
    output: av.container.OutputContainer, stream: av.AudioStream, seconds: float
) -> None:
    for start in range(0, int(seconds * 8000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, start
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
