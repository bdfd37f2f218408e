"""Frames of a video at a steady rate: exact, in bounded memory, and cheaper than full decoding.

Sampling rule: frame k is the picture on screen at (k + 0.5) / rate seconds. So it stands for the
interval [k / rate, (k + 1) / rate) and is at most half of it away from any moment in it. Second 0
is where a player starts the file. Pictures come upright (the display matrix applied), with square
pixels, as RGB; the transfer curve of HDR video is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from videoclip.errors import ConfigError
from videoclip.features.video_file import (
    Timeline,
    decode_near,
    decode_pictures,
    find_timeline,
    sample_times,
)

__all__ = [
    "CentreCrop",
    "Fit",
    "Frame",
    "Interpolation",
    "Mode",
    "Resize",
    "ShorterSide",
    "Squash",
    "VideoInfo",
    "grab_frame",
    "probe",
    "sample_frames",
]

Mode: TypeAlias = Literal["exact", "fast"]
"""`exact`: the picture on screen; `fast`: the keyframe nearest in time, some 20 times cheaper."""


Interpolation: TypeAlias = Literal["area", "bilinear", "bicubic", "lanczos"]
"""Scaling filter; `area` averages over what a pixel covers, which is right for shrinking."""


@dataclass(frozen=True)
class Squash:
    """Scale to exactly width x height, whatever that does to the aspect ratio."""

    width: int
    height: int
    interpolation: Interpolation = "area"

    def __post_init__(self) -> None:
        _check_sizes(self.width, self.height)

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size (width, height) a picture of the given size is scaled to."""
        return self.width, self.height

    @property
    def crop(self) -> int | None:
        """Side of the centre square cut from the scaled picture; None: all of it."""
        return None


