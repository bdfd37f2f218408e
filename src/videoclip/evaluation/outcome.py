"""Outcome of an evaluation: numbers with intervals, baselines and data for plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from videoclip.config import EvaluateConfig
from videoclip.evaluation.metrics.intervals import bootstrap_interval
from videoclip.types import BoolArray, IntArray, RealArray

NUM_BINS = 40
Setting = str | int | float | bool
Statistic = Callable[[IntArray], float]


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
class Baseline:
    """The same numbers without the evaluated model: chance, a trivial answer, a published row.

    Attributes:
        name: For instance "random".
        values: By the name of the measure; unknown ones are absent.
        note: Source of the numbers, or a remark.
    """

    name: str
    values: Mapping[str, float]
    note: str = ""


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


def share_histogram(title: str, x_label: str, shares: Mapping[str, Sequence[float]]) -> Histogram:
    """Return the distribution of values in [0, 1], in ten bins, of each series."""
    edges = tuple(i / 10 for i in range(11))
    counts = {
        name: tuple(np.histogram(values, edges)[0].tolist()) for name, values in shares.items()
    }
    return Histogram(title, x_label, edges, counts)


def similarity_histogram(
    title: str, names: tuple[str, str], true: RealArray, everything: RealArray
) -> Histogram:
    """Return the distributions of the similarities of true pairs and of all other pairs.

    Args:
        title: Above the plot.
        names: Of the two series.
        true: Similarities of the true pairs.
        everything: Those of all pairs, true ones included.
    """
    edges = np.linspace(everything.min(), everything.max() + 1e-6, NUM_BINS + 1)
    counts = np.histogram(true, edges)[0]
    others = np.histogram(everything, edges)[0] - counts
    series = dict(zip(names, (tuple(counts.tolist()), tuple(others.tolist())), strict=True))
    return Histogram(title, "similarity", tuple(edges.tolist()), series)


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


def pick_evenly(total: int, number: int) -> list[int]:
    """Return at most `number` of the indices below `total`, evenly spread."""
    return list(range(0, total, max(1, total // number)))[:number]


def mean_measure(
    name: str,
    values: RealArray | BoolArray,
    videos: Sequence[str],
    config: EvaluateConfig,
    *,
    is_share: bool = True,
) -> Measure:
    """Return the mean of the values (N,) of items and its interval, as `measure` does."""
    numbers = values.astype(np.float64)

    def mean(items: IntArray) -> float:
        return float(numbers[items].mean())

    return measure(name, mean, videos, config, is_share=is_share)


def measure(
    name: str,
    statistic: Statistic,
    videos: Sequence[str],
    config: EvaluateConfig,
    *,
    is_share: bool = True,
) -> Measure:
    """Return one number and its 95 % bootstrap interval.

    A share of 0 or 1 in every resample has no spread. Its interval then extends as far as a
    binomial one (Clopper and Pearson) with one trial per video.

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
