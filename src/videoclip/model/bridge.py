"""The starter's bridge: what an image classifier sees, said in the space of a sentence encoder.

A frame's softened class distribution weighs the sentence embeddings of the class names, so that
words find videos before anything was trained on videos. Training adds a residual that starts at
zero. Source: ConSE (arXiv 1312.5650); the softening, the centring and the residual are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import ModelConfig
from videoclip.model.encoders import Encoded, TextEncoder, VideoEncoder, pool
from videoclip.model.transformer import BertEncoder

__all__ = ["BridgedVideoEncoder", "CentredTextEncoder", "ClassBridge"]


class ClassBridge(nn.Module):
    """Features to class distributions to sentence embeddings; nothing in it is trained.

    Attributes:
        class_weight: (K, D) of the linear classifier that the features come from.
        class_bias: (K,) likewise.
        class_embeddings: (K, E) of sentences about each class, minus their mean.
    """

    class_weight: Tensor
    class_bias: Tensor
    class_embeddings: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        num_classes = config.num_bridge_classes
        self.temperature = config.bridge_temperature
        self.register_buffer("class_weight", torch.zeros(num_classes, config.feature_dim))
        self.register_buffer("class_bias", torch.zeros(num_classes))
        self.register_buffer("class_embeddings", torch.zeros(num_classes, config.hidden_size))

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., E) of unit length."""
        logits = F.linear(features, self.class_weight, self.class_bias)
        shares = (logits / self.temperature).softmax(dim=-1)  # (..., K)
        return F.normalize(shares @ self.class_embeddings, dim=-1)


class BridgedVideoEncoder(VideoEncoder):
    """Video tower whose slots are the bridge's embeddings plus what the transformer has learned.

    [CLS] and [SEP] take part in the transformer, but are masked in what comes out: pooling sees
    the slots alone.
    """

    def __init__(self, config: ModelConfig, bert: BertEncoder, cls_id: int, sep_id: int) -> None:
        super().__init__(config, bert, cls_id, sep_id)
        self.bridge = ClassBridge(config)
        self.residual_scale = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, video: Tensor, video_mask: Tensor, *, attend_cls: bool = True) -> Encoded:
        """Encode a batch of video clips: (B, T, D) -> (B, T + 2, E), see `VideoEncoder`."""
        learned = super().forward(video, video_mask, attend_cls=attend_cls).hidden[:, 1:-1]
        slots = self.bridge(video[video_mask]) + self.residual_scale * learned[video_mask]
        hidden = slots.new_zeros(*video_mask.shape, slots.shape[1])
        hidden = hidden.masked_scatter(video_mask[..., None], slots)  # (B, T, E)
        return Encoded(F.pad(hidden, (0, 0, 1, 1)), F.pad(video_mask, (1, 1)))


class CentredTextEncoder(TextEncoder):
    """Text tower whose pooled embedding is of unit length, minus a fixed offset.

    Sentence embeddings share a large common part, which says nothing; the bridge's class
    embeddings have lost theirs, so texts must lose it too.

    Attributes:
        offset: (E,) mean of the class embeddings before they were centred.
    """

    offset: Tensor

    def __init__(self, config: ModelConfig, bert: BertEncoder) -> None:
        super().__init__(config, bert)
        self.register_buffer("offset", torch.zeros(config.hidden_size))

    def forward(self, text: Tensor, text_mask: Tensor) -> Encoded:
        """Encode a batch of texts: (B, L) -> (B, L + 2, E), see `TextEncoder`.

        Each state is scaled and shifted alike, so that their plain mean comes out as described.
        """
        encoded = super().forward(text, text_mask)
        length = pool(encoded, "plain_mean").norm(dim=1)[:, None, None]  # (B, 1, 1)
        hidden = encoded.hidden / length - self.offset
        return Encoded(hidden.masked_fill(~encoded.mask[..., None], 0.0), encoded.mask)
