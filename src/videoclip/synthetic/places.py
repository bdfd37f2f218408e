"""The background of every place: a procedural texture, another view of it for every video."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from videoclip.synthetic.outlines import Floats

__all__ = ["lamp", "place_texture"]

Share = TypeVar("Share", float, Floats)


def lamp(x: Share, y: Share) -> Share:
    """Return how bright it is at (x, y), shares of the picture: a lamp stands at the upper left.

    It lights every scene and object, so that where an object stands also shows in how it looks,
    even to features that forget positions.
    """
    return 1.2 - 0.45 * x - 0.2 * y


def _noise(rng: np.random.Generator, size: int, cell: int) -> Floats:
    """Return smooth noise of mean 0 and deviation about 1 whose blobs are `cell` pixels wide."""
    count = size // cell + 3
    knots = rng.standard_normal((count, count), np.float32)
    at = np.arange(size, dtype=np.float32) / cell
    low = at.astype(int)
    share = (at - low)[:, None]
    rows = knots[low] * (1 - share) + knots[low + 1] * share
    columns = rows.T[low] * (1 - share) + rows.T[low + 1] * share
    blobs: Floats = 1.4 * columns.T
    return blobs


def place_texture(place: str, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint the background of a place, (size, size, 3); every generator gives another view of it.

    The lamp is part of it.
    """
    unit = size / 128  # textures keep their look at any size
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(unit)
    x, y = x + rng.uniform(0, 40), y + rng.uniform(0, 40)
    rough = _noise(rng, size, max(2, round(3 * unit)))
    broad = _noise(rng, size, max(4, round(28 * unit)))
    match place:
        case "table":
            colour, relief = (168, 116, 70), 16 * np.sin(y * 0.9 + broad * 2) + 5 * rough
        case "grass":
            colour, relief = (96, 150, 66), 20 * rough + 8 * broad
        case "wall":
            row = np.floor(y / 12)
            mortar = (y % 12 < 1.6) | ((x + 11 * (row % 2)) % 22 < 1.6)
            colour, relief = (160, 88, 72), np.where(mortar, 50, 6 * rough + 5 * np.sin(row * 9))
        case "sand":
            colour, relief = (214, 186, 132), 10 * np.sin(y * 0.5 + 3 * broad) + 4 * rough
        case "water":
            colour, relief = (84, 150, 178), 18 * np.sin(y * 0.7 + np.sin(x * 0.16) * 2 + broad)
        case "snow":
            colour, relief = (218, 228, 238), 5 * rough + 12 * broad
        case "night":
            stars = rng.random((size, size)) > 0.994
            colour, relief = (38, 40, 78), np.where(stars, 170, 6 * broad)
        case "tiles":
            joint = (x % 20 < 1.5) | (y % 20 < 1.5)
            check = (np.floor(x / 20) + np.floor(y / 20)) % 2
            colour, relief = (176, 182, 186), np.where(joint, -50, 22 * check + 2 * rough)
        case _:
            raise AssertionError(f"no place {place}")
    tint = np.asarray(colour, np.float32) * rng.uniform(0.9, 1.08, 3)
    picture = tint + np.asarray(relief, np.float32)[..., None]  # (size, size, 3)
    _furnish(picture, rng)
    share = np.linspace(0, 1, size, dtype=np.float32)
    picture *= lamp(share[None, :], share[:, None])[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _furnish(picture: Floats, rng: np.random.Generator) -> None:
    """Hang a curtain on the left of a scene and stand a shelf on its right.

    What an object hides of them tells where it is, whatever its colour.
    """
    size = len(picture)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    folds = 0.75 + 0.35 * np.sin(x * 110 + np.sin(y * 9))
    curtain = x < rng.uniform(0.2, 0.26)
    picture[curtain] = (np.asarray((196, 92, 140)) * folds[..., None])[curtain]
    shelf = x > rng.uniform(0.74, 0.8)
    boards = (y * 7.3) % 1 < 0.22
    depth = np.where(boards, 1.15, 0.7)
    picture[shelf] = (np.asarray((96, 168, 160)) * depth[..., None])[shelf]
