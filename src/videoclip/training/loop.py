"""The training loop: forward, backward, clip, step, log, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from videoclip.config import RunConfig
from videoclip.distributed import World
from videoclip.errors import VideoCLIPError
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.checkpoint import Position
from videoclip.training.optim import (
    build_optimizer,
    clip_gradients,
    freeze,
    learning_rate,
    scale_gradients,
)
from videoclip.training.speed import Masked, trained_towers

__all__ = ["Objective", "Step", "Trainer", "TrainingBatch", "train_epoch"]

LOWEST_TEMPERATURE = 0.01


class TrainingBatch(Masked, Protocol):
    """What one process works on in one update: clips and texts."""

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return the batch on a device."""
        ...


BatchT = TypeVar("BatchT", bound=TrainingBatch)
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


class Objective(Protocol[BatchT_contra]):
    """What is minimised; the model is its own."""

    def backward(self, batch: BatchT_contra, number: int, *, synced: bool = True) -> Tensor:
        """Add the gradients of a batch to the model's and return this process's loss, detached.

        Args:
            batch: On the own device.
            number: Of the batch in the run; it decides all dropout.
            synced: Whether gradients are averaged over the processes now, or only added up here.
        """
        ...

    def loss(self, batch: BatchT_contra) -> Tensor:
        """Return the loss of a batch without gradients or other processes."""
        ...

    def flops(self, batch: BatchT_contra) -> int:
        """Return the floating-point operations `backward` needs."""
        ...


@dataclass(frozen=True)
class Step:
    """What one update was like, over all processes.

    Attributes:
        loss: Mean, before the update.
        lr: Learning rate.
        grad_norm: Norm of the gradient before clipping.
        temperature: What similarities were divided by.
        num_pairs: Clip pairs, or windows where there are no pairs.
        num_tokens: Real positions of both towers, special ones included.
        flops: Floating-point operations on them.
        seconds: Wall time, waiting for data included.
        wait_share: Share of it spent waiting for data.
    """

    loss: float
    lr: float
    grad_norm: float
    temperature: float
    num_pairs: int
    num_tokens: int
    flops: int
    seconds: float = 0.0
    wait_share: float = 0.0

    def entry(self) -> dict[str, float]:
        """Return the line of log.jsonl, with amounts as rates."""
        entry = asdict(self)
        for amount in ("num_pairs", "num_tokens", "flops"):
            rate = amount.removeprefix("num_") + "_per_second"
            entry[rate] = round(entry.pop(amount) / self.seconds, 1)
        return entry


