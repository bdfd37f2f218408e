"""One forward pass as every objective does it: synced, under autocast, with repeatable dropout."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from videoclip.distributed import World

__all__ = ["Forward"]


class Forward:
    """A module, called from objectives.

    Gradients flow through this one door: DDP watches it and autocast covers it.

    Args:
        module: In training mode already, on the world's device, its frozen parameters frozen.
        world: The processes, whose gradients are averaged.
        precision: `fp32`, or `bf16` for autocast.
        seed: With the batch's number it decides all dropout: no generator has to be saved.
        uses_all: Whether every trainable parameter takes part in every pass.
    """

    def __init__(
        self,
        module: nn.Module,
        world: World,
        precision: str,
        seed: int,
        *,
        uses_all: bool = True,
    ) -> None:
        self._alone = module
        self._synced: nn.Module = module
        if world.size > 1:
            self._synced = DistributedDataParallel(
                module, gradient_as_bucket_view=True, find_unused_parameters=not uses_all
            )
        self._world, self._precision, self._seed = world, precision, seed

    def __call__(self, *tensors: Tensor) -> Any:
        """Call the module; its gradients will be averaged over the processes."""
        return self._call(self._synced, tensors)

    @torch.no_grad()
    def without_gradient(self, *tensors: Tensor, **settings: Any) -> Any:
        """Call the module on this process alone."""
        return self._call(self._alone, tensors, **settings)

    def syncing(self, synced: bool) -> AbstractContextManager[None]:
        """If not `synced`, gradients add up on this process, and a later pass averages them."""
        if isinstance(self._synced, DistributedDataParallel) and not synced:
            return self._synced.no_sync()
        return nullcontext()

    def reseed(self, number: int, chunk: int = 0) -> None:
        """Make the next pass's dropout a function of where the run stands."""
        entropy = np.random.SeedSequence([self._seed, number, self._world.rank, chunk])
        torch.manual_seed(int(entropy.generate_state(1)[0]))

    def _call(self, module: nn.Module, tensors: tuple[Tensor, ...], **settings: Any) -> Any:
        with torch.autocast(
            self._world.device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16"
        ):
            return module(*tensors, **settings)
