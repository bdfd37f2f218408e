"""How a picture of any size becomes one of the size a backbone wants: four small rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from videoclip.errors import ConfigError

__all__ = ["CentreCrop", "Fit", "Interpolation", "Resize", "ShorterSide", "Squash"]

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
