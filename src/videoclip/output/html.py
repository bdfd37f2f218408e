"""A timeline as a page with the video: a click on a span, a still or a row plays from there."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

from videoclip.output.drawing import Picture, to_svg
from videoclip.zeroshot.results import Timeline, clock

__all__ = ["to_html"]

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 1200px; margin: 0 auto; padding: 1rem }
video { display: block; width: 100%; max-height: 55vh; background: #000; border-radius: 6px }
svg { display: block; width: 100%; height: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left }
th { font-weight: normal; color: #777 }
tr.plays:hover, tr.now { background: #f4f5f7 }
.plays { cursor: pointer }
"""
SCRIPT = """
const video = document.querySelector("video");
const rows = [...document.querySelectorAll("tr.plays")];
for (const part of document.querySelectorAll(".plays"))
  part.addEventListener("click", () => {
    video.currentTime = part.dataset.start;
    video.play();
  });
video.addEventListener("timeupdate", () => {
  for (const row of rows)
    row.classList.toggle(
      "now", row.dataset.start <= video.currentTime && video.currentTime < row.dataset.end);
});
"""


def to_html(timeline: Timeline, picture: Picture, page: Path | None = None) -> str:
    """Write the page; it needs no other file but the video.

    Args:
        timeline: What was found.
        picture: Its picture.
        page: Where the page will lie, so that the video is linked relative to it if it lies in the
            same folder or below; by its full address otherwise.
    """
    video = timeline.path.absolute()
    address = video.as_uri()
    if page is not None and video.is_relative_to(page.absolute().parent):
        address = quote(video.relative_to(page.absolute().parent).as_posix())
    rows = "\n".join(
        f'<tr class="plays" data-start="{moment.start:.3f}" data-end="{moment.end:.3f}">'
        f"<td>{clock(moment.start)}</td><td>{clock(moment.end)}</td>"
        f"<td>{html.escape(moment.label)}</td><td>{moment.confidence}</td></tr>"
        for moment in timeline.moments
    )
    missing = html.escape(", ".join(timeline.missing))
    note = f"<p>Not found: {missing}.</p>" if missing else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(timeline.path.name)}</title>
<style>{STYLE}</style>
</head>
<body>
<video controls preload="metadata" src="{html.escape(address)}"></video>
{to_svg(picture)}
<table>
<tr><th>from</th><th>to</th><th>what</th><th>confidence</th></tr>
{rows}
</table>
{note}
<script>{SCRIPT}</script>
</body>
</html>
"""
