"""Outcome of an evaluation: numbers with intervals, baselines and data for plots.

With the name of its benchmark and the published numbers it is a `Result`, printed as a table or
written as JSON.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from videoclip.benchmarks.examples import Baseline
from videoclip.config import EvaluateConfig
from videoclip.types import BoolArray, IntArray, RealArray

LEVEL = 0.95
"""Share of the resamples inside an interval."""
NUM_BINS = 40
LISTED_VIDEOS = 5
NUM_TIMELINES = 6
RANKS = ("MedR", "MeanR")
"""Ends of the names of measures that are ranks, not shares."""
SHARE_EDGES = tuple(i / 10 for i in range(11))
"""Bins of shares in [0, 1]."""
Setting = str | int | float | bool
Statistics = Callable[[IntArray], Mapping[str, float]]
"""From item indices to the numbers of these items, by name."""
Evaluation = Mapping[str, float]
"""Measures by name; "X low" and "X high" are the ends of the 95 % interval of X."""
BOUNDS = (" low", " high")


def measure_texts(values: Evaluation, form: str = ".3f") -> dict[str, str]:
    """Return each measure as text, such as "0.250 [0.167, 0.333]" where its interval is known."""
    texts = {}
    for name, value in values.items():
        if not name.endswith(BOUNDS):
            bounds = [format(values[name + end], form) for end in BOUNDS if name + end in values]
            texts[name] = format(value, form) + (f" [{', '.join(bounds)}]" if bounds else "")
    return texts


@dataclass(frozen=True)
class Measure:
    """One number of the evaluated model.

    Attributes:
        name: For instance "text-to-video R@1".
        value: A share in [0, 1], or a rank from 1.
        low: Lower end of the 95 % bootstrap interval over videos.
        high: Upper end.
        is_share: Whether to print it as a percentage.
    """

    name: str
    value: float
    low: float
    high: float
    is_share: bool = True


@dataclass(frozen=True)
class Missing:
    """A video that could not be evaluated, and the reason."""

    video_id: str
    reason: str


@dataclass(frozen=True)
class Histogram:
    """Distribution of values, for one or several series.

    Attributes:
        title: Above the plot.
        x_label: Name and unit of the values.
        edges: Bin edges, one more than bins.
        counts: Of each series, by name. Drawn as shares, so that series of any size compare.
    """

    title: str
    x_label: str
    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]


def histogram(
    title: str,
    x_label: str,
    edges: Sequence[float],
    series: Mapping[str, Sequence[float] | RealArray],
) -> Histogram:
    """Return the distribution of the values of each series."""
    counts = {
        name: tuple(np.histogram(values, edges)[0].tolist()) for name, values in series.items()
    }
    return Histogram(title, x_label, tuple(edges), counts)


def similarity_histogram(
    title: str, names: tuple[str, str], similarities: RealArray, is_true: BoolArray
) -> Histogram:
    """Return the distributions of the similarities of true pairs and of all other pairs.

    Args:
        title: Above the plot.
        names: Of the two series.
        similarities: Of all pairs.
        is_true: Of the same shape, whether a pair is a true one.
    """
    edges = np.linspace(similarities.min(), similarities.max() + 1e-6, NUM_BINS + 1).tolist()
    parts = (similarities[is_true], similarities[~is_true])
    return histogram(title, "similarity", edges, dict(zip(names, parts, strict=True)))


@dataclass(frozen=True)
class Bars:
    """One value in [0, 1] per name."""

    title: str
    names: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Confusion:
    """Number of frames or examples by true label (row) and predicted label (column)."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


Spans = tuple[tuple[float, float, str], ...]
"""Labelled spans of one video, (start, end, label) in seconds."""


@dataclass(frozen=True)
class TimelinePlot:
    """Predicted against true spans of one video."""

    title: str
    duration: float
    true: Spans
    predicted: Spans


Plot = Histogram | Bars | Confusion | TimelinePlot


@dataclass(frozen=True)
class Outcome:
    """Outcome of one evaluation protocol.

    Attributes:
        protocol: What was measured, in one sentence.
        settings: What the numbers depend on.
        measures: Numbers of the model.
        baselines: Numbers of chance and trivial answers.
        num_examples: Questions asked.
        num_videos: Videos they were asked of.
        missing: Videos left out, each with its reason.
        rows: One per example or video, with equal keys.
        plots: Data for the report.
    """

    protocol: str
    settings: Mapping[str, Setting]
    measures: tuple[Measure, ...]
    baselines: tuple[Baseline, ...]
    num_examples: int
    num_videos: int
    missing: tuple[Missing, ...] = ()
    rows: tuple[Mapping[str, Setting], ...] = ()
    plots: tuple[Plot, ...] = field(default=(), repr=False)


