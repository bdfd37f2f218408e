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
    """Return (B, B) in [0, 1], how much text i belongs to clip j; 0 if they are of two videos.

    A text belongs fully to the clip that was drawn with it, and to another clip of its video by
    their overlap in time, as a share of the shorter of the two.

    Args:
        spans: See `PairEmbeddings`.
        seconds: By how many seconds the time of a text is widened on both sides.
    """
    video, text_start, text_end, start, end = spans.unbind(dim=1)
    text_start, text_end = text_start[:, None] - seconds, text_end[:, None] + seconds
    shared = torch.minimum(text_end, end) - torch.maximum(text_start, start)
    shorter = torch.minimum(text_end - text_start, end - start)
    # 0 / 0 is a text without duration in the time of a clip, to which it belongs fully.
    shares = (shared / shorter).nan_to_num(nan=1.0).clamp(0, 1)
    targets = shares * (video[:, None] == video)
    return targets.fill_diagonal_(1.0)
