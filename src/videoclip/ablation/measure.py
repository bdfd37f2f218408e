"""Zero-shot measures of a model on the test videos of a test bed, video by video.

Every measure is a ratio of two sums over videos (correct answers and questions, or the two halves
of F1), so that any of them can be compared between models by resampling whole videos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from videoclip.ablation.testbed import TestBed
from videoclip.benchmarks.examples import Segment
from videoclip.config import EvaluateConfig
from videoclip.evaluation.baselines import even_steps
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics.labels import segment_counts
from videoclip.evaluation.metrics.ranking import rank_queries, recall_at
from videoclip.evaluation.metrics.steps import recall_counts
from videoclip.evaluation.metrics.targets import frame_span, label_targets, step_targets
from videoclip.features.backbones.motion import APPEARANCE_DIM
from videoclip.synthetic.annotate import descriptions
from videoclip.synthetic.narrate import label
from videoclip.synthetic.world import ShownStep, SyntheticVideo
from videoclip.types import BoolArray, FloatArray, IntArray
from videoclip.zeroshot.labels import BACKGROUND, label_frames
from videoclip.zeroshot.rerank import rerank_clips
from videoclip.zeroshot.steps import log_softmax, order_steps, step_mask

Counts: TypeAlias = dict[str, NDArray[np.float64]]
"""By measure, (V, 2): numerator and denominator of each test video, in the order of the bed."""

MEASURES = {
    "R@1": "the best of all test clips shows the step a sentence describes",
    "R@5": "one of the best five does",
    "R@10": "one of the best ten does",
    "R@1 seen": "R@1 of steps that training videos show",
    "R@1 held out": "R@1 of combinations that no training video shows",
    "direction": "a clip resembles its label more than the opposite one; chance is a half",
    "direction, order hidden": "the same of the clip's mean frame",
    "segment F1": "segments of the task's steps found with an IoU of 0.25, background in between",
    "foreground accuracy": "seconds of steps with the right label among those of the task",
    "F1 in order": "the same of labels in the task's order, each a run of seconds",
    "foreground in order": "foreground accuracy of those",
    "step recall": "steps found by one second each, in order (CrossTask)",
    "all-label F1": "segments of any label found with an IoU of 0.25 (COIN)",
    "all-label foreground": "seconds of steps with the right label among all (COIN)",
}
"""The measures with their definitions, the main ones first."""

BASELINES = ("always background", "uniform in order")
SEGMENT_IOU = 0.25
FITTING_VIDEOS = 60
"""Training videos that the background threshold is fitted on."""
NUM_THRESHOLDS = 20


@dataclass(frozen=True)
class _Clip:
    """A step of a test video: its description is a query and its frames are a candidate."""

    video: int  # index among the test videos
    shown: ShownStep
    description: str
    features: NDArray[np.float16]  # (T, D)


def measure(encoder: DualEncoder, testbed: TestBed, rerank_top: int = 0) -> Counts:
    """Measure a model on the test videos.

    Args:
        encoder: The model.
        testbed: A world and its features.
        rerank_top: How many of the best candidates the re-ranker orders in retrieval; 0: none.
    """
    encoder.check(testbed.store.spec)
    clips = _read_clips(testbed)
    num_videos = len(testbed.test_videos)
    return {
        **_measure_retrieval(encoder, clips, num_videos, rerank_top),
        **_measure_direction(encoder, testbed, clips, num_videos),
        **_measure_seconds(encoder, testbed),
    }


def _read_clips(testbed: TestBed) -> list[_Clip]:
    found, windows = [], []
    for index, video in enumerate(testbed.test_videos):
        num_features = testbed.store.num_features(video.video_id)
        for shown, text in zip(video.shown, descriptions(testbed.world, video), strict=True):
            first, last = frame_span(shown.start, shown.end, num_features)
            if last > first:
                found.append((index, shown, text))
                windows.append((video.video_id, first, last))
    features = testbed.store.read_windows(windows)
    return [_Clip(*item, array) for item, array in zip(found, features, strict=True)]


def _sum_by_video(
    values: NDArray[np.float64], clips: Sequence[_Clip], included: BoolArray, num_videos: int
) -> NDArray[np.float64]:
    """Sum the answers of each video, and count its questions: (V, 2)."""
    counts = np.zeros((num_videos, 2))
    videos = np.array([clip.video for clip in clips])[included]
    np.add.at(counts[:, 0], videos, values[included])
    np.add.at(counts[:, 1], videos, 1)
    return counts


def _measure_retrieval(
    encoder: DualEncoder, clips: Sequence[_Clip], num_videos: int, rerank_top: int
) -> Counts:
    """Retrieve clips by descriptions; every clip that shows the step is correct."""
    features = [clip.features for clip in clips]
    texts = [clip.description for clip in clips]
    similarity = encoder.embed_text(texts) @ _embed_clips(encoder, features).T  # (N, N)
    if rerank_top:
        similarity = rerank_clips(encoder.pair_scorer(texts, features), similarity, rerank_top)
    steps = np.array([clip.shown.step.step_id for clip in clips])
    ranks = rank_queries(similarity, steps, steps)
    is_new = np.array([clip.shown.step.held_out for clip in clips])
    all_clips = np.ones(len(clips), bool)
    included = {
        "R@1": (1, all_clips),
        "R@5": (5, all_clips),
        "R@10": (10, all_clips),
        "R@1 seen": (1, ~is_new),
        "R@1 held out": (1, is_new),
    }
    return {
        name: _sum_by_video(recall_at(ranks, k), clips, mask, num_videos)
        for name, (k, mask) in included.items()
    }


def _measure_direction(
    encoder: DualEncoder, testbed: TestBed, clips: Sequence[_Clip], num_videos: int
) -> Counts:
    """Choose between a label and its opposite, which one frame cannot tell apart.

    With its order hidden a clip is its mean frame, repeated, in which nothing moves.
    """
    steps = [clip.shown.step for clip in clips]
    right = encoder.embed_text([label(step) for step in steps])
    wrong = encoder.embed_text([label(testbed.world.opposite(step)) for step in steps])
    all_clips = np.ones(len(clips), bool)
    counts = {}
    for name, features in (
        ("direction", [clip.features for clip in clips]),
        ("direction, order hidden", [_hide_order(clip.features) for clip in clips]),
    ):
        margin = ((right - wrong) * _embed_clips(encoder, features)).sum(axis=1)
        hits = np.where(margin == 0, 0.5, margin > 0).astype(np.float64)
        counts[name] = _sum_by_video(hits, clips, all_clips, num_videos)
    return counts


def _embed_clips(encoder: DualEncoder, clips: Sequence[NDArray[np.float16]]) -> FloatArray:
    """Embed clips, each by itself: (N, E)."""
    borders = np.cumsum([0, *map(len, clips)]).tolist()
    return encoder.embed_windows(np.concatenate(clips), list(pairwise(borders)))


def _hide_order(clip: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the mean of a clip of motion features at every second, without motion."""
    mean = clip.astype(np.float32).mean(axis=0)
    mean[APPEARANCE_DIM:] = 0
    return np.tile(mean.astype(np.float16), (len(clip), 1))


