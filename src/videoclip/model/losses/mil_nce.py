"""MIL-NCE: several candidate texts of a video, any of which may match."""

import torch
from torch import Tensor

from videoclip.config import LossConfig
from videoclip.errors import ConfigError
from videoclip.model.losses import PairEmbeddings, shapes_of


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return the loss over the videos of all processes."""
    num_videos, width = pairs.all_video.shape
    candidates = pairs.all_text.view(num_videos, -1, width)  # (M, C, E)
    return mil_nce_loss(pairs.all_video, candidates, pairs.temperature)


def mil_nce_loss(video: Tensor, text: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """MIL-NCE: any of the C candidate texts of a video may be its match.

    Args:
        video: (B, E).
        text: (B, C, E), the candidates of each video.
        temperature: Similarities are divided by it.

    Source: MIL-NCE (arXiv 1912.06430), the paper's ablation; the positives count in the row and
    in the column of the denominator, as in that work's released loss.
    """
    if video.ndim != 2 or text.ndim != 3 or len(video) != len(text):
        raise ConfigError(f"MIL-NCE needs (B, E) and (B, C, E), got {shapes_of(video, text)}")
    logits = torch.einsum("ie,jce->ijc", video, text) / temperature  # (B, B, C)
    positives = logits.diagonal().T  # (B, C)
    rows = logits.flatten(1)  # video i with every text
    columns = logits.transpose(0, 1).flatten(1)  # texts of i with every video
    denominator = torch.cat([rows, columns], dim=1).logsumexp(dim=1)
    return (denominator - positives.logsumexp(dim=1)).mean()
