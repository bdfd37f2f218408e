"""Dual encoders: frozen embeddings of frames and texts in one space, which models start from."""

from dataclasses import dataclass

from torch import nn

from videoclip.config import ModelConfig
from videoclip.errors import CheckpointError, ConfigError

STARTER = "starter"


@dataclass(frozen=True)
class DualEncoder:
    """The frozen parts of a model that starts from a dual encoder.

    Attributes:
        frames: Features (N, D) of the backbone to embeddings (N, E) of unit length.
        texts: Ids and mask (B, L), without special tokens, to embeddings (B, E) of unit length.
        fingerprint: Hex digest; equal where embeddings compare.
    """

    frames: nn.Module
    texts: nn.Module
    fingerprint: str


def load_dual_encoder(config: ModelConfig) -> DualEncoder | None:
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


def load_by_name(name: str) -> DualEncoder:
    """Load a dual encoder; see `load_dual_encoder`."""
    if name != STARTER:
        raise ConfigError(f"there is no dual encoder '{name}'; 'starter' is one")
    from videoclip.model.convert import starter_towers  # which builds models itself

    return starter_towers()
