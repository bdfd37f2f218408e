"""The BERT encoder of both towers, computed on real positions only.

- Post-norm layers with exact-erf GELU, as in BERT (layer-norm epsilon 1e-12).
- The sequences of a batch are *packed*: every layer runs on one (N, H) array of the N real
  positions. Masked positions exist only inside attention on a GPU, which is padded.
- On a CPU attention, dropout and linear layers are our own, to save memory in training: attention
  keeps its weights but no padded copies, dropout keeps one byte per number, and GELU and the
  low-precision weights are computed twice instead of kept. On a GPU and under torch.compile they
  are torch's. Gradients of gradients are not supported.

Letters: B sequences, L positions, N real positions of the batch, H width, A heads, n positions of
one sequence, g sequences of that length.
Source: BERT (arXiv 1810.04805); parity with the released model in tests/model/test_parity.py.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from videoclip.config import ModelConfig

BERT_NORM_EPS = 1e-12
_RANDOM_BITS = 16
_GELU_ROWS = 256


@dataclass(frozen=True)
class Packing:
    """Where the real positions of a (B, L) batch stand in a packed array.

    Attributes:
        mask: (B, L), True where real. Every sequence has at least one real position.
    """

    mask: Tensor

    @cached_property
    def indices(self) -> Tensor:
        """(N,) flat positions that are real."""
        return self.mask.flatten().nonzero().squeeze(1)

    def pack(self, x: Tensor) -> Tensor:
        """(B, L, ...) -> (N, ...)."""
        return x.flatten(0, 1).index_select(0, self.indices)

    def unpack(self, x: Tensor) -> Tensor:
        """(N, C) -> (B, L, C), zero where masked."""
        padded = x.new_zeros(self.mask.numel(), x.shape[1]).index_copy(0, self.indices, x)
        return padded.view(*self.mask.shape, x.shape[1])

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) real positions of each sequence."""
        return self.mask.sum(dim=1)

    @cached_property
    def equal_lengths(self) -> tuple[Tensor, ...]:
        """For each length of a sequence, the (g, n) packed rows of the sequences of that length."""
        starts = self.lengths.cumsum(0) - self.lengths
        return tuple(
            starts[self.lengths == n, None] + torch.arange(n)
            for n in sorted(set(self.lengths.tolist()))
        )


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
        attention = attend if use_cpu_kernels(hidden.device) else attend_padded
        attended = attention(linear(hidden, self.qkv), packing, self.num_heads, rate)
        attended = linear(attended, self.attention_out)
        hidden = self.attention_norm(hidden + dropout(attended, rate))
        fed = linear(linear(hidden, self.feed_in), self.feed_out, gelu=True)
        normed: Tensor = self.feed_norm(hidden + dropout(fed, rate))
        return normed


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
        self.recompute = False
        """Whether the backward pass computes each layer again instead of keeping what it needs."""

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
        hidden = dropout(self.embedding_norm(embedded), rate)
        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, packing, use_reentrant=False)
            else:
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


def use_cpu_kernels(device: torch.device) -> bool:
    """Whether this module's memory-saving CPU functions are used instead of torch's."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero each number with probability `rate` and scale the others up.

    On a CPU 16 random bits decide on a number, so that the rate is a multiple of 1 / 65536; torch
    draws 32 and keeps the factors as floats.
    """
    if rate == 0 or not use_cpu_kernels(x.device):
        return F.dropout(x, rate)
    keep, scale = _keep(x.shape, rate)
    return (x * keep).mul_(scale)


def _keep(shape: tuple[int, ...], rate: float) -> tuple[Tensor, float]:
    """Draw what dropout keeps, as bool, and the factor for it."""
    half, size = 1 << (_RANDOM_BITS - 1), torch.Size(shape).numel()
    threshold = round(rate * 2 * half)
    draws = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(1 << 63), None)
    keep = draws.view(torch.int16)[:size].view(shape) >= threshold - half
    return keep, 2 * half / (2 * half - threshold)


def linear(x: Tensor, layer: nn.Linear, *, gelu: bool = False) -> Tensor:
    """Return layer(x), or layer(gelu(x)), (N, I) -> (N, O).

    Under autocast neither GELU's result nor the weights' low-precision copy is kept: both are
    cheaper to make again.
    """
    if not use_cpu_kernels(x.device):
        return F.linear(F.gelu(x) if gelu else x, layer.weight, layer.bias)
    result: Tensor = _Linear.apply(x, layer.weight, layer.bias, gelu)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
        lower = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if lower else x.dtype
        ctx.gelu, ctx.dtype_of_x = gelu, x.dtype
        x = x.to(dtype)
        ctx.save_for_backward(x, weight)
        weight, bias = weight.to(dtype), bias.to(dtype)
        if not gelu:
            return torch.addmm(bias, x, weight.T)
        # In parts: a big block that is free again at once would leave a hole in memory.
        result = x.new_empty(len(x), len(weight))
        for rows, part in zip(
            torch.split(result, _GELU_ROWS), torch.split(x, _GELU_ROWS), strict=True
        ):
            torch.addmm(bias, F.gelu(part), weight.T, out=rows)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted_x, wanted_weight, wanted_bias, _ = ctx.needs_input_grad
        for_x = for_weight = for_bias = None
        if wanted_weight:
            for_weight = (gradient.T @ (F.gelu(x) if ctx.gelu else x)).to(weight.dtype)
        if wanted_bias:
            for_bias = gradient.sum(dim=0, dtype=weight.dtype)
        if wanted_x:
            for_x = gradient @ weight.to(x.dtype)
            if ctx.gelu:
                torch.ops.aten.gelu_backward.grad_input(for_x, x, grad_input=for_x)
            for_x = for_x.to(ctx.dtype_of_x)
        return for_x, for_weight, for_bias, None


