"""What a model knows of every second of the test videos, and what takes no model to know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from videoclip.ablation.bed import TestBed
from videoclip.benchmarks.examples import Segment
from videoclip.config import EvaluateConfig
from videoclip.evaluation.baselines import even_steps
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics.labels import segment_counts
from videoclip.evaluation.metrics.steps import recall_counts
from videoclip.evaluation.metrics.targets import label_targets, step_targets
from videoclip.synthetic.narrate import label
from videoclip.synthetic.world import SyntheticVideo
from videoclip.zeroshot.labels import BACKGROUND, label_frames
from videoclip.zeroshot.steps import log_softmax, order_steps, step_mask

__all__ = ["TRIVIAL", "Counts", "label_seconds", "trivial"]

Counts = dict[str, NDArray[np.float64]]
"""By measure, (V, 2): numerator and denominator of each test video, in the order of the bed."""

TRIVIAL = ("always background", "uniform in order")
SEGMENT_IOU = 0.25
FITTING_VIDEOS = 60
NUM_THRESHOLDS = 20


def trivial(bed: TestBed) -> dict[str, Counts]:
    """Return what needs no model: everything background, and a task's steps evenly in order."""
    videos = bed.test_videos
    names = ("segment F1", "foreground accuracy", "step recall")
    found: dict[str, Counts] = {
        who: {name: np.zeros((len(videos), 2)) for name in names} for who in TRIVIAL
    }
    for place, video in enumerate(videos):
        num_seconds, steps = bed.store.num_features(video.video_id), len(video.task.steps)
        true = label_targets(_segments(video), num_seconds)
        in_order = np.arange(num_seconds) * steps // num_seconds + 1
        for who, predicted in zip(TRIVIAL, (np.zeros_like(true), in_order), strict=True):
            found[who]["segment F1"][place] = _f1_counts(predicted, true)
            found[who]["foreground accuracy"][place] = _foreground_counts(predicted, true)
        targets = step_targets(_segments(video, 0), num_seconds, steps)
        recall = recall_counts(even_steps(num_seconds, steps), targets)
        found["uniform in order"]["step recall"][place] = recall
        found["always background"]["step recall"][place] = 0, recall[1]
    return found


def label_seconds(encoder: DualEncoder, bed: TestBed, videos: Sequence[SyntheticVideo]) -> Counts:
    """Label every second, among the steps of the video's task and among all, and find the steps."""
    training = [video for video in bed.videos if video.split == "train"]
    fitting = [training[i] for i in _spread(len(training), FITTING_VIDEOS)]
    steps = {s.step_id: s for v in (*fitting, *videos) for s in v.task.steps}
    ids = sorted(steps)
    texts = encoder.embed_text([label(steps[i]) for i in ids])
    row_of = {step_id: row for row, step_id in enumerate(ids)}
    config = EvaluateConfig()
    similarity = {
        video.video_id: encoder.embed_seconds(
            bed.store.read(video.video_id), attend_cls=config.attend_cls
        )
        @ texts.T
        for video in (*fitting, *videos)
    }  # each (T, K of all)

    def of_task(video: SyntheticVideo) -> NDArray[np.float32]:
        rows = [row_of[step.step_id] for step in video.task.steps]
        return similarity[video.video_id][:, rows]

    def of_all(video: SyntheticVideo) -> NDArray[np.float32]:
        return similarity[video.video_id]

    def true_of_all(video: SyntheticVideo) -> NDArray[np.int64]:
        rows = [Segment(s.start, s.end, row_of[s.step.step_id] + 1) for s in video.shown]
        return label_targets(rows, len(similarity[video.video_id]))

    def true_of_task(video: SyntheticVideo) -> NDArray[np.int64]:
        return label_targets(_segments(video), len(similarity[video.video_id]))

    counts: dict[str, list[Sequence[float]]] = defaultdict(list)
    for values, true_of, names in (
        (of_task, true_of_task, ("segment F1", "foreground accuracy")),
        (of_all, true_of_all, ("all-label F1", "all-label foreground")),
    ):
        threshold = _fit([(values(video), true_of(video)) for video in fitting])
        for video in videos:
            true = true_of(video)
            predicted = label_frames(values(video), threshold)
            counts[names[0]].append(_f1_counts(predicted, true))
            counts[names[1]].append(_foreground_counts(predicted, true))
    for video in videos:
        gains = log_softmax(of_task(video) / encoder.temperature)
        # A second must be likelier than chance to count for a step.
        spans = order_steps(gains + np.log(len(video.task.steps)))
        runs = step_mask(spans, len(gains))
        predicted, true = runs.any(axis=1) * (runs.argmax(axis=1) + 1), true_of_task(video)
        counts["F1 in order"].append(_f1_counts(predicted, true))
        counts["foreground in order"].append(_foreground_counts(predicted, true))
        found = step_mask(order_steps(gains, exactly_one=True), len(gains))
        targets = step_targets(_segments(video, 0), len(found), len(video.task.steps))
        counts["step recall"].append(recall_counts(found, targets))
    return {name: np.array(rows, dtype=np.float64) for name, rows in counts.items()}


def _fit(training: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]]) -> float:
    """Return the background threshold with the best F1 of segments on training videos."""
    highest = np.concatenate([values.max(axis=1) for values, _ in training])
    thresholds = np.quantile(highest, np.linspace(0, 0.95, NUM_THRESHOLDS))

    def f1(threshold: float) -> float:
        counts = np.array(
            [_f1_counts(label_frames(values, threshold), true) for values, true in training]
        )
        found, whole = counts.sum(axis=0)
        return float(found / whole)

    return float(max(thresholds, key=f1))


def _spread(total: int, number: int) -> list[int]:
    """At most `number` of `total` places, evenly spread."""
    places: list[int] = np.linspace(0, total - 1, min(number, total)).astype(int).tolist()
    return places


def _segments(video: SyntheticVideo, first: int = 1) -> list[Segment]:
    """The steps of a video, labelled by their place in its task from `first` on."""
    place = {step.step_id: i for i, step in enumerate(video.task.steps, start=first)}
    return [Segment(s.start, s.end, place[s.step.step_id]) for s in video.shown]


def _f1_counts(predicted: NDArray[np.int64], true: NDArray[np.int64]) -> tuple[float, float]:
    """F1 is twice the segments found over all predicted and all true ones."""
    true_positives, *errors = segment_counts(predicted, true, SEGMENT_IOU)
    return 2 * true_positives, 2 * true_positives + sum(errors)


def _foreground_counts(
    predicted: NDArray[np.int64], true: NDArray[np.int64]
) -> tuple[float, float]:
    shown = true != BACKGROUND
    return float((predicted == true)[shown].sum()), float(shown.sum())
