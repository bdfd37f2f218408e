"""What a trained model knows of the test videos of a world, zero-shot, video by video.

Every measure is a ratio of two sums over videos (right answers and questions, or the two halves of
F1), so that any of them can be compared between models by resampling whole videos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from videoclip.ablation.bed import TestBed
from videoclip.benchmarks.examples import Segment
from videoclip.config import EvaluateConfig
from videoclip.evaluation.baselines import even_steps
from videoclip.evaluation.metrics import labels as label_metrics
from videoclip.evaluation.metrics.ranking import rank_queries, recall_at
from videoclip.evaluation.metrics.steps import log_softmax, order_steps, recall_counts
from videoclip.evaluation.metrics.windows import frame_span, label_targets, step_targets
from videoclip.evaluation.providers import Provider
from videoclip.features.backbones.motion import APPEARANCE_DIM
from videoclip.reranking import rerank_clips
from videoclip.synthetic.annotate import sentences
from videoclip.synthetic.phrases import label
from videoclip.synthetic.world import ShownStep, WorldVideo

__all__ = ["MEASURES", "TRIVIAL", "Counts", "measure", "trivial"]

Counts = dict[str, NDArray[np.float64]]
"""By measure, (V, 2): numerator and denominator of each test video, in the order of the bed."""

MEASURES = {
    "R@1": "the best of all test clips shows the step a sentence describes",
    "R@5": "one of the best five does",
    "R@10": "one of the best ten does",
    "R@1 seen": "R@1 of steps that training videos show",
    "R@1 held out": "R@1 of combinations that no training video shows",
    "direction": "a clip resembles its label more than the opposite one; chance is a half",
    "direction, order hidden": "the same of the clip's mean picture",
    "segment F1": "segments of the task's steps found with an IoU of 0.25, background in between",
    "foreground accuracy": "seconds of steps with the right label among those of the task",
    "F1 in order": "the same of labels in the task's order, each a run of seconds",
    "foreground in order": "foreground accuracy of those",
    "step recall": "steps found by one second each, in order (CrossTask)",
    "all-label F1": "segments of any label found with an IoU of 0.25 (COIN)",
    "all-label foreground": "seconds of steps with the right label among all (COIN)",
}
"""What is measured, the main ones first."""

TRIVIAL = ("always background", "uniform in order")
SEGMENT_IOU = 0.25
FITTING_VIDEOS = 60
NUM_THRESHOLDS = 20


@dataclass(frozen=True)
class _Shown:
    """A step of a test video as a question and a candidate."""

    place: int  # of its video among the test videos
    shown: ShownStep
    sentence: str
    rows: tuple[int, int]  # of the video's features


def measure(provider: Provider, bed: TestBed, rerank_top: int = 0) -> Counts:
    """Measure a model on the test videos of a bed.

    Args:
        provider: The model.
        bed: A world and its features.
        rerank_top: Candidates the re-ranker orders anew in retrieval; 0: none.
    """
    provider.check(bed.store.spec)
    videos = _test_videos(bed)
    shown = _shown_steps(bed, videos)
    return {
        **_retrieval(provider, bed, videos, shown, rerank_top),
        **_direction(provider, bed, videos, shown),
        **_seconds(provider, bed, videos),
    }


def trivial(bed: TestBed) -> dict[str, Counts]:
    """Return what needs no model: everything background, and a task's steps evenly in order."""
    videos = _test_videos(bed)
    names = ("F1 in order", "foreground in order", "step recall")
    found: dict[str, Counts] = {
        who: {name: np.zeros((len(videos), 2)) for name in names} for who in TRIVIAL
    }
    for place, video in enumerate(videos):
        num_seconds, steps = bed.store.num_features(video.video_id), len(video.task.steps)
        true = label_targets(_segments(video), num_seconds)
        in_order = np.arange(num_seconds) * steps // num_seconds + 1
        for who, predicted in zip(TRIVIAL, (np.zeros_like(true), in_order), strict=True):
            found[who]["F1 in order"][place] = _f1_counts(predicted, true)
            found[who]["foreground in order"][place] = _foreground_counts(predicted, true)
        targets = step_targets(_segments(video, 0), num_seconds, steps)
        recall = recall_counts(even_steps(num_seconds, steps), targets)
        found["uniform in order"]["step recall"][place] = recall
        found["always background"]["step recall"][place] = 0, recall[1]
    return found


