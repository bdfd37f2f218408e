"""Zero-shot measures of a model on the test videos of a test bed, video by video.

Every measure is a ratio of two sums over videos (correct answers and questions, or the two halves
of F1), so that any of them can be compared between models by resampling whole videos.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from videoclip.ablation.testbed import TestBed
from videoclip.benchmarks.examples import Segment
from videoclip.config import EvaluateConfig
from videoclip.evaluation.baselines import even_steps
from videoclip.evaluation.metrics.frames import (
    label_targets,
    recall_counts,
    segment_counts,
    step_targets,
)
from videoclip.evaluation.metrics.ranking import rank_queries, recall_at
from videoclip.evaluation.trial import TextVideoEncoder, embed_arrays, find_clip
from videoclip.features.backbones.motion import APPEARANCE_DIM
from videoclip.synthetic.annotate import descriptions
from videoclip.synthetic.narrate import label
from videoclip.synthetic.world import SyntheticStep, SyntheticVideo
from videoclip.types import BoolArray, IntArray, RealArray
from videoclip.zeroshot.labels import BACKGROUND, label_frames
from videoclip.zeroshot.rerank import rerank_clips
from videoclip.zeroshot.steps import assign_steps

Counts: TypeAlias = dict[str, RealArray]
"""By measure, (V, 2): numerator and denominator of each test video, in the order of the bed."""
Pair: TypeAlias = tuple[float, float]
"""Numerator and denominator of one video."""

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


def measure(encoder: TextVideoEncoder, testbed: TestBed, rerank_top: int = 0) -> Counts:
    """Measure a model on the test videos.

    Args:
        encoder: The model.
        testbed: A world and its features.
        rerank_top: How many of the best candidates the re-ranker orders in retrieval; 0: none.
    """
    encoder.check(testbed.store.spec)
    clips = _measure_clips(encoder, testbed, rerank_top)
    return clips | _measure_seconds(encoder, testbed)


def _measure_clips(encoder: TextVideoEncoder, testbed: TestBed, rerank_top: int) -> Counts:
    """Retrieve clips by descriptions, and choose between the label of a clip and the opposite one.

    A clip is a step of a test video; every clip that shows the described step is correct. With its
    order hidden, a clip is its mean frame, repeated, in which nothing moves.
    """
    world, store, videos = testbed.world, testbed.store, testbed.test_videos
    owners, steps, texts, windows = [], [], [], []
    for owner, video in enumerate(videos):
        for shown, text in zip(video.shown, descriptions(world, video), strict=True):
            if window := find_clip(store, video.video_id, shown.start, shown.end):
                owners.append(owner)
                steps.append(shown.step)
                texts.append(text)
                windows.append(window)
    clips = store.read_windows(windows)
    embedded = embed_arrays(encoder, clips)

    similarity = encoder.embed_text(texts) @ embedded.T  # (N, N)
    if rerank_top:
        similarity = rerank_clips(encoder.pair_scorer(texts, clips), similarity, rerank_top)
    step_ids = np.array([step.step_id for step in steps])
    ranks = rank_queries(similarity, step_ids, step_ids)

    right = encoder.embed_text([label(step) for step in steps])
    wrong = encoder.embed_text([label(world.opposite(step)) for step in steps])
    orderless = embed_arrays(encoder, [_hide_order(clip) for clip in clips])
    in_order, order_hidden = (
        0.5 + 0.5 * np.sign(((right - wrong) * vectors).sum(axis=1))
        for vectors in (embedded, orderless)
    )

    every = np.ones(len(steps))
    held_out = np.array([float(step.held_out) for step in steps])
    answers = {
        "R@1": (recall_at(ranks, 1), every),
        "R@5": (recall_at(ranks, 5), every),
        "R@10": (recall_at(ranks, 10), every),
        "R@1 seen": (recall_at(ranks, 1), 1 - held_out),
        "R@1 held out": (recall_at(ranks, 1), held_out),
        "direction": (in_order, every),
        "direction, order hidden": (order_hidden, every),
    }  # each (N,) shares of a correct answer, and whether the question counts

    def by_video(values: RealArray) -> RealArray:
        return np.asarray(np.bincount(owners, values, len(videos)), dtype=np.float64)

    return {
        name: np.stack((by_video(correct * asked), by_video(asked)), axis=1)
        for name, (correct, asked) in answers.items()
    }


def _hide_order(clip: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the mean of a clip of motion features at every second, without motion."""
    mean = clip.astype(np.float32).mean(axis=0)
    mean[APPEARANCE_DIM:] = 0
    return np.tile(mean.astype(np.float16), (len(clip), 1))


