"""A world of plain colours in which the right answers are obvious: one colour a second."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from videoclip.config import ModelConfig
from videoclip.data.feature_store import FeatureSpec
from videoclip.features.decode import Frame, Squash
from videoclip.features.frame_backbone import FrameBackbone

PALETTE = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 220, 30),
    "white": (235, 235, 235),
    "black": (20, 20, 20),
}
NAMES = list(PALETTE)
WIDTH = 16


def write_video(
    path: Path, seconds: Sequence[str], frame_rate: int = 8, keyframe_every: int = 1
) -> Path:
    """Write an mp4 that shows each named colour for a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=frame_rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        group = str(keyframe_every * frame_rate)
        stream.options = {"g": group, "preset": "ultrafast", "sc_threshold": "0"}
        for colour in seconds:
            pixels = np.full((32, 32, 3), PALETTE[colour], dtype=np.uint8)
            for _ in range(frame_rate):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))
    return path


class ColourBackbone(FrameBackbone):
    """One feature a second: which colour of the palette is shown."""

    def __init__(self) -> None:
        self.decoded: list[Path] = []

    name = "colours"
    spec = FeatureSpec(len(NAMES), 1.0, "colours", True, "colours-1")

    def __reduce__(self) -> tuple[object, ...]:
        return ColourBackbone, ()

    def features_for(self, path: Path) -> Iterator[np.ndarray]:
        self.decoded.append(path)
        return super().features_for(path)

    def prepare(self, frame: Frame) -> np.ndarray:
        return frame.rgb(Squash(4, 4))

    def embed_frames(self, frames: np.ndarray) -> np.ndarray:
        means = frames.reshape(len(frames), -1, 3).mean(axis=1)
        palette = np.array(list(PALETTE.values()))
        distances = np.linalg.norm(palette - means[:, None], axis=2)
        return np.eye(len(NAMES), dtype=np.float32)[distances.argmin(axis=1)]


class ColourEmbedder:
    """Stands in for `Embedder`: colours and their names meet in the first directions."""

    def __init__(self, fingerprint: str = "colour-model", width: int = WIDTH) -> None:
        self.fingerprint = fingerprint
        self.backbone = ColourBackbone()
        self.temperature = 0.1
        self.config = ModelConfig(
            feature_dim=len(NAMES), hidden_size=width, num_heads=1, backbone="colours"
        )

    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        texts = [texts] if isinstance(texts, str) else texts
        return np.stack([self._text(text) for text in texts])

    def _text(self, text: str) -> np.ndarray:
        words = re.findall(r"\w+", text.lower())
        vector = np.zeros(self.config.hidden_size, dtype=np.float32)
        for word in words:
            if word in NAMES:
                vector[NAMES.index(word)] += 1
        if not vector.any():  # other words look a little like everything
            seed = sum(ord(letter) * 31**i for i, letter in enumerate(text)) % 2**32
            vector = np.random.default_rng(seed).normal(size=len(vector)).astype(np.float32)
        return vector / np.linalg.norm(vector)

    def embed_windows(self, features: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        vectors = np.zeros((len(spans), self.config.hidden_size), dtype=np.float32)
        for vector, (start, stop) in zip(vectors, spans, strict=True):
            vector[: len(NAMES)] = features[start:stop].mean(axis=0)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def classify_features(self, features: np.ndarray, *, attend_cls: bool = False) -> object:
        raise AssertionError("there is no head")

    def embed_features(self, features: np.ndarray, *, attend_cls: bool = True) -> object:
        from videoclip.embedding import VideoEmbedding

        spans = [(i, i + 1) for i in range(len(features))]
        return VideoEmbedding(self.embed_windows(features, spans), features, 1.0)

    def embed_video(self, path: Path) -> object:
        return self.embed_features(np.concatenate(list(self.backbone.features_for(path))))