@dataclass(frozen=True)
class CentreCrop:
    """Scale the shorter side to `shorter_side`, then cut the centre square of `size` pixels."""

    shorter_side: int
    size: int
    interpolation: Interpolation = "area"

    def __post_init__(self) -> None:
        _check_sizes(self.shorter_side, self.size)
        if self.size > self.shorter_side:
            raise ConfigError(
                f"a crop of {self.size} pixels does not fit a side of {self.shorter_side}"
            )

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size (width, height) a picture of the given size is scaled to."""
        scale = self.shorter_side / min(width, height)
        return (
            max(self.shorter_side, round(width * scale)),
            max(self.shorter_side, round(height * scale)),
        )

    @property
    def crop(self) -> int | None:
        """Side of the centre square cut from the scaled picture; None: all of it."""
        return self.size


@dataclass(frozen=True)
class Fit:
    """Shrink, if need be, so that neither side is longer than `longest_side`; keep the aspect."""

    longest_side: int
    interpolation: Interpolation = "area"

    def __post_init__(self) -> None:
        _check_sizes(self.longest_side)

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size (width, height) a picture of the given size is scaled to."""
        scale = min(1.0, self.longest_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def crop(self) -> int | None:
        """Side of the centre square cut from the scaled picture; None: all of it."""
        return None


@dataclass(frozen=True)
class ShorterSide:
    """Scale the shorter side to `size` pixels; keep the aspect and all of the picture."""

    size: int
    interpolation: Interpolation = "area"

    def __post_init__(self) -> None:
        _check_sizes(self.size)

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size (width, height) a picture of the given size is scaled to."""
        return CentreCrop(self.size, self.size).scaled(width, height)

    @property
    def crop(self) -> int | None:
        """Side of the centre square cut from the scaled picture; None: all of it."""
        return None


Resize: TypeAlias = Squash | CentreCrop | Fit | ShorterSide
"""Any of the rules; sizes are of the picture as shown: turned upright, with square pixels."""


def _check_sizes(*sizes: int) -> None:
    if min(sizes) < 1:
        raise ConfigError(f"a picture's side must be at least 1 pixel, got {min(sizes)}")


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video without decoding more than its first picture.

    Attributes:
        path: The file.
        duration: Seconds from where a player starts to the end of the last picture.
        width: Of the picture as shown: upright, with square pixels.
        height: Likewise.
        rotation: Degrees by which stored pictures are turned counter-clockwise to be shown.
        frame_rate: Mean pictures per second.
        num_frames: Pictures that are shown.
    """

    path: Path
    duration: float
    width: int
    height: int
    rotation: int
    frame_rate: float
    num_frames: int


class _Picture:
    """One decoded picture; each conversion is done once, however many samples show it."""

    def __init__(self, decoded: Any, pixel_aspect: Fraction, scalers: dict[Any, Any]) -> None:
        self._decoded = decoded
        self.rotation = round(decoded.rotation / 90) % 4 * 90
        self._turns = self.rotation // 90
        self._pixel_aspect = pixel_aspect
        self._scalers = scalers
        self._arrays: dict[Resize | None, npt.NDArray[np.uint8]] = {}

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) upright, with square pixels."""
        width = max(1, round(self._decoded.width * self._pixel_aspect))
        height = self._decoded.height
        return (height, width) if self._turns % 2 else (width, height)

    def rgb(self, resize: Resize | None) -> npt.NDArray[np.uint8]:
        if resize not in self._arrays:
            self._arrays[resize] = self._convert(resize)
        return self._arrays[resize]

    def _convert(self, resize: Resize | None) -> npt.NDArray[np.uint8]:
        rule = resize or Squash(*self.shown_size)
        width, height = rule.scaled(*self.shown_size)
        if self._turns % 2:
            width, height = height, width
        # One scaler per rule: it keeps its filters, and must not start threads of its own.
        scaler = self._scalers.setdefault(resize, VideoReformatter())
        scaled = scaler.reformat(
            self._decoded,
            width,
            height,
            "rgb24",
            interpolation=rule.interpolation.upper(),
            threads=1,
        )
        pixels = np.rot90(scaled.to_ndarray(), self._turns)  # (h, w, 3)
        if rule.crop is not None:
            top = (pixels.shape[0] - rule.crop) // 2
            left = (pixels.shape[1] - rule.crop) // 2
            pixels = pixels[top : top + rule.crop, left : left + rule.crop]
        return np.ascontiguousarray(pixels)


@dataclass(frozen=True)
class Frame:
    """A sample of a video.

    Attributes:
        time: Seconds at which it was taken.
        shown_since: Seconds at which its picture came on screen.
    """

    time: float
    shown_since: float
    picture: _Picture

    def rgb(self, resize: Resize | None = None) -> npt.NDArray[np.uint8]:
        """Return the picture as (height, width, 3) RGB; do not write into it.

        Several rules may be asked of one frame; each is computed once, also when following
        frames show the same picture.
        """
        return self.picture.rgb(resize)


def probe(path: str | Path) -> VideoInfo:
    """Read what a video is: its packets are counted and its first picture decoded.

    Raises:
        DecodeError: If it cannot be read.
    """
    path = Path(path)
    timeline = find_timeline(path)
    first = next(_frames(path, timeline, np.zeros(1), "exact")).picture
    width, height = first.shown_size
    return VideoInfo(
        path=path,
        duration=timeline.duration,
        width=width,
        height=height,
        rotation=first.rotation,
        frame_rate=len(timeline.shown) / timeline.duration,
        num_frames=len(timeline.shown),
    )


def sample_frames(path: str | Path, per_second: float, *, mode: Mode = "exact") -> Iterator[Frame]:
    """Yield the frames of a video at a steady rate, in order.

    There are `num_samples(duration, per_second)` of them; a picture is repeated where the video is
    slower than the rate. To keep memory bounded, keep the arrays of frames rather than frames.

    Args:
        path: The video file.
        per_second: Frames per second of video; any positive number.
        mode: `exact` gives the very pixels that decoding everything would give.

    Raises:
        DecodeError: If the video cannot be read; damage further on is met when it is reached.
    """
    if not per_second > 0:
        raise ConfigError(f"frames per second must be positive, got {per_second:g}")
    path = Path(path)
    timeline = find_timeline(path)
    yield from _frames(path, timeline, sample_times(timeline.duration, per_second), mode)


def grab_frame(
    path: str | Path, time: float, resize: Resize | None = None, *, mode: Mode = "exact"
) -> npt.NDArray[np.uint8]:
    """Return the picture on screen at a time as (height, width, 3) RGB, for a thumbnail.

    In MP4 and Matroska files it seeks, so that an hour costs no more than a minute; others are
    read through up to the end, but decoded only where needed.

    Args:
        path: The video file.
        time: Seconds; beyond the end, the last picture.
        resize: How to scale it; `Fit(320)` suits thumbnails.
        mode: `fast` takes a keyframe near by.

    Raises:
        DecodeError: If the video cannot be read.
    """
    path, time = Path(path), max(0.0, time)
    near = decode_near(path, time, exact=mode == "exact")
    if near is None:
        return next(_frames(path, find_timeline(path), np.array([time]), mode)).rgb(resize)
    decoded, pixel_aspect = near
    return _Picture(decoded, pixel_aspect, {}).rgb(resize)


def _frames(
    path: Path, timeline: Timeline, times: npt.NDArray[np.float64], mode: Mode
) -> Iterator[Frame]:
    """Yield a frame for each of the rising times."""
    choose = timeline.shown_at if mode == "exact" else timeline.nearest_key
    wanted = choose(times)
    scalers: dict[Resize | None, VideoReformatter] = {}
    pictures = (
        (stamp, _Picture(decoded, pixel_aspect, scalers))
        for stamp, decoded, pixel_aspect in decode_pictures(path, timeline, wanted)
    )
    for time, (stamp, picture) in zip(times, _latest(pictures, wanted)):
        yield Frame(float(time), float(timeline.seconds(stamp)), picture)


def _latest(
    pictures: Iterator[tuple[int, _Picture]], wanted: npt.NDArray[np.int64]
) -> Iterator[tuple[int, _Picture]]:
    """Yield for each wanted stamp the last picture that is no later; before the first, the first.

    Normally that is the very picture; it is an earlier one where damage left a gap.
    """
    current = next(pictures)
    following = next(pictures, None)
    for stamp in wanted:
        while following is not None and following[0] <= stamp:
            current, following = following, next(pictures, None)
        yield current
