"""The BERT encoder both towers are made of, computed on real positions only.

What is special about it:
- post-norm layers with exact-erf GELU, as in BERT (layer-norm epsilon 1e-12);
- sequences of a batch are *packed*: everything runs on one (N, H) array of the N real positions,
  attention too (`packed.py`); masked positions do not exist;
- the padded mode computes all B * L positions with torch's own parts, for comparison: tests hold
  the two together.

Letters: B sequences, L positions, N real positions of the batch, H width, A heads.
Source: BERT (arXiv 1810.04805); parity with the released model in tests/model/test_parity.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import ModelConfig
from videoclip.model.packed import attend, attend_jagged, dropout, equal_lengths, linear, thrifty

__all__ = ["BertEncoder", "BertLayer", "Packing"]

BERT_NORM_EPS = 1e-12


@dataclass(frozen=True)
class Packing:
    """Where the real positions of a (B, L) batch stand in a packed array.

    Attributes:
        mask: (B, L), True where real. Every sequence has at least one real position.
        indices: (N,) flat positions that are computed, or None if all B * L are (padded mode).
    """

    mask: Tensor
    indices: Tensor | None

    @classmethod
    def of(cls, mask: Tensor, *, packed: bool = True) -> Packing:
        """Pack the True positions of `mask` (B, L), or keep all of them (`packed=False`)."""
        return cls(mask, mask.flatten().nonzero().squeeze(1) if packed else None)

    def pack(self, x: Tensor) -> Tensor:
        """(B, L, ...) -> (N, ...)."""
        flat = x.flatten(0, 1)
        return flat if self.indices is None else flat.index_select(0, self.indices)

    def unpack(self, x: Tensor) -> Tensor:
        """(N, C) -> (B, L, C), zero where nothing was computed."""
        num_sequences, length = self.mask.shape
        if self.indices is not None:
            x = x.new_zeros(num_sequences * length, x.shape[1]).index_copy(0, self.indices, x)
        return x.view(num_sequences, length, -1)

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) real positions of each sequence."""
        return self.mask.sum(dim=1)

    @cached_property
    def equal_lengths(self) -> tuple[Tensor, ...]:
        """For `attend`."""
        return equal_lengths(self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """For `attend_jagged`."""
        return F.pad(self.lengths.cumsum(0), (1, 0))


class BertLayer(nn.Module):
    """Self-attention and a feed-forward network, each with dropout, residual and norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=BERT_NORM_EPS)
        self.feed_in = nn.Linear(width, config.intermediate_size)
        self.feed_out = nn.Linear(config.intermediate_size, width)
        self.feed_norm = nn.LayerNorm(width, eps=BERT_NORM_EPS)

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        """(N, H) -> (N, H)."""
        rate = self.dropout if self.training else 0.0
        if packing.indices is None:
            return self._forward_padded(hidden, packing, rate)
        attended = self._attend(linear(hidden, self.qkv), packing, rate)
        attended = linear(attended, self.attention_out)
        hidden = self.attention_norm(hidden + dropout(attended, rate))
        fed = linear(linear(hidden, self.feed_in), self.feed_out, gelu=True)
        normed: Tensor = self.feed_norm(hidden + dropout(fed, rate))
        return normed

    def _forward_padded(self, hidden: Tensor, packing: Packing, rate: float) -> Tensor:
        """The same as anybody would write it."""
        attended = self.attention_out(self._attend_padded(self.qkv(hidden), packing, rate))
        hidden = self.attention_norm(hidden + F.dropout(attended, rate))
        fed = self.feed_out(F.gelu(self.feed_in(hidden)))
        normed: Tensor = self.feed_norm(hidden + F.dropout(fed, rate))
        return normed

    def _attend(self, qkv: Tensor, packing: Packing, rate: float) -> Tensor:
        """(N, 3H) -> (N, H): scaled dot-product attention within each sequence."""
        if thrifty(qkv.device):
            return attend(qkv, packing.equal_lengths, self.num_heads, rate)
        if torch.compiler.is_compiling():
            return self._attend_padded(qkv, packing, rate)
        return attend_jagged(qkv, packing.offsets, packing.mask.shape[1], self.num_heads, rate)

    def _attend_padded(self, qkv: Tensor, packing: Packing, rate: float) -> Tensor:
        """(N, 3H) -> (N, H), all positions of (B, L) computed."""
        num_sequences, length = packing.mask.shape
        heads = packing.unpack(qkv).view(num_sequences, length, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, A, L, H/A)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=packing.mask[:, None, None, :],
            dropout_p=rate,
        )
        return packing.pack(attended.transpose(1, 2).flatten(2))


class BertEncoder(nn.Module):
    """Embeddings and layers of BERT; token vectors come from outside.

    Args:
        config: Widths, heads, dropout, positions.
        num_words: Rows of the word table (the video tower needs only [CLS] and [SEP]).
        num_layers: Layers of this tower.
    """

    def __init__(self, config: ModelConfig, num_words: int, num_layers: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(num_words, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_positions, config.hidden_size)
        self.type_embeddings = nn.Embedding(2, config.hidden_size)
        self.embedding_norm = nn.LayerNorm(config.hidden_size, eps=BERT_NORM_EPS)
        self.dropout = config.dropout
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(num_layers))

    def forward(self, tokens: Tensor, positions: Tensor, types: Tensor, packing: Packing) -> Tensor:
        """Encode packed tokens.

        Args:
            tokens: (N, H) word or video-token vectors.
            positions: (N,) rows of the position table.
            types: (N,) rows of the type table.
            packing: Which token belongs to which sequence.

        Returns:
            (N, H) states of the last layer.
        """
        embedded = tokens + self.position_embeddings(positions) + self.type_embeddings(types)
        rate = self.dropout if self.training else 0.0
        drop = F.dropout if packing.indices is None else dropout
        hidden = drop(self.embedding_norm(embedded), rate)
        for layer in self.layers:
            hidden = layer(hidden, packing)
        return hidden


def init_bert_weights(module: nn.Module) -> None:
    """Initialise as BERT does: weights N(0, 0.02), biases 0, norms 1 and 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
    if isinstance(module, (nn.Linear, nn.LayerNorm)):
        nn.init.zeros_(module.bias)


def positions_of(mask: Tensor) -> Tensor:
    """(B, L) -> (B, L) column numbers, on the mask's device."""
    return torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