def _test_videos(bed: TestBed) -> list[WorldVideo]:
    return [video for video in bed.videos if video.split == "test"]


def _shown_steps(bed: TestBed, videos: Sequence[WorldVideo]) -> list[_Shown]:
    found = []
    for place, video in enumerate(videos):
        num_features = bed.store.num_features(video.video_id)
        for shown, sentence in zip(video.shown, sentences(bed.world, video), strict=True):
            first, last = frame_span(shown.start, shown.end, num_features)
            if last > first:
                found.append(_Shown(place, shown, sentence, (first, last)))
    return found


def _per_video(
    values: NDArray[np.float64], shown: Sequence[_Shown], kept: NDArray[np.bool_], num_videos: int
) -> NDArray[np.float64]:
    """Sum the answers of each video, and count its questions."""
    counts = np.zeros((num_videos, 2))
    places = np.array([item.place for item in shown])[kept]
    np.add.at(counts[:, 0], places, values[kept])
    np.add.at(counts[:, 1], places, 1)
    return counts


def _retrieval(
    provider: Provider,
    bed: TestBed,
    videos: Sequence[WorldVideo],
    shown: Sequence[_Shown],
    rerank_top: int,
) -> Counts:
    """Find clips by sentences; every clip that shows the step is right."""
    windows = [(videos[item.place].video_id, *item.rows) for item in shown]
    clips = bed.store.read_windows(windows)
    video = _embed_clips(provider, clips)
    sentences = [item.sentence for item in shown]
    similarity = provider.embed_text(sentences) @ video.T  # (N, N)
    if rerank_top:
        similarity = rerank_clips(provider.pair_scorer(sentences, clips), similarity, rerank_top)
    steps = np.array([item.shown.step.step_id for item in shown])
    ranks = rank_queries(similarity, steps, steps)
    new = np.array([item.shown.step.held_out for item in shown])
    everything = np.ones(len(shown), bool)
    counts = {
        f"R@{k}": _per_video(recall_at(ranks, k), shown, everything, len(videos))
        for k in (1, 5, 10)
    }
    first = recall_at(ranks, 1)
    counts["R@1 seen"] = _per_video(first, shown, ~new, len(videos))
    counts["R@1 held out"] = _per_video(first, shown, new, len(videos))
    return counts


def _direction(
    provider: Provider, bed: TestBed, videos: Sequence[WorldVideo], shown: Sequence[_Shown]
) -> Counts:
    """Choose between a label and its opposite, which one frame cannot tell apart.

    With its order hidden a clip is its mean picture, said as often as it has seconds, in which
    nothing moves.
    """
    steps = [item.shown.step for item in shown]
    right = provider.embed_text([label(step) for step in steps])
    wrong = provider.embed_text([label(bed.world.opposite(step)) for step in steps])
    windows = [(videos[item.place].video_id, *item.rows) for item in shown]
    clips = bed.store.read_windows(windows)
    everything = np.ones(len(shown), bool)
    counts = {}
    for name, seen in (
        ("direction", clips),
        ("direction, order hidden", [_without_order(clip) for clip in clips]),
    ):
        margin = ((right - wrong) * _embed_clips(provider, seen)).sum(axis=1)
        hits = np.where(margin == 0, 0.5, margin > 0).astype(np.float64)
        counts[name] = _per_video(hits, shown, everything, len(videos))
    return counts


def _embed_clips(provider: Provider, clips: Sequence[NDArray[np.float16]]) -> NDArray[np.float32]:
    """Embed clips, each by itself: (N, E)."""
    borders = np.cumsum([0, *map(len, clips)]).tolist()
    return provider.embed_windows(np.concatenate(clips), list(pairwise(borders)))


