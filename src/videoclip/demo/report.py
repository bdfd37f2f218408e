"""The results of the demo as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from videoclip.demo.run import MEASURES, DemoReport, DemoRun
from videoclip.output.figures import new_figure, style, to_svg
from videoclip.output.html import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render_report(report: DemoReport) -> str:
    """Return the page."""
    overlap, aligned = report.runs
    columns = {
        "": {name: name for name in MEASURES},
        "before training": _to_text(overlap.result.before),
        "after, strict alignment": _to_text(aligned.result.after),
        "after, overlap": _to_text(overlap.result.after),
    }
    rows = [[column[name] for column in columns.values()] for name in MEASURES]
    curves = to_svg(_draw_curves(report.runs), "Training loss by update")
    return render("demo.html", report=report, columns=columns, rows=rows, curves=curves)


def _to_text(measures: Mapping[str, float]) -> dict[str, str]:
    """Ranks as whole numbers, shares as percentages."""
    return {
        name: f"{value:.0f}" if name.endswith("MedR") else f"{100 * value:.1f} %"
        for name, value in measures.items()
    }


@style()
def _draw_curves(runs: Sequence[DemoRun]) -> Figure:
    figure = new_figure(820, 260)
    axes = figure.subplots()
    for run in runs:
        axes.plot(run.losses, label=run.name, linewidth=1.2)
    axes.set(xlabel="updates", ylabel="loss", ylim=(0, None))
    axes.legend()
    return figure