def attend(qkv: Tensor, packing: Packing, num_heads: int, dropout_rate: float = 0.0) -> Tensor:
    """Self-attention within each sequence, on a CPU.

    Args:
        qkv: (N, 3H), queries, keys and values side by side.
        packing: Which position belongs to which sequence.
        num_heads: Heads A.
        dropout_rate: Share of the attention weights dropped.

    Returns:
        (N, H).
    """
    groups = packing.equal_lengths
    attended: Tensor = _Attention.apply(qkv, groups, num_heads, dropout_rate)  # type: ignore[no-untyped-call]
    return attended


class _Attention(torch.autograd.Function):
    """Sequences of one length are one batched product: no padding and no mask."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, groups: tuple[Tensor, ...], num_heads: int, dropout_rate: float
    ) -> Tensor:
        attended = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        kept, factor = [], 1.0
        for rows in groups:
            query, key, value = _take(qkv, rows, 3, num_heads)
            scale = query.shape[2] ** -0.5
            weights = torch.bmm(query, key.mT).mul_(scale).softmax(dim=-1)  # (gA, n, n)
            kept.append(weights)
            if dropout_rate:
                keep, factor = _keep(weights.shape, dropout_rate)
                kept.append(keep)
                weights = (weights * keep).mul_(factor)
            _put(attended, rows, torch.bmm(weights, value)[None])
        ctx.save_for_backward(qkv, *kept)
        ctx.settings = groups, num_heads, factor
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        qkv, *kept = ctx.saved_tensors
        groups, num_heads, factor = ctx.settings
        for_qkv = torch.empty_like(qkv)
        each = len(kept) // len(groups)
        for i, rows in enumerate(groups):
            query, key, value = _take(qkv, rows, 3, num_heads)
            (attended,) = _take(gradient, rows, 1, num_heads)
            weights, *keep = kept[each * i : each * (i + 1)]
            dropped, for_weights = weights, torch.bmm(attended, value.mT)
            if keep:
                dropped = (weights * keep[0]).mul_(factor)
                for_weights = for_weights.mul_(keep[0]).mul_(factor)
            # Of a softmax w: w * (dw - sum(w * dw)).
            for_logits = for_weights.mul_(weights)
            for_logits -= weights * for_logits.sum(dim=-1, keepdim=True)
            for_logits *= query.shape[2] ** -0.5
            parts = for_logits @ key, for_logits.mT @ query, dropped.mT @ attended
            _put(for_qkv, rows, torch.stack(parts))
        return for_qkv, None, None, None


def _take(x: Tensor, rows: Tensor, num_parts: int, num_heads: int) -> Tensor:
    """(N, parts x H) and (g, n) -> (parts, g x A, n, H / A)."""
    taken = x.index_select(0, rows.flatten()).view(*rows.shape, num_parts, num_heads, -1)
    return taken.permute(2, 0, 3, 1, 4).flatten(1, 2)


def _put(x: Tensor, rows: Tensor, parts: Tensor) -> None:
    """The way back of `_take`, into rows of `x`."""
    (num_sequences, length), (num_parts, _, _, width) = rows.shape, parts.shape
    heads = parts.view(num_parts, num_sequences, -1, length, width).permute(1, 3, 0, 2, 4)
    x.index_copy_(0, rows.flatten(), heads.reshape(rows.numel(), -1))


def attend_padded(
    qkv: Tensor, packing: Packing, num_heads: int, dropout_rate: float = 0.0
) -> Tensor:
    """The same as `attend` by torch's own attention with padding and a mask.

    It is used on a GPU and under torch.compile. torch's nested tensors would need no padding, but
    their dispatch in Python takes longer than the rest of a training step (docs/performance.md).
    """
    heads = packing.unpack(qkv).view(*packing.mask.shape, 3, num_heads, -1)
    query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, A, L, H / A)
    mask = packing.mask[:, None, None, :]
    attended = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout_rate
    )
    return packing.pack(attended.transpose(1, 2).flatten(2))
