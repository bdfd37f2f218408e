"""Action segmentation: a label, or background, for every second of a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from videoclip.benchmarks.examples import LabelledSplit, LabelledVideo
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.evaluation.clips import with_features
from videoclip.evaluation.metrics import labels as metrics
from videoclip.evaluation.metrics.targets import label_targets
from videoclip.evaluation.outcome import (
    Baseline,
    Confusion,
    Measure,
    Outcome,
    Setting,
    Statistic,
    TimelinePlot,
    Track,
    measure,
    share_histogram,
)
from videoclip.evaluation.segmenters import Segmenter
from videoclip.types import OnProgress

__all__ = ["evaluate_labels"]

Labels = NDArray[np.int64]
SEGMENT_IOUS = (0.10, 0.25, 0.50)
NUM_TIMELINES = 6
CONFUSED_LABELS = 15


def evaluate_labels(
    benchmark: LabelledSplit,
    segmenter: Segmenter,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Score labels of the test videos, with what an empty prediction would score beside them."""
    videos, missing = with_features(benchmark.videos, store)
    rate = store.spec.features_per_second
    counts, empty = [], []
    rows: list[dict[str, Setting]] = []
    plots: list[TimelinePlot] = []
    confusion = _Confusion(benchmark.labels)
    for done, video in enumerate(videos, start=1):
        true = label_targets(video.segments, store.num_features(video.video_id), rate)
        predicted = segmenter.label(video)
        counts.append(_count(predicted, true))
        empty.append(_count(np.zeros_like(true), true))
        confusion.add(predicted, true)
        rows.append(
            {
                "video_id": video.video_id,
                "task": video.task,
                "seconds": len(true) / rate,
                "frame accuracy": float((predicted == true).mean()),
                "predicted background": float((predicted == metrics.BACKGROUND).mean()),
                "edit score": metrics.edit_score(predicted, true),
            }
        )
        if (done - 1) % max(1, len(videos) // NUM_TIMELINES) == 0 and len(plots) < NUM_TIMELINES:
            plots.append(_timeline(video, predicted, benchmark.labels, rate))
        if on_progress:
            on_progress(done, len(videos))
    spread = share_histogram(
        "Frame accuracy of each video",
        "frame accuracy",
        {
            name: [count[RIGHT] / count[TOTAL] for count in of]
            for name, of in (("model", counts), ("always background", empty))
        },
    )
    return Outcome(
        protocol="a label or background for every feature, over all test videos",
        settings={
            **segmenter.settings,
            "labels": len(benchmark.labels),
            "features per second": rate,
        },
        measures=_measures(np.array(counts), [v.video_id for v in videos], config),
        baselines=(
            Baseline(
                "always background",
                {name: value(np.array(empty)) for name, value in STATISTICS.items()},
                "an empty prediction",
            ),
            Baseline("random label", _chance(len(benchmark.labels))),
        ),
        num_examples=int(np.array(counts)[:, TOTAL].sum()),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(rows),
        plots=(confusion.plot(), spread, *plots),
    )


RIGHT, TOTAL, FOREGROUND_RIGHT, FOREGROUND, BACKGROUND_PREDICTED, EDIT, FIRST_SEGMENT = range(7)
"""Columns of `_count`; then found, in vain and missed for each of SEGMENT_IOUS."""


def _count(predicted: Labels, true: Labels) -> list[float]:
    """Count what the measures of one video are made of."""
    shown = true != metrics.BACKGROUND
    segments = [metrics.segment_counts(predicted, true, iou) for iou in SEGMENT_IOUS]
    return [
        (predicted == true).sum(),
        len(true),
        (predicted == true)[shown].sum(),
        shown.sum(),
        (predicted == metrics.BACKGROUND).sum(),
        metrics.edit_score(predicted, true),
        *(count for three in segments for count in three),
    ]


def _ratio(numerator: int, denominator: int) -> Callable[[NDArray[np.float64]], float]:
    def ratio(counts: NDArray[np.float64]) -> float:
        whole = counts[:, denominator].sum()
        return float(counts[:, numerator].sum() / whole) if whole else 0.0

    return ratio


def _f1(i: int) -> Callable[[NDArray[np.float64]], float]:
    first = FIRST_SEGMENT + 3 * i
    return lambda counts: metrics.segment_f1(*counts[:, first : first + 3].sum(axis=0).tolist())


STATISTICS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "frame accuracy": _ratio(RIGHT, TOTAL),
    "foreground accuracy": _ratio(FOREGROUND_RIGHT, FOREGROUND),
    **{f"segment F1@{iou:.0%}".rstrip("%"): _f1(i) for i, iou in enumerate(SEGMENT_IOUS)},
    "edit score": lambda counts: float(counts[:, EDIT].mean()),
    "predicted background": _ratio(BACKGROUND_PREDICTED, TOTAL),
}
"""Measures as functions of the rows of `_count`."""


def _measures(
    counts: NDArray[np.float64], videos: Sequence[str], config: EvaluateConfig
) -> tuple[Measure, ...]:
    def over(statistic: Callable[[NDArray[np.float64]], float]) -> Statistic:
        return lambda items: statistic(counts[items])

    return tuple(
        measure(name, over(statistic), videos, config) for name, statistic in STATISTICS.items()
    )


def _chance(num_labels: int) -> dict[str, float]:
    chance = 1 / (num_labels + 1)
    return {
        "frame accuracy": chance,
        "foreground accuracy": chance,
        "predicted background": chance,
    }


class _Confusion:
    """Counts of true against predicted labels, for the most frequent ones."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._names = ("background", *labels)
        self._counts = np.zeros((len(self._names), len(self._names)), dtype=np.int64)

    def add(self, predicted: Labels, true: Labels) -> None:
        np.add.at(self._counts, (true, predicted), 1)

    def plot(self) -> Confusion:
        order = np.argsort(-self._counts.sum(axis=1), kind="stable")
        kept = np.concatenate(([0], order[order != 0][:CONFUSED_LABELS]))
        inside = self._counts[np.ix_(kept, kept)]
        others = self._counts[kept].sum(axis=1) - inside.sum(axis=1)
        table = np.column_stack((inside, others))
        return Confusion(
            f"Predicted for the {len(kept)} most frequent labels, in seconds",
            (*(self._names[i] for i in kept), "other"),
            tuple(map(tuple, table.tolist())),
        )


def _timeline(
    video: LabelledVideo, predicted: Labels, texts: Sequence[str], rate: float
) -> TimelinePlot:
    ids, spans = metrics.label_segments(predicted)
    return TimelinePlot(
        f"{video.task}, {video.video_id}",
        len(predicted) / rate,
        (
            Track("true", tuple((s.start, s.end, texts[s.label - 1]) for s in video.segments)),
            Track(
                "predicted",
                tuple(
                    (start / rate, end / rate, texts[i - 1])
                    for i, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True)
                ),
            ),
        ),
    )