def _without_order(clip: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the mean picture of a clip of motion features, as long as the clip, standing still."""
    mean = clip.astype(np.float32).mean(axis=0)
    mean[APPEARANCE_DIM:] = 0
    return np.tile(mean.astype(np.float16), (len(clip), 1))


def _seconds(provider: Provider, bed: TestBed, videos: Sequence[WorldVideo]) -> Counts:
    """Label every second, among the steps of the video's task and among all, and find the steps."""
    training = [video for video in bed.videos if video.split == "train"]
    fitting = [training[i] for i in _spread(len(training), FITTING_VIDEOS)]
    steps = {s.step_id: s for v in (*fitting, *videos) for s in v.task.steps}
    ids = sorted(steps)
    texts = provider.embed_text([label(steps[i]) for i in ids])
    row_of = {step_id: row for row, step_id in enumerate(ids)}
    config = EvaluateConfig()
    similarity = {
        video.video_id: provider.embed_seconds(
            bed.store.read(video.video_id), attend_cls=config.attend_cls
        )
        @ texts.T
        for video in (*fitting, *videos)
    }  # each (T, K of all)

    def of_task(video: WorldVideo) -> NDArray[np.float32]:
        rows = [row_of[step.step_id] for step in video.task.steps]
        return similarity[video.video_id][:, rows]

    def of_all(video: WorldVideo) -> NDArray[np.float32]:
        return similarity[video.video_id]

    def true_of_all(video: WorldVideo) -> NDArray[np.int64]:
        rows = [Segment(s.start, s.end, row_of[s.step.step_id] + 1) for s in video.shown]
        return label_targets(rows, len(similarity[video.video_id]))

    def true_of_task(video: WorldVideo) -> NDArray[np.int64]:
        return label_targets(_segments(video), len(similarity[video.video_id]))

    counts: dict[str, list[Sequence[float]]] = defaultdict(list)
    for values, true_of, names in (
        (of_task, true_of_task, ("segment F1", "foreground accuracy")),
        (of_all, true_of_all, ("all-label F1", "all-label foreground")),
    ):
        threshold = _fit([(values(video), true_of(video)) for video in fitting])
        for video in videos:
            true = true_of(video)
            predicted = label_metrics.label_frames(values(video), threshold)
            counts[names[0]].append(_f1_counts(predicted, true))
            counts[names[1]].append(_foreground_counts(predicted, true))
    for video in videos:
        cost = -log_softmax(of_task(video) / provider.temperature)
        # A second must be likelier than chance to be worth a step.
        runs = order_steps(cost - np.log(len(video.task.steps)), exactly_one=False)
        predicted, true = runs.any(axis=1) * (runs.argmax(axis=1) + 1), true_of_task(video)
        counts["F1 in order"].append(_f1_counts(predicted, true))
        counts["foreground in order"].append(_foreground_counts(predicted, true))
        found = order_steps(cost)
        targets = step_targets(_segments(video, 0), len(found), len(video.task.steps))
        counts["step recall"].append(recall_counts(found, targets))
    return {name: np.array(rows, dtype=np.float64) for name, rows in counts.items()}


def _fit(training: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]]) -> float:
    """Return the background threshold with the best F1 of segments on training videos."""
    highest = np.concatenate([values.max(axis=1) for values, _ in training])
    thresholds = np.quantile(highest, np.linspace(0, 0.95, NUM_THRESHOLDS))

    def f1(threshold: float) -> float:
        counts = np.array(
            [
                _f1_counts(label_metrics.label_frames(values, threshold), true)
                for values, true in training
            ]
        )
        found, whole = counts.sum(axis=0)
        return float(found / whole)

    return float(max(thresholds, key=f1))


def _spread(total: int, number: int) -> list[int]:
    """At most `number` of `total` places, evenly spread."""
    places: list[int] = np.linspace(0, total - 1, min(number, total)).astype(int).tolist()
    return places


def _segments(video: WorldVideo, first: int = 1) -> list[Segment]:
    """The steps of a video, labelled by their place in its task from `first` on."""
    place = {step.step_id: i for i, step in enumerate(video.task.steps, start=first)}
    return [Segment(s.start, s.end, place[s.step.step_id]) for s in video.shown]


def _f1_counts(predicted: NDArray[np.int64], true: NDArray[np.int64]) -> tuple[float, float]:
    """F1 is twice the segments found over all predicted and all true ones."""
    found, in_vain, missed = label_metrics.segment_counts(predicted, true, SEGMENT_IOU)
    return 2 * found, 2 * found + in_vain + missed


def _foreground_counts(
    predicted: NDArray[np.int64], true: NDArray[np.int64]
) -> tuple[float, float]:
    shown = true != label_metrics.BACKGROUND
    return float((predicted == true)[shown].sum()), float(shown.sum())


def ratios(counts: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return each measure over all videos; 0 where nothing was asked."""
    return {
        name: float(pairs[:, 0].sum() / pairs[:, 1].sum()) if pairs[:, 1].sum() else 0.0
        for name, pairs in counts.items()
    }