def some_timelines(plot: Callable[[int], TimelinePlot], total: int) -> tuple[TimelinePlot, ...]:
    """Return the plots of a few items, by their index below `total`, evenly spread."""
    return tuple(map(plot, range(0, total, max(1, total // NUM_TIMELINES))[:NUM_TIMELINES]))


def means(columns: Mapping[str, RealArray | BoolArray]) -> Statistics:
    """Return the function that gives the mean of the items in each column (N,)."""
    numbers = {name: column.astype(np.float64) for name, column in columns.items()}
    return lambda items: {name: float(column[items].mean()) for name, column in numbers.items()}


def bootstrap_interval(
    statistic: Callable[[IntArray], float | Sequence[float]],
    groups: Sequence[str] | IntArray,
    rng: np.random.Generator,
    num_resamples: int = 1000,
) -> tuple[RealArray, RealArray]:
    """Return the 95 % percentile interval of a statistic under resampling of whole groups.

    Items of one video are alike, so that resampling single items would give too narrow an interval:
    use the video of each item as its group.

    Args:
        statistic: One or M numbers computed from item indices (an item may occur several times).
        groups: (N,) group of each item, N > 0.
        rng: Source of the resamples.
        num_resamples: Resamples to draw.

    Returns:
        Its lower and upper end; (M,) each of M numbers.
    """
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    items = np.argsort(group_of, kind="stable")
    num_groups = int(group_of.max()) + 1
    values = []
    for _ in range(num_resamples):
        drawn = np.bincount(rng.integers(num_groups, size=num_groups), minlength=num_groups)
        values.append(statistic(np.repeat(items, drawn[group_of[items]])))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def measure(
    statistics: Statistics, videos: Sequence[str] | IntArray, config: EvaluateConfig
) -> tuple[Measure, ...]:
    """Return numbers and their 95 % bootstrap intervals.

    A share of 0 or 1 in every resample has no spread. Its interval then extends as far as a
    binomial one (Clopper and Pearson) with one trial per video.

    Args:
        statistics: The numbers of some items.
        videos: (N,) video of each item; whole videos are resampled.
        config: Seed and number of resamples.
    """
    rng = np.random.default_rng(config.seed)
    numbers = statistics(np.arange(len(videos)))
    lows, highs = bootstrap_interval(
        lambda items: list(statistics(items).values()), videos, rng, config.num_resamples
    )
    reach = 1 - 0.025 ** (1 / len(set(videos)))
    measures = []
    rows = zip(numbers.items(), lows.tolist(), highs.tolist(), strict=True)
    for (name, value), low, high in rows:
        is_share = not name.endswith(RANKS)
        if is_share and low == high == 0:
            high = reach
        if is_share and low == high == 1:
            low = 1 - reach
        measures.append(Measure(name, value, low, high, is_share))
    return tuple(measures)


@dataclass(frozen=True)
class Result:
    """One evaluation; `str()` is its table.

    Attributes:
        benchmark: Its name in `load_benchmarks()`.
        model: Name of the model.
        outcome: Measures, baselines and plots.
        published: Numbers of the paper.
    """

    benchmark: str
    model: str
    outcome: Outcome
    published: tuple[Baseline, ...] = ()

    def __getitem__(self, name: str) -> float:
        """Return the model's value of a measure by its name."""
        return {m.name: m.value for m in self.outcome.measures}[name]

    def to_dict(self) -> dict[str, Any]:
        """Return everything except rows and plots as plain values for JSON."""
        outcome = self.outcome
        return {
            "benchmark": self.benchmark,
            "model": self.model,
            "protocol": outcome.protocol,
            "settings": dict(outcome.settings),
            "measures": {
                m.name: {"value": m.value, "interval": [m.low, m.high]} for m in outcome.measures
            },
            "baselines": {c.name: dict(c.values) for c in outcome.baselines},
            "published": {c.name: {**c.values, "source": c.note} for c in self.published},
            "num_examples": outcome.num_examples,
            "num_videos": outcome.num_videos,
            "missing": [{"video_id": m.video_id, "reason": m.reason} for m in outcome.missing],
        }

    def table(self) -> list[list[str]]:
        """Return a header, and a row per measure: value, interval, baselines, published values."""
        others = (*self.outcome.baselines, *self.published)
        return [
            ["", "this model", "95 % interval", *(c.name for c in others)],
            *(
                [
                    m.name,
                    _shown(m, m.value),
                    f"{_shown(m, m.low)} .. {_shown(m, m.high)}",
                    *(_shown(m, c.values.get(m.name)) for c in others),
                ]
                for m in self.outcome.measures
            ),
        ]

    def summary(self) -> str:
        """Return one line: model, settings, number of examples, and the videos left out."""
        outcome = self.outcome
        settings = ", ".join(f"{name}: {_plain(value)}" for name, value in outcome.settings.items())
        left = list(dict.fromkeys(m.video_id for m in outcome.missing))
        left_out = "none left out"
        if left:
            more = "; --json lists all" if len(left) > LISTED_VIDEOS else ""
            left_out = f"{len(left):,} left out ({', '.join(left[:LISTED_VIDEOS])}{more})"
        return (
            f"{self.model}; {settings}; {outcome.num_examples:,} examples in "
            f"{outcome.num_videos:,} videos, {left_out}"
        )

    def notes(self) -> list[str]:
        """Return the sources of the baselines and published numbers."""
        others = (*self.outcome.baselines, *self.published)
        return [f"{c.name}: {c.note}" for c in others if c.note]

    def __str__(self) -> str:
        """Return the table with its summary and notes."""
        head = f"{self.benchmark}: {self.outcome.protocol}"
        table = align_columns(self.table())
        return "\n".join([head, self.summary(), "", table, "", *self.notes()]).rstrip()


def align_columns(table: Sequence[Sequence[str]]) -> str:
    """Return the rows of a table as lines, the first column to the left and others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in table
    )


def _shown(measure: Measure, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value if measure.is_share else value:.1f}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