def _measure_seconds(encoder: DualEncoder, testbed: TestBed) -> Counts:
    """Label every second, among the steps of the video's task and among all, and find the steps."""
    videos, training = testbed.test_videos, testbed.training_videos
    evenly = np.linspace(0, len(training) - 1, min(FITTING_VIDEOS, len(training))).astype(int)
    fitting = [training[i] for i in evenly]
    steps = {s.step_id: s for v in (*fitting, *videos) for s in v.task.steps}
    column_of = {step_id: column for column, step_id in enumerate(sorted(steps))}
    texts = encoder.embed_text([label(steps[i]) for i in column_of])
    attend_cls = EvaluateConfig().attend_cls
    similarity = {
        video.video_id: encoder.embed_seconds(
            testbed.store.read(video.video_id), attend_cls=attend_cls
        )
        @ texts.T
        for video in (*fitting, *videos)
    }  # each (T, K of all tasks)

    def among_task(video: SyntheticVideo) -> tuple[FloatArray, IntArray]:
        scores = similarity[video.video_id][:, [column_of[s.step_id] for s in video.task.steps]]
        return scores, label_targets(_segments(video), len(scores))

    def among_all(video: SyntheticVideo) -> tuple[FloatArray, IntArray]:
        scores = similarity[video.video_id]
        shown = [Segment(s.start, s.end, column_of[s.step.step_id] + 1) for s in video.shown]
        return scores, label_targets(shown, len(scores))

    counts: dict[str, list[Sequence[float]]] = defaultdict(list)
    for scores_of, f1, foreground in (
        (among_task, "segment F1", "foreground accuracy"),
        (among_all, "all-label F1", "all-label foreground"),
    ):
        threshold = _fit_threshold([scores_of(video) for video in fitting])
        for video in videos:
            scores, true = scores_of(video)
            predicted = label_frames(scores, threshold)
            counts[f1].append(_f1_counts(predicted, true))
            counts[foreground].append(_foreground_counts(predicted, true))
    for video in videos:
        scores, true = among_task(video)
        num_seconds, num_steps = scores.shape
        log_p = log_softmax(scores / encoder.temperature)
        # A second must be likelier than chance to be assigned to a step.
        spans = order_steps(log_p + np.log(num_steps))
        mask = step_mask(spans, num_seconds)
        predicted = mask.any(axis=1) * (mask.argmax(axis=1) + 1)
        counts["F1 in order"].append(_f1_counts(predicted, true))
        counts["foreground in order"].append(_foreground_counts(predicted, true))
        mask = step_mask(order_steps(log_p, exactly_one=True), num_seconds)
        targets = step_targets(_segments(video, 0), num_seconds, num_steps)
        counts["step recall"].append(recall_counts(mask, targets))
    return {name: np.array(rows, dtype=np.float64) for name, rows in counts.items()}