class Trainer(Generic[BatchT]):
    """A model with its optimiser, somewhere in a run.

    Args:
        model: Moved to the world's device; what is to be frozen is frozen.
        objective: Builds what is minimised, from model, processes and precision.
        config: The run.
        world: The processes.
        run_length: Updates of the whole run, for the schedule.
        precision: `fp32`, or `bf16` for autocast.
    """

    def __init__(
        self,
        model: VideoCLIP,
        objective: Callable[[VideoCLIP, World, str], Objective[BatchT]],
        config: RunConfig,
        world: World,
        run_length: int,
        precision: str = "fp32",
    ) -> None:
        freeze(model, config.frozen)
        self.model = model.to(world.device)
        self.train_mode()
        self.config, self.world, self.run_length = config, world, run_length
        self.objective = objective(model, world, precision)
        self.optimizer = build_optimizer(model, config.optim)
        self.position = Position()

    def step(self, *batches: BatchT) -> Step:
        """Perform one update, with the mean of the batches' gradients.

        Raises:
            VideoCLIPError: If loss or gradient is not finite; the weights are as before.
        """
        update, optim = self.position.update, self.config.optim
        lr = learning_rate(update, optim, self.run_length)
        temperature = float(torch.as_tensor(self.model.temperature).detach())

        self.optimizer.zero_grad()
        losses = [
            self.objective.backward(
                batch.to(self.world.device, non_blocking=True),
                update * self.config.accumulate_batches + i,
                synced=i == len(batches) - 1,
            )
            for i, batch in enumerate(batches)
        ]
        if len(batches) > 1:
            scale_gradients(self.model.parameters(), 1 / len(batches))
        grad_norm = clip_gradients(self.model.parameters(), optim.clip_norm)
        report = self._report(
            batches, float(torch.stack(losses).mean()), lr, grad_norm, temperature
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        if self.model.config.learn_temperature:
            # Without a floor the softmax can sharpen for ever. Source: CLIP (arXiv 2103.00020).
            self.model.log_temperature.data.clamp_(min=math.log(LOWEST_TEMPERATURE))

        done = self.position.batch + len(batches)
        self.position = replace(self.position, update=update + 1, batch=done)
        return report

    def validation_loss(self, batches: Iterator[BatchT]) -> float:
        """Return the mean loss of all processes' batches, in eval mode."""
        self.model.eval()
        losses = [float(self.objective.loss(batch.to(self.world.device))) for batch in batches]
        self.train_mode()
        mean = self.world.mean({"loss": sum(losses), "count": len(losses)})
        return mean["loss"] / mean["count"]

    def _report(
        self,
        batches: Sequence[BatchT],
        loss: float,
        lr: float,
        grad_norm: float,
        temperature: float,
    ) -> Step:
        mean = self.world.mean(
            {
                "loss": loss,
                "pairs": sum(map(len, batches)),
                "tokens": sum(map(_num_tokens, batches)),
                "flops": sum(map(self.objective.flops, batches)),
            }
        )
        if not math.isfinite(mean["loss"]) or not math.isfinite(grad_norm):
            raise VideoCLIPError(
                f"update {self.position.update + 1}: the loss is {mean['loss']:g} and the "
                f"gradient's norm {grad_norm:g}; stopped before the weights changed. Continue "
                "from the last checkpoint with a lower optim.lr or precision fp32 in a new run"
            )
        size = self.world.size
        return Step(
            loss=mean["loss"],
            lr=lr,
            grad_norm=grad_norm,
            temperature=temperature,
            num_pairs=round(mean["pairs"] * size),
            num_tokens=round(mean["tokens"] * size),
            flops=round(mean["flops"] * size),
        )

    def train_mode(self) -> None:
        """Dropout where something is learned; a frozen tower always says the same."""
        self.model.train()
        towers = self.model.video_encoder, self.model.text_encoder
        for tower, trained in zip(towers, trained_towers(self.model), strict=True):
            tower.train(trained)


def _num_tokens(batch: Masked) -> int:
    """Real positions of both towers, [CLS] and [SEP] included."""
    masks = batch.video_mask, batch.text_mask
    return sum(int(mask.sum()) + 2 * len(mask) for mask in masks)


def train_epoch(
    trainer: Trainer[BatchT],
    batches: Iterator[BatchT],
    *,
    log: Callable[[dict[str, Any]], None],
    save: Callable[[], None],
    num_batches: int,
) -> None:
    """Train on the rest of an epoch.

    Args:
        trainer: Standing somewhere in the epoch.
        batches: The batches from there on.
        log: Takes a line for each update.
        save: Saves a checkpoint; called every `save_every_updates`, though not at the very end.
        num_batches: Of the whole epoch.
    """
    while trainer.position.batch < num_batches:
        started = time.perf_counter()
        some = list(islice(batches, trainer.config.accumulate_batches))
        waited = time.perf_counter() - started
        step = trainer.step(*some)
        seconds = time.perf_counter() - started
        step = replace(step, seconds=seconds, wait_share=waited / seconds)

        position = trainer.position
        log({"update": position.update, "epoch": position.epoch, **step.entry()})
        at_the_end = position.batch == num_batches
        if position.update % trainer.config.save_every_updates == 0 and not at_the_end:
            save()
