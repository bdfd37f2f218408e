"""Step localisation: where in a video of a known task each of its ordered steps happens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from videoclip.benchmarks.crosstask import CrossTask, released_split
from videoclip.benchmarks.examples import StepVideo
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation.baselines import even_steps, random_steps
from videoclip.evaluation.clips import with_features
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics.steps import log_softmax, order_steps, recall_counts
from videoclip.evaluation.metrics.targets import step_targets
from videoclip.evaluation.outcome import (
    Bars,
    Baseline,
    Missing,
    Outcome,
    Setting,
    TimelinePlot,
    Track,
    measure,
    share_histogram,
)
from videoclip.types import OnProgress

__all__ = ["Assignment", "crosstask_test", "evaluate_steps", "step_localizer", "task_recall"]

Assignment = NDArray[np.bool_]
"""(T, K), True where a second is given to a step."""
NUM_TIMELINES = 6
NUM_RANDOM_DRAWS = 10


def crosstask_test(
    benchmark: CrossTask, store: FeatureStore
) -> tuple[list[StepVideo], list[Missing]]:
    """Return the released test videos among those with features, and the videos without.

    Videos with fewer features than steps, or without any step, are left out as well.

    Raises:
        DataError: If no test video is left.
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


def step_localizer(
    encoder: DualEncoder, store: FeatureStore, config: EvaluateConfig
) -> Callable[[StepVideo], Assignment]:
    """Return a function that finds the steps of one video, zero-shot.

    Similarities of seconds with step texts become log-probabilities over the task's steps, at the
    model's temperature; the cheapest ordered assignment wins. Where steps take runs of seconds, a
    second must be likelier than chance to be worth it: otherwise background is always cheaper.
    """
    texts: dict[str, NDArray[np.float32]] = {}

    def locate(video: StepVideo) -> Assignment:
        task = video.task
        if task.task_id not in texts:
            texts[task.task_id] = encoder.embed_text(task.steps)
        features = store.read(video.video_id)
        seconds = encoder.embed_seconds(features, attend_cls=config.attend_cls)
        logits = seconds @ texts[task.task_id].T / encoder.temperature  # (T, K)
        chance = 0.0 if config.exactly_one else np.log(len(task.steps))
        return order_steps(-log_softmax(logits) - chance, exactly_one=config.exactly_one)

    return locate


def evaluate_steps(
    benchmark: CrossTask,
    locate: Callable[[StepVideo], Assignment],
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Score assignments of the released test videos.

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
    found, even, random = [], [], []
    rows: list[dict[str, Setting]] = []
    plots: list[TimelinePlot] = []
    for done, video in enumerate(videos, start=1):
        num_frames, num_steps = store.num_features(video.video_id), len(video.task.steps)
        true = step_targets(video.segments, num_frames, num_steps, rate)
        predicted = locate(video)
        found.append(recall_counts(predicted, true))
        even.append(recall_counts(even_steps(num_frames, num_steps), true))
        draws = [random_steps(num_frames, num_steps, rng) for _ in range(NUM_RANDOM_DRAWS)]
        random.append(np.mean([recall_counts(draw, true) for draw in draws], axis=0))
        rows.append(
            {
                "task": video.task.task_id,
                "video_id": video.video_id,
                "steps found": found[-1][0],
                "steps present": found[-1][1],
            }
        )
        if (done - 1) % max(1, len(videos) // NUM_TIMELINES) == 0 and len(plots) < NUM_TIMELINES:
            plots.append(_timeline(video, predicted, num_frames, rate))
        if on_progress:
            on_progress(done, len(videos))

    tasks = [video.task.task_id for video in videos]
    counts = np.array(found, dtype=np.float64)
    names = list(dict.fromkeys(tasks))
    owner = np.array([names.index(task) for task in tasks])

    def recall(items: NDArray[np.int64]) -> float:
        return task_recall(counts[items], owner[items])

    per_task = [task_recall(counts[owner == i], owner[owner == i]) for i in range(len(names))]
    spread = share_histogram(
        "Recall of each video",
        "recall",
        {
            name: [hits / present for hits, present in of if present]
            for name, of in (("model", found), ("evenly spread", even))
        },
    )
    titles = {video.task.task_id: video.task.title for video in videos}
    return Outcome(
        protocol="recall of ordered steps, mean over tasks; released split of videos with features",
        settings={
            "steps": "exactly one second each" if config.exactly_one else "a run of seconds each",
            "attend to [CLS]": config.attend_cls,
            "tasks": len(names),
            "features per second": rate,
        },
        measures=(measure("average recall", recall, [v.video_id for v in videos], config),),
        baselines=(
            Baseline("random", {"average recall": task_recall(np.array(random), owner)}),
            Baseline(
                "evenly spread",
                {"average recall": task_recall(np.array(even, dtype=np.float64), owner)},
            ),
        ),
        num_examples=int(counts[:, 1].sum()),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(rows),
        plots=(
            Bars("Recall by task", tuple(titles[n] for n in names), tuple(per_task)),
            spread,
            *plots,
        ),
    )


def task_recall(counts: NDArray[np.float64], tasks: NDArray[np.int64]) -> float:
    """Return the mean over tasks of steps found over steps present, pooled over its videos.

    Args:
        counts: (V, 2) of each video: found, present.
        tasks: (V,) task of each video.
    """
    found, present = (np.bincount(tasks, counts[:, i]) for i in (0, 1))
    return float((found[present > 0] / present[present > 0]).mean())


def _timeline(
    video: StepVideo, predicted: Assignment, num_frames: int, rate: float
) -> TimelinePlot:
    names = video.task.steps
    true = tuple((s.start, s.end, names[s.label]) for s in video.segments)
    runs = tuple(
        (float(frames[0] / rate), float((frames[-1] + 1) / rate), names[step])
        for step in range(len(names))
        if len(frames := np.flatnonzero(predicted[:, step]))
    )
    return TimelinePlot(
        f"{video.task.title}, {video.video_id}",
        num_frames / rate,
        (Track("true", true), Track("predicted", runs)),
    )
