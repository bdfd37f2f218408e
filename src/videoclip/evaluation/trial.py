"""What every protocol is given: examples with features, a model, and how to score.

A model is an embedder, or the frames of a backbone with a text encoder. Annotated spans become
clips, rows of a feature store.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from videoclip.benchmarks.examples import ExampleT, RetrievalExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.evaluation.metrics.frames import frame_span
from videoclip.evaluation.outcome import Missing
from videoclip.features.backbones import Backbone, check_features, load_backbone
from videoclip.types import FloatArray, IntArray, OnProgress, RealArray
from videoclip.zeroshot.rerank import PairScorer

CLIPS_AT_ONCE = 256
HashableT = TypeVar("HashableT", bound=Hashable)
ItemT = TypeVar("ItemT")
PredictedT = TypeVar("PredictedT")


class TextVideoEncoder(Protocol):
    """Turns frozen features and texts into comparable embeddings.

    A subclass inherits the last two methods if it has neither a head nor a re-ranker.
    """

    @property
    def name(self) -> str:
        """Name of the model in results."""

    @property
    def temperature(self) -> float:
        """What similarities are divided by before a softmax."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the model's head, without background; empty without a head."""

    @property
    def max_clip_features(self) -> int:
        """Longest clip that is embedded in one piece, in features."""

    def check(self, spec: FeatureSpec) -> None:
        """Raise an IndexMismatchError unless features of this kind belong to the model."""

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed N texts: (N, E)."""

    def embed_windows(
        self, features: RealArray, spans: Sequence[tuple[int, int]] | IntArray
    ) -> FloatArray:
        """Embed W windows of features (T, D), each by itself: (W, E)."""

    def embed_seconds(self, features: RealArray, *, attend_cls: bool) -> FloatArray:
        """Embed each feature (T, D) of one video in its context: (T, E)."""

    def classify_seconds(self, features: RealArray, *, attend_cls: bool) -> FloatArray:
        """Score each feature (T, D) for background and the head's classes: (T, K).

        Raises:
            ConfigError: If the model has no head.
        """
        raise ConfigError(f"'{self.name}' has no classes of its own")

    def pair_scorer(self, texts: Sequence[str], clips: Sequence[RealArray]) -> PairScorer:
        """Return the re-ranker for pairs of N texts and M clips (T, D).

        Raises:
            ConfigError: If the model has none.
        """
        raise ConfigError(f"'{self.name}' has no re-ranker: set rerank_top to 0")


def embed_arrays(encoder: TextVideoEncoder, clips: Sequence[RealArray]) -> FloatArray:
    """Embed the features (T, D) of M clips, each by itself: (M, E)."""
    borders = np.cumsum([0, *map(len, clips)]).tolist()
    return encoder.embed_windows(np.concatenate(clips), list(pairwise(borders)))


class EmbedderEncoder:
    """The model of an Embedder."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name = f"model {embedder.fingerprint}"
        self.embed_text = embedder.embed_text
        self.embed_windows = embedder.embed_windows
        self.classify_seconds = embedder.classify_features
        self.temperature = embedder.temperature
        self.classes = embedder.config.classes
        self.max_clip_features = embedder.config.max_video_tokens
        self.check = partial(check_features, embedder.config)
        self.pair_scorer = partial(PairScorer, embedder)

    def embed_seconds(self, features: RealArray, *, attend_cls: bool) -> FloatArray:
        """Embed each feature in sliding windows."""
        return self._embedder.embed_features(features, attend_cls=attend_cls).tokens


@runtime_checkable
class _TextEncoder(Protocol):
    def embed_text(self, texts: Sequence[str]) -> FloatArray: ...


