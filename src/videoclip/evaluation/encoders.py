"""Models that can be evaluated: an embedder, or the frames of a backbone with a text encoder."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from videoclip.data.feature_store import FeatureSpec
from videoclip.embedding import Embedder, check_features
from videoclip.errors import ConfigError, IndexMismatchError
from videoclip.features.backbones import Backbone, load_backbone
from videoclip.types import FloatArray, IntArray, RealArray
from videoclip.zeroshot.rerank import PairScorer


class DualEncoder(Protocol):
    """Turns frozen features and texts into comparable embeddings.

    A subclass inherits the last two methods if it has neither a head nor a re-ranker.
    """

    @property
    def name(self) -> str:
        """Name of the model in results."""
        ...

    @property
    def temperature(self) -> float:
        """What similarities are divided by before a softmax."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the model's head, without background; empty without a head."""
        ...

    @property
    def max_clip_features(self) -> int:
        """Longest clip that is embedded in one piece, in features."""
        ...

    def check(self, spec: FeatureSpec) -> None:
        """Raise an IndexMismatchError unless features of this kind belong to the model."""
        ...

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed N texts: (N, E)."""
        ...

    def embed_windows(
        self, features: RealArray, spans: Sequence[tuple[int, int]] | IntArray
    ) -> FloatArray:
        """Embed W windows of features (T, D), each by itself: (W, E)."""
        ...

    def embed_seconds(self, features: RealArray, *, attend_cls: bool) -> FloatArray:
        """Embed each feature (T, D) of one video in its context: (T, E)."""
        ...

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


def embed_arrays(encoder: DualEncoder, clips: Sequence[RealArray]) -> FloatArray:
    """Embed the features (T, D) of M clips, each by itself: (M, E)."""
    borders = np.cumsum([0, *map(len, clips)]).tolist()
    return encoder.embed_windows(np.concatenate(clips), list(pairwise(borders)))


class EmbedderEncoder:
    """The model of an Embedder."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.embed_text = embedder.embed_text
        self.embed_windows = embedder.embed_windows
        self.classify_seconds = embedder.classify_features
        self.temperature = embedder.temperature
        self.classes = embedder.config.classes
        self.max_clip_features = embedder.config.max_video_tokens
        self.check = partial(check_features, embedder.config)
        self.pair_scorer = partial(PairScorer, embedder)

    @property
    def name(self) -> str:
        """Fingerprint of the weights."""
        return f"model {self._embedder.fingerprint}"

    def embed_seconds(self, features: RealArray, *, attend_cls: bool) -> FloatArray:
        """Embed each feature in sliding windows."""
        return self._embedder.embed_features(features, attend_cls=attend_cls).tokens


@runtime_checkable
class _TextEncoder(Protocol):
    def embed_text(self, texts: Sequence[str]) -> FloatArray: ...


class FrameEncoder(DualEncoder):
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
        return _unit(self._texts.embed_text(list(texts)))

    def embed_windows(
        self, features: RealArray, spans: Sequence[tuple[int, int]] | IntArray
    ) -> FloatArray:
        """Average the unit features of each window."""
        unit = _unit(features)
        return _unit(np.stack([unit[start:stop].mean(axis=0) for start, stop in spans]))

    def embed_seconds(self, features: RealArray, *, attend_cls: bool) -> FloatArray:
        """Return unit features, without context or [CLS]."""
        return _unit(features)


def _unit(vectors: RealArray) -> FloatArray:
    rows = vectors.astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
