"""A timeline as a picture: stills of the video, and below them a row for each label."""

from __future__ import annotations

from videoclip.features.decode import Fit, grab_frame, probe
from videoclip.output.drawing import Box, Photo, Picture, Shape, Text, text_width
from videoclip.zeroshot.results import Moment, Timeline, clock

__all__ = ["draw_timeline", "photograph"]

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee9944", "#777777")
"""Told apart by colour-blind eyes too. Source: Paul Tol's bright scheme, and two more."""
STRENGTHS = {"": 1.0, "none": 0.3, "low": 0.5, "medium": 0.75, "high": 1.0}
"""How much of a row's colour a span has, the rest being white."""
INK, GREY, LINE, PALE = "#222222", "#777777", "#dddddd", "#f4f5f7"
WIDTH, MARGIN, GAP = 1200, 24, 14
ROW, STILL_HEIGHT = 34, 64
LONGEST_LABEL = 300
"""Units; what is longer ends in an ellipsis."""
NICE_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
MOST_TICKS = 12


def photograph(timeline: Timeline) -> list[Photo]:
    """Take stills of the video, which together fill the width of its timeline.

    Raises:
        DecodeError: If the video cannot be read any more.
    """
    left = _left(timeline)
    info = probe(timeline.path)
    available = WIDTH - MARGIN - left
    number = max(1, round(available / (STILL_HEIGHT * info.width / info.height)))
    width = available / number
    longer_side = 2 * STILL_HEIGHT * max(1.0, info.width / info.height)
    stills = []
    for i in range(number):
        seconds = (i + 0.5) / number * timeline.duration
        pixels = grab_frame(timeline.path, seconds, Fit(round(longer_side)))
        stills.append(Photo(left + i * width, 56.0, width - 1, STILL_HEIGHT, pixels, seconds))
    return stills


def draw_timeline(timeline: Timeline, stills: list[Photo] | None = None) -> Picture:
    """Draw a row for each label and a box for each span, paler where less sure.

    Args:
        timeline: What to draw.
        stills: From `photograph`, drawn above the rows; none: the rows begin higher up.
    """
    left = _left(timeline)
    scale = (WIDTH - MARGIN - left) / timeline.duration
    top = 56.0 + (STILL_HEIGHT + GAP if stills else 0)
    bottom = top + ROW * len(timeline.labels)
    name = _shortened(timeline.path.name, WIDTH - 2 * MARGIN - 100, 18)
    shapes: list[Shape] = [
        Text(MARGIN, 36, name, 18),
        Text(WIDTH - MARGIN, 36, clock(timeline.duration), 14, GREY, "end"),
        *(stills or ()),
    ]
    for row in range(0, len(timeline.labels), 2):
        shapes.append(Box(MARGIN, top + ROW * row, WIDTH - 2 * MARGIN, ROW, PALE))
    for second in _ticks(timeline.duration):
        x = left + second * scale
        shapes.append(Box(x - 0.5, top, 1, bottom - top + 5, LINE))
        said = clock(second).removesuffix(".0")
        shapes.append(Text(x, bottom + 20, said, 12, GREY, "middle"))
    for row, label in enumerate(timeline.labels):
        y = top + ROW * row
        ink = GREY if label in timeline.missing else INK
        said = _shortened(label, LONGEST_LABEL, 14)
        shapes.append(Text(left - GAP, y + 22, said, 14, ink, "end"))
        if label in timeline.missing:
            shapes.append(Text(left + GAP / 2, y + 22, "not found", 12, GREY))
        for moment in timeline.moments:
            if moment.label == label:
                shapes += _span(moment, left, y, scale, COLOURS[row % len(COLOURS)])
    shapes += _legend(timeline, bottom + 46)
    return Picture(WIDTH, bottom + 64, f"What happens in {timeline.path.name}", shapes)


def _span(moment: Moment, left: float, y: float, scale: float, colour: str) -> list[Shape]:
    x, width = left + moment.start * scale, max((moment.end - moment.start) * scale, 2.0)
    fill = _mixed(colour, STRENGTHS[moment.confidence])
    times = f"{clock(moment.start)}-{clock(moment.end)}"
    tip = f"{moment.label}, {times}, {moment.confidence}"
    box = Box(x, y + 4, width, ROW - 8, fill, min(4.0, width / 2), tip, moment.start)
    if width < text_width(times, 12) + 12:
        return [box]
    ink = "#ffffff" if _luminance(fill) < 0.6 else INK
    return [box, Text(x + width / 2, y + 21.5, times, 12, ink, "middle")]


def _legend(timeline: Timeline, y: float) -> list[Shape]:
    """What paler and stronger colours mean, and from where on a second counts."""
    shapes: list[Shape] = [Text(MARGIN, y, "confidence", 12, GREY)]
    x = MARGIN + text_width("confidence", 12) + GAP
    for confidence, strength in list(STRENGTHS.items())[1:]:
        shapes.append(Box(x, y - 10, 22, 12, _mixed("#333333", strength), 3))
        shapes.append(Text(x + 28, y, confidence, 12, GREY))
        x += 28 + text_width(confidence, 12) + GAP
    rule = f"a second counts from {timeline.threshold:g} deviations above unrelated texts on"
    return [*shapes, Text(WIDTH - MARGIN, y, rule, 12, GREY, "end")]


def _left(timeline: Timeline) -> float:
    """Where time begins: right of the labels."""
    widest = max(text_width(label, 14) for label in timeline.labels)
    return MARGIN + min(widest, LONGEST_LABEL) + GAP + 6


def _shortened(text: str, most: float, size: float) -> str:
    if text_width(text, size) <= most:
        return text
    while text and text_width(text + "…", size) > most:
        text = text[:-1]
    return text.rstrip() + "…"


def _ticks(duration: float) -> list[int]:
    """Round seconds, at most a dozen."""
    step = next((s for s in NICE_STEPS if duration / s <= MOST_TICKS), NICE_STEPS[-1])
    while duration / step > MOST_TICKS:
        step *= 2
    return list(range(0, int(duration) + 1, step))


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _mixed(colour: str, share: float) -> str:
    """A colour with white."""
    mixed = [round(255 - (255 - channel) * share) for channel in _channels(colour)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _luminance(colour: str) -> float:
    """How bright a colour looks, in [0, 1]. Source: ITU-R BT.601."""
    red, green, blue = _channels(colour)
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255
