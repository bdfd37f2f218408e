"""Sample the frames of a video at a fixed rate: exactly, in bounded memory, without full decoding.

Sample k is the frame on screen at (k + 0.5) / rate seconds, the middle of the interval
[k / rate, (k + 1) / rate) that it represents. Second 0 is where a player starts the file. Frames
are RGB, upright (the display matrix is applied) and have square pixels; the transfer curve of HDR
video is not changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from videoclip.data.sources import status_of
from videoclip.errors import ConfigError, DataError
from videoclip.features.frame_times import sample_times
from videoclip.features.video_file import (
    MAX_PIXELS,
    decode_frames,
    decode_near,
    find_frame_times,
    reading,
)
from videoclip.types import IntArray

Mode: TypeAlias = Literal["exact", "fast"]
"""`exact`: the frame on screen; `fast`: the nearest keyframe, about 20 times cheaper."""

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3) RGB."""


Interpolation: TypeAlias = Literal["area", "bilinear", "bicubic", "lanczos"]
"""Scaling filter; `area` averages all pixels that shrink into one."""


class Resize:
    """Base of the resize rules: how a frame of any size gets the size that a backbone expects.

    Sizes are those of the frame as displayed: upright, with square pixels.
    """

    interpolation: Interpolation

    def __post_init__(self) -> None:
        smallest = min(side for side in vars(self).values() if isinstance(side, int))
        if smallest < 1:
            raise ConfigError(f"side lengths must be at least 1 pixel, got {smallest}")

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) to which a frame of the given size is scaled."""
        raise NotImplementedError

    @property
    def crop(self) -> int | None:
        """Side of the centre square that is cut from the scaled frame; None: no cut."""
        return None


@dataclass(frozen=True)
class Squash(Resize):
    """Scale to exactly width x height, without keeping the aspect ratio."""

    width: int
    height: int
    interpolation: Interpolation = "area"

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the scaled (width, height)."""
        return self.width, self.height


@dataclass(frozen=True)
class Fit(Resize):
    """Shrink, where needed, until no side exceeds `longest_side`; keep the aspect ratio."""

    longest_side: int
    interpolation: Interpolation = "area"

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the scaled (width, height)."""
        scale = min(1.0, self.longest_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class ShorterSide(Resize):
    """Scale the shorter side to `size` pixels; keep the aspect ratio."""

    size: int
    interpolation: Interpolation = "area"

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the scaled (width, height)."""
        scale = self.size / min(width, height)
        return max(self.size, round(width * scale)), max(self.size, round(height * scale))


@dataclass(frozen=True)
class CentreCrop(Resize):
    """Scale the shorter side to `shorter_side`, then cut the centre square of `size` pixels."""

    shorter_side: int
    size: int
    interpolation: Interpolation = "area"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size > self.shorter_side:
            raise ConfigError(
                f"cannot crop {self.size} pixels from a shorter side of {self.shorter_side}"
            )

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the scaled (width, height)."""
        return ShorterSide(self.shorter_side).scaled(width, height)

    @property
    def crop(self) -> int | None:
        """Side of the centre square."""
        return self.size


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video that need only its first frame to be decoded.

    Attributes:
        path: The file.
        duration: Seconds from where a player starts to the end of the last frame.
        width: Width in pixels as displayed: upright, with square pixels.
        height: Height in pixels as displayed.
        rotation: Degrees by which stored frames are turned counter-clockwise for display.
        frame_rate: Mean frames per second.
        num_frames: Number of visible frames.
    """

    path: Path
    duration: float
    width: int
    height: int
    rotation: int
    frame_rate: float
    num_frames: int


