"""The processes of one run: rank, device, and collectives.

Without torchrun there is one process and every collective is the identity, so that callers never
ask whether a process group exists.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from videoclip.errors import ConfigError, VideoCLIPError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among `size` equal ones; W is `size` in shapes.

    Attributes:
        rank: Index of this process, from 0.
        size: Number of processes.
        device: Torch device of this process.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def on_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def own_places(self, first: int, last: int) -> range:
        """Return the places dealt to this process in rounds [first, last), one to each in turn."""
        return range(first * self.size + self.rank, last * self.size, self.size)

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: T) -> T:
        """Return the main process's `value`, any object that can be pickled, in every process."""
        if self.size == 1:
            return value
        holder: list[Any] = [value]
        dist.broadcast_object_list(holder, src=0, device=self.device)
        received: T = holder[0]
        return received

    def gather(self, value: T) -> list[T]:
        """Return every process's `value`, any object that can be pickled, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return each value averaged over the processes."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Return every process's rows (n_r, ...) as one (sum of n_r, ...), in order of rank.

        The numbers of rows may differ; no gradient flows back.
        """
        if self.size == 1:
            return rows.detach()
        counts = self._counts(len(rows))
        # Collectives want equal shapes: pad to the longest, cut afterwards.
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    def own_rows(self, count: int) -> slice:
        """Return the slice of this process's `count` rows among the gathered ones."""
        if self.size == 1:
            return slice(0, count)
        counts = self._counts(count)
        return slice(sum(counts[: self.rank]), sum(counts[: self.rank + 1]))

    def gather_with_gradient(self, rows: Tensor) -> Tensor:
        """Return every process's rows (B_r, E) as one (sum of B_r, E), differentiably.

        The gradient of this process's rows is the sum of those that all processes compute for
        them. So if each computes the same loss of all rows and parameter gradients are averaged
        over processes, as DDP does, the result is the gradient of one process with all rows.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _GatherWithGradient.apply(rows, self)  # type: ignore[no-untyped-call]
        return gathered

    def _counts(self, count: int) -> list[int]:
        """Return every process's `count`, in order of rank."""
        counts = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([count], device=self.device))
        return [int(n) for n in counts]


class _GatherWithGradient(torch.autograd.Function):
    """`World.gather_rows` whose backward sums over processes and returns this process's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.own = world.own_rows(len(rows))
        return world.gather_rows(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.own], None


def choose_device(device: str) -> str:
    """Return a torch device; "auto" is the GPU where there is one, else the CPU.

    Raises:
        ConfigError: If there is no such device on this machine; the message names those there are.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    present = ["auto", "cpu"]
    if accelerator := torch.accelerator.current_accelerator(check_available=True):
        kind, count = accelerator.type, torch.accelerator.device_count()
        present += [kind, *(f"{kind}:{i}" for i in range(count))]
    if device not in (*present, "cpu:0"):
        raise ConfigError(
            f"torch {torch.__version__} finds no device '{device}' on this machine; "
            f"use one of {', '.join(present)}"
        )
    return device


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Join the processes that torchrun started, or be the only one, for a `with` block.

    The block ends when all have finished. A process that fails leaves at once: waiting for the
    others would hang, and torchrun ends them.

    Args:
        device: Torch device; "auto" is the GPU if there is one, else the CPU. A GPU without a
            number is the process's own.

    Raises:
        ConfigError: If there is no such device, or the environment says that there are other
            processes, but not their address.
        VideoCLIPError: If another process has ended.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = choose_device(device)
    if device == "cuda":
        device = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
    chosen = torch.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1:
        missing = [n for n in ("MASTER_ADDR", "MASTER_PORT", "RANK") if n not in os.environ]
        if missing:
            raise ConfigError(
                f"WORLD_SIZE is {size} but {', '.join(missing)} is not set: start the processes "
                "with `torchrun --nproc-per-node N -m videoclip ...`"
            )
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    world = World(rank, size, chosen)
    try:
        yield world
        world.barrier()
        if world.size > 1:
            dist.destroy_process_group()
    except RuntimeError as error:
        # gloo has no type for what it raises.
        has_lost_peer = isinstance(error, dist.DistError) or "gloo" in str(error)
        if world.size == 1 or not has_lost_peer:
            raise
        raise VideoCLIPError("another process ended; its own message gives the reason") from error
