"""Who labels the seconds of a video: label texts with a background threshold, or a trained head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videoclip.benchmarks.examples import LabelledVideo
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import ConfigError, DataError
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics import labels as metrics
from videoclip.evaluation.metrics.targets import label_targets
from videoclip.evaluation.outcome import Setting

__all__ = ["BACKGROUND_TEXT", "Segmenter", "head_segmenter", "zero_shot_segmenter"]

Labels = NDArray[np.int64]
BACKGROUND_TEXT = "background"


@dataclass(frozen=True)
class Segmenter:
    """Something that labels every second of a video.

    Attributes:
        label: From a video to (T,) labels, 0 where background.
        settings: What to print about it.
    """

    label: Callable[[LabelledVideo], Labels]
    settings: dict[str, Setting]


def zero_shot_segmenter(
    texts: Sequence[str],
    training: Sequence[LabelledVideo],
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
) -> Segmenter:
    """Compare seconds with label texts; what resembles none enough is background.

    Args:
        texts: Text of label i + 1 at index i.
        training: Videos for a fitted threshold.
        encoder: The model.
        store: Features.
        config: How the threshold is found.

    Raises:
        DataError: If the threshold is to be fitted and no training video has features.
    """
    embeddings = encoder.embed_text(texts)
    origin = np.zeros(embeddings.shape[1], dtype=np.float32)
    if config.background == "text":
        origin = encoder.embed_text([BACKGROUND_TEXT])[0]

    def similarity(video: LabelledVideo) -> NDArray[np.float32]:
        features = store.read(video.video_id)
        seconds = encoder.embed_seconds(features, attend_cls=config.attend_cls)
        return np.asarray(seconds @ (embeddings - origin).T)  # (T, K)

    if config.background == "text":
        threshold, fitted_on = 0.0, 0
    elif config.background == "released":
        threshold, fitted_on = metrics.released_threshold(embeddings), 0
    else:
        some = _sample([v for v in training if v.video_id in store], config)
        if not some:
            raise DataError(
                "no training video has features to fit the background threshold on: extract some, "
                "or choose --background released",
                store.folder,
            )
        threshold, fitted_on = _fit(some, similarity, store, config), len(some)
    return Segmenter(
        lambda video: metrics.label_frames(similarity(video), threshold),
        {
            "background": config.background,
            "threshold": threshold,
            "videos the threshold is fitted on": fitted_on,
            "attend to [CLS]": config.attend_cls,
        },
    )


def head_segmenter(
    texts: Sequence[str], encoder: DualEncoder, store: FeatureStore, config: EvaluateConfig
) -> Segmenter:
    """Ask the head that a model was fine-tuned with: its likeliest class, background included.

    Raises:
        ConfigError: If its classes are not the labels of this benchmark.
    """
    if encoder.classes != tuple(texts):
        raise ConfigError(
            f"the model's head has {len(encoder.classes)} classes, which are not the {len(texts)} "
            "labels here: evaluate it on the annotations it was fine-tuned on"
        )

    def label(video: LabelledVideo) -> Labels:
        features = store.read(video.video_id)
        logits = encoder.classify_seconds(features, attend_cls=config.attend_cls)
        return np.asarray(logits.argmax(axis=1))

    return Segmenter(label, {"labels by": "the model's head", "attend to [CLS]": config.attend_cls})


def _sample(videos: list[LabelledVideo], config: EvaluateConfig) -> list[LabelledVideo]:
    order = np.random.default_rng(config.seed).permutation(len(videos))
    return [videos[i] for i in order[: config.fitting_videos]]


def _fit(
    videos: Sequence[LabelledVideo],
    similarity: Callable[[LabelledVideo], NDArray[np.float32]],
    store: FeatureStore,
    config: EvaluateConfig,
) -> float:
    highest, correct, background = [], [], []
    for video in videos:
        values = similarity(video)
        true = label_targets(video.segments, len(values), store.spec.features_per_second)
        highest.append(values.max(axis=1))
        correct.append(values.argmax(axis=1) + 1 == true)
        background.append(true == metrics.BACKGROUND)
    return metrics.fit_threshold(
        np.concatenate(highest),
        np.concatenate(correct),
        np.concatenate(background),
        "balanced" if config.background == "balanced" else "frame_accuracy",
    )
