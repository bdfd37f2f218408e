"""The demo's story as one self-contained HTML page: moments, loss curves, numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from videoclip.demo.story import MEASURES, Found, Story, Training
from videoclip.zeroshot.results import Moment, clock

__all__ = ["render"]

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 860px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin: 2em 0 .4em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25em 1em .25em 0; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
.moments { display: flex; gap: 10px; flex-wrap: wrap }
figure { margin: 0; width: 200px; font-size: 12px }
figure img { width: 100%; height: 120px; object-fit: contain; background: #8882 }
.high { color: #009e73 } .medium { color: #0072b2 } .low, .none { color: #888 }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: currentColor }
"""
COLOURS = ("#0072b2", "#e69f00")
WIDTH, HEIGHT, MARGIN = 820, 240, 40


def render(story: Story) -> str:
    """Return the page."""
    stages = "".join(
        f"<li>{escape(stage.sentence)} <small>({stage.seconds:.1f} s)</small></li>"
        for stage in story.stages
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>videoclip demo</title><style>{STYLE}</style><h1>videoclip: the whole story</h1>"
        f"<ol>{stages}</ol>"
        "<h2>What training changed</h2>"
        "<p>Each sentence about a held-out video looks for its own stretch of video among "
        f"{story.num_candidates}. Nobody labelled anything: the model saw videos and heard what "
        "was said in them.</p>"
        f"{_table(story)}"
        f"<h2>Loss by update</h2>{_curves(story.trainings)}"
        f"<h2>Five searches</h2>{''.join(map(_found, story.searches))}</html>\n"
    )


def _table(story: Story) -> str:
    """Measures by row; before training, after each of the trainings, and by chance."""
    overlap, aligned = story.trainings
    columns = {
        "before training": overlap.result.before,
        "after, strict alignment": aligned.result.after,
        "after, overlap": overlap.result.after,
    }
    head = "".join(f"<th>{name}</th>" for name in ("", *columns))
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{_shown(name, column[name])}</td>" for column in columns.values())
        + "</tr>"
        for name in MEASURES
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _shown(name: str, value: float) -> str:
    return f"{value:.0f}" if name.endswith("MedR") else f"{100 * value:.1f} %"


def _curves(trainings: Sequence[Training]) -> str:
    """Loss curves of all trainings on common axes."""
    highest = max(max(t.losses) for t in trainings)
    longest = max(len(t.losses) for t in trainings)
    parts = []
    for training, colour in zip(trainings, COLOURS, strict=True):
        points = " ".join(
            f"{MARGIN + (WIDTH - MARGIN) * i / max(longest - 1, 1):.1f},"
            f"{(HEIGHT - MARGIN) * (1 - loss / highest) + 10:.1f}"
            for i, loss in enumerate(training.losses)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
    for i, (training, colour) in enumerate(zip(trainings, COLOURS, strict=True)):
        y = 24 + 16 * i
        parts.append(
            f'<rect x="{WIDTH - 130}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
        )
        parts.append(f'<text x="{WIDTH - 114}" y="{y}">{escape(training.name)}</text>')
    bottom = HEIGHT - MARGIN + 10
    parts += [
        f'<line x1="{MARGIN}" y1="{bottom}" x2="{WIDTH}" y2="{bottom}" stroke="#8888"/>',
        f'<text x="{MARGIN}" y="{bottom + 16}">0</text>',
        f'<text x="{WIDTH}" y="{bottom + 16}" text-anchor="end">{longest} updates</text>',
        f'<text x="{MARGIN - 6}" y="20" text-anchor="end">{highest:.1f}</text>',
        f'<text x="{MARGIN - 6}" y="{bottom}" text-anchor="end">0</text>',
    ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _found(found: Found) -> str:
    figures = "".join(map(_figure, found.moments, found.thumbnails))
    nothing = (
        ""
        if any(m.confidence != "none" for m in found.moments)
        else ("<p>Nothing here looks like that; the nearest are:</p>")
    )
    return f'<h3>“{escape(found.query)}”</h3>{nothing}<div class="moments">{figures}</div>'


def _figure(moment: Moment, thumbnail: Path) -> str:
    data = base64.b64encode(thumbnail.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="">'
        f'<figcaption><b class="{moment.confidence}">{moment.confidence}</b> '
        f"{escape(moment.path.name)}, {clock(moment.start)}-{clock(moment.end)}"
        f"</figcaption></figure>"
    )
