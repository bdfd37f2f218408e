"""Pictures made of a few shapes, painted as SVG text or as PNG bytes that look the same."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

__all__ = ["Box", "Photo", "Picture", "Shape", "Text", "jpeg", "text_width", "to_png", "to_svg"]

PixelArray: TypeAlias = npt.NDArray[np.uint8]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
FONTS = "Aileron, 'Helvetica Neue', Helvetica, Arial, 'Noto Sans', sans-serif"
"""The first is what Pillow brings, in which a PNG is set and widths are measured."""
FONT_FILES = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
)
"""Where the system may have the letters that Pillow's own font lacks: all beyond ASCII."""
MISSING = "\uffff"
"""What no font can draw."""
SCALE = 2
"""Pixels of the PNG for each unit of the picture, for screens of today and for print."""


@dataclass(frozen=True)
class Box:
    """A filled rectangle.

    Attributes:
        x: Left.
        y: Top.
        width: Positive.
        height: Positive.
        fill: "#rrggbb".
        radius: Of its corners.
        tip: Shown when the mouse rests on it.
        seconds: Where in the video a click on it plays; None: nowhere.
    """

    x: float
    y: float
    width: float
    height: float
    fill: str
    radius: float = 0.0
    tip: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Text:
    """A line of text.

    Attributes:
        x: Where it starts, has its middle or ends.
        y: Its baseline.
        text: What it says.
        size: Of the letters.
        fill: "#rrggbb".
        anchor: Which part of it lies at x.
    """

    x: float
    y: float
    text: str
    size: float = 13.0
    fill: str = "#222222"
    anchor: Literal["start", "middle", "end"] = "start"


@dataclass(frozen=True)
class Photo:
    """Pixels, scaled to fill a rectangle and cut to it around their middle.

    Attributes:
        x: Left.
        y: Top.
        width: Of the rectangle.
        height: Likewise.
        pixels: (H, W, 3) RGB.
        seconds: Where in the video a click on it plays.
    """

    x: float
    y: float
    width: float
    height: float
    pixels: PixelArray
    seconds: float


Shape: TypeAlias = Box | Text | Photo


@dataclass(frozen=True)
class Picture:
    """Shapes on white, the later ones on top.

    Attributes:
        width: In units, which are pixels of the SVG.
        height: Likewise.
        title: For those who cannot see it.
        shapes: What to paint.
    """

    width: float
    height: float
    title: str
    shapes: Sequence[Shape]


def to_svg(picture: Picture) -> str:
    """Paint as one self-contained SVG element; what a click plays is in `data-start`."""
    size = f"{picture.width:g} {picture.height:g}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" '
            f'font-family="{escape(FONTS)}">',
            f"<title>{escape(picture.title)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *map(_svg_shape, picture.shapes),
            "</svg>\n",
        ]
    )


def _svg_shape(shape: Shape) -> str:
    if isinstance(shape, Text):
        return (
            f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}" '
            f'fill="{shape.fill}" text-anchor="{shape.anchor}">{escape(shape.text)}</text>'
        )
    place = (
        f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
    )
    plays = "" if shape.seconds is None else f' class="plays" data-start="{shape.seconds:.3f}"'
    if isinstance(shape, Photo):
        data = base64.b64encode(jpeg(shape.pixels)).decode()
        return (
            f'<image{plays} {place} preserveAspectRatio="xMidYMid slice" '
            f'href="data:image/jpeg;base64,{data}"/>'
        )
    tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
    return f'<rect{plays} {place} rx="{shape.radius:g}" fill="{shape.fill}">{tip}</rect>'


def to_png(picture: Picture) -> bytes:
    """Paint as a PNG file of `SCALE` pixels a unit."""
    size = (round(picture.width * SCALE), round(picture.height * SCALE))
    image = Image.new("RGB", size, "#ffffff")
    draw = ImageDraw.Draw(image)
    for shape in picture.shapes:
        if isinstance(shape, Text):
            anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
            place = (shape.x * SCALE, shape.y * SCALE)
            draw.text(place, shape.text, shape.fill, _font(shape.text, shape.size * SCALE), anchor)
            continue
        left, top = round(shape.x * SCALE), round(shape.y * SCALE)
        right = max(left + 1, round((shape.x + shape.width) * SCALE))
        bottom = max(top + 1, round((shape.y + shape.height) * SCALE))
        if isinstance(shape, Photo):
            photo = Image.fromarray(shape.pixels)
            image.paste(ImageOps.fit(photo, (right - left, bottom - top)), (left, top))
        else:
            corners = (left, top, right - 1, bottom - 1)
            draw.rounded_rectangle(corners, shape.radius * SCALE, shape.fill)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def jpeg(pixels: PixelArray) -> bytes:
    """(H, W, 3) RGB as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def text_width(text: str, size: float) -> float:
    """How wide a line of text is."""
    return float(_font(text, size).getlength(text))


def _font(text: str, size: float) -> Font:
    """The first font that has all letters of a text, or else Pillow's own."""
    own = _own_font(size)
    if _draws(own, text):
        return own
    fonts = (_system_font(name, size) for name in FONT_FILES)
    return next((font for font in fonts if font and _draws(font, text)), own)


@cache
def _own_font(size: float) -> Font:
    return ImageFont.load_default(size)


@cache
def _system_font(name: str, size: float) -> Font | None:
    """A font of the system, or None where it is not installed."""
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _draws(font: Font, text: str) -> bool:
    missing = bytes(font.getmask(MISSING))
    return all(bytes(font.getmask(letter)) != missing for letter in set(text) - {" "})
