"""Step localisation: where each of the ordered steps of a known task happens in a video."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from videoclip.benchmarks.crosstask import CrossTask, released_split
from videoclip.benchmarks.examples import StepVideo
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation.baselines import even_steps, random_steps
from videoclip.evaluation.clips import with_features
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics.frames import recall_counts, step_targets, task_recall
from videoclip.evaluation.outcome import (
    SHARE_EDGES,
    Bars,
    Baseline,
    Missing,
    Outcome,
    Setting,
    TimelinePlot,
    histogram,
    measure,
    pick_evenly,
)
from videoclip.types import BoolArray, FloatArray, IntArray, OnProgress
from videoclip.zeroshot.confidence import MIN_Z_SCORE, UNRELATED_QUERIES, Calibration
from videoclip.zeroshot.steps import assign_steps, order_steps, step_mask

Localizer = Callable[[StepVideo], BoolArray]
"""From a video to (T, K), True where a frame is assigned to a step."""
NUM_TIMELINES = 6
NUM_RANDOM_DRAWS = 10


def crosstask_test(
    benchmark: CrossTask, store: FeatureStore
) -> tuple[list[StepVideo], list[Missing]]:
    """Return the released test videos among those with features, and the videos left out.

    Videos with fewer features than steps, or without any step, are left out as well.

    Raises:
        DataError: If no test video remains.
    """
    present, missing = with_features(benchmark.videos, store)
    test = released_split(present, benchmark.validation, set(store.video_ids))[1]
    kept = []
    for video in test:
        if not video.segments:
            missing.append(Missing(video.video_id, "no step annotated"))
        elif store.num_features(video.video_id) < len(video.task.steps):
            reason = f"fewer features than the {len(video.task.steps)} steps"
            missing.append(Missing(video.video_id, reason))
        else:
            kept.append(video)
    if not kept:
        raise DataError("no test video has features: extract more of them", store.folder)
    return kept, missing


def step_localizer(encoder: DualEncoder, store: FeatureStore, config: EvaluateConfig) -> Localizer:
    """Return a function that finds the steps of one video, zero-shot.

    Source: as released, see `assign_steps`. With `decoding="product"`: z-scores over unrelated
    queries, as `localize`.
    """

    @cache
    def embed_steps(steps: tuple[str, ...]) -> FloatArray:
        return encoder.embed_text(steps)

    def locate(video: StepVideo) -> BoolArray:
        seconds = encoder.embed_seconds(store.read(video.video_id), attend_cls=config.attend_cls)
        logits = seconds @ embed_steps(video.task.steps).T / encoder.temperature  # (T, K)
        return assign_steps(logits, exactly_one=config.exactly_one)

    if config.decoding == "released":
        return locate
    calibration = Calibration.of_scenes(encoder.embed_text(UNRELATED_QUERIES))

    def locate_as_product(video: StepVideo) -> BoolArray:
        seconds = encoder.embed_seconds(store.read(video.video_id), attend_cls=True)
        similarities = embed_steps(video.task.steps) @ seconds.T  # (K, T)
        z_scores = calibration.z_scores(seconds, similarities).T
        return step_mask(order_steps(z_scores - MIN_Z_SCORE, optional=True), len(seconds))

    return locate_as_product


def evaluate_steps(
    benchmark: CrossTask,
    locate: Localizer,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Score the steps found in the released test videos.

    Args:
        benchmark: All annotated videos.
        locate: Finds the steps of one video, for instance `step_localizer(...)`.
        store: Features; the split depends on which videos have them.
        config: Intervals and settings.
        on_progress: Called with the number of videos done and in all.
    """
    videos, missing = crosstask_test(benchmark, store)
    rate = store.spec.features_per_second
    rng = np.random.default_rng(config.seed)
    model, even, random = [], [], []
    rows: list[dict[str, Setting]] = []
    plots: list[TimelinePlot] = []
    plotted = pick_evenly(len(videos), NUM_TIMELINES)
    for i, video in enumerate(videos):
        num_frames, num_steps = store.num_features(video.video_id), len(video.task.steps)
        true = step_targets(video.segments, num_frames, num_steps, rate)
        predicted = locate(video)
        model.append(recall_counts(predicted, true))
        even.append(recall_counts(even_steps(num_frames, num_steps), true))
        draws = [random_steps(num_frames, num_steps, rng) for _ in range(NUM_RANDOM_DRAWS)]
        random.append(np.mean([recall_counts(draw, true) for draw in draws], axis=0))
        rows.append(
            {
                "task": video.task.task_id,
                "video_id": video.video_id,
                "steps found": model[-1][0],
                "steps present": model[-1][1],
            }
        )
        if i in plotted:
            plots.append(_timeline(video, predicted, num_frames, rate))
        if on_progress:
            on_progress(i + 1, len(videos))

    tasks = [video.task.task_id for video in videos]
    titles = {video.task.task_id: video.task.title for video in videos}
    names = list(titles)
    owner = np.array([names.index(task) for task in tasks])
    counts = np.array(model, dtype=np.float64)

    def recall(items: IntArray) -> dict[str, float]:
        return {"average recall": task_recall(counts[items], owner[items])}

    per_task = tuple(task_recall(counts[owner == i], owner[owner == i]) for i in range(len(names)))
    shares = {
        name: [found / present for found, present in of if present]
        for name, of in (("model", model), ("evenly spread", even))
    }
    steps = "exactly one second each" if config.exactly_one else "a run of seconds each"
    return Outcome(
        protocol="recall of ordered steps, mean over tasks; released split of videos with features",
        settings={
            "steps": "as `localize` finds them" if config.decoding == "product" else steps,
            "attend to [CLS]": config.decoding == "product" or config.attend_cls,
            "tasks": len(names),
            "features per second": rate,
        },
        measures=measure(recall, [video.video_id for video in videos], config),
        baselines=tuple(
            Baseline(name, {"average recall": task_recall(np.array(of, dtype=np.float64), owner)})
            for name, of in (("random", random), ("evenly spread", even))
        ),
        num_examples=int(counts[:, 1].sum()),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(rows),
        plots=(
            Bars("Recall by task", tuple(titles.values()), per_task),
            histogram("Recall of each video", "recall", SHARE_EDGES, shares),
            *plots,
        ),
    )


def _timeline(video: StepVideo, predicted: BoolArray, num_frames: int, rate: float) -> TimelinePlot:
    names = video.task.steps
    runs = (
        (float(frames[0] / rate), float((frames[-1] + 1) / rate), names[step])
        for step in range(len(names))
        if len(frames := np.flatnonzero(predicted[:, step]))
    )
    true = ((s.start, s.end, names[s.label]) for s in video.segments)
    title = f"{video.task.title}, {video.video_id}"
    return TimelinePlot.of(title, num_frames / rate, true, runs)
