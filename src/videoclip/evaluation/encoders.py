"""What evaluations need of a model, and the models that offer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from videoclip.data.feature_store import FeatureSpec
from videoclip.embedding import Embedder, check_features
from videoclip.errors import ConfigError, IndexMismatchError
from videoclip.features.backbones import Backbone, load_backbone
from videoclip.zeroshot.rerank import PairScorer

__all__ = ["DualEncoder", "EmbedderEncoder", "FrameEncoder"]

FloatArray = NDArray[np.float32]


class DualEncoder(Protocol):
    """Frozen features and texts in, comparable embeddings out."""

    @property
    def name(self) -> str:
        """What the result calls the model."""
        ...

    @property
    def temperature(self) -> float:
        """What similarities are divided by before a softmax."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What the classes of the model's head are called, background left out; empty: no head."""
        ...

    def check(self, spec: FeatureSpec) -> None:
        """Raise an IndexMismatchError unless features of this kind belong to the model."""
        ...

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed N texts: (N, E)."""
        ...

    def embed_windows(
        self, features: NDArray[np.floating], spans: Sequence[tuple[int, int]]
    ) -> FloatArray:
        """Embed W windows of features (T, D), each by itself: (W, E)."""
        ...

    def embed_seconds(self, features: NDArray[np.floating], *, attend_cls: bool) -> FloatArray:
        """Embed each feature (T, D) of one video in its context: (T, E)."""
        ...

    def classify_seconds(self, features: NDArray[np.floating], *, attend_cls: bool) -> FloatArray:
        """Score each feature (T, D) for background and the head's classes: (T, K)."""
        ...

    def pair_scorer(
        self, texts: Sequence[str], clips: Sequence[NDArray[np.floating]]
    ) -> PairScorer:
        """Return what looks twice at pairs of N texts and M clips (T, D), or a ConfigError."""
        ...


class EmbedderEncoder:
    """The model of an Embedder."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.embed_text = embedder.embed_text
        self.embed_windows = embedder.embed_windows
        self.classify_seconds = embedder.classify_features

    @property
    def name(self) -> str:
        """The fingerprint of the weights."""
        return f"model {self._embedder.fingerprint}"

    @property
    def temperature(self) -> float:
        """The model's own temperature, which may have been learned."""
        return self._embedder.temperature

    @property
    def classes(self) -> tuple[str, ...]:
        """Those the model was fine-tuned on."""
        return self._embedder.config.classes

    def check(self, spec: FeatureSpec) -> None:
        """Compare backbone, width, rate and normalisation."""
        check_features(self._embedder.config, spec)

    def embed_seconds(self, features: NDArray[np.floating], *, attend_cls: bool) -> FloatArray:
        """Embed each feature in sliding windows."""
        return self._embedder.embed_features(features, attend_cls=attend_cls).tokens

    def pair_scorer(
        self, texts: Sequence[str], clips: Sequence[NDArray[np.floating]]
    ) -> PairScorer:
        """Return the model's re-ranker, if it has one."""
        return PairScorer(self._embedder, texts, clips)


@runtime_checkable
class _TextSide(Protocol):
    def embed_text(self, texts: Sequence[str]) -> FloatArray: ...


class FrameEncoder:
    """A baseline without training: the mean of frame features, where the backbone has a text side.

    Features and texts are compared by cosine, as such backbones are trained to be.

    Args:
        backbone_name: As `load_backbone` takes it; features must come from the same.
        device: Torch device.

    Raises:
        ConfigError: If the backbone cannot embed texts.
    """

    temperature = 0.01
    classes = ()

    def __init__(self, backbone_name: str, device: str = "auto") -> None:
        backbone: Backbone = load_backbone(backbone_name, device)
        if not isinstance(backbone, _TextSide):
            raise ConfigError(
                f"backbone '{backbone_name}' has no text side: frame embeddings need one, such as "
                "'image:<CLIP folder>' or 's3d'"
            )
        self._backbone, self._texts = backbone, backbone

    @property
    def name(self) -> str:
        """The backbone."""
        return f"mean of {self._backbone.name} frames"

    def check(self, spec: FeatureSpec) -> None:
        """Ask for features of exactly this backbone."""
        if spec.fingerprint != self._backbone.spec.fingerprint:
            raise IndexMismatchError(
                f"these features are of other weights than backbone '{self._backbone.name}': "
                "extract them again"
            )

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts with the backbone's text side."""
        return _unit(self._texts.embed_text(list(texts)))

    def embed_windows(
        self, features: NDArray[np.floating], spans: Sequence[tuple[int, int]]
    ) -> FloatArray:
        """Average the unit features of each window."""
        unit = _unit(features)
        return _unit(np.stack([unit[start:stop].mean(axis=0) for start, stop in spans]))

    def embed_seconds(self, features: NDArray[np.floating], *, attend_cls: bool) -> FloatArray:
        """Return unit features; there is no context and no [CLS]."""
        return _unit(features)

    def classify_seconds(self, features: NDArray[np.floating], *, attend_cls: bool) -> FloatArray:
        """Refuse: frames have no head."""
        raise ConfigError("the 'frames' baseline has no classes of its own")

    def pair_scorer(
        self, texts: Sequence[str], clips: Sequence[NDArray[np.floating]]
    ) -> PairScorer:
        """Refuse: frames have nothing to look twice with."""
        raise ConfigError("the 'frames' baseline has no re-ranker: set rerank_top to 0")


def _unit(vectors: NDArray[np.floating]) -> FloatArray:
    rows = vectors.astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