class Frame:
    """One decoded frame, which several samples may show; each conversion is done once."""

    def __init__(self, decoded: Any, pixel_aspect: Fraction, scalers: dict[Any, Any]) -> None:
        self._decoded = decoded
        self._turns = round(decoded.rotation / 90) % 4
        self.rotation = 90 * self._turns
        self._pixel_aspect = pixel_aspect
        self._scalers = scalers
        self._arrays: dict[Resize | None, Pixels] = {}

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) upright, with square pixels."""
        width = max(1, round(self._decoded.width * self._pixel_aspect))
        height = self._decoded.height
        return (height, width) if self._turns % 2 else (width, height)

    def rgb(self, resize: Resize | None = None) -> Pixels:
        """Return the frame as (height, width, 3) RGB, resized by a rule; read only."""
        if resize in self._arrays:
            return self._arrays[resize]
        rule = resize or Squash(*self.display_size)
        width, height = rule.scaled(*self.display_size)
        if width * height > MAX_PIXELS:
            raise ValueError(f"a frame scaled to {width} x {height} is larger than {MAX_PIXELS=:,}")
        if self._turns % 2:
            width, height = height, width
        # One scaler per rule, because it caches its filters; one thread, because there is a
        # process per core.
        scaler = self._scalers.setdefault(resize, VideoReformatter())
        filter_name = rule.interpolation.upper()
        scaled = scaler.reformat(
            self._decoded, width, height, "rgb24", interpolation=filter_name, threads=1
        )
        pixels = np.rot90(scaled.to_ndarray(), self._turns)  # (h, w, 3)
        if rule.crop is not None:
            top = (pixels.shape[0] - rule.crop) // 2
            left = (pixels.shape[1] - rule.crop) // 2
            pixels = pixels[top : top + rule.crop, left : left + rule.crop]
        return self._arrays.setdefault(resize, np.ascontiguousarray(pixels))


def probe(path: str | Path) -> VideoInfo:
    """Read the facts about a video: its packets are counted and its first frame is decoded.

    It costs nothing right after `sample_frames` of the same file in this process.

    Raises:
        DecodeError: If it cannot be read.
    """
    with reading(Path(path)):
        return _video(path).info()


def sample_frames(path: str | Path, per_second: float, *, mode: Mode = "exact") -> Iterator[Frame]:
    """Yield the frames of a video at a fixed rate, in order.

    There are `num_samples(duration, per_second)` of them; frames repeat where the video has fewer
    per second. To keep memory bounded, keep the arrays and not the `Frame` objects.

    Args:
        path: The video file.
        per_second: Samples per second of video; any positive number.
        mode: `exact` gives the same pixels as decoding everything.

    Raises:
        ConfigError: If `per_second` is not positive.
        DecodeError: If the video cannot be read; for damage inside it, when it is reached.
    """
    if not per_second > 0:
        raise ConfigError(f"frames per second must be positive, got {per_second:g}")
    video = _video(path)
    yield from video.sample(sample_times(video.times.duration, per_second), mode)


def grab_frame(path: str | Path, time: float, resize: Resize | None = None) -> Pixels:
    """Return the frame on screen at a time as (height, width, 3) RGB, for example a thumbnail.

    It seeks in MP4 and Matroska files, so that an hour of video takes as long as a minute. Other
    files are read to the end, but decoded only where needed.

    Args:
        path: The video file.
        time: Seconds; beyond the end of the video, its last frame is returned.
        resize: How to scale the frame; `Fit(320)` suits thumbnails.

    Raises:
        DecodeError: If the video cannot be read.
    """
    path, time = Path(path), max(0.0, time)
    with reading(path):
        near = decode_near(path, time)
        if near is None:
            return next(_video(path).sample(np.array([time]), "exact")).rgb(resize)
        decoded, pixel_aspect = near
        return Frame(decoded, pixel_aspect, {}).rgb(resize)


def resample_frames(
    frames: npt.NDArray[np.uint8], frames_per_second: float, per_second: float
) -> Iterator[Frame]:
    """Yield frames in memory at another rate, as `sample_frames` would from a file of them.

    Args:
        frames: (N, H, W, 3) uint8 RGB, at least one.
        frames_per_second: Frame i is on screen from i / frames_per_second on.
        per_second: Frames wanted per second.

    Raises:
        ConfigError: If the rate is not a positive number.
        DataError: If the array is of another shape or type.
    """
    if not isinstance(frames_per_second, Real) or not 0 < frames_per_second < np.inf:
        raise ConfigError(
            f"frames per second must be positive, got {frames_per_second!r}: give a number"
        )
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise DataError(
            f"frames must be a uint8 array (N, H, W, 3) of RGB, got {frames.dtype} {frames.shape}"
        )
    starts = np.arange(len(frames)) / frames_per_second
    times = sample_times(len(frames) / frames_per_second, per_second)
    scalers: dict[Resize | None, VideoReformatter] = {}
    for index, samples in groupby(np.searchsorted(starts, times, side="right") - 1):
        decoded = VideoFrame.from_ndarray(np.ascontiguousarray(frames[index]), "rgb24")
        current = Frame(decoded, Fraction(1), scalers)
        yield from (current for _ in samples)


class _Video:
    """A video file whose packets are read once, however often it is sampled or described.

    Args:
        path: The file.
        size: Its bytes.
        mtime_ns: Time of its last change; after a change it is another video.
    """

    def __init__(self, path: Path, size: int, mtime_ns: int) -> None:
        self.path = path
        self.times = find_frame_times(path)
        self._first: tuple[tuple[int, int], int] | None = None  # display size and rotation

    def sample(self, times: npt.NDArray[np.float64], mode: Mode) -> Iterator[Frame]:
        """Yield the frame of each of the ascending times.

        Where damage has left a gap, that is the latest decoded frame before it, or else the first
        one.
        """
        choose = self.times.on_screen if mode == "exact" else self.times.nearest_keyframe
        wanted: IntArray = choose(times)
        scalers: dict[Resize | None, VideoReformatter] = {}
        decoded = (
            (timestamp, Frame(frame, pixel_aspect, scalers))
            for timestamp, frame, pixel_aspect in decode_frames(self.path, self.times, wanted)
        )
        current = next(decoded)
        self._first = self._first or (current[1].display_size, current[1].rotation)
        following = next(decoded, None)
        for timestamp in wanted:
            while following is not None and following[0] <= timestamp:
                current, following = following, next(decoded, None)
            yield current[1]

    def info(self) -> VideoInfo:
        """Describe the video; its first frame is decoded unless frames were sampled before."""
        if self._first is None:
            next(self.sample(np.zeros(1), "exact"))
        assert self._first is not None
        (width, height), rotation = self._first
        return VideoInfo(
            path=self.path,
            duration=self.times.duration,
            width=width,
            height=height,
            rotation=rotation,
            frame_rate=len(self.times.visible) / self.times.duration,
            num_frames=len(self.times.visible),
        )


_latest_video = lru_cache(maxsize=1)(_Video)
"""So that `probe` does not read a file again whose frames were just sampled."""


def _video(path: str | Path) -> _Video:
    path = Path(path)
    try:
        status = status_of(path)
    except (OSError, DataError):
        return _Video(path, 0, 0)  # which raises the reason
    return _latest_video(path, status.st_size, status.st_mtime_ns)
