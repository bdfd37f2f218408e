"""From finished runs to one table: means, and differences with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from videoclip.ablation.measure import MEASURES
from videoclip.ablation.rows import ROWS
from videoclip.ablation.run import Finished

__all__ = [
    "Cell",
    "Interval",
    "Line",
    "compare",
    "compare_with",
    "lines",
    "markdown",
    "quotient",
    "reduction",
    "to_dict",
]

NUM_RESAMPLES = 2000
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A number and the middle 95 % of what it is under resampling of seeds and videos."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Cell:
    """A measure of a row, and how it differs from that of the row it is compared with."""

    value: float
    difference: Interval | None


@dataclass(frozen=True)
class Line:
    """A row of the table on one world.

    Attributes:
        world: Name of the world.
        row: Name of the row.
        seeds: Seeds that are finished.
        cpu_seconds: Mean processor time of a training.
        updates: Updates of a training.
        pairs: Clip pairs a training sees.
        cells: By measure.
    """

    world: str
    row: str
    seeds: tuple[int, ...]
    cpu_seconds: float
    updates: int
    pairs: int
    cells: dict[str, Cell]


def lines(runs: Iterable[Finished]) -> list[Line]:
    """Return the table, worlds by name and rows in their own order."""
    by_row: dict[tuple[str, str], dict[int, Finished]] = {}
    for run in runs:
        by_row.setdefault((run.world, run.row), {})[run.seed] = run
    order = list(ROWS)
    found = []
    for world, row in sorted(by_row, key=lambda key: (key[0], order.index(key[1]))):
        own, other = by_row[world, row], by_row.get((world, ROWS[row].against), {})
        paired = sorted(own.keys() & other.keys())
        some = next(iter(own.values()))
        cells = {
            name: Cell(
                float(_ratio(_stack(own, sorted(own), name).sum(axis=(0, 1)))),
                compare(_stack(own, paired, name), _stack(other, paired, name)) if paired else None,
            )
            for name in MEASURES
        }
        seconds = float(np.mean([run.cpu_seconds for run in own.values()]))
        found.append(Line(world, row, tuple(sorted(own)), seconds, some.updates, some.pairs, cells))
    return found


def compare(ours: Counts, theirs: Counts) -> Interval:
    """Return how much higher a ratio is, with its interval.

    Seeds and test videos are drawn with replacement, the same ones for both: what both find hard
    does not blur the difference.

    Args:
        ours: (S, V, 2) numerators and denominators by seed and video.
        theirs: The same of the other row.
    """
    return _resampled((ours, theirs), lambda sums: _ratio(sums[0]) - _ratio(sums[1]))


def compare_with(ours: Counts, value: Counts) -> Interval:
    """Return how much higher a ratio is than that of an answer that needs no seed, (V, 2)."""
    return compare(ours, np.broadcast_to(value, ours.shape))


def reduction(ours: Counts, theirs: Counts) -> Interval:
    """Return which share of another row's errors is gone; arguments as of `compare`."""
    return _resampled(
        (ours, theirs), lambda sums: (_ratio(sums[0]) - _ratio(sums[1])) / (1 - _ratio(sums[1]))
    )


def quotient(ours: Counts, theirs: Counts) -> Interval:
    """Return one ratio over another; arguments as of `compare`."""
    return _resampled((ours, theirs), lambda sums: _ratio(sums[0]) / _ratio(sums[1]))


def _resampled(
    parts: Sequence[Counts], statistic: Callable[[list[Counts]], NDArray[np.float64]]
) -> Interval:
    """Compute a statistic of the sums of several counts, whole and under resampling."""
    rng = np.random.default_rng(0)
    num_seeds, num_videos, _ = parts[0].shape
    seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), NUM_RESAMPLES)
    videos = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), NUM_RESAMPLES)
    drawn = [np.einsum("bs,bv,svc->bc", seeds, videos, part, optimize=True) for part in parts]
    low, high = np.quantile(statistic(drawn), (0.025, 0.975))
    whole = statistic([part.sum(axis=(0, 1)) for part in parts])
    return Interval(float(whole), float(low), float(high))


def _ratio(sums: Counts) -> NDArray[np.float64]:
    """(..., 2) sums to (...) ratios; 0 where nothing was asked."""
    ratio: NDArray[np.float64] = np.divide(
        sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] > 0
    )
    return ratio


def _stack(runs: dict[int, Finished], seeds: Sequence[int], name: str) -> Counts:
    return np.array([runs[seed].counts[name] for seed in seeds])


def markdown(table: Sequence[Line], measures: Sequence[str] = tuple(MEASURES)) -> str:
    """Return the table as Markdown, in percent, each difference under its value."""
    worlds = list(dict.fromkeys(line.world for line in table))
    blocks = []
    for world in worlds:
        head = ["row", "compared with", "seeds", "CPU s", *measures]
        rows = [head, ["---"] * len(head)]
        for line in table:
            if line.world == world:
                cells = [_cell(line.cells[name]) for name in measures]
                what = f"`{line.row}`: {ROWS[line.row].summary}"
                against = f"`{ROWS[line.row].against}`" if ROWS[line.row].against else ""
                seeds = str(len(line.seeds))
                rows.append([what, against, seeds, f"{line.cpu_seconds:.0f}", *cells])
        body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        blocks.append(f"World `{world}`\n\n{body}\n")
    return "\n".join(blocks)


def _cell(cell: Cell) -> str:
    text = f"{100 * cell.value:.1f}"
    if cell.difference is None:
        return text
    value, low, high = (
        100 * x for x in (cell.difference.value, cell.difference.low, cell.difference.high)
    )
    mark = "**" if cell.difference.is_clear else ""
    return f"{text}<br>{mark}{value:+.1f}{mark} ({low:+.1f} .. {high:+.1f})"


def to_dict(table: Sequence[Line]) -> list[dict[str, object]]:
    """Return the table as plain lists and dicts, ready for JSON."""
    return [asdict(line) for line in table]
