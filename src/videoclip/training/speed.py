"""How fast a device multiplies, how much a step asks of it, and whether bf16 pays there."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from videoclip.config import ModelConfig
from videoclip.model.videoclip import VideoCLIP

__all__ = [
    "Masked",
    "bf16_pays",
    "compile_towers",
    "compiling_pays",
    "matmul_peak",
    "step_flops",
    "trained_towers",
]

BF16_GAIN = 1.15
"""What bf16 must gain to be worth its rounding."""
COMPILING_GAIN = 1.05
"""What compiled towers must gain to be worth the wait for them."""


class Masked(Protocol):
    """A batch of clips and texts, as far as counting goes."""

    @property
    def video_mask(self) -> Tensor:
        """(B, T), True where real."""
        ...

    @property
    def text_mask(self) -> Tensor:
        """(N, L), True where real."""
        ...


def step_flops(config: ModelConfig, batch: Masked, passes: tuple[int, int] = (3, 3)) -> int:
    """Return the floating-point operations a step needs on the real positions of a batch.

    Args:
        config: Sizes.
        batch: The clips and texts.
        passes: How often the video and the text tower are run: 1 forward and 2 backward, 4 with
            gradient caching, 1 where frozen.

    Counts the matrix products of the towers, a multiplication and an addition each; padding counts
    for nothing, and a re-ranker is not counted.
    """
    video_passes, text_passes = passes
    width = config.hidden_size
    mlp = 2 * int(batch.video_mask.sum()) * width * (config.feature_dim + width)
    video = mlp + _encoder_flops(config, config.num_video_layers, batch.video_mask)
    text = _encoder_flops(config, config.num_text_layers, batch.text_mask)
    return video_passes * video + text_passes * text


def _encoder_flops(config: ModelConfig, num_layers: int, mask: Tensor) -> int:
    lengths = mask.sum(dim=1) + 2  # with [CLS] and [SEP]
    width = config.hidden_size
    per_token = 2 * (4 * width * width + 2 * width * config.intermediate_size)
    attention = 4 * width * int(lengths.square().sum())
    return num_layers * (per_token * int(lengths.sum()) + attention)


def matmul_peak(device: torch.device, precision: str) -> float:
    """Measure floating-point operations per second of a large square matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, device)


def trained_towers(model: VideoCLIP) -> tuple[bool, bool]:
    """Return whether anything in the video and in the text tower is trained."""
    video, text = (
        any(p.requires_grad for p in tower.parameters())
        for tower in (model.video_encoder, model.text_encoder)
    )
    return video, text


def bf16_pays(step: Callable[[str], Callable[[], object]], device: torch.device) -> bool:
    """Measure whether a step under bf16 autocast is clearly quicker.

    Args:
        step: From a precision to a call that computes the gradients of a small batch.
        device: Where.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    fp32, bf16 = (_seconds(step(name), device, repeats=2) for name in ("fp32", "bf16"))
    return fp32 > BF16_GAIN * bf16


def compiling_pays(
    model: VideoCLIP, step: Callable[[VideoCLIP], Callable[[], object]], device: torch.device
) -> bool:
    """Measure, on a GPU, whether a step is clearly quicker with compiled towers.

    On a CPU it never is: `model/transformer.py` has its own functions there, and torch would need
    a C++ compiler.

    Args:
        model: Left as it is.
        step: From a model to a call that computes the gradients of a batch.
        device: Where.
    """
    if device.type != "cuda":
        return False
    compiled = copy.deepcopy(model)
    compile_towers(compiled)
    plain_seconds, compiled_seconds = (_seconds(step(m), device) for m in (model, compiled))
    return plain_seconds > COMPILING_GAIN * compiled_seconds


def compile_towers(model: VideoCLIP) -> None:
    """Let torch compile both towers, for clips of any lengths, when they are first called."""
    for tower in (model.video_encoder, model.text_encoder):
        tower.bert.compile(dynamic=True)


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 4) -> float:
    """Return the shortest time `work` took, after one unmeasured go."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])
