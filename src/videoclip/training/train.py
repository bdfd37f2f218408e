"""A whole run, of pre-training or fine-tuning: epochs, checkpoints, and going on where it was."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from safetensors import SafetensorError

from videoclip.config import RunConfig, to_dict
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import CheckpointError, ConfigError, VideoCLIPError
from videoclip.model import hub
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.checkpoint import read_checkpoint, write_checkpoint, write_model_folder
from videoclip.training.feed import dead_workers_told
from videoclip.training.loop import Objective, Trainer, TrainingBatch, train_epoch
from videoclip.training.memory import freed_memory_kept
from videoclip.training.optim import freeze
from videoclip.training.progress import ProgressLine
from videoclip.training.run_folder import RunFolder, differences, read_log, write_folder
from videoclip.training.speed import bf16_pays, compile_towers, compiling_pays, matmul_peak

__all__ = ["Evaluation", "Lessons", "RunResult", "train"]

DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EFBIG,
)
COMPILED = {"auto": None, "on": True, "off": False}
"""What `compile` says of whether towers are compiled; None: it is measured."""
_TRY_OTHERWISE = (
    "what was saved before is intact: try a lower optim.lr or precision fp32 in a new run"
)
Evaluation = Mapping[str, float]
BatchT = TypeVar("BatchT", bound=TrainingBatch)


class Lessons(Protocol[BatchT]):
    """What a run learns from, and by which loss: all that one kind of training differs in."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a continued run must agree with."""
        ...

    def objective(self, model: VideoCLIP, world: World, precision: str) -> Objective[BatchT]:
        """Build what is minimised."""
        ...

    def sample(self) -> BatchT:
        """Return a small batch, to measure on."""
        ...

    def num_batches(self, epoch: int) -> int:
        """Return the batches of an epoch, from 1, for each process."""
        ...

    def batches(
        self, trainer: Trainer[BatchT], epoch: int, plan_path: Path | None
    ) -> Iterator[BatchT]:
        """Yield this process's batches of an epoch, from where the trainer stands.

        Args:
            trainer: Its model may decide what comes next.
            epoch: From 1.
            plan_path: Where the main process may keep the epoch's plan.
        """
        ...

    def validation(self) -> Iterator[BatchT] | None:
        """Yield this process's batches of what is held out; None where nothing is."""
        ...


@dataclass(frozen=True)
class RunResult:
    """What a run has come to.

    Attributes:
        model_folder: The trained model with its vocabulary.
        num_updates: Updates of the whole run.
        seconds: Wall time of all updates.
        loss: Of the last update.
        validation_loss: Of the model, if something was held out.
        before: What `evaluate` said of the model at the start.
        after: What it says of the trained one.
    """

    model_folder: Path
    num_updates: int
    seconds: float
    loss: float
    validation_loss: float | None
    before: Evaluation
    after: Evaluation


def train(
    config: RunConfig,
    lessons: Lessons[BatchT],
    folder: Path | str,
    *,
    model: VideoCLIP,
    tokenizer: Tokenizer,
    start: Embedder | None = None,
    keep_best: bool = False,
    evaluate: Callable[[Embedder], Evaluation] | None = None,
    watch: Callable[[Mapping[str, Any]], None] | None = None,
    world: World | None = None,
    shown: bool = True,
) -> RunResult:
    """Train a model, in a run folder; the same call continues a broken run.

    Args:
        config: The run.
        lessons: What is learned from.
        folder: Run folder. If the run is there already it continues where it was saved last; on
            a CPU the weights end up bit-identical to those of an unbroken run.
        model: Trained in place.
        tokenizer: Saved with the model.
        start: What `evaluate` is asked about before training, if not the model itself.
        keep_best: The result is the model with the lowest validation loss, not the last.
        evaluate: Called on the main process before and after training, with the model in eval
            mode; its numbers go into the log and the result.
        watch: Told every entry of the log, on the main process.
        world: The processes; this one alone if absent.
        shown: Whether progress is written to stderr.

    Raises:
        ConfigError: If the run, or another process, was started with other settings or facts.
        CheckpointError: If the run folder cannot be written, or a checkpoint cannot be read.
        VideoCLIPError: If the loss stops being finite.
    """
    world = world or World()
    run = _Run(config, lessons, Path(folder), model, tokenizer, world)
    run.keep_best = keep_best
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices), freed_memory_kept(), dead_workers_told():
        if not world.on_main:
            return run.train(shown=False)
        run.start, run.evaluate, run.watch = start, evaluate, watch
        try:
            with RunFolder(
                run.folder, to_dict(config), run.facts, config.keep_checkpoints
            ) as run.files:
                return run.train(shown)
        except (OSError, SafetensorError) as error:
            if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
                raise
            raise CheckpointError(
                f"{folder}: cannot write there ({error}); what was saved before is intact: put "
                "that right and run the same command again"
            ) from error


