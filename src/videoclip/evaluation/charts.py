"""Plots of an outcome as SVG text: no script, no font, no file beside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from videoclip.evaluation.outcome import Bars, Confusion, Histogram, Plot, TimelinePlot

__all__ = ["draw"]

WIDTH = 720
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
"""Told apart by colour-blind readers too (Okabe and Ito), with some more."""


def draw(plot: Plot) -> str:
    """Return the SVG element of a plot."""
    match plot:
        case Histogram():
            return _histogram(plot)
        case Bars():
            return _bars(plot)
        case Confusion():
            return _confusion(plot)
        case TimelinePlot():
            return _timeline(plot)


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )


def _rect(x: float, y: float, width: float, height: float, colour: str, tip: str = "") -> str:
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
        f'fill="{colour}">{title}</rect>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(names: Sequence[str], y: float) -> tuple[list[str], float]:
    """Draw names with their colours from `y` down; return the parts and where they end."""
    parts, x = [], 0.0
    for i, name in enumerate(names):
        shown = _shorten(name, 40)
        width = 22 + 6.6 * len(shown)
        if x and x + width > WIDTH:
            x, y = 0.0, y + 18
        parts += [_rect(x, y - 9, 10, 10, _colour(i), name), _text(x + 14, y, shown)]
        x += width
    return parts, y + 8


def _histogram(plot: Histogram) -> str:
    foot, bottom, num_bins = 214.0, 180.0, len(plot.edges) - 1
    shares = {
        name: [count / max(1, sum(counts)) for count in counts]
        for name, counts in plot.counts.items()
    }
    top = max(max(values) for values in shares.values()) or 1.0
    step = WIDTH / num_bins
    bar = 0.86 * step / len(shares)
    said = num_bins <= 24 and len(shares) == 1  # there is room for the numbers themselves
    parts = [_rect(0, bottom, WIDTH, 1, "rgba(128,128,128,0.6)")]
    for series, (name, values) in enumerate(shares.items()):
        for i, share in enumerate(values):
            tall = (bottom - 20) * share / top
            x = i * step + 0.07 * step + series * bar
            tip = f"{name}, {_bin(plot, i)}: {share:.1%} ({plot.counts[name][i]:,})"
            if share:
                parts.append(_rect(x, bottom - tall, bar, tall, _colour(series), tip))
            if share and said:
                parts.append(_text(x + bar / 2, bottom - tall - 4, f"{share:.0%}", "middle"))
    if num_bins <= 24:
        parts += [_text((i + 0.5) * step, 194, _bin(plot, i), "middle") for i in range(num_bins)]
    else:
        shown = range(0, num_bins, num_bins // 8)
        parts += [_text(i * step, 194, f"{plot.edges[i]:.2g}") for i in shown]
    parts.append(_text(WIDTH / 2, foot - 4, f"{plot.x_label} (share of each series)", "middle"))
    legend, end = _legend(list(shares) if len(shares) > 1 else [], foot + 14)
    return _svg(end if legend else foot, plot.title, parts + legend)


def _bin(plot: Histogram, i: int) -> str:
    """What falls into a bin: whole numbers by name, others as a span."""
    first, after = plot.edges[i], plot.edges[i + 1]
    if all(float(edge).is_integer() for edge in plot.edges):
        last = int(after) - 1
        return f"{first:.0f}" if last == first else f"{first:.0f}\u2013{last}"
    return f"{first:.3g} to {after:.3g}"


def _bars(plot: Bars) -> str:
    left, row = 260.0, 20.0
    parts = []
    for i, (name, value) in enumerate(zip(plot.names, plot.values, strict=True)):
        y = i * row
        parts += [
            _text(left - 8, y + 14, _shorten(name, 38), "end"),
            _rect(left, y + 4, (WIDTH - left - 60) * value, 12, PALETTE[0], f"{name}: {value:.1%}"),
            _text(left + (WIDTH - left - 60) * value + 6, y + 14, f"{100 * value:.1f}"),
        ]
    return _svg(len(plot.names) * row + 4, plot.title, parts)


def _confusion(plot: Confusion) -> str:
    left, num_rows, num_columns = 300.0, len(plot.counts), len(plot.counts[0])
    cell = min(26.0, (WIDTH - left) / num_columns)
    heads = [
        str(j + 1) if j < num_rows else _shorten(plot.labels[j], 6) for j in range(num_columns)
    ]
    parts = [_text(left + (j + 0.5) * cell, 12, head, "middle") for j, head in enumerate(heads)]
    for i, counts in enumerate(plot.counts):
        y, total = 18 + i * cell, max(1, sum(counts))
        name = f"{i + 1}  {_shorten(plot.labels[i], 44)}"
        parts.append(_text(left - 8, y + cell / 2 + 4, name, "end"))
        for j, count in enumerate(counts):
            tip = f"{plot.labels[i]} \u2192 {plot.labels[j]}: {count:,} ({count / total:.1%})"
            colour = f"rgba(0,114,178,{0.06 + 0.94 * count / total:.3f})"
            parts.append(_rect(left + j * cell, y, cell - 1, cell - 1, colour, tip))
    return _svg(18 + len(plot.counts) * cell + 4, plot.title, parts)


def _timeline(plot: TimelinePlot) -> str:
    left, row = 80.0, 26.0
    names = list(dict.fromkeys(span[2] for track in plot.tracks for span in track.spans))
    scale = (WIDTH - left) / max(plot.duration, 1e-9)
    parts = []
    for i, track in enumerate(plot.tracks):
        y = i * row
        parts.append(_text(0, y + 16, track.name))
        parts.append(_rect(left, y + 4, WIDTH - left, row - 8, "rgba(128,128,128,0.15)"))
        for start, end, label in track.spans:
            tip = f"{label or track.name}: {start:.1f} to {end:.1f} s"
            end = min(end, plot.duration)
            x, width = left + start * scale, (end - start) * scale
            parts.append(_rect(x, y + 4, width, row - 8, _colour(names.index(label)), tip))
    foot = len(plot.tracks) * row + 12
    parts += [_text(left, foot, "0 s"), _text(WIDTH, foot, f"{plot.duration:.0f} s", "end")]
    legend, end = _legend([name for name in names if name], foot + 18)
    return _svg(end, plot.title, parts + legend)


def _colour(i: int) -> str:
    return PALETTE[i % len(PALETTE)]


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"
