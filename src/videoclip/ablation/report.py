"""The results of an ablation as files: Markdown, JSON and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videoclip.ablation.measure import MEASURES, measure_baselines
from videoclip.ablation.runs import FinishedRun, read_runs
from videoclip.ablation.table import Cell, Comparison, Interval, TableRow, compare, make_table
from videoclip.ablation.testbed import TestBed
from videoclip.ablation.variants import VARIANTS
from videoclip.errors import ConfigError
from videoclip.files import write_json, write_text
from videoclip.output.figures import GREY, PALETTE, annotate, new_figure, style, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_MEASURES = ("R@1", "segment F1", "step recall")


def write_report(out: Path) -> list[TableRow]:
    """Write the results of every finished run, and return the table.

    `table.md` has the table and the comparisons, `table.json` the table for programs, `table.svg`
    the differences as a figure, `curves-WORLD.svg` the losses.

    Raises:
        ConfigError: If no run is finished.
    """
    runs = read_runs(out)
    table = make_table(runs)
    if not table:
        raise ConfigError(f"{out}: no run is finished; there is nothing to compare")
    worlds = list(dict.fromkeys(run.world for run in runs))
    baselines = {
        world: measure_baselines(TestBed.open(out / "worlds" / world))
        for world in worlds
        if (out / "worlds" / world).is_dir()
    }
    comparisons = list(compare(runs, baselines))
    write_text(out / "table.md", f"{table_markdown(table)}\n{comparisons_markdown(comparisons)}")
    write_json(out / "table.json", [asdict(row) for row in table])
    title = "Differences between variants, in points, with 95 % intervals"
    write_text(out / "table.svg", to_svg(draw_differences(table), title))
    for world in worlds:
        title = f"Training loss by update, world {world}"
        write_text(out / f"curves-{world}.svg", to_svg(draw_curves(runs, world), title))
    return table


def table_markdown(table: Sequence[TableRow]) -> str:
    """Return the table as Markdown, in percent, each difference under its value."""
    blocks = []
    for world in dict.fromkeys(row.world for row in table):
        rows = [["variant", "compared with", "seeds", "CPU s", *MEASURES]]
        for row in table:
            if row.world == world:
                variant = VARIANTS[row.variant]
                rows.append(
                    [
                        f"`{row.variant}`: {variant.summary}",
                        f"`{variant.against}`" if variant.against else "",
                        str(len(row.seeds)),
                        f"{row.cpu_seconds:.0f}",
                        *(_cell_markdown(row.cells[name]) for name in MEASURES),
                    ]
                )
        blocks.append(f"World `{world}`\n\n{_markdown(rows)}")
    return "\n".join(blocks)


def _cell_markdown(cell: Cell) -> str:
    text = f"{100 * cell.value:.1f}"
    if cell.difference is None:
        return text
    value, low, high = _percent(cell.difference)
    mark = "**" if cell.difference.is_significant else ""
    return f"{text}<br>{mark}{value:+.1f}{mark} ({low:+.1f} .. {high:+.1f})"


def comparisons_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return comparisons as a Markdown table, in percent."""
    rows = [["world", "comparison", "%", "95 % interval", "seeds", "verdict"]]
    for item in comparisons:
        value, low, high = _percent(item.effect)
        numbers = (f"{value:.1f}", f"{low:.1f} .. {high:.1f}", str(item.num_seeds))
        rows.append([f"`{item.world}`", item.statement, *numbers, item.verdict])
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _percent(interval: Interval) -> list[float]:
    """Value, low and high end in percent."""
    return [100 * number for number in astuple(interval)]


@style()
def draw_differences(table: Sequence[TableRow]) -> Figure:
    """Draw a panel for each measure and a row for each variant, in points, with intervals.

    Differences whose interval excludes zero are blue, the others grey.
    """
    rows = [row for row in table if any(c.difference for c in row.cells.values())]
    figure = new_figure(970, 70 + 22 * len(rows))
    panels = figure.subplots(1, len(DRAWN_MEASURES), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, DRAWN_MEASURES, strict=True):
        axes.set_title(name, fontsize=12)
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        for y, row in enumerate(rows):
            if (difference := row.cells[name].difference) is None:
                continue
            value, low, high = _percent(difference)
            colour = PALETTE[0] if difference.is_significant else GREY
            axes.plot((low, high), (y, y), color=colour, linewidth=2)
            (point,) = axes.plot(value, y, "o", color=colour)
            annotate(point, f"{name}: {value:+.1f} ({low:+.1f} to {high:+.1f})")
        reach = max(map(abs, axes.get_xlim()))
        axes.set_xlim(-reach, reach)
    names = [
        f"{row.variant} against {VARIANTS[row.variant].against}, world {row.world}" for row in rows
    ]
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


@style()
def draw_curves(runs: Sequence[FinishedRun], world: str) -> Figure:
    """Draw the loss of each variant on a world over its updates, averaged over seeds.

    Only variants with the paper's loss, since others are on other scales.
    """
    curves: dict[str, list[tuple[tuple[int, float], ...]]] = {}
    for run in runs:
        variant = VARIANTS[run.variant]
        is_comparable = variant.config.loss.kind == "infonce" and not variant.trained_as
        if run.world == world and is_comparable:
            curves.setdefault(run.variant, []).append(run.curve)
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
