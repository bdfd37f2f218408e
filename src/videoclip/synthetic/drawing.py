"""What frames are drawn from: outlines of shapes, shaded sprites, backgrounds, and pasting.

Sprites are cached, since a video shows the same few in every frame.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from videoclip.types import RealArray


def _around(angles: list[float], radii: list[float]) -> RealArray:
    """Return corners at angles in degrees clockwise from the top, (corners, 2)."""
    turned = np.radians(np.asarray(angles, np.float32) - 90)
    corners: RealArray = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    return corners * np.asarray(radii, np.float32)[:, None]


def _heart() -> RealArray:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False, dtype=np.float32)
    up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -up - 2], axis=1) / np.float32(16.5)


_POLYGONS: dict[str, RealArray] = {
    "triangle": _around([0, 120, 240], [1.15] * 3) + np.asarray([0, 0.2], np.float32),
    "star": _around([36.0 * i for i in range(10)], [1.1, 0.46] * 5),
    "heart": _heart(),
}


def outline(shape: str, x: RealArray, y: RealArray) -> RealArray:
    """Return the signed distance to a shape of radius about 1, negative inside.

    Args:
        shape: One of `world.SHAPES`.
        x: To the right, in radii, (h, w).
        y: Downwards, in radii, (h, w).
    """
    if shape in _POLYGONS:
        return _polygon(x, y, _POLYGONS[shape])
    far = np.hypot(x, y)
    across, along = np.abs(x), np.abs(y)
    distances: dict[str, RealArray] = {
        "ball": far - 0.92,
        "box": np.maximum(across, along) - 0.8,
        "ring": np.abs(far - 0.7) - 0.26,
        "cross": np.minimum(
            np.maximum(across - 0.3, along - 0.95), np.maximum(along - 0.3, across - 0.95)
        ),
        "moon": np.maximum(far - 0.95, 0.78 - np.hypot(x - 0.5, y + 0.1)),
    }
    return distances[shape]


def _polygon(x: RealArray, y: RealArray, corners: RealArray) -> RealArray:
    distance = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        share = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        distance = np.minimum(distance, np.hypot(x - ax - share * ex, y - ay - share * ey))
        if ay != by:  # the edge crosses the ray to the right of points between its ends
            inside ^= ((ay > y) != (by > y)) & (x < ex * (y - ay) / ey + ax)
    return np.asarray(np.where(inside, -distance, distance))


_PALETTE = {
    "red": ((222, 32, 38), (250, 225, 220)),
    "orange": ((250, 134, 20), (120, 50, 10)),
    "yellow": ((250, 224, 48), (110, 80, 20)),
    "green": ((38, 166, 60), (225, 245, 215)),
    "blue": ((36, 84, 224), (220, 232, 252)),
    "purple": ((146, 52, 190), (240, 222, 250)),
    "white": ((246, 246, 242), (150, 152, 160)),
    "black": ((34, 34, 40), (118, 118, 124)),
    "glass": ((132, 156, 164), (132, 156, 164)),
}
"""RGB of every colour, and of the stripes or spots on it, which is no other colour of the palette.

