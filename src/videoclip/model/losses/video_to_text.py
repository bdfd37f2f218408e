"""InfoNCE in one direction, for fine-tuning: a softmax over the texts for each video."""

from __future__ import annotations

from torch import Tensor

from videoclip.config import LossConfig
from videoclip.model.losses import PairEmbeddings, infonce


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return the loss of one direction of `contrastive_loss`."""
    return infonce.loss(pairs, config, "video_to_text")