def _refuse_differing(world: World, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Make sure, in every process, that all have the same settings, data and start."""
    first, *others = world.gather({**config, **facts})
    for rank, other in enumerate(others, start=1):
        if changed := differences(first, other):
            raise ConfigError(
                f"process {rank} was started differently from process 0 ({'; '.join(changed)}): "
                "give every machine the same command, data and models"
            )


class _Run(Generic[BatchT]):
    """One call of `train`: what its stages share. Only the main process has `files`."""

    def __init__(
        self,
        config: RunConfig,
        lessons: Lessons[BatchT],
        folder: Path,
        model: VideoCLIP,
        tokenizer: Tokenizer,
        world: World,
    ) -> None:
        self.config, self.lessons, self.folder, self.world = config, lessons, folder, world
        self.model, self.tokenizer = model, tokenizer
        self.files: RunFolder | None = None
        about = {"vocabulary": tokenizer.fingerprint, "processes": world.size}
        self.facts: Mapping[str, Any] = {**lessons.facts, **about}
        self.start: Embedder | None = None
        self.keep_best = False
        self.evaluate: Callable[[Embedder], Evaluation] | None = None
        self.watch: Callable[[Mapping[str, Any]], None] | None = None

    def train(self, shown: bool) -> RunResult:
        """Train what is left of the run."""
        config, world, files = self.config, self.world, self.files
        epochs = range(1, config.epochs + 1)
        run_length = sum(map(self._num_updates, epochs))
        _refuse_differing(world, to_dict(config), self.facts)
        newest = world.broadcast(files.newest() if files else None)
        precision, compiled = world.broadcast(self._precision_and_compiling())
        trainer = Trainer(self.model, self.lessons.objective, config, world, run_length, precision)
        if newest is not None:
            trainer.position = read_checkpoint(newest.folder, self.model, trainer.optimizer)
        if files:
            files.rewind_log(newest.update if newest else -1)
        if compiled:
            compile_towers(self.model)

        with ProgressLine(run_length, trainer.position.update, shown) as line:
            peak = world.size * matmul_peak(world.device, precision)
            line.say(
                f"{world.size} x {world.device} in {precision}, towers "
                f"{'compiled' if compiled else 'as they are'}: matrices multiply at "
                f"{peak / 1e9:.0f} GFLOP/s"
            )
            if newest is not None:
                done = newest.update == run_length
                what = f"continuing {self.folder} at" if not done else f"{self.folder} is done:"
                line.say(f"{what} update {newest.update}")
            before = self._evaluation(trainer, 0, self.start)
            for epoch in epochs[trainer.position.epoch - 1 :]:
                self._train_epoch(trainer, epoch, line, peak)
            self._choose(line)
            after = self._evaluation(trainer, run_length)
        if files:
            write_folder(
                self.folder / "model",
                lambda folder: write_model_folder(folder, self.model, self.tokenizer),
            )
        world.barrier()
        return self._result(before, after)

    def _num_updates(self, epoch: int) -> int:
        return -(-self.lessons.num_batches(epoch) // self.config.accumulate_batches)

    def _train_epoch(
        self, trainer: Trainer[BatchT], epoch: int, line: ProgressLine, peak: float
    ) -> None:
        config, files = self.config, self.files
        path = files.plan_path(epoch) if files else None

        def log(entry: dict[str, Any]) -> None:
            entry["peak_share"] = round(entry["flops_per_second"] / peak, 4)
            self._log(entry)
            line.show(entry)

        train_epoch(
            trainer,
            self.lessons.batches(trainer, epoch, path),
            log=log,
            save=lambda: self._save(trainer),
            num_batches=self.lessons.num_batches(epoch),
        )
        batches = self.lessons.validation()
        update, loss = trainer.position.update, None
        trainer.position = replace(trainer.position, epoch=epoch + 1, batch=0)
        if batches is not None:
            loss = trainer.validation_loss(batches)
            if not math.isfinite(loss):
                raise VideoCLIPError(
                    f"update {update}: the validation loss is {loss:g}; {_TRY_OTHERWISE}"
                )
            self._log({"update": update, "epoch": epoch, "validation_loss": loss})
            line.say(f"epoch {epoch}: validation loss {loss:.4f}")
        due = update % config.save_every_updates == 0 or epoch == config.epochs
        if due or (files and files.is_best(loss)):
            self._save(trainer, loss)

    def _choose(self, line: ProgressLine) -> None:
        """Go back to the best checkpoint, where that is asked for; only the main process needs."""
        best = self.files.best() if self.files and self.keep_best else None
        if best is not None:
            hub.load_weights(self.model, best.folder / "model")
            line.say(f"best on what was held out: update {best.update}")

    def _embedder(self) -> Embedder:
        """The model as it is now, in eval mode."""
        return Embedder(self.model, self.tokenizer, self.world.device)

    def _precision_and_compiling(self) -> tuple[str, bool]:
        """Precision, and whether towers are compiled: as begun, as asked for, or as measured."""
        if self.files is None:
            return "", False
        facts, config = self.files.facts, self.config
        precision: str = facts.get("precision", config.precision)
        compiled: bool | None = facts.get("compiled", COMPILED[config.compile])
        alone = World(device=self.world.device)
        if precision == "auto" or (compiled is None and alone.device.type == "cuda"):
            batch = self.lessons.sample().to(alone.device)
            model = self.model.to(alone.device).train()
            freeze(model, config.frozen)

            def step(model: VideoCLIP, precision: str) -> Callable[[], object]:
                objective = self.lessons.objective(model, alone, precision)
                return lambda: objective.backward(batch, 0)

            if precision == "auto":
                pays = bf16_pays(partial(step, model), alone.device)
                precision = "bf16" if pays else "fp32"
            if compiled is None:
                compiled = compiling_pays(model, partial(step, precision=precision), alone.device)
            model.zero_grad()
        self.files.remember(precision=precision, compiled=bool(compiled))
        return precision, bool(compiled)

    def _evaluation(
        self, trainer: Trainer[BatchT], update: int, embedder: Embedder | None = None
    ) -> Evaluation:
        """What `evaluate` says at an update; the log remembers it for a continued run."""
        for entry in read_log(self.folder) if self.evaluate else ():
            if entry["update"] == update and "evaluation" in entry:
                known: Evaluation = entry["evaluation"]
                return known
        if self.evaluate is None or trainer.position.update != update:
            return {}
        evaluation = dict(self.evaluate(embedder or self._embedder()))
        trainer.train_mode()
        self._log({"update": update, "evaluation": evaluation})
        return evaluation

    def _log(self, entry: dict[str, Any]) -> None:
        if self.files:
            self.files.log(entry)
            if self.watch:
                self.watch(entry)

    def _save(self, trainer: Trainer[BatchT], validation_loss: float | None = None) -> None:
        self._check_weights(trainer.position.update)
        if self.files:
            self.files.save_checkpoint(
                trainer.position.update,
                lambda folder: write_checkpoint(
                    folder, self.model, self.tokenizer, trainer.optimizer, trainer.position
                ),
                validation_loss,
            )

    def _check_weights(self, update: int) -> None:
        """Keep weights that overflowed from taking the place of good ones."""
        for name, tensor in self.model.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise VideoCLIPError(
                    f"update {update}: {name} is no longer finite, and was not saved; "
                    f"{_TRY_OTHERWISE}"
                )

    def _result(self, before: Evaluation, after: Evaluation) -> RunResult:
        entries = read_log(self.folder)
        steps = [entry for entry in entries if "loss" in entry]
        validations = [entry["validation_loss"] for entry in entries if "validation_loss" in entry]
        of_model = min if self.keep_best else _last
        return RunResult(
            model_folder=self.folder / "model",
            num_updates=len(steps),
            seconds=sum(entry["seconds"] for entry in steps),
            loss=steps[-1]["loss"] if steps else float("nan"),
            validation_loss=of_model(validations) if validations else None,
            before=before,
            after=after,
        )


def _last(values: list[float]) -> float:
    return values[-1]
