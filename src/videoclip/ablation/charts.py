"""Figures of an ablation: differences with their intervals, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from videoclip.ablation.rows import ROWS
from videoclip.ablation.run import Finished
from videoclip.ablation.table import Line
from videoclip.output.figures import GREY, PALETTE, annotate, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "draw_differences"]

DRAWN_MEASURES = ("R@1", "segment F1", "step recall")


@style()
def draw_differences(table: Sequence[Line]) -> Figure:
    """Draw a panel for each measure and a row for each comparison, in points, with intervals.

    Differences whose interval excludes zero are blue, the others grey.
    """
    lines = [line for line in table if any(c.difference for c in line.cells.values())]
    figure = new_figure(970, 70 + 22 * len(lines))
    panels = figure.subplots(1, len(DRAWN_MEASURES), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, DRAWN_MEASURES, strict=True):
        axes.set_title(name, fontsize=12)
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        for row, line in enumerate(lines):
            if (difference := line.cells[name].difference) is None:
                continue
            value, low, high = (
                100 * x for x in (difference.value, difference.low, difference.high)
            )
            colour = PALETTE[0] if difference.is_clear else GREY
            axes.plot((low, high), (row, row), color=colour, linewidth=2)
            (point,) = axes.plot(value, row, "o", color=colour)
            annotate(point, f"{name}: {value:+.1f} ({low:+.1f} to {high:+.1f})")
        reach = max(map(abs, axes.get_xlim()))
        axes.set_xlim(-reach, reach)
    names = [f"{line.row} against {ROWS[line.row].against}, world {line.world}" for line in lines]
    panels[0].set_yticks(range(len(lines)), names)
    panels[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure


@style()
def draw_curves(runs: Sequence[Finished], world: str) -> Figure:
    """Draw the loss of each row of a world over its updates, averaged over seeds.

    Only rows that are trained with the paper's loss: others are on other scales.
    """
    curves: dict[str, list[tuple[tuple[int, float], ...]]] = {}
    for run in runs:
        row = ROWS[run.row]
        if run.world == world and row.make().loss.kind == "infonce" and not row.trained_as:
            curves.setdefault(run.row, []).append(run.curve)
    figure = new_figure(760, 320)
    axes = figure.subplots()
    for name, found in curves.items():
        updates, losses = np.mean([c for c in found if len(c) == len(found[0])], axis=0).T
        (line,) = axes.plot(updates, losses, linewidth=1.5, label=f"{name}: {losses[-1]:.2f}")
        annotate(line, name)
    axes.set(xlabel="updates", ylabel="loss", ylim=(0, None))
    if curves:
        figure.legend(loc="outside right upper")
    return figure
