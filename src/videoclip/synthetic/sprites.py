"""Cut-outs: every object shaded and with its shadow, the cloth, the post; and pasting them.

They are kept once made, since a video shows the same few again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from videoclip.synthetic.outlines import Floats, outline

__all__ = ["Sprite", "lid", "paste", "post", "sprite"]

_PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 38),
    "orange": (250, 134, 20),
    "yellow": (250, 224, 48),
    "green": (38, 166, 60),
    "blue": (36, 84, 224),
    "purple": (146, 52, 190),
    "white": (246, 246, 242),
    "black": (34, 34, 40),
    "glass": (132, 156, 164),
}
"""RGB of every colour; `glass` is what a container is made of before it is filled."""

_SECOND: dict[str, tuple[int, int, int]] = {
    "red": (250, 225, 220),
    "orange": (120, 50, 10),
    "yellow": (110, 80, 20),
    "green": (225, 245, 215),
    "blue": (220, 232, 252),
    "purple": (240, 222, 250),
    "white": (150, 152, 160),
    "black": (118, 118, 124),
    "glass": (132, 156, 164),
}
"""RGB of the stripes or spots on every colour; never another colour of the palette."""


@dataclass(frozen=True)
class Sprite:
    """A cut-out ready to be pasted.

    Attributes:
        paint: (h, w, 3) uint16 colour times opacity (0..255 each).
        clear: (h, w, 1) uint16 share of 255 that shows through.
    """

    paint: NDArray[np.uint16]
    clear: NDArray[np.uint16]

    def below(self, share: float) -> Sprite:
        """Return the lowest `share` of the sprite, as liquid stands in a glass."""
        hidden = round((1 - share) * len(self.paint))
        if not hidden:
            return self
        paint, clear = self.paint.copy(), self.clear.copy()
        paint[:hidden], clear[:hidden] = 0, 255
        return Sprite(paint, clear)


def paste(frame: NDArray[np.uint8], sprite: Sprite, x: float, y: float) -> None:
    """Blend a sprite into a frame (H, W, 3) with its middle at (x, y) pixels, cut at the border."""
    height, width = sprite.clear.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, frame.shape[1]), min(top + height, frame.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    box = frame[y0:y1, x0:x1]
    box[...] = (box * sprite.clear[inside] + sprite.paint[inside] + 127) // 255


def _grid(radius: float, margin: int) -> tuple[Floats, Floats]:
    """Return x and y in units of the radius, over a square that holds it with a margin."""
    half = int(np.ceil(radius)) + margin
    axis = (np.arange(2 * half + 1, dtype=np.float32) - half) / np.float32(radius)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _marks(pattern: str, x: Floats, y: Floats, radius: float) -> Floats:
    """Return where the second colour of a pattern lies, from 0 to 1."""
    waves: dict[str, Floats] = {
        "plain": np.full_like(x, -np.inf),
        "striped": np.sin((x + y) * 6),
        "spotted": np.sin(x * 6.5) * np.sin(y * 6.5) * 2 - 0.7,
    }
    marks: Floats = np.clip(waves[pattern] * (radius / 4) + 0.5, 0, 1)
    return marks


@lru_cache(maxsize=2048)
def sprite(colour: str, pattern: str, shape: str, radius: int, light: float = 1.0) -> Sprite:
    """Return one object of about `radius` pixels, with its shadow, under so much light."""
    x, y = _grid(radius, margin=max(2, radius // 4))
    edge = outline(shape, x, y)
    solid = np.clip(0.5 - edge * radius, 0, 1)  # one pixel of soft edge
    marks = _marks(pattern, x, y, radius)[..., None]
    base, second = (np.asarray(table[colour], np.float32) for table in (_PALETTE, _SECOND))
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
    """Return a round concrete post to stand in front of everything."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    grey = (128 - 50 * x - 40 * x * x) * np.ones((height, 1), np.float32)  # (h, w)
    return _sprite(grey[..., None] * np.asarray([1, 1, 1.04]), np.ones_like(grey))


def _sprite(lit: Floats, solid: Floats, shadow: Floats | float = 0.0) -> Sprite:
    """Build a sprite of (h, w, 3) colours, opaque where `solid`, over a black `shadow`."""
    clear = (1 - solid) * (1 - shadow)
    return Sprite(
        np.rint(lit * solid[..., None] * 255).astype(np.uint16),
        np.rint(clear[..., None] * 255).astype(np.uint16),
    )
