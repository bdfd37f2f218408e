"""Timelines as pictures: an SVG, and a page with the video whose spans can be clicked."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

from videoclip.library.results import LabelledSpan, Timeline, clock

__all__ = ["to_html", "to_svg"]

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee9944")
"""Told apart by colour-blind eyes too. Source: Paul Tol's bright scheme."""
OPACITIES = {"none": 0.35, "low": 0.5, "medium": 0.75, "high": 1.0}
WIDTH, ROW, LEFT, TOP = 960, 28, 220, 16
NICE_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
MOST_TICKS = 12


def to_svg(timeline: Timeline) -> str:
    """Draw a row for each label and a box for each span, paler where less sure."""
    height = TOP + ROW * len(timeline.labels) + 28
    scale = (WIDTH - LEFT - 16) / timeline.duration
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{html.escape(timeline.path.name)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    bottom = TOP + ROW * len(timeline.labels)
    for second in _ticks(timeline.duration):
        x = LEFT + second * scale
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#e4e4e4"/>'
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555555">'
            f"{clock(second).removesuffix('.0')}</text>"
        )
    for row, label in enumerate(timeline.labels):
        y = TOP + ROW * row
        name = label if len(label) <= 30 else label[:29] + "…"
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 19}" text-anchor="end">{html.escape(name)}</text>'
        )
        parts += [
            _box(span, LEFT + span.start * scale, y, (span.end - span.start) * scale, row)
            for span in timeline.spans
            if span.label == label
        ]
    return "\n".join([*parts, "</svg>\n"])


def _box(span: LabelledSpan, x: float, y: float, width: float, row: int) -> str:
    tip = f"{span.label}, {clock(span.start)}-{clock(span.end)}, {span.confidence}"
    return (
        f'<rect class="span" data-start="{span.start:.3f}" x="{x:.1f}" y="{y + 4}" '
        f'width="{max(width, 1.5):.1f}" height="{ROW - 8}" rx="3" '
        f'fill="{COLOURS[row % len(COLOURS)]}" fill-opacity="{OPACITIES[span.confidence]}">'
        f"<title>{html.escape(tip)}</title></rect>"
    )


def _ticks(duration: float) -> list[int]:
    """Round seconds, at most a dozen."""
    step = next((s for s in NICE_STEPS if duration / s <= MOST_TICKS), NICE_STEPS[-1])
    while duration / step > MOST_TICKS:
        step *= 2
    return list(range(0, int(duration) + 1, step))


def to_html(timeline: Timeline, page: Path | None = None) -> str:
    """A page with the video above its timeline; a click on a span plays it.

    Args:
        timeline: What to show.
        page: Where the page will lie, so that the video is linked relative to it if it lies in the
            same folder or below; by its full address otherwise.
    """
    video = timeline.path.absolute()
    address = video.as_uri()
    if page is not None and video.is_relative_to(page.absolute().parent):
        address = quote(video.relative_to(page.absolute().parent).as_posix())
    rows = "\n".join(
        f'<tr class="span" data-start="{span.start:.3f}"><td>{clock(span.start)}</td>'
        f"<td>{clock(span.end)}</td><td>{html.escape(span.label)}</td><td>{span.confidence}</td></tr>"
        for span in timeline.spans
    )
    missing = ", ".join(timeline.missing)
    note = f"<p>Not found: {html.escape(missing)}.</p>" if missing else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(timeline.path.name)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
video, svg {{ width: 100%; max-height: 60vh }}
table {{ border-collapse: collapse; width: 100% }}
td {{ padding: .2rem .6rem; border-bottom: 1px solid #e4e4e4 }}
.span {{ cursor: pointer }}
</style>
</head>
<body>
<h1>{html.escape(timeline.path.name)}</h1>
<video controls preload="metadata" src="{html.escape(address)}"></video>
{to_svg(timeline)}
<table>
{rows}
</table>
{note}
<p>A second can belong to a label from {timeline.threshold:g} deviations above unrelated texts.</p>
<script>
const video = document.querySelector("video");
for (const span of document.querySelectorAll(".span"))
  span.addEventListener("click", () => {{ video.currentTime = span.dataset.start; video.play(); }});
</script>
</body>
</html>
"""
