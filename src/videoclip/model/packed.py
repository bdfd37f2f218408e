"""What a layer does with packed positions: attention, products with weights, dropout.

Written for little memory, which a training step spends on what it keeps for the backward pass:
attention keeps its weights but no padded copies, dropout a byte a number, and GELU and the weights
in low precision are made twice instead of kept. On a GPU, where memory is not short, and under
torch.compile the same functions are torch's own. Gradients of gradients are not supported.

Letters: N positions of all sequences, H width, A heads, n positions of one sequence, g sequences of
that length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["attend", "attend_jagged", "dropout", "equal_lengths", "linear", "thrifty"]

_RANDOM_BITS = 16
_GELU_ROWS = 256


def thrifty(device: torch.device) -> bool:
    """Whether this module's own routines are used there, and not torch's."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero each number with probability `rate` and scale the others up.

    On a CPU 16 random bits decide on a number, so that the rate is a multiple of 1 / 65536; torch
    draws 32 and keeps the factors as floats.
    """
    if rate == 0 or not thrifty(x.device):
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
    if not thrifty(x.device):
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


def equal_lengths(lengths: Tensor) -> tuple[Tensor, ...]:
    """Group packed sequences by length: for each length the (g, n) rows they occupy.

    Args:
        lengths: (B,) positions of each sequence, none 0, in the order they are packed.
    """
    starts = lengths.cumsum(0) - lengths
    return tuple(
        starts[lengths == n, None] + torch.arange(n) for n in sorted(set(lengths.tolist()))
    )


def attend(
    qkv: Tensor, groups: tuple[Tensor, ...], num_heads: int, dropout_rate: float = 0.0
) -> Tensor:
    """Self-attention within each sequence, (N, 3H) -> (N, H), on a CPU.

    Args:
        qkv: Queries, keys and values side by side.
        groups: The sequences' rows, from `equal_lengths`.
        num_heads: Heads A.
        dropout_rate: Share of the attention weights dropped.
    """
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


def attend_jagged(
    qkv: Tensor, offsets: Tensor, longest: int, num_heads: int, dropout_rate: float = 0.0
) -> Tensor:
    """The same as `attend` by torch's kernels for sequences of various lengths, on a GPU.

    Args:
        qkv: (N, 3H).
        offsets: (B + 1,) int64, where each sequence starts, and N.
        longest: Most positions of a sequence.
        num_heads: Heads A.
        dropout_rate: Share of the attention weights dropped.
    """
    heads = qkv.view(len(qkv), 3, num_heads, -1)
    query, key, value = (
        torch.nested.nested_tensor_from_jagged(
            heads[:, part].contiguous(), offsets, min_seqlen=1, max_seqlen=longest
        ).transpose(1, 2)
        for part in range(3)
    )
    attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout_rate)
    return attended.transpose(1, 2).values().flatten(1)
