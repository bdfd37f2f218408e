"""Learning curves: the loss of each row over its updates, averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from videoclip.ablation.rows import ROWS
from videoclip.ablation.run import Finished
from videoclip.evaluation.charts import PALETTE

__all__ = ["draw_curves"]

WIDTH, HEIGHT, LEFT, BOTTOM, LEGEND = 760, 320, 40, 290, 210


def draw_curves(runs: Sequence[Finished], world: str) -> str:
    """Return an SVG picture of the rows of a world that share the paper's loss.

    Losses of other kinds are on other scales and left out.
    """
    curves: dict[str, list[tuple[tuple[int, float], ...]]] = {}
    for run in runs:
        if run.world == world and ROWS[run.row].make().loss.kind == "infonce":
            curves.setdefault(run.row, []).append(run.curve)
    means = {
        row: np.mean([curve for curve in found if len(curve) == len(found[0])], axis=0)
        for row, found in curves.items()
        if not ROWS[row].trained_as
    }  # each (points, 2)
    last = max((curve[-1, 0] for curve in means.values()), default=1)
    top = max((curve[:, 1].max() for curve in means.values()), default=1)
    parts = [
        _text(LEFT - 6, 16, f"{top:.1f}", "end"),
        _text(LEFT - 6, BOTTOM, "0", "end"),
        _text(WIDTH - LEGEND, BOTTOM + 16, f"{last:.0f} updates", "end"),
        _text(LEFT, 10, "loss", "start"),
    ]
    for i, (row, curve) in enumerate(means.items()):
        colour = PALETTE[i % len(PALETTE)]
        x = LEFT + curve[:, 0] / last * (WIDTH - LEGEND - LEFT)
        y = BOTTOM - curve[:, 1] / top * (BOTTOM - 16)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5">'
            f"<title>{escape(row)}</title></polyline>",
            f'<rect x="{WIDTH - LEGEND + 14}" y="{20 + 18 * i}" width="10" height="10" '
            f'fill="{colour}"/>',
            _text(WIDTH - LEGEND + 30, 29 + 18 * i, f"{row}: {curve[-1, 1]:.2f}", "start"),
        ]
    style = (
        "text{font:12px system-ui,sans-serif;fill:#333}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Loss over updates, world {escape(world)}"><style>{style}</style>'
        f"{''.join(parts)}</svg>\n"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
