"""What every protocol is given beside its examples: a model, features, and how to score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.evaluation.clips import Clip
from videoclip.evaluation.encoders import DualEncoder, embed_arrays
from videoclip.types import FloatArray, OnProgress

CLIPS_AT_ONCE = 256
ItemT = TypeVar("ItemT")
PredictedT = TypeVar("PredictedT")


@dataclass(frozen=True)
class Trial:
    """A model on the features of a benchmark's videos.

    Attributes:
        encoder: The model.
        store: Features of the videos.
        config: How to score.
        on_progress: Called with the number of videos or clips done and in all.
    """

    encoder: DualEncoder
    store: FeatureStore
    config: EvaluateConfig
    on_progress: OnProgress | None = None

    @property
    def rate(self) -> float:
        """Features per second."""
        return self.store.spec.features_per_second

    def embed_seconds(self, video_id: str, *, attend_cls: bool) -> FloatArray:
        """Embed each feature of a video in its context: (T, E)."""
        return self.encoder.embed_seconds(self.store.read(video_id), attend_cls=attend_cls)

    def embed_clips(self, clips: Sequence[Clip]) -> FloatArray:
        """Embed clips, with progress: (M, E)."""
        parts = []
        for begin in range(0, len(clips), CLIPS_AT_ONCE):
            some = clips[begin : begin + CLIPS_AT_ONCE]
            parts.append(embed_arrays(self.encoder, self.store.read_windows(some)))
            if self.on_progress:
                self.on_progress(begin + len(some), len(clips))
        return np.concatenate(parts)

    def predict_all(
        self, predict: Callable[[ItemT], PredictedT], items: Sequence[ItemT]
    ) -> list[PredictedT]:
        """Return what `predict` returns for each item, with progress."""
        predicted = []
        for item in items:
            predicted.append(predict(item))
            if self.on_progress:
                self.on_progress(len(predicted), len(items))
        return predicted
