"""The outline of every shape, as the signed distance to it: smooth edges at any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "outline"]

Floats = NDArray[np.floating[Any]]


def _around(angles: list[float], radii: list[float]) -> Floats:
    """Return corners at angles in degrees clockwise from the top, (corners, 2)."""
    turned = np.radians(np.asarray(angles, np.float32) - 90)
    corners: Floats = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    return corners * np.asarray(radii, np.float32)[:, None]


def _heart() -> Floats:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False, dtype=np.float32)
    up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -up - 2], axis=1) / np.float32(16.5)


_POLYGONS: dict[str, Floats] = {
    "triangle": _around([0, 120, 240], [1.15] * 3) + np.asarray([0, 0.2], np.float32),
    "star": _around([36.0 * i for i in range(10)], [1.1, 0.46] * 5),
    "heart": _heart(),
}


def outline(shape: str, x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a shape of radius about 1, negative inside.

    Args:
        shape: One of `alphabet.SHAPES`.
        x: To the right, in radii, (h, w).
        y: Downwards, in radii, (h, w).
    """
    if shape in _POLYGONS:
        return _polygon(x, y, _POLYGONS[shape])
    far = np.hypot(x, y)
    across, along = np.abs(x), np.abs(y)
    distances: dict[str, Floats] = {
        "ball": far - 0.92,
        "box": np.maximum(across, along) - 0.8,
        "ring": np.abs(far - 0.7) - 0.26,
        "cross": np.minimum(
            np.maximum(across - 0.3, along - 0.95), np.maximum(along - 0.3, across - 0.95)
        ),
        "moon": np.maximum(far - 0.95, 0.78 - np.hypot(x - 0.5, y + 0.1)),
    }
    return distances[shape]


def _polygon(x: Floats, y: Floats, corners: Floats) -> Floats:
    distance = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        share = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        distance = np.minimum(distance, np.hypot(x - ax - share * ex, y - ay - share * ey))
        if ay != by:  # the edge crosses the ray to the right of points between its ends
            inside ^= ((ay > y) != (by > y)) & (x < ex * (y - ay) / ey + ax)
    signed: Floats = np.where(inside, -distance, distance)
    return signed