`glass` is the colour of an empty container.
"""


@dataclass(frozen=True)
class Sprite:
    """An image with opacity, ready to be pasted.

    Attributes:
        paint: (h, w, 3) uint16 colour times opacity (0..255 each).
        clear: (h, w, 1) uint16 share of 255 that shows through.
    """

    paint: NDArray[np.uint16]
    clear: NDArray[np.uint16]

    def below(self, share: float) -> Self:
        """Return the lowest `share` of the sprite, like liquid in a glass."""
        hidden = round((1 - share) * len(self.paint))
        if not hidden:
            return self
        paint, clear = self.paint.copy(), self.clear.copy()
        paint[:hidden], clear[:hidden] = 0, 255
        return type(self)(paint, clear)


def paste(frame: NDArray[np.uint8], sprite: Sprite, x: float, y: float) -> None:
    """Blend a sprite into a frame (H, W, 3) centred at (x, y) pixels, cropped at the border."""
    height, width = sprite.clear.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, frame.shape[1]), min(top + height, frame.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    box = frame[y0:y1, x0:x1]
    box[...] = (box * sprite.clear[inside] + sprite.paint[inside] + 127) // 255


def _grid(radius: float, margin: int) -> tuple[RealArray, RealArray]:
    """Return x and y in units of the radius, over a square that holds it with a margin."""
    half = int(np.ceil(radius)) + margin
    axis = (np.arange(2 * half + 1, dtype=np.float32) - half) / np.float32(radius)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _marks(pattern: str, x: RealArray, y: RealArray, radius: float) -> RealArray:
    """Return where the second colour of a pattern lies, from 0 to 1."""
    waves: dict[str, RealArray] = {
        "plain": np.full_like(x, -np.inf),
        "striped": np.sin((x + y) * 6),
        "spotted": np.sin(x * 6.5) * np.sin(y * 6.5) * 2 - 0.7,
    }
    return np.asarray(np.clip(waves[pattern] * (radius / 4) + 0.5, 0, 1))


@lru_cache(maxsize=2048)
def sprite(colour: str, pattern: str, shape: str, radius: int, light: float = 1.0) -> Sprite:
    """Return one object of about `radius` pixels, with its shadow, at a brightness of `light`."""
    x, y = _grid(radius, margin=max(2, radius // 4))
    edge = outline(shape, x, y)
    solid = np.clip(0.5 - edge * radius, 0, 1)  # one pixel of soft edge
    marks = _marks(pattern, x, y, radius)[..., None]
    base, second = np.asarray(_PALETTE[colour], np.float32)
    albedo = base * (1 - marks) + second * marks  # (h, w, 3)
    gleam = 0.35 * np.exp(-((x + 0.35) ** 2 + (y + 0.4) ** 2) * 6)
    rim = np.clip(-edge * radius / 2, 0, 1)  # darker towards the edge
    shine = light * (1 - 0.2 * (x + y) + gleam) * (0.45 + 0.55 * rim)
    lit = np.clip(albedo * shine[..., None], 0, 255)
    shadow = 0.4 * np.clip(0.5 - outline(shape, x - 0.18, y - 0.18) * radius / 2, 0, 1)
    return _sprite(lit, solid, shadow)


@lru_cache(maxsize=256)
def lid(radius: int) -> Sprite:
    """Return the chequered cloth that covers an object of that radius."""
    x, y = _grid(radius, margin=0)
    cells = (np.floor(x * 2.5) + np.floor(y * 2.5)) % 2
    grey = (96 + 84 * cells) * (1 - 0.12 * y)
    return _sprite(grey[..., None] * np.asarray([1, 0.95, 0.85]), np.ones_like(x))


@lru_cache(maxsize=256)
def post(width: int, height: int) -> Sprite:
    """Return a round concrete post, for the foreground."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    grey = (128 - 50 * x - 40 * x * x) * np.ones((height, 1), np.float32)  # (h, w)
    return _sprite(grey[..., None] * np.asarray([1, 1, 1.04]), np.ones_like(grey))


def _sprite(lit: RealArray, solid: RealArray, shadow: RealArray | float = 0.0) -> Sprite:
    """Build a sprite of (h, w, 3) colours, opaque where `solid`, over a black `shadow`."""
    clear = (1 - solid) * (1 - shadow)
    return Sprite(
        np.rint(lit * solid[..., None] * 255).astype(np.uint16),
        np.rint(clear[..., None] * 255).astype(np.uint16),
    )


Share = TypeVar("Share", float, RealArray)


def lamp(x: Share, y: Share) -> Share:
    """Return the brightness at (x, y), shares of the frame; the light is at the upper left.

    It lights the scene and every object, so that the position of an object changes how it looks,
    even for features without positions.
    """
    return 1.2 - 0.45 * x - 0.2 * y


def _noise(rng: np.random.Generator, size: int, cell: int) -> RealArray:
    """Return smooth noise of mean 0 and deviation about 1 whose blobs are `cell` pixels wide."""
    count = size // cell + 3
    knots = rng.standard_normal((count, count), np.float32)
    at = np.arange(size, dtype=np.float32) / cell
    low = at.astype(int)
    share = (at - low)[:, None]
    rows = knots[low] * (1 - share) + knots[low + 1] * share
    columns = rows.T[low] * (1 - share) + rows.T[low + 1] * share
    return np.asarray(1.4 * columns.T)


def place_texture(place: str, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint the background of a place, (size, size, 3); every generator gives another view of it.

    The lamp is part of it.
    """
    unit = size / 128  # textures look the same at any size
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
    tint = np.asarray(colour, np.float32) * rng.uniform(0.9, 1.08, 3)
    image = tint + np.asarray(relief, np.float32)[..., None]  # (size, size, 3)
    _furnish(image, rng)
    share = np.linspace(0, 1, size, dtype=np.float32)
    image *= lamp(share[None, :], share[:, None])[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _furnish(image: RealArray, rng: np.random.Generator) -> None:
    """Hang a curtain on the left of a scene and stand a shelf on its right.

    Objects hide parts of them, so that features of any kind can locate an object.
    """
    size = len(image)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    folds = 0.75 + 0.35 * np.sin(x * 110 + np.sin(y * 9))
    curtain = x < rng.uniform(0.2, 0.26)
    image[curtain] = (np.asarray((196, 92, 140)) * folds[..., None])[curtain]
    shelf = x > rng.uniform(0.74, 0.8)
    boards = (y * 7.3) % 1 < 0.22
    depth = np.where(boards, 1.15, 0.7)
    image[shelf] = (np.asarray((96, 168, 160)) * depth[..., None])[shelf]
