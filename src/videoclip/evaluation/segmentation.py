"""Action segmentation: a label, or background, for every second of a video."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from videoclip.benchmarks.examples import Baseline, LabelledSplit, LabelledVideo
from videoclip.errors import ConfigError, DataError
from videoclip.evaluation.metrics.frames import (
    edit_score,
    label_targets,
    recall_counts,
    segment_counts,
    segment_f1,
    step_overlap,
)
from videoclip.evaluation.outcome import (
    SHARE_EDGES,
    Confusion,
    Outcome,
    Setting,
    Statistics,
    TimelinePlot,
    histogram,
    measure,
    some_timelines,
)
from videoclip.evaluation.trial import Trial, with_features
from videoclip.types import FloatArray, IntArray
from videoclip.zeroshot.confidence import MIN_Z_SCORE, UNRELATED_QUERIES, Calibration
from videoclip.zeroshot.labels import (
    BACKGROUND,
    SWITCH_COST,
    fit_threshold,
    label_frames,
    label_segments,
    label_z_scores,
    released_threshold,
)

BACKGROUND_TEXT = "background"
SEGMENT_IOUS = (0.10, 0.25, 0.50)
CONFUSED_LABELS = 15


Segmenter: TypeAlias = tuple[Callable[[LabelledVideo], IntArray], dict[str, Setting]]
"""From a video to (T,) labels, 0 for background; and what is printed with the numbers."""


def zero_shot_segmenter(
    texts: Sequence[str], training: Sequence[LabelledVideo], trial: Trial
) -> Segmenter:
    """Return a segmenter that compares seconds with label texts; unlike all of them is background.

    Args:
        texts: Text of label i + 1 at index i.
        training: Videos for a fitted threshold.
        trial: `config.background` is how the threshold is found. With `decoding="product"`:
            z-scores over unrelated queries and a cost of switching labels, as `segment`.

    Raises:
        DataError: If the threshold is to be fitted and no training video has features.
    """
    encoder, config = trial.encoder, trial.config
    embeddings = encoder.embed_text(texts)  # (K, E)
    if config.decoding == "product":
        calibration = Calibration(encoder.embed_text(UNRELATED_QUERIES))

        def label(video: LabelledVideo) -> IntArray:
            seconds = trial.embed_seconds(video.video_id, attend_cls=True)
            z_scores = calibration.z_scores(seconds, embeddings @ seconds.T).T  # (T, K)
            return label_z_scores(z_scores, MIN_Z_SCORE)

        settings: dict[str, Setting] = {
            "background": "as `segment` finds it",
            "threshold": MIN_Z_SCORE,
            "switch cost": SWITCH_COST,
            "attend to [CLS]": True,
        }
        return label, settings

    origin = np.zeros(embeddings.shape[1], dtype=np.float32)
    if config.background == "text":
        origin = encoder.embed_text([BACKGROUND_TEXT])[0]

    def similarity(video: LabelledVideo) -> FloatArray:
        seconds = trial.embed_seconds(video.video_id, attend_cls=config.attend_cls)
        return np.asarray(seconds @ (embeddings - origin).T)  # (T, K)

    threshold, num_fitted = 0.0, 0
    if config.background == "released":
        threshold = released_threshold(embeddings)
    elif config.background != "text":
        present = [video for video in training if video.video_id in trial.store]
        order = np.random.default_rng(config.seed).permutation(len(present))
        some = [present[i] for i in order[: config.fitting_videos]]
        if not some:
            raise DataError(
                "no training video has features to fit the background threshold on: extract some, "
                "or choose --background released",
                trial.store.folder,
            )
        threshold, num_fitted = _fit(some, similarity, trial), len(some)
    return lambda video: label_frames(similarity(video), threshold), {
        "background": config.background,
        "threshold": threshold,
        "videos the threshold is fitted on": num_fitted,
        "attend to [CLS]": config.attend_cls,
    }


def head_segmenter(texts: Sequence[str], trial: Trial) -> Segmenter:
    """Return a segmenter that takes the likeliest class of a fine-tuned model's head.

    Raises:
        ConfigError: If its classes are not the labels of this benchmark.
    """
    encoder, attend_cls = trial.encoder, trial.config.attend_cls
    if encoder.classes != tuple(texts):
        raise ConfigError(
            f"the model's head has {len(encoder.classes)} classes, which are not the {len(texts)} "
            "labels here: evaluate it on the annotations it was fine-tuned on"
        )

    def label(video: LabelledVideo) -> IntArray:
        features = trial.store.read(video.video_id)
        logits = encoder.classify_seconds(features, attend_cls=attend_cls)
        return np.asarray(logits.argmax(axis=1))

    return label, {"labels by": "the model's head", "attend to [CLS]": attend_cls}


def _fit(
    videos: Sequence[LabelledVideo], similarity: Callable[[LabelledVideo], FloatArray], trial: Trial
) -> float:
    highest, correct, background = [], [], []
    for video in videos:
        values = similarity(video)
        true = label_targets(video.segments, len(values), trial.rate)
        highest.append(values.max(axis=1))
        correct.append(values.argmax(axis=1) + 1 == true)
        background.append(true == BACKGROUND)
    return fit_threshold(
        np.concatenate(highest),
        np.concatenate(correct),
        np.concatenate(background),
        "balanced" if trial.config.background == "balanced" else "frame_accuracy",
    )


def evaluate_labels(examples: tuple[LabelledSplit, LabelledSplit], trial: Trial) -> Outcome:
    """Score the labels of the test videos, beside those of an empty prediction.

    Args:
        examples: Test and training split.
        trial: The model's head, if it has one, labels the seconds.
    """
    test, training = examples
    if trial.encoder.classes:
        label, settings = head_segmenter(test.labels, trial)
    else:
        label, settings = zero_shot_segmenter(test.labels, training.videos, trial)
    videos, missing = with_features(test.videos, trial.store)
    rate = trial.rate
    true = [label_targets(v.segments, trial.store.num_features(v.video_id), rate) for v in videos]
    predicted = trial.predict_all(label, videos)
    model = [_count(*pair) for pair in zip(predicted, true, strict=True)]
    empty = [_count(np.zeros_like(labels), labels) for labels in true]
    names = ("background", *test.labels)
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (np.concatenate(true), np.concatenate(predicted)), 1)
    shares = {
        name: [count["correct"] / count["frames"] for count in of]
        for name, of in (("model", model), ("always background", empty))
    }
    nothing = _statistics(empty)(np.arange(len(videos)))
    by_chance = ("frame accuracy", "foreground accuracy", "predicted background")
    return Outcome(
        protocol="a label or background for every feature, over all test videos",
        settings={**settings, "labels": len(test.labels), "features per second": rate},
        measures=measure(_statistics(model), [video.video_id for video in videos], trial.config),
        baselines=(
            Baseline("always background", nothing, "an empty prediction"),
            Baseline("random label", dict.fromkeys(by_chance, 1 / len(names))),
        ),
        num_examples=int(sum(count["frames"] for count in model)),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(
            {
                "video_id": video.video_id,
                "task": video.task,
                "seconds": count["frames"] / rate,
                "frame accuracy": count["correct"] / count["frames"],
                "predicted background": count["predicted background"] / count["frames"],
                "edit score": count["edit score"],
            }
            for video, count in zip(videos, model, strict=True)
        ),
        plots=(
            _confusion(confusion, names),
            histogram("Frame accuracy of each video", "frame accuracy", SHARE_EDGES, shares),
            *some_timelines(
                lambda i: _timeline(videos[i], predicted[i], test.labels, rate), len(videos)
            ),
        ),
    )


def _count(predicted: IntArray, true: IntArray) -> dict[str, float]:
    """Return the counts of one video that the measures are computed from."""
    foreground = true != BACKGROUND
    counts = {
        "correct": float((predicted == true).sum()),
        "frames": float(len(true)),
        "correct foreground": float((predicted == true)[foreground].sum()),
        "foreground": float(foreground.sum()),
        "predicted background": float((predicted == BACKGROUND).sum()),
        "edit score": edit_score(predicted, true),
    }
    steps = np.unique(true[foreground])
    masks = predicted[:, None] == steps, true[:, None] == steps  # (T, steps of the video)
    found, present = recall_counts(*masks)
    counts |= {"steps": present, "steps found": found, "step overlap": step_overlap(*masks)}
    for iou in SEGMENT_IOUS:
        three = zip(("TP", "FP", "FN"), segment_counts(predicted, true, iou), strict=True)
        counts |= {f"{kind}@{iou}": float(count) for kind, count in three}
    return counts


def _statistics(counts: Sequence[Mapping[str, float]]) -> Statistics:
    """Return the function that gives the measures of some videos, from the counts of all."""
    columns = {name: np.array([count[name] for count in counts]) for name in counts[0]}

    def statistics(items: IntArray) -> dict[str, float]:
        sums = {name: float(column[items].sum()) for name, column in columns.items()}
        return {
            "frame accuracy": sums["correct"] / sums["frames"],
            "foreground accuracy": sums["correct foreground"] / max(sums["foreground"], 1),
            **{
                f"segment F1@{round(100 * iou)}": segment_f1(
                    *(sums[f"{kind}@{iou}"] for kind in ("TP", "FP", "FN"))
                )
                for iou in SEGMENT_IOUS
            },
            "edit score": sums["edit score"] / len(items),
            "step recall": sums["steps found"] / max(sums["steps"], 1),
            "step IoU": sums["step overlap"] / max(sums["steps"], 1),
            "predicted background": sums["predicted background"] / sums["frames"],
        }

    return statistics


def _confusion(counts: IntArray, names: Sequence[str]) -> Confusion:
    """Show the most frequent labels, background first, and all others in a last column."""
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    kept = np.concatenate(([0], order[order != 0][:CONFUSED_LABELS]))
    inside = counts[np.ix_(kept, kept)]
    others = counts[kept].sum(axis=1) - inside.sum(axis=1)
    table = np.column_stack((inside, others))
    return Confusion(
        f"Predicted for the {len(kept)} most frequent labels, in seconds",
        (*(names[i] for i in kept), "other"),
        tuple(map(tuple, table.tolist())),
    )


def _timeline(
    video: LabelledVideo, predicted: IntArray, texts: Sequence[str], rate: float
) -> TimelinePlot:
    found, spans = label_segments(predicted)
    runs = (
        (start / rate, end / rate, texts[label - 1])
        for label, (start, end) in zip(found.tolist(), spans.tolist(), strict=True)
    )
    true = ((s.start, s.end, texts[s.label - 1]) for s in video.segments)
    title = f"{video.task}, {video.video_id}"
    return TimelinePlot(title, len(predicted) / rate, tuple(true), tuple(runs))