def _measure_seconds(encoder: TextVideoEncoder, testbed: TestBed) -> Counts:
    """Label every second, among the steps of the video's task and among all, and find the steps."""
    store, videos, training = testbed.store, testbed.test_videos, testbed.training_videos
    evenly = np.linspace(0, len(training) - 1, min(FITTING_VIDEOS, len(training))).astype(int)
    fitting = [training[i] for i in evenly]
    every = sorted({s for v in (*fitting, *videos) for s in v.task.steps}, key=lambda s: s.step_id)
    column_of = {step: column for column, step in enumerate(every)}
    texts = encoder.embed_text([label(step) for step in every])
    attend_cls = EvaluateConfig().attend_cls
    similarity = {
        video: encoder.embed_seconds(store.read(video.video_id), attend_cls=attend_cls) @ texts.T
        for video in (*fitting, *videos)
    }  # each (T, K of all tasks)

    def among(video: SyntheticVideo, steps: Sequence[SyntheticStep]) -> tuple[RealArray, IntArray]:
        """Scores of some steps (T, K), and the true labels (T,)."""
        scores = similarity[video][:, [column_of[step] for step in steps]]
        return scores, label_targets(_segments(video, steps), len(scores))

    counts: dict[str, list[Pair]] = defaultdict(list)
    for steps_of, f1, foreground in (
        (lambda video: video.task.steps, "segment F1", "foreground accuracy"),
        (lambda video: every, "all-label F1", "all-label foreground"),
    ):
        threshold = _fit_threshold([among(video, steps_of(video)) for video in fitting])
        for video in videos:
            scores, true = among(video, steps_of(video))
            predicted = label_frames(scores, threshold)
            counts[f1].append(_f1_counts(predicted, true))
            counts[foreground].append(_foreground_counts(predicted, true))
    for video in videos:
        scores, true = among(video, video.task.steps)
        logits = scores / encoder.temperature
        mask = assign_steps(logits)
        predicted = mask.any(axis=1) * (mask.argmax(axis=1) + 1)
        counts["F1 in order"].append(_f1_counts(predicted, true))
        counts["foreground in order"].append(_foreground_counts(predicted, true))
        counts["step recall"].append(_step_counts(assign_steps(logits, exactly_one=True), video))
    return {name: np.array(rows, dtype=np.float64) for name, rows in counts.items()}


def _fit_threshold(training: Sequence[tuple[RealArray, IntArray]]) -> float:
    """Return the background threshold with the best F1 of segments on (scores, labels)."""
    highest = np.concatenate([scores.max(axis=1) for scores, _ in training])
    thresholds = np.quantile(highest, np.linspace(0, 0.95, NUM_THRESHOLDS))

    def f1(threshold: float) -> float:
        counts = [_f1_counts(label_frames(scores, threshold), true) for scores, true in training]
        return float(ratio(np.sum(counts, axis=0)))

    return float(max(thresholds, key=f1))


def measure_baselines(testbed: TestBed) -> dict[str, Counts]:
    """Measure two answers without a model: all background, and a task's steps evenly in order."""
    counts: dict[str, dict[str, list[Pair]]] = {name: defaultdict(list) for name in BASELINES}
    for video in testbed.test_videos:
        length, num_steps = testbed.store.num_features(video.video_id), len(video.task.steps)
        true = label_targets(_segments(video, video.task.steps), length)
        nothing = np.zeros_like(true), np.zeros((length, num_steps), dtype=bool)
        evenly = np.arange(length) * num_steps // length + 1, even_steps(length, num_steps)
        for name, (labels, mask) in zip(BASELINES, (nothing, evenly), strict=True):
            counts[name]["segment F1"].append(_f1_counts(labels, true))
            counts[name]["foreground accuracy"].append(_foreground_counts(labels, true))
            counts[name]["step recall"].append(_step_counts(mask, video))
    return {
        baseline: {name: np.array(rows, dtype=np.float64) for name, rows in found.items()}
        for baseline, found in counts.items()
    }


def _segments(
    video: SyntheticVideo, steps: Sequence[SyntheticStep], first: int = 1
) -> list[Segment]:
    """The steps of a video, labelled by their position among some steps, counted from `first`."""
    label_of = {step: i for i, step in enumerate(steps, start=first)}
    return [Segment(shown.start, shown.end, label_of[shown.step]) for shown in video.shown]


def _f1_counts(predicted: IntArray, true: IntArray) -> Pair:
    """Numerator and denominator of the F1 of segments."""
    true_positives, false_positives, false_negatives = segment_counts(predicted, true, SEGMENT_IOU)
    return 2 * true_positives, 2 * true_positives + false_positives + false_negatives


def _foreground_counts(predicted: IntArray, true: IntArray) -> Pair:
    """Correct seconds and all seconds of the true steps."""
    foreground = true != BACKGROUND
    return float((predicted == true)[foreground].sum()), float(foreground.sum())


def _step_counts(mask: BoolArray, video: SyntheticVideo) -> Pair:
    """Steps of a video that (T, K) assigned seconds find, and all that it has."""
    return recall_counts(mask, step_targets(_segments(video, video.task.steps, 0), *mask.shape))


def ratio(counts: RealArray) -> RealArray:
    """Return the ratios (...) of numerators and denominators (..., 2); 0 without questions."""
    numerators, denominators = np.asarray(counts[..., 0]), np.asarray(counts[..., 1])
    return np.asarray(
        np.divide(numerators, denominators, out=np.zeros(numerators.shape), where=denominators > 0)
    )
