"""Speed and memory of training: operations of a step, bf16, `torch.compile`, freed memory."""

from __future__ import annotations

import copy
import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videoclip.config import ModelConfig
from videoclip.features.frame_encoder import FrameEncoder
from videoclip.model.batch import Batch
from videoclip.model.encoders import TextEncoder, VideoEncoder
from videoclip.model.videoclip import VideoCLIP

if TYPE_CHECKING:
    from videoclip.training.trainer import Loss

BF16_GAIN = 1.15
"""Speed-up from which bf16 is worth its rounding."""
COMPILING_GAIN = 1.05
"""Speed-up from which compiled towers are worth the time to compile them."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65536
NEVER = 2**31 - 1


def step_flops(
    model: VideoCLIP, batch: Batch, *, is_cached: bool = False, recomputes_frozen_texts: bool = True
) -> int:
    """Return the floating-point operations of a training step on a batch.

    A trained tower runs three times, one forward pass and a backward pass of twice the work; a
    frozen one runs once. Gradient caching adds a forward pass.

    Args:
        model: Says which towers are trained.
        batch: The clips and texts.
        is_cached: Whether gradients are cached.
        recomputes_frozen_texts: Whether a frozen text tower runs at all.
    """
    video_trained, text_trained = trained_towers(model)
    video, text = forward_flops(model.config, batch)
    frozen_text_passes = 1 + is_cached if recomputes_frozen_texts else 0
    flops = video * ((3 if video_trained else 1) + is_cached)
    flops += text * (3 + is_cached if text_trained else frozen_text_passes)
    if isinstance(frames := model.frame_encoder, FrameEncoder):
        flops += frames.flops_per_frame * int(batch.video_mask.sum()) * (4 + is_cached)
    return flops


def forward_flops(config: ModelConfig, batch: Batch) -> tuple[int, int]:
    """Return the floating-point operations of the video and the text tower in one forward pass.

    Counts the matrix products, a multiplication and an addition each, of real positions; the
    re-ranker is not counted.
    """
    width, num_frames = config.hidden_size, int(batch.video_mask.sum())
    inner = config.intermediate_size if config.dual_encoder else width
    video = 2 * num_frames * inner * (config.feature_dim + width)
    if not config.dual_encoder:
        video += _encoder_flops(config, config.num_video_layers, batch.video_mask)
    return video, _encoder_flops(config, config.num_text_layers, batch.text_mask)


def _encoder_flops(config: ModelConfig, num_layers: int, mask: Tensor) -> int:
    lengths = mask.sum(dim=1) + 2  # with [CLS] and [SEP]
    width = config.hidden_size
    per_token = 2 * (4 * width * width + 2 * width * config.intermediate_size)
    attention = 4 * width * int(lengths.square().sum())
    return num_layers * (per_token * int(lengths.sum()) + attention)


@cache
def matmul_peak(device: torch.device, precision: str) -> float:
    """Measure, once a process, the operations per second of a large square matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, device)


def trained_towers(model: VideoCLIP) -> tuple[bool, bool]:
    """Return whether any parameter of the video and of the text tower is trained."""
    video, text = (
        any(p.requires_grad for p in tower.parameters())
        for tower in (model.video_encoder, model.text_encoder)
    )
    return video, text


def bf16_pays(step: Callable[[str], object], device: torch.device) -> bool:
    """Measure whether a step under bf16 autocast is clearly faster.

    Args:
        step: Computes the gradients of a small batch in a precision.
        device: Where to compute.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    fp32, bf16 = (_seconds(partial(step, name), device, repeats=2) for name in ("fp32", "bf16"))
    return fp32 > BF16_GAIN * bf16


def compiling_pays(
    loss: Loss[Any], step: Callable[[Loss[Any]], object], device: torch.device
) -> bool:
    """Measure, on a GPU, whether a step is clearly faster with compiled towers.

    On a CPU it never is: `model/transformer.py` has kernels of its own there, and torch would need
    a C++ compiler.

    Args:
        loss: A loss around a model; left as it is.
        step: Computes the gradients of a batch.
        device: Where to compute.
    """
    if device.type != "cuda":
        return False
    compiled = copy.deepcopy(loss)
    compile_towers(compiled.model)
    plain_seconds, compiled_seconds = (_seconds(partial(step, x), device) for x in (loss, compiled))
    return plain_seconds > COMPILING_GAIN * compiled_seconds


def compile_towers(model: VideoCLIP) -> None:
    """Make torch compile the layers of both towers, for clips of any length, at their first call.

    All layers share what is compiled; whole towers take ten times as long and are no faster
    (docs/performance.md).
    """
    for tower in (model.video_encoder, model.text_encoder):
        if isinstance(tower, VideoEncoder | TextEncoder):
            for layer in tower.bert.layers:
                layer.compile(dynamic=True)


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 4) -> float:
    """Return the shortest time `work` took, after one unmeasured call."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


@contextmanager
def keep_freed_memory() -> Iterator[bool]:
    """Let the C library reuse large freed blocks within the `with` block, and return them after it.

    glibc returns every large block to the kernel as soon as it is freed, and the next step pays for
    fresh, zeroed pages again: 5 to 10 % of a training step on a CPU (docs/performance.md).

    Yields whether memory is kept: only glibc has the switch; elsewhere nothing changes.
    """
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield False
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield True
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        libc.malloc_trim(0)
