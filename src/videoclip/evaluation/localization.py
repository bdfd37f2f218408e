"""Step localisation: where each of the ordered steps of a known task happens in a video."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from videoclip.benchmarks.crosstask import CrossTask, released_split
from videoclip.benchmarks.examples import Baseline, StepVideo
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation.baselines import even_steps, random_steps
from videoclip.evaluation.metrics.frames import recall_counts, step_targets, task_recall
from videoclip.evaluation.outcome import (
    SHARE_EDGES,
    Bars,
    Missing,
    Outcome,
    TimelinePlot,
    histogram,
    measure,
    some_timelines,
)
from videoclip.evaluation.trial import Trial, unique, with_features
from videoclip.types import BoolArray, FloatArray, IntArray, RealArray
from videoclip.zeroshot.confidence import MIN_Z_SCORE, UNRELATED_QUERIES, Calibration
from videoclip.zeroshot.steps import assign_steps, order_steps, step_mask

Localizer = Callable[[StepVideo], BoolArray]
"""From a video to (T, K), True where a frame is assigned to a step."""
NUM_RANDOM_DRAWS = 10


def step_localizer(trial: Trial) -> Localizer:
    """Return a function that finds the steps of one video, zero-shot.

    Source: as released, see `assign_steps`. With `decoding="product"`: z-scores over unrelated
    queries, as `localize`.
    """
    encoder, config = trial.encoder, trial.config

    @cache
    def embed_steps(steps: tuple[str, ...]) -> FloatArray:
        return encoder.embed_text(steps)

    def locate(video: StepVideo) -> BoolArray:
        seconds = trial.embed_seconds(video.video_id, attend_cls=config.attend_cls)
        logits = seconds @ embed_steps(video.task.steps).T / encoder.temperature  # (T, K)
        return assign_steps(logits, exactly_one=config.exactly_one)

    if config.decoding == "released":
        return locate
    calibration = Calibration(encoder.embed_text(UNRELATED_QUERIES))

    def locate_as_product(video: StepVideo) -> BoolArray:
        seconds = trial.embed_seconds(video.video_id, attend_cls=True)
        similarities = embed_steps(video.task.steps) @ seconds.T  # (K, T)
        z_scores = calibration.z_scores(seconds, similarities).T
        return step_mask(order_steps(z_scores - MIN_Z_SCORE, optional=True), len(seconds))

    return locate_as_product


def _test_videos(
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
        raise DataError(
            "no test video has features and steps to find in them: extract more of them",
            store.folder,
        )
    return kept, missing


def evaluate_steps(benchmark: CrossTask, trial: Trial) -> Outcome:
    """Score the steps found in the released test videos.

    Args:
        benchmark: All annotated videos.
        trial: The split depends on which videos have features.
    """
    config, rate = trial.config, trial.rate
    videos, missing = _test_videos(benchmark, trial.store)
    true = [
        step_targets(v.segments, trial.store.num_features(v.video_id), len(v.task.steps), rate)
        for v in videos
    ]
    predicted = trial.predict_all(step_localizer(trial), videos)
    rng = np.random.default_rng(config.seed)
    draws = [[random_steps(len(t), t.shape[1], rng) for _ in range(NUM_RANDOM_DRAWS)] for t in true]
    model = _counts(predicted, true)
    even = _counts([even_steps(*t.shape) for t in true], true)
    random = np.mean([_counts(drawn, true) for drawn in zip(*draws, strict=True)], axis=0)

    tasks, owner = unique([video.task for video in videos])

    def recall(items: IntArray) -> dict[str, float]:
        return {"average recall": task_recall(model[items], owner[items])}

    per_task = tuple(
        recall(np.flatnonzero(owner == i))["average recall"] for i in range(len(tasks))
    )
    present = model[:, 1] > 0
    shares = {
        name: counts[present, 0] / counts[present, 1]
        for name, counts in (("model", model), ("evenly spread", even))
    }
    steps = "exactly one second each" if config.exactly_one else "a run of seconds each"
    return Outcome(
        protocol="recall of ordered steps, mean over tasks; released split of videos with features",
        settings={
            "steps": "as `localize` finds them" if config.decoding == "product" else steps,
            "attend to [CLS]": config.decoding == "product" or config.attend_cls,
            "tasks": len(tasks),
            "features per second": rate,
        },
        measures=measure(recall, [video.video_id for video in videos], config),
        baselines=tuple(
            Baseline(name, {"average recall": task_recall(counts, owner)})
            for name, counts in (("random", random), ("evenly spread", even))
        ),
        num_examples=int(model[:, 1].sum()),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(
            {
                "task": video.task.task_id,
                "video_id": video.video_id,
                "steps found": int(found),
                "steps present": int(number),
            }
            for video, (found, number) in zip(videos, model, strict=True)
        ),
        plots=(
            Bars("Recall by task", tuple(task.title for task in tasks), per_task),
            histogram("Recall of each video", "recall", SHARE_EDGES, shares),
            *some_timelines(lambda i: _timeline(videos[i], predicted[i], rate), len(videos)),
        ),
    )


def _counts(predicted: Sequence[BoolArray], true: Sequence[BoolArray]) -> RealArray:
    """Return (V, 2): the steps found in each video, and the steps it has."""
    pairs = zip(predicted, true, strict=True)
    return np.array([recall_counts(*pair) for pair in pairs], dtype=np.float64)


def _timeline(video: StepVideo, predicted: BoolArray, rate: float) -> TimelinePlot:
    names = video.task.steps
    runs = (
        (float(frames[0] / rate), float((frames[-1] + 1) / rate), names[step])
        for step in range(len(names))
        if len(frames := np.flatnonzero(predicted[:, step]))
    )
    true = ((s.start, s.end, names[s.label]) for s in video.segments)
    title = f"{video.task.title}, {video.video_id}"
    return TimelinePlot.of(title, len(predicted) / rate, true, runs)
