"""The training loop: forward, backward, clip, step, log, save.

A `BatchSource` yields batches, a `Loss` turns them into a number, and the `Trainer` minimises it.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from videoclip.config import RunConfig
from videoclip.distributed import World
from videoclip.errors import ConfigError, VideoCLIPError
from videoclip.model.batch import Batch, embed_batch
from videoclip.model.transformer import BertEncoder
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.optim import (
    build_optimizer,
    clip_gradients,
    freeze,
    learning_rate,
    set_learning_rate,
    set_weights,
    update_average,
)
from videoclip.training.performance import step_flops, trained_towers
from videoclip.training.run_folder import Position

LOWEST_TEMPERATURE = 0.01
"""Without a floor the softmax can sharpen for ever. Source: CLIP (arXiv 2103.00020)."""
ADVICE = (
    "earlier checkpoints are intact; start a new run with a lower optim.lr or with precision fp32"
)
"""What to do when numbers are no longer finite."""

BatchT = TypeVar("BatchT", bound=Batch)
Embed: TypeAlias = Callable[[Batch], tuple[Tensor, Tensor]]
"""Turns a batch into its (B, E) video and (N, E) text embeddings."""


class Purpose(IntEnum):
    """What randomness is used for; each purpose has a stream of its own."""

    TRAINING = 0
    VECTORS = 1
    VALIDATION = 2
    HELD_OUT = 3
    ORDER = 4
    EXAMPLES = 5
    LEADS = 6


def generator(seed: int, purpose: int, *place: int) -> np.random.Generator:
    """Return the generator for one purpose at one place of a run.

    Batches draw from nothing else, so a position is all the state a run has.
    """
    return np.random.default_rng([seed, purpose, *place])


class Loss(nn.Module, Generic[BatchT]):
    """A scalar loss of a batch, as a module around the model that is trained.

    Args:
        model: Its parameters receive the gradients.

    Attributes:
        uses_all_parameters: Whether every trainable parameter takes part in every forward pass.
        recomputes_frozen_texts: Whether a frozen text tower still runs in every forward pass.
    """

    uses_all_parameters = True
    recomputes_frozen_texts = True

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: BatchT, world: World) -> Tensor:
        """Return this process's loss; `world` has the processes whose batches are negatives too."""
        raise NotImplementedError

    def split(self, batch: BatchT, num_pairs: int) -> Sequence[BatchT]:
        """Return the parts of a batch for gradient caching; one where it does not apply."""
        return [batch]

    def embed(self, batch: BatchT) -> Any:
        """Return the embeddings that gradient caching differentiates the loss by."""
        raise NotImplementedError

    def cached_gradients(
        self, batch: BatchT, parts: Sequence[Any], world: World
    ) -> tuple[Tensor, list[Any]]:
        """Return the loss of all parts together, and its gradient by the embeddings of each."""
        raise NotImplementedError


class BatchSource(ABC, Generic[BatchT]):
    """Where batches come from; pre-training and each kind of fine-tuning have one.

    Attributes:
        facts: What identifies the data; a continued run must have the same.
        world: The processes, which share the batches.
    """

    facts: Mapping[str, Any]
    world: World

    @abstractmethod
    def sample(self) -> BatchT:
        """Return a small batch to measure speed on."""

    @abstractmethod
    def epoch_size(self, epoch: int) -> int:
        """Return the number of batches of an epoch, from 1, for all processes together."""

    def num_batches(self, epoch: int) -> int:
        """Return the number of batches of an epoch, from 1, for each process.

        Raises:
            ConfigError: If there are fewer batches than processes.
        """
        number = self.epoch_size(epoch)
        if number == 0:
            raise ConfigError("too few clips for one batch: use smaller batches or more videos")
        if number < self.world.size:
            raise ConfigError(
                f"an epoch has {number} batches, but there are {self.world.size} processes: use "
                "smaller batches or fewer processes"
            )
        return number // self.world.size

    @abstractmethod
    def batches(
        self, epoch: int, first: int, *, embed: Embed, plan_path: Path | None
    ) -> Iterator[BatchT]:
        """Yield this process's batches of an epoch.

        Args:
            epoch: From 1.
            first: Index of the first batch to yield.
            embed: The model being trained, for batches that depend on what it has learned.
            plan_path: File in which the main process may keep the epoch's plan.
        """

    @abstractmethod
    def validation(self) -> Iterator[BatchT] | None:
        """Yield this process's held-out batches, the same each time; None if there are none."""


