"""InfoNCE with soft targets: clips of the same video count the more the nearer they are in time."""

import torch
from torch import Tensor

from videoclip.config import LossConfig
from videoclip.model.losses import PairEmbeddings, places, softmax_loss


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return the loss of this process's pairs."""
    targets = overlap_targets(places(pairs), config.neighbour_seconds)
    return softmax_loss(pairs.text @ pairs.video.T / pairs.temperature, targets)


def overlap_targets(spans: Tensor, seconds: float) -> Tensor:
    """Return (B, B) how much text i belongs to clip j, in (0, 1]; 0 if they are of two videos.

    The clip that was drawn for a text belongs to it fully. So does another one of its video in
    proportion to its overlap with the time of the text, divided by the shorter of the two.

    Args:
        spans: See `PairEmbeddings`.
        seconds: By how much the time of a text is widened on both sides.
    """
    video, text_start, text_end, start, end = spans.unbind(dim=1)
    text_start, text_end = text_start[:, None] - seconds, text_end[:, None] + seconds
    shared = torch.minimum(text_end, end) - torch.maximum(text_start, start)
    shorter = torch.minimum(text_end - text_start, end - start)
    targets = (shared / shorter).clamp(0, 1) * (video[:, None] == video)
    return targets.fill_diagonal_(1.0)
