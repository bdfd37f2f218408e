"""VideoCLIP: a video tower and a text tower that meet in one embedding space.

Source: paper, section 3.1. Parity with the released model: tests/model/test_parity.py.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from videoclip.config import ModelConfig
from videoclip.errors import ConfigError, DataError
from videoclip.model import hub
from videoclip.model.dual_encoder import FrozenTowers, load_dual_encoder
from videoclip.model.encoders import (
    Encoded,
    ResidualTextEncoder,
    ResidualVideoEncoder,
    TextEncoder,
    VideoEncoder,
    pool,
    residuals_of,
)
from videoclip.model.hub import ModelCard
from videoclip.model.reranker import Reranker
from videoclip.model.transformer import BertEncoder, init_bert_weights
from videoclip.pretrained.loading import model_folder

INITIAL_LOGIT_BIAS = -10.0


class VideoCLIP(nn.Module):
    """Two towers whose pooled outputs are compared by a dot product.

    Letters: B clips, T video positions, L word pieces, D feature width, E embedding width (= H).

    Args:
        config: Everything that must agree between a model, its features and its indexes.
        dual_encoder: What `config.dual_encoder` names, where it is loaded already.

    Attributes:
        config: Settings.
        frame_encoder: The backbone, if it is trained too (`FrameEncoder`); videos are then frames
            instead of features, and it is saved in the folder `backbone`.
    """

    def __init__(self, config: ModelConfig, dual_encoder: FrozenTowers | None = None) -> None:
        super().__init__()
        self.dual_encoder = dual_encoder = dual_encoder or load_dual_encoder(config)
        if dual_encoder is not None:
            config = dataclasses.replace(config, dual_encoder_fingerprint=dual_encoder.fingerprint)
        self.config = config
        self.video_encoder, self.text_encoder = _build_towers(config, dual_encoder)
        if config.num_cross_layers:
            with torch.random.fork_rng(devices=[]):  # the towers start as without one
                self.reranker = Reranker(config)
        if config.classes:
            self.classifier = nn.Linear(config.hidden_size, 1 + len(config.classes))
        if config.learn_temperature:
            self.log_temperature = nn.Parameter(torch.zeros(()))
        if config.learn_logit_bias:
            self.logit_bias = nn.Parameter(torch.zeros(()))
        self.frame_encoder: nn.Module | None = None
        self.initialise()

    @classmethod
    def without_weights(cls, config: ModelConfig) -> Self:
        """Build a model on the device "meta", to load weights with `load_state_dict(assign=True)`.

        Nothing is allocated and nothing drawn at random, so that it takes milliseconds.
        """
        dual_encoder = load_dual_encoder(config)
        with torch.device("meta"), _NoInitialisation():
            return cls(config, dual_encoder)

    @torch.no_grad()
    def initialise(self, skip: tuple[str, ...] = ()) -> None:
        """Set parameters to the values training starts from: as in BERT, and a neutral re-ranker.

        Args:
            skip: Prefixes of submodules that have their weights already.
        """
        for name, module in self.named_modules():
            if not name.startswith(skip):
                init_bert_weights(module)
        for residual in residuals_of(self):
            residual.initialise()
        if self.config.num_cross_layers:
            self.reranker.initialise()
        if self.config.learn_temperature:
            self.log_temperature.fill_(math.log(self.config.temperature))
        if self.config.learn_logit_bias:
            self.logit_bias.fill_(INITIAL_LOGIT_BIAS)

    @property
    def temperature(self) -> float | Tensor:
        """Divisor of similarities before a softmax; a tensor if it is learned."""
        if self.config.learn_temperature:
            return self.log_temperature.exp()
        return self.config.temperature

    def encode_video(self, video: Tensor, video_mask: Tensor) -> Tensor:
        """Embed video clips.

        Args:
            video: (B, T, D) frozen features, or frames if there is a frame encoder; T is at
                most `config.max_video_tokens`.
            video_mask: (B, T), True where real: a prefix of each row, at least one position.

        Returns:
            (B, E), of unit length if `config.normalize`.

        Raises:
            ConfigError: If shapes or types do not fit the model.
            DataError: If a clip has no real position, or a feature is not finite.
        """
        features = self.features(video, video_mask)
        return self.pool(self.video_encoder(features, video_mask))

    def features(self, video: Tensor, video_mask: Tensor) -> Tensor:
        """Return checked features (B, T, D) of video clips: as given, or of their frames."""
        if self.frame_encoder is not None:
            video = self.frame_encoder(video, video_mask)
        self._check_video(video, video_mask)
        if video.shape[0] and not bool(video_mask.any(dim=1).all()):
            raise DataError("a video clip has no features: leave it out of the batch")
        return video

    def encode_text(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """Embed text clips.

        Args:
            text: (B, L) word-piece ids without special tokens; L is at most
                `config.max_text_tokens`.
            text_mask: (B, L), True where real: a prefix of each row, possibly empty.

        Returns:
            (B, E), of unit length if `config.normalize`.

        Raises:
            ConfigError: If shapes or types do not fit the model.
        """
        return self.pool(self.text_states(text, text_mask))

    def text_states(self, text: Tensor, text_mask: Tensor) -> Encoded:
        """Return what `encode_text` pools: the states of every position."""
        _check_mask("text_mask", text_mask)
        if text.ndim != 2 or text.shape != text_mask.shape:
            raise ConfigError(
                f"text and text_mask must both be (B, L), got {tuple(text.shape)} and "
                f"{tuple(text_mask.shape)}"
            )
        if text.shape[1] > self.config.max_text_tokens:
            raise ConfigError(
                f"texts of {text.shape[1]} tokens, but the model takes at most "
                f"{self.config.max_text_tokens}: cut them"
            )
        encoded: Encoded = self.text_encoder(text, text_mask)
        return encoded

    def pool(self, encoded: Encoded) -> Tensor:
        """Pool a tower's states to embeddings: (B, n + 2, H) -> (B, E)."""
        return self._finish(pool(encoded, self.config.pooling))

    def video_tokens(self, video: Tensor, video_mask: Tensor, *, attend_cls: bool = True) -> Tensor:
        """Embed every second of video clips, for localisation and segmentation.

        Args:
            video: (B, T, D) frozen features.
            video_mask: (B, T), True where real.
            attend_cls: False hides [CLS], as the released step-localisation heads do.

        Returns:
            (B, T, E) last-layer states of the slots, zero where masked, of unit length if
            `config.normalize`.

        Raises:
            ConfigError: If shapes or types do not fit the model.
            DataError: If a feature is not finite.
        """
        return self._finish(self._slots(video, video_mask, attend_cls))

    def tokens(self, encoded: Encoded) -> Tensor:
        """Return the embeddings (B, T, E) of the positions of a clip's states (B, T + 2, H)."""
        return self._finish(encoded.hidden[:, 1:-1])

    def classify(self, video: Tensor, video_mask: Tensor, *, attend_cls: bool = False) -> Tensor:
        """Score every second for each class of the head.

        Args:
            video: (B, T, D) frozen features.
            video_mask: (B, T), True where real.
            attend_cls: Whether seconds may attend to [CLS]; not as released.

        Returns:
            (B, T, K) logits, K is 1 + `len(config.classes)`; class 0 is background.

        Raises:
            ConfigError: If the model has no head, or the shapes do not fit it.
        """
        if not self.config.classes:
            raise ConfigError("this model has no classes: fine-tune it on some first")
        logits: Tensor = self.classifier(self._slots(video, video_mask, attend_cls))
        return logits

    def with_classes(self, classes: Sequence[str]) -> Self:
        """Return a model with the same weights and a new, random head.

        Args:
            classes: Names of its classes, without background.
        """
        return self._with("classifier.", classes=tuple(classes))

    def with_reranker(self, num_cross_layers: int) -> Self:
        """Return a model with the same weights and a new, random re-ranker."""
        return self._with("reranker.", num_cross_layers=num_cross_layers)

    def _with(self, new: str, **changes: Any) -> Self:
        """Return a model with some other settings and new, random weights of one submodule."""
        model = type(self)(dataclasses.replace(self.config, **changes), self.dual_encoder)
        kept = {n: t for n, t in self.state_dict().items() if not n.startswith(new)}
        model.load_state_dict({**model.state_dict(), **kept})
        return model

    def similarity(self, text: Tensor, video: Tensor) -> Tensor:
        """Compare embeddings: (N, E) texts and (M, E) videos give (N, M) dot products."""
        return text @ video.T

    def save_pretrained(self, folder: Path | str, card: ModelCard | None = None) -> None:
        """Write config, weights, model card and checksums into `folder`.

        Args:
            folder: Made if need be.
            card: What the model card states beyond the settings. A card that is there already is
                kept if none is given.
        """
        hub.save_model(self, Path(folder), card=card)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: Path | str) -> Self:
        """Read a model folder, or fetch it from the Hugging Face hub if an id is named.

        The weights are mapped into memory, not copied.

        Raises:
            CheckpointError: If there is no such model, or a tensor is missing, unexpected or of
                another shape.
        """
        folder = model_folder(folder_or_hub_id)
        config = hub.load_config(folder)
        model = cls.without_weights(config)
        hub.load_weights(model, folder, assign=True)
        return model.eval()

    def push_to_hub(
        self, hub_id: str, *, private: bool = False, card: ModelCard | None = None
    ) -> str:
        """Upload the model, without a vocabulary, and return its address on the hub.

        `Embedder.push_to_hub` uploads the vocabulary too, which searching needs.

        Raises:
            ConfigError: If there is no access token.
            CheckpointError: If the upload fails.
        """
        return hub.push(lambda folder: self.save_pretrained(folder, card), hub_id, private=private)

    def _slots(self, video: Tensor, video_mask: Tensor, attend_cls: bool) -> Tensor:
        """Return the states of a clip's own positions: (B, T, H)."""
        self._check_video(video, video_mask)
        encoded: Encoded = self.video_encoder(video, video_mask, attend_cls=attend_cls)
        return encoded.hidden[:, 1:-1]

    def _finish(self, embedding: Tensor) -> Tensor:
        return F.normalize(embedding, dim=-1) if self.config.normalize else embedding

    def _check_video(self, video: Tensor, video_mask: Tensor) -> None:
        config = self.config
        _check_mask("video_mask", video_mask)
        if video.ndim != 3 or video.shape[:2] != video_mask.shape:
            raise ConfigError(
                f"video must be (B, T, D) and video_mask (B, T), got {tuple(video.shape)} and "
                f"{tuple(video_mask.shape)}"
            )
        if video.shape[2] != config.feature_dim:
            raise ConfigError(
                f"features of width {video.shape[2]}, but the model takes {config.feature_dim} "
                f"(backbone '{config.backbone}'): extract them with that backbone"
            )
        if video.shape[1] > config.max_video_tokens:
            raise ConfigError(
                f"clips of {video.shape[1]} features, but the model takes at most "
                f"{config.max_video_tokens}: split them"
            )
        if not bool((torch.isfinite(video).all(dim=-1) | ~video_mask).all()):
            raise DataError("features hold NaN or infinite values: extract them again")


