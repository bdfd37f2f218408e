"""Embedder: backbone, tokenizer and model as one thing that turns words and videos into arrays.

Everything a user searches with goes through here, so that here is where it is checked that
features, words and model belong together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclip.config import ModelConfig, to_dict
from videoclip.data.batch import pad_features, pad_tokens
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.tokenizer import Tokenizer
from videoclip.data.windows import average_windows, sliding_windows
from videoclip.errors import CheckpointError, DataError, IndexMismatchError
from videoclip.features.backbones import Backbone, choose_device, load_backbone
from videoclip.features.extract import features_of
from videoclip.model import hub
from videoclip.model.videoclip import VideoCLIP

__all__ = ["Embedder", "VideoEmbedding", "check_features"]

STARTER = "starter"
FloatArray = NDArray[np.float32]
ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class VideoEmbedding:
    """A video, embedded second by second.

    Attributes:
        tokens: (T, E) float32, one vector a feature; where windows overlap, their mean.
        features: (T, D) the frozen features they were made from.
        features_per_second: Feature i stands for seconds [i / rate, (i + 1) / rate).
    """

    tokens: FloatArray
    features: FloatArray
    features_per_second: float

    @property
    def duration(self) -> float:
        """Seconds covered by features."""
        return len(self.tokens) / self.features_per_second

    def __repr__(self) -> str:
        """Say length and width instead of printing arrays."""
        num_tokens, width = self.tokens.shape
        return f"VideoEmbedding({self.duration:g} s, {num_tokens} x {width})"


class Embedder:
    """Turns words and videos into comparable arrays.

    Args:
        model: The two towers; put into eval mode.
        tokenizer: The vocabulary the text tower was trained with.
        device: Torch device to compute on; "auto" is the GPU where there is one.
        batch_size: Clips or texts per forward pass.

    Raises:
        CheckpointError: If model and tokenizer do not belong together.
    """

    def __init__(
        self,
        model: VideoCLIP,
        tokenizer: Tokenizer,
        device: torch.device | str = "auto",
        batch_size: int = 64,
    ) -> None:
        _check_vocabulary(model.config, tokenizer)
        self.device = torch.device(choose_device(str(device)))
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._backbone: Backbone | None = None
        self._fingerprint: str | None = None

    @classmethod
    def from_pretrained(
        cls, folder_or_hub_id: Path | str, device: torch.device | str = "auto"
    ) -> Embedder:
        """Load a model folder with its vocabulary, a hub id, or "starter".

        Raises:
            CheckpointError: If there is no such model or it is damaged.
            MissingExtraError: If "starter" is asked for without its packages.
        """
        if str(folder_or_hub_id) == STARTER:
            from videoclip.model.starter import starter_model

            return cls(*starter_model(), device=device)
        folder = hub.model_folder(folder_or_hub_id)
        return cls(VideoCLIP.from_pretrained(folder), Tokenizer.from_folder(folder), device)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the model folder with its vocabulary, for `from_pretrained`."""
        self.model.save_pretrained(folder)
        self.tokenizer.save(folder)

    @property
    def config(self) -> ModelConfig:
        """What features and indexes must agree with."""
        return self.model.config

    @property
    def temperature(self) -> float:
        """What similarities are divided by before a softmax; it may have been learned."""
        return float(torch.as_tensor(self.model.temperature).detach())

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone this model needs, loaded when it is first used.

        Raises:
            IndexMismatchError: If the backbone's features are not what the model was trained on.
        """
        if self._backbone is None:
            backbone = load_backbone(self.config.backbone, str(self.device))
            check_features(self.config, backbone.spec)
            self._backbone = backbone
        return self._backbone

    @property
    def fingerprint(self) -> str:
        """Hex digest of weights, settings and vocabulary; equal where embeddings compare."""
        if self._fingerprint is None:
            settings = json.dumps(to_dict(self.config), sort_keys=True)
            digest = hashlib.blake2b((settings + self.tokenizer.fingerprint).encode())
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def embed_text(self, texts: str | Sequence[str]) -> FloatArray:
        """Embed texts; each is cut to the model's longest text.

        Args:
            texts: One text or N of them.

        Returns:
            (N, E) float32; N is 1 for a single text.

        Raises:
            DataError: If a text has no words.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        longest = self.config.max_text_tokens
        token_ids = [ids[:longest] for ids in self.tokenizer.encode_batch(texts)]
        if empty := [i for i, ids in enumerate(token_ids) if not ids]:
            raise DataError(f"text {empty[0] + 1} of {len(texts)} has no words: say what to embed")
        return self._in_batches(token_ids, self._embed_token_ids)

    def embed_video(self, path: Path | str) -> VideoEmbedding:
        """Embed a video file second by second.

        Raises:
            DecodeError: If the video cannot be read.
        """
        return self.embed_features(features_of(self.backbone, Path(path)))

    def embed_features(
        self, features: NDArray[np.floating], *, attend_cls: bool = True
    ) -> VideoEmbedding:
        """Embed the features of one video second by second.

        Windows of the model's longest clip, half overlapping, are embedded in context and their
        tokens averaged.

        Args:
            features: (T, D), at least one.
            attend_cls: False hides [CLS], as the released step localisation does.

        Raises:
            DataError: If there are none, or one is not finite.
        """
        features = self._checked(features)
        encode = partial(self.model.video_tokens, attend_cls=attend_cls)
        tokens = self._finish(self._in_windows(features, encode))
        return VideoEmbedding(tokens, features, self.config.features_per_second)

    def classify_features(
        self, features: NDArray[np.floating], *, attend_cls: bool = False
    ) -> FloatArray:
        """Score each second of one video for the classes of the model's head.

        Args:
            features: (T, D), at least one.
            attend_cls: As for `embed_features`.

        Returns:
            (T, K) logits, class 0 is background; where windows overlap, their mean.

        Raises:
            ConfigError: If the model has no head.
            DataError: If there are no features, or one is not finite.
        """
        encode = partial(self.model.classify, attend_cls=attend_cls)
        return self._in_windows(self._checked(features), encode)

    def embed_windows(
        self, features: NDArray[np.floating], spans: Sequence[tuple[int, int]]
    ) -> FloatArray:
        """Embed windows of one video, one vector each.

        Args:
            features: (T, D) of the whole video.
            spans: W half-open ranges of features, none empty; one longer than the model's longest
                clip is the mean of its even pieces.

        Returns:
            (W, E) float32.

        Raises:
            DataError: If a feature is not finite or a span is empty or outside the video.
        """
        features = self._checked(features)
        pieces, owners = [], []
        for owner, (start, stop) in enumerate(spans):
            if not 0 <= start < stop <= len(features):
                raise DataError(f"span [{start}, {stop}) is outside {len(features)} features")
            num_pieces = -(-(stop - start) // self.config.max_video_tokens)
            parts = np.array_split(features[start:stop], num_pieces)
            pieces += parts
            owners += [owner] * len(parts)
        vectors = self._in_batches(pieces, self._embed_clips)
        embeddings = np.zeros((len(spans), vectors.shape[1]), dtype=np.float32)
        np.add.at(embeddings, owners, vectors)
        embeddings /= np.bincount(owners, minlength=len(spans))[:, None]
        return self._finish(embeddings)

    def _in_windows(
        self, features: FloatArray, encode: Callable[[Tensor, Tensor], Tensor]
    ) -> FloatArray:
        """Encode the sliding windows of a video: (T, C), the mean of what they say of a second."""
        window = self.config.max_video_tokens
        # Half overlapping. Source: as released for localisation (window 32, step 16).
        windows = sliding_windows(len(features), window, max(window // 2, 1))
        parts = []
        for first in range(0, len(windows), self.batch_size):
            some = windows[first : first + self.batch_size]
            video, mask = pad_features([features[start:stop] for start, stop in some])
            with torch.inference_mode():
                encoded = encode(video.to(self.device), mask.to(self.device)).cpu().numpy()
            parts.append(encoded[mask.numpy()])
        return np.asarray(average_windows(np.concatenate(parts), windows))

    def _embed_token_ids(self, token_ids: Sequence[list[int]]) -> Tensor:
        text, mask = pad_tokens(token_ids, self.config.pad_id)
        return self.model.encode_text(text.to(self.device), mask.to(self.device))

    def _embed_clips(self, clips: Sequence[FloatArray]) -> Tensor:
        video, mask = pad_features(clips)
        return self.model.encode_video(video.to(self.device), mask.to(self.device))

    def _in_batches(
        self, items: Sequence[ItemT], embed: Callable[[Sequence[ItemT]], Tensor]
    ) -> FloatArray:
        """Embed items a batch at a time: (len(items), E)."""
        result = np.empty((len(items), self.config.hidden_size), dtype=np.float32)
        with torch.inference_mode():
            for first in range(0, len(items), self.batch_size):
                batch = items[first : first + self.batch_size]
                result[first : first + len(batch)] = embed(batch).float().cpu().numpy()
        return result

    def _finish(self, means: FloatArray) -> FloatArray:
        """Give means unit length where the model compares by cosine: (N, E)."""
        if self.config.normalize:
            means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return means

    def _checked(self, features: NDArray[np.floating]) -> FloatArray:
        """Features of one video as float32, or a DataError that says what is wrong."""
        if features.ndim != 2 or features.shape[1] != self.config.feature_dim:
            raise DataError(
                f"features of shape {features.shape}, but the model takes "
                f"(T, {self.config.feature_dim}): extract them by --backbone {self.config.backbone}"
            )
        if not len(features):
            raise DataError("a video without features cannot be embedded")
        if not np.isfinite(features).all():
            raise DataError("features hold NaN or infinite values: extract them again")
        return features.astype(np.float32, copy=False)


def check_features(config: ModelConfig, spec: FeatureSpec) -> None:
    """Make sure that features are of the kind a model takes.

    Raises:
        IndexMismatchError: Naming everything that differs.
    """
    pairs = {
        "backbone": (config.backbone, spec.backbone),
        "width": (config.feature_dim, spec.dim),
        "features per second": (config.features_per_second, spec.features_per_second),
        "normalised": (config.normalized_features, spec.normalized),
    }
    differing = [
        f"{name} {has!r} not {wants!r}" for name, (wants, has) in pairs.items() if has != wants
    ]
    if differing:
        raise IndexMismatchError(
            f"these features do not fit the model ({'; '.join(differing)}): extract them with "
            f"--backbone {config.backbone}"
        )


def _check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    pairs = {
        "word pieces": (config.vocab_size, tokenizer.vocab_size),
        "[PAD]": (config.pad_id, tokenizer.pad_id),
        "[CLS]": (config.cls_id, tokenizer.cls_id),
        "[SEP]": (config.sep_id, tokenizer.sep_id),
    }
    for name, (wants, has) in pairs.items():
        if wants != has:
            raise CheckpointError(
                f"model and vocabulary do not belong together ({name}: {wants} and {has}): use the "
                "vocab.txt the model was trained with"
            )
