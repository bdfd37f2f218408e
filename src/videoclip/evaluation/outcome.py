"""What an evaluation found: numbers with intervals, baselines beside them, and data for plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from videoclip.config import EvaluateConfig
from videoclip.evaluation.metrics.intervals import bootstrap_interval

__all__ = [
    "Bars",
    "Baseline",
    "Confusion",
    "Histogram",
    "Measure",
    "Missing",
    "Outcome",
    "Plot",
    "Setting",
    "Statistic",
    "TimelinePlot",
    "Track",
    "measure",
    "share_histogram",
]

Setting = str | int | float | bool
Statistic = Callable[[NDArray[np.int64]], float]


@dataclass(frozen=True)
class Measure:
    """One number of ours.

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
class Baseline:
    """The same numbers of something else: chance, a trivial answer, a published row.

    Attributes:
        name: For instance "random".
        values: By the name of the measure; those not known are absent.
        note: Where the numbers are from, or what to know about them.
    """

    name: str
    values: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True)
class Missing:
    """A video that could not be evaluated, and why."""

    video_id: str
    reason: str


@dataclass(frozen=True)
class Histogram:
    """How values are spread, for one or several series.

    Attributes:
        title: Above the plot.
        x_label: What the values are, with unit.
        edges: Bin edges, one more than bins.
        counts: Per series, by name; shares are drawn, so that series of any size compare.
    """

    title: str
    x_label: str
    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]


def share_histogram(title: str, x_label: str, shares: Mapping[str, Sequence[float]]) -> Histogram:
    """Show how values in [0, 1] are spread, in ten bins, for each series by name."""
    edges = tuple(i / 10 for i in range(11))
    counts = {
        name: tuple(np.histogram(values, edges)[0].tolist()) for name, values in shares.items()
    }
    return Histogram(title, x_label, edges, counts)


@dataclass(frozen=True)
class Bars:
    """One value in [0, 1] per name."""

    title: str
    names: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Confusion:
    """How often a true label (row) was predicted as another (column)."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Track:
    """Labelled spans of one video, (start, end, label) in seconds."""

    name: str
    spans: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class TimelinePlot:
    """Predicted against true spans of one video."""

    title: str
    duration: float
    tracks: tuple[Track, ...]


Plot = Histogram | Bars | Confusion | TimelinePlot


@dataclass(frozen=True)
class Outcome:
    """What one protocol found.

    Attributes:
        protocol: What was measured, in one sentence.
        settings: What that depends on.
        measures: Our numbers.
        baselines: Trivial answers to the same questions.
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


def measure(
    name: str,
    statistic: Statistic,
    videos: Sequence[str],
    config: EvaluateConfig,
    *,
    is_share: bool = True,
) -> Measure:
    """Compute one number and its interval.

    Where no video differs from the others (a share of 0 or 1), resamples cannot: the interval then
    reaches as far as a binomial one would (Clopper and Pearson) with one trial a video.

    Args:
        name: Of the measure.
        statistic: From item indices to the number.
        videos: (N,) video of each item; whole videos are resampled.
        config: Seed and number of resamples.
        is_share: See `Measure`.
    """
    rng = np.random.default_rng(config.seed)
    low, high = bootstrap_interval(statistic, videos, rng, config.num_resamples)
    reach = 1 - 0.025 ** (1 / len(set(videos)))
    if is_share and low == high == 0:
        high = reach
    if is_share and low == high == 1:
        low = 1 - reach
    return Measure(name, float(statistic(np.arange(len(videos)))), low, high, is_share)