def _fit_threshold(training: Sequence[tuple[FloatArray, IntArray]]) -> float:
    """Return the background threshold with the best F1 of segments on (scores, labels)."""
    highest = np.concatenate([scores.max(axis=1) for scores, _ in training])
    thresholds = np.quantile(highest, np.linspace(0, 0.95, NUM_THRESHOLDS))

    def f1(threshold: float) -> float:
        counts = [_f1_counts(label_frames(scores, threshold), true) for scores, true in training]
        numerator, denominator = np.array(counts).sum(axis=0)
        return float(numerator / denominator)

    return float(max(thresholds, key=f1))


def measure_baselines(testbed: TestBed) -> dict[str, Counts]:
    """Measure two answers without a model: all background, and a task's steps evenly in order."""
    counts: dict[str, dict[str, list[Sequence[float]]]] = {
        baseline: defaultdict(list) for baseline in BASELINES
    }
    for video in testbed.test_videos:
        num_seconds = testbed.store.num_features(video.video_id)
        num_steps = len(video.task.steps)
        true = label_targets(_segments(video), num_seconds)
        targets = step_targets(_segments(video, 0), num_seconds, num_steps)
        nothing = (np.zeros_like(true), np.zeros_like(targets))
        evenly = (
            np.arange(num_seconds) * num_steps // num_seconds + 1,
            even_steps(num_seconds, num_steps),
        )
        for baseline, (labels, mask) in zip(BASELINES, (nothing, evenly), strict=True):
            counts[baseline]["segment F1"].append(_f1_counts(labels, true))
            counts[baseline]["foreground accuracy"].append(_foreground_counts(labels, true))
            counts[baseline]["step recall"].append(recall_counts(mask, targets))
    return {
        baseline: {name: np.array(rows, dtype=np.float64) for name, rows in found.items()}
        for baseline, found in counts.items()
    }


def _segments(video: SyntheticVideo, first: int = 1) -> list[Segment]:
    """The steps of a video, labelled by their position in its task, counted from `first`."""
    position = {step.step_id: i for i, step in enumerate(video.task.steps, start=first)}
    return [Segment(s.start, s.end, position[s.step.step_id]) for s in video.shown]


def _f1_counts(predicted: IntArray, true: IntArray) -> tuple[float, float]:
    """Numerator and denominator of the F1 of segments."""
    true_positives, false_positives, false_negatives = segment_counts(predicted, true, SEGMENT_IOU)
    return 2 * true_positives, 2 * true_positives + false_positives + false_negatives


def _foreground_counts(predicted: IntArray, true: IntArray) -> tuple[float, float]:
    """Correct seconds and all seconds of the true steps."""
    foreground = true != BACKGROUND
    return float((predicted == true)[foreground].sum()), float(foreground.sum())


def ratios(counts: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return each measure over all videos; 0 where there are no questions."""
    return {
        name: float(pairs[:, 0].sum() / pairs[:, 1].sum()) if pairs[:, 1].sum() else 0.0
        for name, pairs in counts.items()
    }
