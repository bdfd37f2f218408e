"""One self-contained HTML page for an evaluation: the numbers, what they depend on, the plots."""

from __future__ import annotations

import csv
import io
import os
from html import escape
from pathlib import Path

from videoclip.errors import DataError
from videoclip.evaluation.charts import draw
from videoclip.evaluation.outcome import Outcome
from videoclip.evaluation.result import Result

__all__ = ["render_report", "write_report", "write_rows"]

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.4em } h2 { font-size: 1.05em; margin: 2em 0 .4em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .25em .8em .25em 0; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left } td { white-space: nowrap }
.note { color: #777; font-size: 13px }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: currentColor }
"""


def render_report(result: Result) -> str:
    """Return the page."""
    outcome = result.outcome
    head, *rows = result.table()
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    plots = "".join(f"<h2>{escape(plot.title)}</h2>{draw(plot)}" for plot in outcome.plots)
    missing = "".join(f"<li>{escape(m.video_id)}: {escape(m.reason)}</li>" for m in outcome.missing)
    listed = f"<details><summary>Videos left out</summary><ul>{missing}</ul></details>"
    notes = "".join(f"<br>{escape(note)}" for note in result.notes())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(result.benchmark)}</title><style>{STYLE}</style>"
        f"<h1>{escape(result.benchmark)}: {escape(outcome.protocol)}</h1>"
        f'<p class="note">{escape(result.summary())}</p>'
        f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
        f'<p class="note">Shares are percentages; intervals hold 95 % of bootstrap resamples of '
        f"the test videos.{notes}</p>"
        f"{listed if missing else ''}{plots}</html>\n"
    )


def write_report(result: Result, path: Path) -> None:
    """Write the page.

    Raises:
        DataError: If the file cannot be written.
    """
    _write(path, render_report(result))


def write_rows(outcome: Outcome, path: Path) -> None:
    """Write what is known of each example or video as CSV.

    Raises:
        DataError: If the file cannot be written.
    """
    text = io.StringIO()
    if outcome.rows:
        writer = csv.DictWriter(text, list(outcome.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(outcome.rows)
    _write(path, text.getvalue())


def _write(path: Path, text: str) -> None:
    aside = path.with_name(path.name + ".partial")
    try:
        with aside.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", path) from error
