"""Step localisation: where each of the ordered steps of a known task happens in a video."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from videoclip.benchmarks.crosstask import CrossTask, released_split
from videoclip.benchmarks.examples import Baseline, StepVideo
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation.baselines import even_steps, random_steps, single_frames
from videoclip.evaluation.metrics.frames import (
    recall_counts,
    step_overlap,
    step_targets,
    task_recall,
)
from videoclip.evaluation.outcome import (
    SHARE_EDGES,
    Bars,
    Missing,
    Outcome,
    Statistics,
    TimelinePlot,
    histogram,
    measure,
    some_timelines,
)
from videoclip.evaluation.trial import Trial, unique, with_features
from videoclip.types import BoolArray, FloatArray, IntArray, RealArray
from videoclip.zeroshot.confidence import MIN_Z_SCORE, UNRELATED_QUERIES, Calibration
from videoclip.zeroshot.steps import assign_steps, order_steps, step_mask

Localizer = Callable[[StepVideo], tuple[BoolArray, BoolArray]]
"""From a video to where its steps are: (T, K), True where a frame is assigned to a step.

First with the steps in the order of their task, then with each where it is likeliest.
"""
NUM_RANDOM_DRAWS = 10
MEASURES = ("average recall", "average recall, unordered", "step IoU")


def step_localizer(trial: Trial) -> Localizer:
    """Return a function that finds the steps of one video, zero-shot.

    Source: as released, see `assign_steps`. With `decoding="product"`: z-scores over unrelated
    queries, as `localize`.
    """
    encoder, config = trial.encoder, trial.config

    @cache
    def embed_steps(steps: tuple[str, ...]) -> FloatArray:
        return encoder.embed_text(steps)

    def locate(video: StepVideo) -> tuple[BoolArray, BoolArray]:
        seconds = trial.embed_seconds(video.video_id, attend_cls=config.attend_cls)
        logits = seconds @ embed_steps(video.task.steps).T / encoder.temperature  # (T, K)
        return assign_steps(logits, exactly_one=config.exactly_one), _likeliest(logits)

    if config.decoding == "released":
        return locate
    calibration = Calibration(encoder.embed_text(UNRELATED_QUERIES))

    def locate_as_product(video: StepVideo) -> tuple[BoolArray, BoolArray]:
        seconds = trial.embed_seconds(video.video_id, attend_cls=True)
        similarities = embed_steps(video.task.steps) @ seconds.T  # (K, T)
        z_scores = calibration.z_scores(seconds, similarities).T
        ordered = step_mask(order_steps(z_scores - MIN_Z_SCORE, optional=True), len(seconds))
        return ordered, _likeliest(z_scores)

    return locate_as_product


def _likeliest(scores: RealArray) -> BoolArray:
    """Give each step the frame with its highest score (T, K)."""
    return single_frames(scores.argmax(axis=0), len(scores))


def _test_videos(
    benchmark: CrossTask, store: FeatureStore, num_splits: int
) -> tuple[list[StepVideo], BoolArray, list[Missing]]:
    """Return the test videos among those with features, and the videos left out.

    Videos with fewer features than steps, or without any step in them, are left out as well.

    Returns:
        The test videos of all splits, whether each (S, V) is in a split, and the videos left out.

    Raises:
        DataError: If no test video remains.
    """
    present, missing = with_features(benchmark.videos, store)
    available = set(store.video_ids)
    tests = [
        {
            (video.task.task_id, video.video_id)
            for video in released_split(present, benchmark.validation, available, seed)[1]
        }
        for seed in range(num_splits)
    ]
    kept, inside = [], []
    for video in present:
        key = video.task.task_id, video.video_id
        in_split = [key in test for test in tests]
        if not any(in_split):
            continue
        rate, num_steps = store.spec.features_per_second, len(video.task.steps)
        num_features = store.num_features(video.video_id)
        if not video.segments:
            missing.append(Missing(video.video_id, "no step annotated"))
        elif num_features < num_steps:
            reason = f"fewer features than the {num_steps} steps"
            missing.append(Missing(video.video_id, reason))
        elif not step_targets(video.segments, num_features, num_steps, rate).any():
            missing.append(Missing(video.video_id, "features end before its steps"))
        else:
            kept.append(video)
            inside.append(in_split)
    if not kept:
        raise DataError(
            "no test video has features and steps to find in them: extract more of them",
            store.folder,
        )
    return kept, np.array(inside).T, missing


def evaluate_steps(benchmark: CrossTask, trial: Trial) -> Outcome:
    """Score the steps found in the released test videos.

    Args:
        benchmark: All annotated videos.
        trial: The split depends on which videos have features.
    """
    config, rate = trial.config, trial.rate
    videos, inside, missing = _test_videos(benchmark, trial.store, config.num_splits)
    true = [
        step_targets(v.segments, trial.store.num_features(v.video_id), len(v.task.steps), rate)
        for v in videos
    ]
    predicted, likeliest = zip(*trial.predict_all(step_localizer(trial), videos), strict=True)
    rng = np.random.default_rng(config.seed)
    ordered, unordered = (
        [_draws(rng, of.shape, in_order) for of in true] for in_order in (True, False)
    )
    even = [even_steps(*t.shape) for t in true]
    columns = {
        "model": _counts(predicted, likeliest, true),
        "random": np.mean(
            [
                _counts([d[i] for d in ordered], [d[i] for d in unordered], true)
                for i in range(NUM_RANDOM_DRAWS)
            ],
            axis=0,
        ),
        "evenly spread": _counts(even, even, true),
    }
    model = columns["model"]
    tasks, owner = unique([video.task for video in videos])

    def shares_of(counts: RealArray) -> Statistics:
        def statistics(items: IntArray) -> dict[str, float]:
            # A small resample may have no video of a split.
            parts = [part for of in inside if len(part := items[of[items]])]
            values = [
                [task_recall(counts[part][:, [i, -1]], owner[part]) for i in range(len(MEASURES))]
                for part in parts
            ]
            return dict(zip(MEASURES, np.mean(values, axis=0).tolist(), strict=True))

        return statistics

    per_task = tuple(
        task_recall(model[owner == i][:, [0, -1]], owner[owner == i]) for i in range(len(tasks))
    )
    shares = {name: columns[name][:, 0] / model[:, -1] for name in ("model", "evenly spread")}
    steps = "exactly one second each" if config.exactly_one else "a run of seconds each"
    return Outcome(
        protocol="recall of steps, mean over tasks; released split of videos with features",
        settings={
            "steps": "as `localize` finds them" if config.decoding == "product" else steps,
            "attend to [CLS]": config.decoding == "product" or config.attend_cls,
            "splits": config.num_splits,
            "tasks": len(tasks),
            "features per second": rate,
        },
        measures=measure(shares_of(model), [video.video_id for video in videos], config),
        baselines=tuple(
            Baseline(name, shares_of(columns[name])(np.arange(len(videos))))
            for name in ("random", "evenly spread")
        ),
        num_examples=int(model[:, -1].sum()),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(
            {
                "task": video.task.task_id,
                "video_id": video.video_id,
                "steps found": int(found),
                "steps present": int(number),
            }
            for video, (found, *_, number) in zip(videos, model, strict=True)
        ),
        plots=(
            Bars("Recall by task", tuple(task.title for task in tasks), per_task),
            histogram("Recall of each video", "recall", SHARE_EDGES, shares),
            *some_timelines(lambda i: _timeline(videos[i], predicted[i], rate), len(videos)),
        ),
    )


def _draws(rng: np.random.Generator, shape: tuple[int, int], in_order: bool) -> list[BoolArray]:
    """Give each step a random frame (T, K), several times."""
    if in_order:
        return [random_steps(*shape, rng) for _ in range(NUM_RANDOM_DRAWS)]
    draws = rng.integers(shape[0], size=(NUM_RANDOM_DRAWS, shape[1]))
    return [single_frames(frames, shape[0]) for frames in draws]


def _counts(
    ordered: Sequence[BoolArray], unordered: Sequence[BoolArray], true: Sequence[BoolArray]
) -> RealArray:
    """Return (V, 4): the sums of `MEASURES` over the steps of each video, and their number."""
    return np.array(
        [
            (
                recall_counts(a, t)[0],
                recall_counts(b, t)[0],
                step_overlap(a, t),
                t.any(axis=0).sum(),
            )
            for a, b, t in zip(ordered, unordered, true, strict=True)
        ],
        dtype=np.float64,
    )


def _timeline(video: StepVideo, predicted: BoolArray, rate: float) -> TimelinePlot:
    names = video.task.steps
    runs = (
        (float(frames[0] / rate), float((frames[-1] + 1) / rate), names[step])
        for step in range(len(names))
        if len(frames := np.flatnonzero(predicted[:, step]))
    )
    true = ((s.start, s.end, names[s.label]) for s in video.segments)
    title = f"{video.task.title}, {video.video_id}"
    return TimelinePlot(title, len(predicted) / rate, tuple(true), tuple(runs))
