"""An evaluation as a page: numbers, settings, videos left out, plots; and its rows as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from videoclip.evaluation.charts import draw
from videoclip.evaluation.outcome import Outcome
from videoclip.evaluation.result import Result
from videoclip.files import write_output
from videoclip.output.figures import to_svg
from videoclip.output.html import render


def render_report(result: Result) -> str:
    """Return the page."""
    head, *rows = result.table()
    plots = [(plot.title, to_svg(draw(plot), plot.title)) for plot in result.outcome.plots]
    return render("evaluation.html", result=result, head=head, rows=rows, plots=plots)


def write_report(result: Result, path: Path) -> None:
    """Write the page.

    Raises:
        DataError: If the file cannot be written.
    """
    write_output(path, render_report(result))


def write_rows(outcome: Outcome, path: Path) -> None:
    """Write the results of each example or video as CSV.

    Raises:
        DataError: If the file cannot be written.
    """
    text = io.StringIO()
    if outcome.rows:
        writer = csv.DictWriter(text, list(outcome.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(outcome.rows)
    write_output(path, text.getvalue())