class _NoInitialisation(TorchFunctionMode):
    """Skips `torch.nn.init`, which on the device "meta" would import torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _check_mask(name: str, mask: Tensor) -> None:
    # A mask of integers would be used as indices and give wrong embeddings silently.
    if mask.dtype != torch.bool:
        raise ConfigError(f"{name} is of {mask.dtype}: give True where real, False elsewhere")


def _build_towers(
    config: ModelConfig, dual_encoder: FrozenTowers | None
) -> tuple[VideoEncoder | ResidualVideoEncoder, TextEncoder | ResidualTextEncoder]:
    """The two towers, or two views of one encoder (the paper's shared ablation)."""
    if dual_encoder is not None:
        return (
            ResidualVideoEncoder(config, dual_encoder.frames),
            ResidualTextEncoder(config, dual_encoder.texts),
        )
    text_bert = BertEncoder(config, config.vocab_size, config.num_text_layers)
    if config.shared_encoder:
        video = VideoEncoder(config, text_bert, config.cls_id, config.sep_id)
        # Word pieces follow the video's positions and have the other token type.
        first_position = config.max_video_tokens + 2
        return video, TextEncoder(config, text_bert, first_position, word_type=1)
    # The video tower reads only two rows of a word table: [CLS] and [SEP].
    video_bert = BertEncoder(config, 2, config.num_video_layers)
    return VideoEncoder(config, video_bert, 0, 1), TextEncoder(config, text_bert)


def pad_features(features: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Stack arrays (rows, D) into (B, T, D) float32, zero where padded, and its (B, T) mask.

    Frames, (rows, height, width, 3) uint8, keep their type.
    """
    longest = max(map(len, features))
    dtype = np.uint8 if features[0].dtype == np.uint8 else np.float32
    padded = np.zeros((len(features), longest, *features[0].shape[1:]), dtype=dtype)
    mask = np.zeros(padded.shape[:2], dtype=bool)
    # Row by row, so that each clip is converted to float32 while it is copied.
    for row, real, clip in zip(padded, mask, features, strict=True):
        row[: len(clip)] = clip
        real[: len(clip)] = True
    return torch.from_numpy(padded), torch.from_numpy(mask)