class BackboneEncoder(TextVideoEncoder):
    """Baseline without training: means of frame features of a backbone with a text encoder.

    Features and texts are compared by cosine, for which such backbones are trained.

    Args:
        backbone_name: As `load_backbone` takes it; features must come from the same.
        device: Torch device.

    Raises:
        ConfigError: If the backbone cannot embed texts.
    """

    temperature = 0.01
    classes = ()
    max_clip_features = 32

    def __init__(self, backbone_name: str, device: str = "auto") -> None:
        backbone: Backbone = load_backbone(backbone_name, device)
        if not isinstance(backbone, _TextEncoder):
            raise ConfigError(
                f"backbone '{backbone_name}' has no text encoder, which frame embeddings need: use "
                "another, such as 'image:<CLIP folder>' or 's3d'"
            )
        self._backbone, self._texts = backbone, backbone

    @property
    def name(self) -> str:
        """Name of the backbone."""
        return f"mean of {self._backbone.name} frames"

    def check(self, spec: FeatureSpec) -> None:
        """Check that the features are of exactly this backbone."""
        if spec.fingerprint != self._backbone.spec.fingerprint:
            raise IndexMismatchError(
                "these features were not extracted with the weights of backbone "
                f"'{self._backbone.name}': extract them again"
            )

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts with the backbone's text encoder."""
        return normalize_rows(self._texts.embed_text(list(texts)))

    def embed_windows(
        self, features: RealArray, spans: Sequence[tuple[int, int]] | IntArray
    ) -> FloatArray:
        """Average the unit features of each window."""
        unit = normalize_rows(features)
        return normalize_rows(np.stack([unit[start:stop].mean(axis=0) for start, stop in spans]))

    def embed_seconds(self, features: RealArray, *, attend_cls: bool) -> FloatArray:
        """Return unit features, without context or [CLS]."""
        return normalize_rows(features)


def normalize_rows(vectors: RealArray) -> FloatArray:
    """Return vectors (N, E) of unit length; zeros stay zeros."""
    rows = vectors.astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


class Clip(NamedTuple):
    """Rows [first, last) of a video's features."""

    video_id: str
    first: int
    last: int


def with_features(
    examples: Iterable[ExampleT], store: FeatureStore
) -> tuple[list[ExampleT], list[Missing]]:
    """Return the examples whose video has features, and the videos without any.

    Raises:
        DataError: If there are no examples, or the store is of other videos.
    """
    present, missing = [], {}
    for example in examples:
        if example.video_id in store:
            present.append(example)
        else:
            missing[example.video_id] = Missing(example.video_id, "no features")
    if not (present or missing):
        raise DataError("the annotations are empty: name a file with examples")
    if not present:
        raise DataError(
            f"no features of any video of the benchmark, such as '{next(iter(missing))}': extract "
            "them first",
            store.folder,
        )
    return present, list(missing.values())


def find_clip(
    store: FeatureStore,
    video_id: str,
    start: float | None,
    end: float | None,
    clip_seconds: float = 0.0,
) -> Clip | None:
    """Return the rows of a span, or None if the features end before it begins.

    Args:
        store: It has the video.
        video_id: The video.
        start: Start of the span; None for that of the video.
        end: End of the span; None for that of the video.
        clip_seconds: Longest part, from the start, that is used; 0 for all of it.
    """
    rate, num_features = store.spec.features_per_second, store.num_features(video_id)
    first, last = frame_span(
        start or 0.0, num_features / rate if end is None else end, num_features, rate
    )
    if clip_seconds:
        last = min(last, first + max(1, round(clip_seconds * rate)))
    return Clip(video_id, first, last) if last > first else None


def unique(items: Sequence[HashableT]) -> tuple[list[HashableT], IntArray]:
    """Return each different item once, in their order, and (N,) the place of every item."""
    place = {item: i for i, item in enumerate(dict.fromkeys(items))}
    return list(place), np.array([place[item] for item in items])


@dataclass(frozen=True)
class Trial:
    """A model on the features of a benchmark's videos.

    Attributes:
        encoder: The model.
        store: Features of the videos.
        config: How to score.
        on_progress: Called with the number of videos or clips done and in all.
    """

    encoder: TextVideoEncoder
    store: FeatureStore
    config: EvaluateConfig
    on_progress: OnProgress | None = None

    @property
    def rate(self) -> float:
        """Features per second."""
        return self.store.spec.features_per_second

    def find_clips(
        self, examples: Iterable[RetrievalExample]
    ) -> tuple[list[tuple[RetrievalExample, Clip]], list[Missing]]:
        """Return the examples that have features, each with its clip, and the videos left out.

        Raises:
            DataError: If no example has any, or there are no examples.
        """
        present, missing = with_features(examples, self.store)
        found = []
        for e in present:
            clip = find_clip(self.store, e.video_id, e.start, e.end, self.config.clip_seconds)
            if clip:
                found.append((e, clip))
            else:
                missing.append(Missing(e.video_id, f"features end before {e.start:g} s"))
        if not found:
            raise DataError(
                "every clip begins after the end of its features; extract those of whole videos",
                self.store.folder,
            )
        return found, missing

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
