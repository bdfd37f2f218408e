"""Random small models and batches for tests of the model floor."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import ModelConfig
from videoclip.model.dual_encoder import FrozenTowers
from videoclip.model.transformer import BertLayer, Packing
from videoclip.model.videoclip import VideoCLIP

TINY = ModelConfig(
    feature_dim=12,
    hidden_size=16,
    num_video_layers=2,
    num_text_layers=2,
    num_heads=2,
    intermediate_size=32,
    dropout=0.0,
    vocab_size=50,
    max_positions=40,
    cls_id=1,
    sep_id=2,
    max_video_tokens=9,
    max_text_tokens=11,
)


def make_model(config: ModelConfig = TINY, seed: int = 0, *, packed: bool = True) -> VideoCLIP:
    """A model whose biases and norms differ from zero and one, so that none goes untested."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = VideoCLIP(config)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    if not packed:
        for layer in layers_of(model):
            layer.forward = partial(forward_padded, layer)
    return model.eval()


def layers_of(model: VideoCLIP) -> list[BertLayer]:
    return [module for module in model.modules() if isinstance(module, BertLayer)]


def forward_padded(layer: BertLayer, hidden: Tensor, packing: Packing) -> Tensor:
    """The naive twin of a layer: all B * L positions, computed by torch's own functions."""
    hidden = packing.unpack(hidden)  # (B, L, H)
    heads = layer.qkv(hidden).view(*packing.mask.shape, 3, layer.num_heads, -1)
    query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, A, L, H / A)
    mask = packing.mask[:, None, None, :]
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    attended = layer.attention_out(attended.transpose(1, 2).flatten(2))
    hidden = layer.attention_norm(hidden + attended)
    return packing.pack(layer.feed_norm(hidden + layer.feed_out(F.gelu(layer.feed_in(hidden)))))


def make_video(lengths: list[int], num_slots: int, dim: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = torch.arange(num_slots)[None] < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), num_slots, dim, generator=generator), mask


def make_text(lengths: list[int], num_slots: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths) + 1)
    mask = torch.arange(num_slots)[None] < torch.tensor(lengths)[:, None]
    return torch.randint(3, 50, mask.shape, generator=generator), mask


class Frames(nn.Module):
    """A frozen linear map: (N, D) -> (N, E)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.map = nn.Linear(config.feature_dim, config.hidden_size, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.map(features), dim=-1)


class Texts(nn.Module):
    """A frozen mean of word vectors: (B, L) -> (B, E)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(0.5)  # which must never act

    def forward(self, text: Tensor, text_mask: Tensor) -> Tensor:
        total = (self.words(text) * text_mask[..., None]).sum(dim=1)
        return F.normalize(self.dropout(total), dim=-1)


def tiny_dual_encoder(
    config: ModelConfig, seed: int = 3, fingerprint: str = "tiny 1"
) -> FrozenTowers:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FrozenTowers(Frames(config), Texts(config), fingerprint)
