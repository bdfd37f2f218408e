"""From finished runs to the table of variants and the list of comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from videoclip.ablation.intervals import (
    Interval,
    Sums,
    difference,
    error_reduction,
    quotient,
    ratio,
)
from videoclip.ablation.measure import MEASURES, Counts
from videoclip.ablation.runs import FinishedRun
from videoclip.ablation.variants import VARIANTS

OURS = "small"
DIFFERENCES = (
    ("overlap against strict alignment", "paper-shuffled", "paper-aligned", "R@1"),
    ("overlap against strict alignment", "paper-shuffled", "paper-aligned", "segment F1"),
    ("overlap against strict alignment", "paper-shuffled", "paper-aligned", "F1 in order"),
    ("overlap against strict alignment, ours", "small-no-lead", "small-aligned", "R@1"),
    ("overlap against strict alignment, ours", "small-no-lead", "small-aligned", "segment F1"),
    ("overlap and a lead against strict alignment", OURS, "small-aligned", "R@1"),
    ("overlap and a lead against strict alignment", OURS, "small-aligned", "segment F1"),
    ("retrieved batches against random ones", "paper", "paper-shuffled", "R@1"),
    ("mined batches against random ones", OURS, "small-shuffled", "R@1"),
    ("mined batches against random ones", OURS, "small-shuffled", "R@5"),
    ("mined batches against random ones", OURS, "small-shuffled", "segment F1"),
    ("batches mined by the finished model against by itself", "small-teacher", OURS, "R@1"),
    ("a lead of 3 s against none", OURS, "small-no-lead", "R@1"),
    ("short texts against long ones", OURS, "small-long-texts", "R@1"),
    ("two encoders against one", "paper", "paper-shared", "R@1"),
    ("ours against the paper's method", OURS, "paper", "R@1"),
    ("ours against the paper's method", OURS, "paper", "segment F1"),
    ("the re-ranker's order against the towers'", "small-reranked", "small-cross", "R@1"),
    ("training with a re-ranker against without", "small-cross", OURS, "R@1"),
)
"""(description, variant, other variant, measure)."""

BASELINE_MEASURES = {
    "segment F1": "segment F1",
    "F1 in order": "segment F1",
    "foreground accuracy": "foreground accuracy",
    "foreground in order": "foreground accuracy",
    "step recall": "step recall",
}
"""Measure of ours -> measure of the baselines, which know the order anyway."""


@dataclass(frozen=True)
class Cell:
    """A measure of a variant, and its difference from the variant it is compared with."""

    value: float
    difference: Interval | None


@dataclass(frozen=True)
class TableRow:
    """A variant on one world.

    Attributes:
        world: Name of the world.
        variant: Name of the variant.
        seeds: Seeds whose runs are finished.
        cpu_seconds: Mean processor time of a training.
        updates: Updates of a training.
        pairs: Clip pairs of a training.
        cells: By measure.
    """

    world: str
    variant: str
    seeds: tuple[int, ...]
    cpu_seconds: float
    updates: int
    pairs: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Comparison:
    """A statement about one world as a number with its interval.

    Attributes:
        world: Name of the world.
        statement: What is compared.
        effect: A difference of shares, a share or a ratio.
        num_seeds: How many seeds it is based on.
        reference: The effect if there is no difference.
    """

    world: str
    statement: str
    effect: Interval
    num_seeds: int
    reference: float = 0.0

    @property
    def verdict(self) -> Literal["higher", "lower", "unclear"]:
        """Whether the interval lies above or below the reference."""
        if self.effect.low > self.reference:
            return "higher"
        return "lower" if self.effect.high < self.reference else "unclear"


def make_table(runs: Iterable[FinishedRun]) -> list[TableRow]:
    """Return the table, worlds by name and variants in their own order."""
    by_variant: dict[tuple[str, str], dict[int, FinishedRun]] = {}
    for run in runs:
        by_variant.setdefault((run.world, run.variant), {})[run.seed] = run
    order = list(VARIANTS)
    table = []
    for world, variant in sorted(by_variant, key=lambda key: (key[0], order.index(key[1]))):
        own = by_variant[world, variant]
        other = by_variant.get((world, VARIANTS[variant].against), {})
        paired = sorted(own.keys() & other.keys())
        cells = {
            name: Cell(
                float(ratio(_stack(own, sorted(own), name).sum(axis=(0, 1)))),
                difference(_stack(own, paired, name), _stack(other, paired, name))
                if paired
                else None,
            )
            for name in MEASURES
        }
        seconds = float(np.mean([run.cpu_seconds for run in own.values()]))
        run = next(iter(own.values()))
        row = TableRow(world, variant, tuple(sorted(own)), seconds, run.updates, run.pairs, cells)
        table.append(row)
    return table


def _stack(runs: Mapping[int, FinishedRun], seeds: Sequence[int], name: str) -> Sums:
    return np.array([runs[seed].counts[name] for seed in seeds])


def compare(
    runs: Sequence[FinishedRun], baselines: Mapping[str, Mapping[str, Counts]]
) -> Iterator[Comparison]:
    """Yield every comparison whose runs are finished.

    Args:
        runs: All finished runs.
        baselines: By world and name, their counts.
    """
    for world in dict.fromkeys(run.world for run in runs):
        found: dict[str, dict[int, FinishedRun]] = {}
        for run in runs:
            if run.world == world:
                found.setdefault(run.variant, {})[run.seed] = run
        for description, variant, other, name in DIFFERENCES:
            ours, theirs = found.get(variant, {}), found.get(other, {})
            if seeds := sorted(ours.keys() & theirs.keys()):
                effect = difference(_stack(ours, seeds, name), _stack(theirs, seeds, name))
                statement = f"{name}: {description}, difference"
                yield Comparison(world, statement, effect, len(seeds))
        ours, theirs = found.get(OURS, {}), found.get("paper", {})
        if seeds := sorted(ours.keys() & theirs.keys()):
            effect = error_reduction(_stack(ours, seeds, "R@1"), _stack(theirs, seeds, "R@1"))
            statement = f"R@1: errors of `paper` that `{OURS}` does not make, share"
            yield Comparison(world, statement, effect, len(seeds))
        if ours:
            yield from _compare_ours(world, ours, baselines.get(world, {}))


def _compare_ours(
    world: str, ours: Mapping[int, FinishedRun], baselines: Mapping[str, Counts]
) -> Iterator[Comparison]:
    """Compare measures of our variant with each other, and with the baselines."""
    seeds = sorted(ours)

    def sums(name: str) -> Sums:
        return _stack(ours, seeds, name)

    effect = quotient(sums("R@1 held out"), sums("R@1 seen"))
    statement = "R@1: held-out combinations over seen ones, ratio"
    yield Comparison(world, statement, effect, len(seeds), reference=1.0)
    effect = difference(sums("direction"), sums("direction, order hidden"))
    statement = "direction: clips against their mean frames, difference"
    yield Comparison(world, statement, effect, len(seeds))
    for baseline, counts in baselines.items():
        for name, other in BASELINE_MEASURES.items():
            effect = difference(sums(name), counts[other])
            statement = f"{name}: `{OURS}` against {baseline}, difference"
            yield Comparison(world, statement, effect, len(seeds))


def table_markdown(table: Sequence[TableRow], measures: Sequence[str] = tuple(MEASURES)) -> str:
    """Return the table as Markdown, in percent, each difference under its value."""
    blocks = []
    for world in dict.fromkeys(row.world for row in table):
        head = ["variant", "compared with", "seeds", "CPU s", *measures]
        lines = [head, ["---"] * len(head)]
        for row in table:
            if row.world == world:
                variant = VARIANTS[row.variant]
                summary = f"`{row.variant}`: {variant.summary}"
                against = f"`{variant.against}`" if variant.against else ""
                cells = [_cell_markdown(row.cells[name]) for name in measures]
                seconds = f"{row.cpu_seconds:.0f}"
                lines.append([summary, against, str(len(row.seeds)), seconds, *cells])
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        blocks.append(f"World `{world}`\n\n{body}\n")
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
    lines = [
        "| world | comparison | % | 95 % interval | seeds | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for item in comparisons:
        value, low, high = _percent(item.effect)
        lines.append(
            f"| `{item.world}` | {item.statement} | {value:.1f} | {low:.1f} .. {high:.1f} "
            f"| {item.num_seeds} | {item.verdict} |"
        )
    return "\n".join(lines) + "\n"


def _percent(interval: Interval) -> tuple[float, float, float]:
    return 100 * interval.value, 100 * interval.low, 100 * interval.high
