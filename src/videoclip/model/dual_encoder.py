"""Dual encoders: frozen embeddings of frames and texts in one space, which models start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from videoclip.config import ModelConfig
from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import CheckpointError, ConfigError
from videoclip.pretrained.known import STARTER
from videoclip.pretrained.text_tower import TextTower, load_text_tower

if TYPE_CHECKING:
    from videoclip.model.videoclip import VideoCLIP


@dataclass(frozen=True)
class FrozenTowers:
    """The frozen parts of a model that starts from a dual encoder.

    Attributes:
        frames: Features (N, D) of the backbone to embeddings (N, E) of unit length.
        texts: Ids and mask (B, L), without special tokens, to embeddings (B, E) of unit length.
        fingerprint: Hex digest; equal where embeddings compare.
    """

    frames: nn.Module
    texts: nn.Module
    fingerprint: str


def load_dual_encoder(config: ModelConfig) -> FrozenTowers | None:
    """Load the dual encoder that a model starts from; None if it does not.

    Raises:
        ConfigError: If there is no such dual encoder.
        CheckpointError: If it is not the one that the model was trained on.
        MissingExtraError: If its packages are not installed.
    """
    name, known = config.dual_encoder, config.dual_encoder_fingerprint
    if not name:
        return None
    loaded = load_by_name(name)
    if known not in ("", loaded.fingerprint):
        raise CheckpointError(
            f"the model was trained on another version of '{name}' (fingerprint {known}, found "
            f"{loaded.fingerprint}): install that version, or train again"
        )
    return loaded


def load_by_name(name: str) -> FrozenTowers:
    """Load a dual encoder; see `load_dual_encoder`."""
    if name == STARTER:
        from videoclip.model.convert import starter_towers  # which builds models itself

        return starter_towers()
    if "/" not in name and not Path(name).is_dir():
        raise ConfigError(
            f"there is no dual encoder '{name}'; give 'starter', a folder or a hub id"
        )
    return _of_tower(load_text_tower(name))


def start_model(texts: TextTower, spec: FeatureSpec) -> VideoCLIP:
    """Return a model that is a dual encoder of `transformers` as it is: its residuals are zero.

    Args:
        texts: Its text side.
        spec: Its features, which are embeddings of frames.
    """
    from videoclip.model.videoclip import VideoCLIP

    tokenizer, width = texts.tokenizer, texts.dim
    config = ModelConfig(
        feature_dim=spec.dim,
        features_per_second=spec.features_per_second,
        backbone=spec.backbone,
        backbone_fingerprint=spec.fingerprint,
        normalized_features=spec.normalized,
        dual_encoder=spec.backbone.partition(":")[2],
        hidden_size=width,
        num_video_layers=1,
        num_text_layers=1,
        num_heads=1,
        intermediate_size=2 * width,
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        max_text_tokens=texts.max_text_tokens,
        pooling="plain_mean",
        normalize=True,
        temperature=texts.temperature,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VideoCLIP(config, _of_tower(texts)).eval()


def _of_tower(texts: TextTower) -> FrozenTowers:
    return FrozenTowers(nn.Identity(), texts, texts.fingerprint)
