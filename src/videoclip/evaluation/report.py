"""An evaluation as a page: numbers, settings, videos left out, plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from videoclip.evaluation.outcome import (
    Bars,
    Confusion,
    Histogram,
    Plot,
    Result,
    TimelinePlot,
)
from videoclip.output.figures import PALETTE, annotate, new_figure, style, to_svg
from videoclip.output.html import render
from videoclip.zeroshot.moments import cut_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 720
MAX_NAMED_BINS = 24
"""There is no room for the names of more."""


def render_report(result: Result) -> str:
    """Return the page."""
    plots = [(plot.title, to_svg(draw(plot), plot.title)) for plot in result.outcome.plots]
    return render("evaluation.html", result=result, plots=plots)


@style()
def draw(plot: Plot) -> Figure:
    """Draw a plot."""
    match plot:
        case Histogram():
            return _histogram(plot)
        case Bars():
            return _bars(plot)
        case Confusion():
            return _confusion(plot)
        case TimelinePlot():
            return _timeline(plot)


def _add_legend(axes: Axes, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Add a legend below the plot."""
    labels = [cut_text(name, 40) for name in names]
    axes.figure.legend(handles, labels, loc="outside lower left", ncols=3)


def _histogram(plot: Histogram) -> Figure:
    """Bars side by side for each series, as shares of it."""
    num_bins = len(plot.edges) - 1
    names_fit = num_bins <= MAX_NAMED_BINS
    figure = new_figure(WIDTH, 230 + 18 * (len(plot.counts) > 1))
    axes = figure.subplots()
    width = 0.86 / len(plot.counts)
    for series, (name, counts) in enumerate(plot.counts.items()):
        shares = [count / max(1, sum(counts)) for count in counts]
        first = -0.43 + width / 2 + series * width
        bars = axes.bar([i + first for i in range(num_bins)], shares, width)
        for i, (bar, share) in enumerate(zip(bars, shares, strict=True)):
            annotate(bar, f"{name}, {_bin_name(plot, i)}: {share:.1%} ({counts[i]:,})")
        if names_fit and len(plot.counts) == 1:
            labels = [f"{share:.0%}" if share else "" for share in shares]
            axes.bar_label(bars, labels, padding=2)
    if names_fit:
        axes.set_xticks(range(num_bins), [_bin_name(plot, i) for i in range(num_bins)])
    else:
        ticks = range(0, num_bins, num_bins // 8)
        axes.set_xticks([i - 0.5 for i in ticks], [f"{plot.edges[i]:.2g}" for i in ticks])
    axes.set(xlabel=f"{plot.x_label} (share of each series)", xlim=(-0.5, num_bins - 0.5))
    axes.set(yticks=[])
    if len(plot.counts) > 1:
        _add_legend(axes, axes.containers, list(plot.counts))
    return figure


def _bin_name(plot: Histogram, i: int) -> str:
    """The values in a bin: whole numbers by name, others as an interval."""
    first, after = plot.edges[i], plot.edges[i + 1]
    if all(float(edge).is_integer() for edge in plot.edges):
        last = int(after) - 1
        return f"{first:.0f}" if last == first else f"{first:.0f}\u2013{last}"
    return f"{first:.3g} to {after:.3g}"


def _bars(plot: Bars) -> Figure:
    figure = new_figure(WIDTH, 16 + 20 * len(plot.names))
    axes = figure.subplots()
    rows = axes.barh(range(len(plot.names)), plot.values, 0.6)
    for bar, name, value in zip(rows, plot.names, plot.values, strict=True):
        annotate(bar, f"{name}: {value:.1%}")
    axes.bar_label(rows, [f"{100 * value:.1f}" for value in plot.values], padding=4)
    axes.set_yticks(range(len(plot.names)), [cut_text(name, 38) for name in plot.names])
    axes.set(xlim=(0, 1.08), ylim=(len(plot.names) - 0.5, -0.5))
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    return figure


def _confusion(plot: Confusion) -> Figure:
    """A cell for each pair of labels, darker where a larger share of its row is in it."""
    from matplotlib.patches import Rectangle

    num_rows, num_columns = len(plot.counts), len(plot.counts[0])
    cell = min(26.0, (WIDTH - 300) / num_columns)
    figure = new_figure(WIDTH, 30 + cell * num_rows)
    axes = figure.subplots()
    for i, counts in enumerate(plot.counts):
        total = max(1, sum(counts))
        for j, count in enumerate(counts):
            colour = (*(channel / 255 for channel in (0, 114, 178)), 0.06 + 0.94 * count / total)
            square = axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=colour, lw=0))
            tooltip = f"{plot.labels[i]} \u2192 {plot.labels[j]}: {count:,} ({count / total:.1%})"
            annotate(square, tooltip)
    heads = [
        str(j + 1) if j < num_rows else cut_text(plot.labels[j], 6) for j in range(num_columns)
    ]
    axes.set_xticks(range(num_columns), heads)
    names = [f"{i + 1}  {cut_text(plot.labels[i], 44)}" for i in range(num_rows)]
    axes.set_yticks(range(num_rows), names)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    axes.set(xlim=(-0.5, num_columns - 0.5), ylim=(num_rows - 0.5, -0.5), aspect="equal")
    axes.set_anchor("W")
    return figure


def _timeline(plot: TimelinePlot) -> Figure:
    """A row for the true and for the predicted spans, and a colour for each label."""
    tracks = {"true": plot.true, "predicted": plot.predicted}
    labels = list(dict.fromkeys(span[2] for span in (*plot.true, *plot.predicted)))
    named = [label for label in labels if label]
    figure = new_figure(WIDTH, 26 * len(tracks) + 30 + 18 * -(-len(named) // 3))
    axes = figure.subplots()
    handles = {}
    for row, (name, spans) in enumerate(tracks.items()):
        axes.barh(row, plot.duration, 0.7, color="#eeeeee")
        for start, end, label in spans:
            colour = PALETTE[labels.index(label) % len(PALETTE)]
            length = min(end, plot.duration) - start
            bars = axes.barh(row, length, 0.7, left=start, color=colour)
            annotate(bars[0], f"{label or name}: {start:.1f} to {end:.1f} s")
            handles[label] = bars
    axes.set_yticks(range(len(tracks)), list(tracks))
    axes.set_xticks([0, plot.duration], ["0 s", f"{plot.duration:.0f} s"])
    axes.set(xlim=(0, plot.duration), ylim=(len(tracks) - 0.5, -0.5))
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    _add_legend(axes, [handles[label] for label in named], named)
    return figure
