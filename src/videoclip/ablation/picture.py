"""The table as a picture: what each difference does to each measure, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from videoclip.ablation.rows import ROWS
from videoclip.ablation.table import Line

__all__ = ["PICTURED", "draw"]

PICTURED = ("R@1", "segment F1", "step recall")
LEFT, PANEL, GAP, ROW, TOP = 330, 190, 24, 22, 46
CLEAR, UNCLEAR = "#0072b2", "#8a8a8a"


def draw(table: Sequence[Line]) -> str:
    """Return an SVG picture: a line an ablation, a panel a measure, zero in the middle of each."""
    shown = [line for line in table if any(c.difference for c in line.cells.values())]
    parts: list[str] = []
    for place, name in enumerate(PICTURED):
        parts += _panel(shown, name, LEFT + place * (PANEL + GAP))
    for i, line in enumerate(shown):
        text = f"{line.row} against {ROWS[line.row].against}, world {line.world}"
        parts.append(_text(LEFT - 10, _y(i) + 4, text, "end"))
    width = LEFT + len(PICTURED) * (PANEL + GAP)
    height = TOP + len(shown) * ROW + 12
    style = (
        "text{font:12px system-ui,sans-serif;fill:#333}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    title = "Differences between rows of the ablation, in points, with 95 % intervals"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{title}"><style>{style}</style>{"".join(parts)}</svg>\n'
    )


def _panel(table: Sequence[Line], name: str, left: float) -> list[str]:
    found = [line.cells[name].difference for line in table]
    reach = max((max(abs(d.low), abs(d.high)) for d in found if d), default=0.0) or 0.01
    middle, scale = left + PANEL / 2, PANEL / 2 / reach
    parts = [
        _text(middle, 14, name, "middle"),
        _text(left, 32, f"{-100 * reach:.0f}", "start"),
        _text(middle, 32, "0", "middle"),
        _text(left + PANEL, 32, f"{100 * reach:+.0f}", "end"),
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{TOP - 6}" '
        f'y2="{_y(len(table) - 1) + 10:.1f}" stroke="#999" stroke-dasharray="2 3"/>',
    ]
    for i, difference in enumerate(found):
        if difference is None:
            continue
        colour = CLEAR if difference.is_clear else UNCLEAR
        low, value, high = (
            middle + scale * x for x in (difference.low, difference.value, difference.high)
        )
        tip = (
            f"{name}: {100 * difference.value:+.1f} "
            f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
        )
        parts.append(
            f"<g><title>{escape(tip)}</title>"
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{_y(i):.1f}" y2="{_y(i):.1f}" '
            f'stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{value:.1f}" cy="{_y(i):.1f}" r="4" fill="{colour}"/></g>'
        )
    return parts


def _y(row: int) -> float:
    return TOP + (row + 0.5) * ROW


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
