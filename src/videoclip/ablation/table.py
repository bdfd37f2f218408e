"""From finished runs to the table of variants and the list of comparisons, written as files.

Differences have paired bootstrap intervals over seeds and test videos.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from videoclip.ablation.measure import MEASURES, Counts, measure_baselines, ratio
from videoclip.ablation.runs import VARIANTS, FinishedRun, read_runs
from videoclip.ablation.testbed import TestBed
from videoclip.errors import ConfigError
from videoclip.files import write_checksums, write_json, write_text
from videoclip.output.figures import GREY, PALETTE, annotate, draw_losses, new_figure, style, to_svg
from videoclip.types import RealArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NUM_RESAMPLES = 2000
DRAWN_MEASURES = ("R@1", "segment F1", "step recall")

Sums: TypeAlias = RealArray
"""(S, V, 2) numerators and denominators of one measure by seed and test video."""
Effect: TypeAlias = Callable[[RealArray, RealArray], RealArray]
"""From our ratios and another model's to how much higher ours are."""
Runs: TypeAlias = Mapping[int, FinishedRun]
"""The runs of a variant on one world, by seed."""


def error_reduction(ours: RealArray, theirs: RealArray) -> RealArray:
    """Return which share of another model's errors is gone."""
    return np.asarray((ours - theirs) / (1 - theirs))


EFFECTS: dict[str, Effect] = {
    "difference": operator.sub,
    "share": error_reduction,
    "ratio": operator.truediv,
}
OURS = "small"
ERRORS_GONE = "errors of `{other}` that `{variant}` does not make"
COMPARISONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "difference": (
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
        ("a learned lead against one of 3 s", "small-learned-lead", OURS, "R@1"),
        ("sentences against texts across pauses", OURS, "small-across-pauses", "R@1"),
        ("overlapping pairs ignored against as negatives", OURS, "small-all-negatives", "R@1"),
        ("a loss of seconds against none", OURS, "small-no-seconds", "R@1"),
        ("a loss of seconds against none", OURS, "small-no-seconds", "segment F1"),
        ("dropout against none", OURS, "small-no-dropout", "R@1"),
        ("dropout against none, the paper's method", "paper", "paper-no-dropout", "R@1"),
        ("two encoders against one", "paper", "paper-shared", "R@1"),
        ("ours against the paper's method", OURS, "paper", "R@1"),
        ("ours against the paper's method", OURS, "paper", "segment F1"),
        ("the re-ranker's order against the towers'", "small-reranked", "small-cross", "R@1"),
        ("the re-ranker's order against the towers'", "small-reranked", "small-cross", "R@5"),
        ("training with a re-ranker against without", "small-cross", OURS, "R@1"),
        ("clips against their mean frames", OURS, OURS, "direction", "direction, order hidden"),
    ),
    "share": (
        (ERRORS_GONE, OURS, "paper", "R@1"),
        (ERRORS_GONE, "small-equal-time", "paper", "R@1"),
        (ERRORS_GONE, "small-10-epochs", "paper-10-epochs", "R@1"),
        (ERRORS_GONE, "small-long", "paper-long", "R@1"),
        (ERRORS_GONE, "small-40-epochs", "paper-40-epochs", "R@1"),
    ),
    "ratio": (
        ("held-out combinations over seen ones", OURS, OURS, "R@1 held out", "R@1 seen"),
        ("the cross-modal variant over two towers, `small`", "crossmodal", OURS, "R@1"),
    ),
}
"""By effect: (description, variant, other variant, measure), then the other's measure if it is not
the same."""
BASELINE_MEASURES = {
    "segment F1": "segment F1",
    "F1 in order": "segment F1",
    "foreground accuracy": "foreground accuracy",
    "foreground in order": "foreground accuracy",
    "step recall": "step recall",
}
"""Measure of ours -> measure of the baselines, which know the order anyway."""


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


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


def bootstrap(effect: Effect, ours: Sums, theirs: Sums) -> Interval:
    """Return how two ratios compare, with its interval.

    Seeds and test videos are resampled with replacement, the same ones for both, so that what is
    hard for both does not widen the interval.

    Args:
        effect: For instance one of `EFFECTS`.
        ours: (S, V, 2).
        theirs: The same of the other model; (V, 2) if it has no seed.
    """
    parts = (ours, np.broadcast_to(theirs, ours.shape))
    rng = np.random.default_rng(0)
    num_seeds, num_videos, _ = ours.shape
    seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), NUM_RESAMPLES)
    videos = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), NUM_RESAMPLES)
    drawn = [np.einsum("bs,bv,svc->bc", seeds, videos, part, optimize=True) for part in parts]
    low, high = np.quantile(effect(*map(ratio, drawn)), (0.025, 0.975))
    value = effect(*(ratio(part.sum(axis=(0, 1))) for part in parts))
    return Interval(float(value), float(low), float(high))


