"""A timeline as a figure: frames of the video, and below them a row for each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from videoclip.features.contained import grab_frame, probe
from videoclip.features.decode import Fit
from videoclip.output.figures import (
    GREY,
    INK,
    PALETTE,
    PNG_SCALE,
    annotate,
    new_figure,
    shorten,
    style,
    text_width,
)
from videoclip.zeroshot.moments import Moment, clock
from videoclip.zeroshot.results import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

OPACITY = {"": 1.0, "none": 0.3, "low": 0.5, "medium": 0.75, "high": 1.0}
"""Opacity of a moment's colour, by confidence; "": confidence unknown."""
LINE, PALE = "#dddddd", "#f4f5f7"
WIDTH, MARGIN, GAP = 1200, 24, 14
HEAD, ROW, STILL_HEIGHT = 56, 34, 64
MAX_LABEL_WIDTH = 320
TICK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Seconds between ticks."""
MAX_TICKS = 12


Still: TypeAlias = tuple[NDArray[np.uint8], float]
"""A frame of the video, (H, W, 3) RGB, and the second at which it is shown."""


def grab_stills(timeline: Timeline) -> list[Still]:
    """Decode frames, evenly spaced, that together fill the width of the timeline.

    Raises:
        DecodeError: If the video cannot be read any more.
    """
    info = probe(timeline.path)
    available = WIDTH - MARGIN - _left(timeline)
    number = max(1, round(available / (STILL_HEIGHT * info.width / info.height)))
    size = (round(PNG_SCALE * (available / number - 1)), PNG_SCALE * STILL_HEIGHT)
    longer_side = round(PNG_SCALE * STILL_HEIGHT * max(1.0, info.width / info.height))
    stills = []
    for i in range(number):
        seconds = (i + 0.5) / number * timeline.duration
        frame = Image.fromarray(grab_frame(timeline.path, seconds, Fit(longer_side)))
        stills.append((np.asarray(ImageOps.fit(frame, size)), seconds))
    return stills


@style()
def draw_timeline(timeline: Timeline, stills: Sequence[Still] = ()) -> Figure:
    """Draw a row for each label and a box for each moment, paler where confidence is lower.

    Args:
        timeline: What to draw.
        stills: From `grab_stills`, drawn above the rows.
    """
    from matplotlib.patches import Rectangle

    left, right = _left(timeline), WIDTH - MARGIN
    scale = (right - left) / timeline.duration
    top = HEAD + (STILL_HEIGHT + GAP if stills else 0)
    bottom = top + ROW * len(timeline.labels)
    figure = new_figure(WIDTH, bottom + 64, is_laid_out=False)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(bottom + 64, 0))
    axes.set_axis_off()

    name = shorten(timeline.path.name, WIDTH - 2 * MARGIN - 100, 18)
    axes.text(MARGIN, 36, name, size=18)
    axes.text(right, 36, clock(timeline.duration), size=14, color=GREY, ha="right")
    width = (right - left) / max(1, len(stills))
    for i, (pixels, seconds) in enumerate(stills):
        place = (left + i * width, left + (i + 1) * width - 1, HEAD + STILL_HEIGHT, HEAD)
        image = axes.imshow(pixels, extent=place, aspect="auto", interpolation="none")
        annotate(image, clock(seconds), seconds)
    for row in range(0, len(timeline.labels), 2):
        band = Rectangle((MARGIN, top + ROW * row), right - MARGIN, ROW, color=PALE, lw=0)
        axes.add_patch(band)
    for second in _ticks(timeline.duration):
        x = left + second * scale
        axes.vlines(x, top, bottom + 5, LINE, linewidth=1, zorder=1)
        label = clock(second).removesuffix(".0")
        axes.text(x, bottom + 20, label, size=12, color=GREY, ha="center")
    for row, label in enumerate(timeline.labels):
        y, is_missing = top + ROW * row, label in timeline.missing
        text = shorten(label, MAX_LABEL_WIDTH, 14)
        axes.text(left - GAP, y + 22, text, size=14, color=GREY if is_missing else INK, ha="right")
        if is_missing:
            axes.text(left + GAP / 2, y + 22, "not found", size=12, color=GREY)
        for moment in timeline.moments:
            if moment.label == label:
                _draw_moment(axes, moment, left, y, scale, PALETTE[row % len(PALETTE)])
    _draw_legend(axes, timeline, bottom + 46)
    return figure


def _draw_moment(
    axes: Axes, moment: Moment, left: float, y: float, scale: float, colour: str
) -> None:
    x, width = left + moment.start * scale, max((moment.end - moment.start) * scale, 2.0)
    fill = _mix_with_white(colour, OPACITY[moment.confidence])
    times = moment.times
    box = _draw_box(axes, x, y + 4, width, ROW - 8, fill, min(4.0, width / 2))
    annotate(box, f"{moment.label}, {times}, {moment.confidence}", moment.start)
    if width >= text_width(times, 12) + 12:
        ink = "#ffffff" if _luminance(fill) < 0.6 else INK
        axes.text(x + width / 2, y + 21.5, times, size=12, color=ink, ha="center")


def _draw_box(
    axes: Axes, x: float, y: float, width: float, height: float, fill: str, radius: float
) -> Patch:
    from matplotlib.patches import FancyBboxPatch

    shape = f"round,pad=0,rounding_size={radius}"
    return axes.add_patch(FancyBboxPatch((x, y), width, height, shape, color=fill, lw=0))


def _draw_legend(axes: Axes, timeline: Timeline, y: float) -> None:
    """Explain the strength of colours and the threshold."""
    axes.text(MARGIN, y, "confidence", size=12, color=GREY)
    x = MARGIN + text_width("confidence", 12) + GAP
    for confidence, opacity in list(OPACITY.items())[1:]:
        _draw_box(axes, x, y - 10, 22, 12, _mix_with_white("#333333", opacity), 3)
        axes.text(x + 28, y, confidence, size=12, color=GREY)
        x += 28 + text_width(confidence, 12) + GAP
    rule = f"threshold: z-score {timeline.threshold:g}, relative to unrelated texts"
    axes.text(WIDTH - MARGIN, y, rule, size=12, color=GREY, ha="right")


def _left(timeline: Timeline) -> float:
    """Return the x of second 0, right of the labels."""
    widest = max(text_width(label, 14) for label in timeline.labels)
    return MARGIN + min(widest, MAX_LABEL_WIDTH) + GAP + 6


def _ticks(duration: float) -> list[int]:
    """Return at most `MAX_TICKS` + 1 round seconds."""
    step = next((s for s in TICK_STEPS if duration / s <= MAX_TICKS), TICK_STEPS[-1])
    while duration / step > MAX_TICKS:
        step *= 2
    return list(range(0, int(duration) + 1, step))


def _mix_with_white(colour: str, share: float) -> str:
    """Return a colour of opacity `share` on white."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = (1 - (1 - channel) * share for channel in to_rgb(colour))
    return to_hex((red, green, blue))


def _luminance(colour: str) -> float:
    """Return the perceived brightness of a colour, in [0, 1]. Source: ITU-R BT.601."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue
