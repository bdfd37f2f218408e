"""Figures drawn with matplotlib, as SVG text or PNG bytes; equal data give equal files.

Matplotlib is imported when the first figure is drawn. All sizes are in pixels of the SVG.
"""

from __future__ import annotations

import base64
import io
import json
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from videoclip.types import RealArray

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

PALETTE = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#8c6bb1",
    "#7f8c2d",
    "#332288",
    "#a6761d",
    "#44aa99",
    "#aa4466",
)
"""Colours that colour-blind readers can tell apart. Source: Okabe and Ito, with some more."""
INK, GREY = "#222222", "#777777"
FONTS = (
    "Helvetica Neue",
    "Helvetica",
    "Arial",
    "Noto Sans",
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Microsoft YaHei",
    "PingFang SC",
)
"""In order of preference; the later ones have letters that the earlier ones lack."""
PNG_SCALE = 2
"""Pixels of a PNG for each pixel of the SVG, for high-resolution screens and for print."""
POINTS_PER_INCH = 72
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""The date would make every file differ."""
Points: TypeAlias = Sequence[tuple[int, float]] | RealArray
"""(update, loss) of a run."""
CURVE_POINTS = 40
"""Most points of a curve of losses."""
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@contextmanager
def style() -> Iterator[None]:
    """Apply the look of all figures; every function that draws or measures runs inside."""
    from matplotlib import rc_context
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    settings: Any = {
        "axes.axisbelow": True,
        "axes.edgecolor": "#999999",
        "axes.labelcolor": GREY,
        "axes.prop_cycle": f"cycler(color={PALETTE})",
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.family": [*(name for name in FONTS if name in installed), "sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 11,
        "image.composite_image": False,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "videoclip",
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "ytick.labelcolor": INK,
        "ytick.left": False,
    }
    with rc_context(settings), warnings.catch_warnings():
        # A letter that no font has is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def new_figure(width: float, height: float, is_laid_out: bool = True) -> Figure:
    """An empty figure, which places and sizes its axes to fill it unless told otherwise."""
    from matplotlib.figure import Figure

    size = (width / POINTS_PER_INCH, height / POINTS_PER_INCH)
    return Figure(size, dpi=POINTS_PER_INCH, layout="constrained" if is_laid_out else None)


@style()
def draw_losses(runs: Iterable[tuple[str, Points, Points]]) -> Figure:
    """Draw the losses of runs over their updates.

    Args:
        runs: Name, training losses (a line) and validation losses (dots) of each.
    """
    figure = new_figure(820, 320)
    axes = figure.add_subplot(xlabel="updates", ylabel="loss")
    for name, training, validation in runs:
        label = f"{name}: {training[-1][1]:.2f}"
        (line,) = axes.plot(*np.transpose(training), label=label, linewidth=1.5)
        annotate(line, name)
        axes.plot(*np.reshape(validation, (-1, 2)).T, "o", markersize=3, color=line.get_color())
    figure.legend(loc="outside right upper", title="training loss; dots: validation")
    return figure


def average_losses(log: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Return (update, training loss) of the entries of log.jsonl, averaged over stretches of them.

    There are `CURVE_POINTS` stretches at most, each with its last update.
    """
    steps = [(entry["update"], entry["loss"]) for entry in log if "loss" in entry]
    if not steps:
        return []
    parts = np.array_split(np.array(steps), min(CURVE_POINTS, len(steps)))
    return [(int(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def annotate(artist: Artist, tooltip: str, start: float | None = None) -> None:
    """Give a shape of the SVG a tooltip and, for a page with a video, seconds to play from."""
    artist.set_gid(json.dumps([tooltip, start]))


@style()
def to_svg(figure: Figure, title: str) -> str:
    """A figure as one self-contained SVG element.

    A shape with a start (see `annotate`) has the class `plays` and its seconds in `data-start`.

    Args:
        figure: What to write.
        title: Description for readers who cannot see it.
    """
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=NO_METADATA)

    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    root = ET.fromstring(file.getvalue())
    del root.attrib["width"], root.attrib["height"]  # the page decides; viewBox has the proportions
    root.set("role", "img")
    for element in list(root.iter()):
        name = element.get("id", "")
        if name.startswith("["):
            tooltip, start = json.loads(name)
            _add_title(element, tooltip)
            if start is not None:
                element.set("class", "plays")
                element.set("data-start", f"{start:.3f}")
        if element.tag == f"{{{SVG}}}image":
            element.set(f"{{{XLINK}}}href", _to_jpeg(element.get(f"{{{XLINK}}}href", "")))
            element.attrib.pop("style", None)  # it asks for visible pixels when enlarged
        if name.startswith("[") or element.tag == f"{{{SVG}}}g":
            element.attrib.pop("id", None)  # several figures on a page would have the same ones
    _add_title(root, title)
    return ET.tostring(root, encoding="unicode") + "\n"


def _to_jpeg(url: str) -> str:
    """The same picture as a data URL with a JPEG, a fifth as large as one with a PNG."""
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=85)
    return data_url(file.getvalue())


def data_url(content: bytes, kind: str = "image/jpeg") -> str:
    """The data URL of a file of a kind, for a page that is complete in one file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _add_title(element: ET.Element, text: str) -> None:
    title = ET.Element(f"{{{SVG}}}title")
    title.text = text
    element.insert(0, title)


@style()
def to_png(figure: Figure) -> bytes:
    """A figure as a PNG file of `PNG_SCALE` pixels a unit."""
    file = io.BytesIO()
    dpi = PNG_SCALE * POINTS_PER_INCH
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


@style()
def text_width(text: str, size: float) -> float:
    """Width of a line of text."""
    return new_figure(1, 1).text(0, 0, text, size=size).get_window_extent().width


def shorten(text: str, width: float, size: float) -> str:
    """A text that is at most as wide as given; what is cut ends in an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"