def make_table(runs: Iterable[FinishedRun]) -> list[TableRow]:
    """Return the table, worlds by name and variants in their own order."""
    by_variant, order = _by_variant(runs), list(VARIANTS)
    table = []
    for world, variant in sorted(by_variant, key=lambda key: (key[0], order.index(key[1]))):
        own = by_variant[world, variant]
        other = by_variant.get((world, VARIANTS[variant].against), {})
        cells = {}
        for name in MEASURES:
            value = ratio(_stack(own, sorted(own), name).sum(axis=(0, 1)))
            ours, theirs = _paired(own, other, name, name)
            difference = bootstrap(operator.sub, ours, theirs) if len(ours) else None
            cells[name] = Cell(float(value), difference)
        seconds = float(np.mean([run.cpu_seconds for run in own.values()]))
        run = next(iter(own.values()))
        row = TableRow(world, variant, tuple(sorted(own)), seconds, run.updates, run.pairs, cells)
        table.append(row)
    return table


def compare(
    runs: Sequence[FinishedRun], baselines: Mapping[str, Mapping[str, Counts]]
) -> Iterator[Comparison]:
    """Yield every comparison whose runs are finished.

    Args:
        runs: All finished runs.
        baselines: By world and name, their counts.
    """
    by_variant = _by_variant(runs)
    listed = [(kind, *row) for kind, rows in COMPARISONS.items() for row in rows]
    for world in dict.fromkeys(run.world for run in runs):
        for kind, description, variant, other, *names in listed:
            own, others = (by_variant.get((world, name), {}) for name in (variant, other))
            ours, theirs = _paired(own, others, names[0], names[-1])
            if len(ours):
                interval = bootstrap(EFFECTS[kind], ours, theirs)
                reference = 1.0 if kind == "ratio" else 0.0
                what = description.format(variant=variant, other=other)
                statement = f"{names[0]}: {what}, {kind}"
                yield Comparison(world, statement, interval, len(ours), reference)
        if own := by_variant.get((world, OURS), {}):
            for baseline, counts in baselines.get(world, {}).items():
                for name, other in BASELINE_MEASURES.items():
                    ours = _stack(own, sorted(own), name)
                    interval = bootstrap(operator.sub, ours, counts[other])
                    statement = f"{name}: `{OURS}` against {baseline}, difference"
                    yield Comparison(world, statement, interval, len(own))


def _by_variant(runs: Iterable[FinishedRun]) -> dict[tuple[str, str], dict[int, FinishedRun]]:
    """Runs by world and variant."""
    found: dict[tuple[str, str], dict[int, FinishedRun]] = {}
    for run in runs:
        found.setdefault((run.world, run.variant), {})[run.seed] = run
    return found


def _paired(ours: Runs, theirs: Runs, name: str, other_name: str) -> tuple[Sums, Sums]:
    """Measures of two variants on the seeds that both have."""
    seeds = sorted(ours.keys() & theirs.keys())
    return _stack(ours, seeds, name), _stack(theirs, seeds, other_name)


def _stack(runs: Runs, seeds: Sequence[int], name: str) -> Sums:
    return np.array([runs[seed].counts[name] for seed in seeds])


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
    written = ("table.md", "table.json", "table.svg", *(f"curves-{world}.svg" for world in worlds))
    write_checksums(out, written)
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


def draw_curves(runs: Sequence[FinishedRun], world: str) -> Figure:
    """Draw the loss of each variant on a world over its updates, averaged over seeds.

    Only variants with InfoNCE, since others are on other scales; the loss of seconds adds to it.
    """
    curves: dict[str, list[tuple[tuple[int, float], ...]]] = {}
    for run in runs:
        variant = VARIANTS[run.variant]
        is_comparable = variant.config.loss.kind == "infonce" and not variant.trained_as
        if run.world == world and is_comparable:
            curves.setdefault(run.variant, []).append(run.curve)
    return draw_losses(
        (name, np.mean([curve for curve in found if len(curve) == len(found[0])], axis=0), ())
        for name, found in curves.items()
    )
