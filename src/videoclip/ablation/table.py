"""From finished runs to the table of variants and the list of comparisons.

Differences have paired bootstrap intervals over seeds and test videos.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from videoclip.ablation.measure import MEASURES, Counts, ratio
from videoclip.ablation.runs import FinishedRun
from videoclip.ablation.variants import VARIANTS
from videoclip.types import RealArray

NUM_RESAMPLES = 2000

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

COMPARISONS = (
    *(
        (f"{measure}: {description}", "difference", (variant, measure), (other, measure))
        for description, variant, other, measure in DIFFERENCES
    ),
    (
        f"R@1: errors of `paper` that `{OURS}` does not make",
        "share",
        (OURS, "R@1"),
        ("paper", "R@1"),
    ),
    (
        "R@1: held-out combinations over seen ones",
        "ratio",
        (OURS, "R@1 held out"),
        (OURS, "R@1 seen"),
    ),
    (
        "direction: clips against their mean frames",
        "difference",
        (OURS, "direction"),
        (OURS, "direction, order hidden"),
    ),
)
"""(description, name of the effect, our variant and measure, the other's)."""
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
    for world in dict.fromkeys(run.world for run in runs):
        for description, kind, (variant, name), (other, other_name) in COMPARISONS:
            own = by_variant.get((world, variant), {})
            ours, theirs = _paired(own, by_variant.get((world, other), {}), name, other_name)
            if len(ours):
                interval = bootstrap(EFFECTS[kind], ours, theirs)
                reference = 1.0 if kind == "ratio" else 0.0
                statement = f"{description}, {kind}"
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