@dataclass(frozen=True)
class Step:
    """What is logged of one update, over all processes.

    Attributes:
        loss: Mean over the processes and batches, before the update.
        lr: Learning rate.
        grad_norm: Norm of the gradient before clipping.
        temperature: Temperature of the softmax.
        num_pairs: Clip pairs, or windows where there are no pairs.
        num_tokens: Real positions of both towers, special tokens included.
        flops: Floating-point operations on them.
        seconds: Wall time, waiting for data included.
        wait_share: Share of `seconds` spent waiting for data.
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
        """Return the entry for log.jsonl, with the rates of the counts."""
        counts = ("num_pairs", "num_tokens", "flops")
        rates = {
            f"{count.removeprefix('num_')}_per_second": round(
                getattr(self, count) / self.seconds, 1
            )
            for count in counts
        }
        return asdict(self) | rates


class Trainer(Generic[BatchT]):
    """A model, its loss and its optimiser at some position of a run.

    Args:
        loss: Its model is moved to the world's device, and its frozen parameters are frozen.
        config: The run.
        world: The processes, whose gradients are averaged.
        run_length: Updates of the whole run, for the learning rate schedule.
        precision: `fp32`, or `bf16` for autocast.

    Attributes:
        average: Moving average of the trained weights by name; empty if the run has none.
        position: Updates, epoch and batches done.
        save_due: Whether a checkpoint should be saved now; the same on every process.
        saved_at: When the last checkpoint was saved, on the clock of `time.monotonic`.
    """

    def __init__(
        self,
        loss: Loss[BatchT],
        config: RunConfig,
        world: World,
        run_length: int,
        precision: str = "fp32",
    ) -> None:
        self.loss, self.model = loss, loss.model.to(world.device)
        self.config, self.world, self.run_length = config, world, run_length
        self.precision = precision
        freeze(self.model, config.frozen)
        for module in self.model.modules():
            if isinstance(module, BertEncoder):
                module.recompute = config.recompute_layers
        self.train_mode()
        self._synced_loss: nn.Module = loss
        self._no_sync: Callable[[], AbstractContextManager[None]] = nullcontext
        if world.size > 1:
            self._synced_loss = distributed = DistributedDataParallel(
                loss,
                gradient_as_bucket_view=True,
                find_unused_parameters=not loss.uses_all_parameters,
            )
            self._no_sync = distributed.no_sync
        named = dict(self.model.named_parameters())
        of_reranker = [p for name, p in named.items() if name.startswith("reranker.")]
        others = [p for name, p in named.items() if not name.startswith("reranker.")]
        self._clipped = others, of_reranker  # apart, so that the towers learn as without it
        self.optimizer = build_optimizer(self.model, config.optim)
        self.average = {
            name: parameter.detach().clone()
            for name, parameter in self.model.named_parameters()
            if config.optim.ema_decay and parameter.requires_grad
        }
        self.position = Position(processes=world.size)
        self.save_due, self.saved_at = False, time.monotonic()

    def step(self, *batches: BatchT) -> Step:
        """Perform one update with the mean gradient of `batches`.

        Raises:
            VideoCLIPError: If loss or gradient is not finite; the weights are unchanged.
        """
        update, optim = self.position.update, self.config.optim
        lr = learning_rate(update, optim, self.run_length)
        temperature = float(torch.as_tensor(self.model.temperature).detach())

        self.optimizer.zero_grad()
        losses = []
        for i, batch in enumerate(batches):
            number = update * self.config.accumulate_batches + i
            batch = batch.to(self.world.device, non_blocking=True)
            losses.append(self.forward_backward(batch, number, sync=i == len(batches) - 1))
        if len(batches) > 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(1 / len(batches))
        grad_norm = math.hypot(*(clip_gradients(part, optim.clip_norm) for part in self._clipped))

        # The one time per update at which processes wait for the GPU and exchange numbers.
        loss = float(torch.stack(losses).mean())
        total = self._sum_over_processes(batches, loss)
        loss = total["loss"] / self.world.size
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise VideoCLIPError(
                f"update {update + 1}: the loss is {loss:g} and the gradient norm {grad_norm:g}; "
                f"stopped before the weights changed, {ADVICE}"
            )

        set_learning_rate(self.optimizer, lr)
        self.optimizer.step()
        for module in self.model.modules():
            if isinstance(learned := getattr(module, "log_temperature", None), nn.Parameter):
                learned.data.clamp_(min=math.log(LOWEST_TEMPERATURE))
        if self.average:
            update_average(self.average, self.model, optim.ema_decay, update)

        done = self.position.batch + len(batches)
        self.position = replace(self.position, update=update + 1, batch=done)
        by_updates = self.position.update % self.config.save_every_updates == 0
        self.save_due = by_updates or total["save"] > 0
        counts = {name: round(total[name]) for name in ("num_pairs", "num_tokens", "flops")}
        return Step(loss=loss, lr=lr, grad_norm=grad_norm, temperature=temperature, **counts)

    def forward_backward(self, batch: BatchT, number: int, *, sync: bool = True) -> Tensor:
        """Add the gradients of a batch to the model's and return this process's loss, detached.

        With `config.chunk_pairs` the batch may exceed memory: its parts are embedded without
        keeping activations, the loss is differentiated by the embeddings, and each part is embedded
        again, with the same dropout, to send its share of that gradient back. Source: gradient
        caching (arXiv 2101.06983).

        Args:
            batch: On the world's device.
            number: Number of the batch in the run; with the seed it decides all dropout.
            sync: Whether gradients are averaged over the processes now, or only added up here.
        """
        parts = self.loss.split(batch, self.config.chunk_pairs)
        if len(parts) == 1:
            with nullcontext() if sync else self._no_sync():
                loss = self._call(self._synced_loss, batch, self.world, number=number)
                loss.backward()
            return Tensor.detach(loss)

        with torch.no_grad():
            embedded = [
                self._call(self.loss.embed, part, number=number, part=i)
                for i, part in enumerate(parts)
            ]
        loss, gradients = self.loss.cached_gradients(batch, embedded, self.world)
        for i, (part, gradient) in enumerate(zip(parts, gradients, strict=True)):
            with nullcontext() if sync and i == len(parts) - 1 else self._no_sync():
                arguments = part, self.world, gradient
                self._call(self._synced_loss, *arguments, number=number, part=i).backward()
        return loss.detach()

    def use_average(self) -> None:
        """Replace the model's weights by their average, if the run has one."""
        set_weights(self.model, self.average)

    @contextmanager
    def averaged(self) -> Iterator[dict[str, Tensor]]:
        """Use the average within the `with` block; yields the weights it replaces, by name."""
        trained = {name: self.model.get_parameter(name).detach().clone() for name in self.average}
        self.use_average()
        try:
            yield trained
        finally:
            set_weights(self.model, trained)

    @torch.no_grad()
    def validation_loss(self, batches: Iterator[BatchT]) -> float:
        """Return the mean loss over the batches of all processes, in eval mode.

        It is that of the averaged weights, if the run has them.
        """
        self.model.eval()
        alone = World(device=self.world.device)
        with self.averaged():
            losses = [
                float(self._call(self.loss, batch.to(self.world.device), alone))
                for batch in batches
            ]
        self.train_mode()
        mean = self.world.mean({"loss": sum(losses), "count": len(losses)})
        return mean["loss"] / mean["count"]

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed a batch with the model as it is now, in eval mode: see `embed_batch`."""
        self.model.eval()
        embeddings: tuple[Tensor, Tensor] = self._call(embed_batch, self.model, batch)
        self.train_mode()
        return embeddings

    def train_mode(self) -> None:
        """Switch dropout on, but not in a tower that is frozen."""
        self.model.train()
        towers = self.model.video_encoder, self.model.text_encoder
        for tower, trained in zip(towers, trained_towers(self.model), strict=True):
            tower.train(trained)

    def _call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        number: int | None = None,
        part: int = 0,
    ) -> Any:
        """Call a forward pass under autocast, with dropout that `number` and `part` decide."""
        if number is not None:
            entropy = np.random.SeedSequence([self.config.seed, number, self.world.rank, part])
            seed = int(entropy.generate_state(1)[0])
            if self.world.device.type == "cpu":  # not of every absent GPU, which takes longer
                torch.default_generator.manual_seed(seed)
            else:
                torch.manual_seed(seed)
        with autocast(self.precision, self.world.device):
            return function(*arguments)

    def _sum_over_processes(self, batches: Sequence[BatchT], loss: float) -> dict[str, float]:
        """Add up what is logged; the main process decides whether it is time to save."""
        seconds = self.config.save_every_seconds
        is_time = self.world.on_main and 0 < seconds <= time.monotonic() - self.saved_at
        mean = self.world.mean(
            {
                "loss": loss,
                "num_pairs": sum(map(len, batches)),
                "num_tokens": sum(batch.num_tokens for batch in batches),
                "flops": sum(map(self._flops, batches)),
                "save": float(is_time),
            }
        )
        return {name: value * self.world.size for name, value in mean.items()}

    def _flops(self, batch: BatchT) -> int:
        num_parts = len(self.loss.split(batch, self.config.chunk_pairs))
        return step_flops(
            self.model,
            batch,
            is_cached=num_parts > 1,
            recomputes_frozen_texts=self.loss.recomputes_frozen_texts,
        )


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context that runs a forward pass in `fp32` or `bf16`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


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
        trainer: At any position in the epoch.
        batches: The batches from there on.
        log: Called with the log entry of each update.
        save: Saves a checkpoint; called when one is due, but not at the end of the epoch.
        num_batches: Batches of the whole epoch.
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
        if trainer.save_due and position.batch < num_batches:
            save()
