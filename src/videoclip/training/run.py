"""A whole run of pre-training or fine-tuning: epochs, validation, checkpoints, continuing."""

import errno
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic

import torch
from safetensors import SafetensorError
from torch import Tensor

from videoclip.config import RunConfig, ignored_settings, to_dict
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import CheckpointError, ConfigError, VideoCLIPError
from videoclip.evaluation.held_out import Choice
from videoclip.evaluation.outcome import Evaluation, measure_texts
from videoclip.files import atomic_folder
from videoclip.model import hub
from videoclip.model.hub import ModelCard
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.logging import OnLog, ProgressLine
from videoclip.training.optim import freeze, learning_rate
from videoclip.training.performance import (
    bf16_pays,
    compile_towers,
    compiling_pays,
    keep_freed_memory,
    matmul_peak,
)
from videoclip.training.run_folder import (
    Position,
    RunFolder,
    differences,
    read_checkpoint,
    read_log,
    write_checkpoint,
)
from videoclip.training.trainer import (
    ADVICE,
    BatchSource,
    BatchT,
    Loss,
    Trainer,
    autocast,
    train_epoch,
)

DISK_ERRORS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EROFS,
}
"""Errors of a full, limited or protected disk."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        model_folder: The trained model with its vocabulary.
        num_updates: Updates of the whole run.
        seconds: Wall time of all updates.
        loss: Loss of the last update.
        validation_loss: Validation loss of the model, if videos were held out.
        before: What `evaluate` returned before training.
        after: What it returned for the trained model.
        kept: How much of what was learned the model has, if it starts from a dual encoder; or the
            weight of its re-ranker, if it has one.
    """

    model_folder: Path
    num_updates: int
    seconds: float
    loss: float
    validation_loss: float | None
    before: Evaluation
    after: Evaluation
    kept: Choice | None = None

    def __str__(self) -> str:
        """Return updates, time, losses and what was kept, in one line."""
        text = f"{self.num_updates} updates in {self.seconds:.0f} s, loss {self.loss:.3f}"
        if self.validation_loss is not None:
            text += f", validation loss {self.validation_loss:.3f}"
        return f"{text}; {self.kept}" if self.kept else text

    def measures(self) -> list[list[str]]:
        """Return a row of text for each measure: name, before, after."""
        before, after = measure_texts(self.before), measure_texts(self.after)
        return [[name, text, after.get(name, "")] for name, text in before.items()]


def train(
    config: RunConfig,
    source: BatchSource[BatchT],
    loss: Loss[BatchT],
    out: Path | str,
    *,
    tokenizer: Tokenizer,
    untrained: Embedder | None = None,
    keep_best: bool = False,
    choose: Callable[[VideoCLIP], Choice] | None = None,
    evaluate: Callable[[Embedder], Evaluation] | None = None,
    on_log: OnLog | None = None,
    world: World | None = None,
    show_progress: bool = True,
    extend: bool = False,
) -> RunResult:
    """Train a model in a run folder; the same call continues an interrupted run.

    Args:
        config: The run.
        source: Yields the batches.
        loss: What is minimised; its model is trained in place.
        out: Run folder.
        tokenizer: Saved with the model.
        untrained: What `evaluate` is called with before training, if not the model itself.
        keep_best: Return the model with the lowest validation loss instead of the last one.
        choose: Decides how much of what was learned is used, and changes the trained model so.
        evaluate: See `pretrain`.
        on_log: See `pretrain`.
        world: See `pretrain`.
        show_progress: See `pretrain`.
        extend: See `pretrain`.

    Raises:
        ConfigError: If the run, or another process, was started with other settings or data.
        CheckpointError: If the run folder cannot be written, or a checkpoint cannot be read.
        VideoCLIPError: If the loss is no longer finite.
    """
    world, out = world or World(), Path(out)
    facts = {**source.facts, "vocabulary": tokenizer.fingerprint, "processes": world.size}
    devices = [world.device] if world.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        keep_freed_memory(),
        _report_disk_errors(out),
        RunFolder(out, to_dict(config), facts, config.keep_checkpoints, extend=extend)
        if world.on_main
        else nullcontext() as files,
    ):
        epochs = range(1, config.epochs + 1)
        run_length = num_updates(config, source, Position())
        _refuse_differences(world, {**to_dict(config), **facts})
        newest = world.broadcast(files.newest() if files else None)
        precision, compiled = world.broadcast(
            _choose_precision_and_compiling(config, source, loss, files, world.device)
            if files
            else ("", False)
        )
        trainer = Trainer(loss, config, world, run_length, precision)
        if newest is not None:
            newest.verify()
            stored = read_checkpoint(
                newest.folder, trainer.model, trainer.optimizer, trainer.average
            )
            trainer.position = stored.on(world.size)
            run_length = trainer.run_length = num_updates(config, source, trainer.position)
        if compiled:
            compile_towers(trainer.model)
        if files:
            files.rewind_log(newest.update if newest else -1)
            for sentence in ignored_settings(config):
                _logger.warning("%s", sentence)

        visible = show_progress and world.on_main
        with ProgressLine(run_length, trainer.position.update, visible) as progress:
            peak = world.size * matmul_peak(world.device, precision)
            progress.print_line(
                f"{world.size} x {world.device} in {precision}, torch.compile "
                f"{'on' if compiled else 'off'}; matmul peak {peak / 1e9:.0f} GFLOP/s"
            )
            if files and files.extended_from:
                progress.print_line(_schedule_of_extension(config, trainer, files.extended_from))
            elif newest is not None and newest.update == run_length:
                hint = f"; to extend it, raise --epochs above {config.epochs}" if extend else ""
                progress.print_line(f"{out} is complete: update {newest.update}{hint}")
            elif newest is not None:
                progress.print_line(f"continuing {out} at update {newest.update}")
                if stored.processes not in (0, world.size):
                    progress.print_line(_change_of_processes(stored, trainer))
            run = _Run(trainer, source, tokenizer, out, files, evaluate, on_log, progress, peak)
            before = run.evaluation(0, untrained)
            for epoch in epochs[trainer.position.epoch - 1 :]:
                run.train_epoch(epoch)
            trainer.use_average()
            if keep_best and files and (best := files.best()):
                hub.load_weights(trainer.model, best.folder / "model")
                progress.print_line(f"lowest validation loss: update {best.update}")
            kept = run.choice(choose) if choose else None
            after = run.evaluation(run_length)
        if files:
            with atomic_folder(out / "model") as folder:
                card = _model_card(config, facts, run_length, after, kept)
                hub.save_model(trainer.model, folder, tokenizer, card)
        world.barrier()
        return _result(out, keep_best, before, after, kept)


@dataclass
class _Run(Generic[BatchT]):
    """What the epochs of one call of `train` share; only the main process has `files`."""

    trainer: Trainer[BatchT]
    source: BatchSource[BatchT]
    tokenizer: Tokenizer
    out: Path
    files: RunFolder | None
    evaluate: Callable[[Embedder], Evaluation] | None
    on_log: OnLog | None
    progress: ProgressLine
    matmul_peak: float

    def train_epoch(self, epoch: int) -> None:
        """Train the rest of an epoch, validate, and save if it is due."""
        trainer, config, files = self.trainer, self.trainer.config, self.files

        def log(entry: dict[str, Any]) -> None:
            entry["peak_share"] = round(entry["flops_per_second"] / self.matmul_peak, 4)
            self.log(entry)
            self.progress.show_update(entry)

        batches = self.source.batches(
            epoch,
            trainer.position.batch,
            embed=trainer.embed,
            plan_path=files.plan_path(epoch) if files else None,
        )
        num_batches = self.source.num_batches(epoch)
        train_epoch(trainer, batches, log=log, save=self.save, num_batches=num_batches)

        held_out = self.source.validation()
        update, loss = trainer.position.update, None
        trainer.position = replace(trainer.position, epoch=epoch + 1, batch=0)
        if held_out is not None:
            loss = trainer.validation_loss(held_out)
            if not math.isfinite(loss):
                raise VideoCLIPError(f"update {update}: the validation loss is {loss:g}; {ADVICE}")
            self.log({"update": update, "epoch": epoch, "validation_loss": loss})
            self.progress.print_line(f"epoch {epoch}: validation loss {loss:.4f}")
        if trainer.save_due or epoch == config.epochs or (files and files.is_best(loss)):
            self.save(loss)

    def evaluation(self, update: int, embedder: Embedder | None = None) -> Evaluation:
        """Return the evaluation at an update, from the log if it was made before."""
        if self.evaluate is None:
            return {}
        for entry in read_log(self.out):
            if entry["update"] == update and "evaluation" in entry:
                known: Evaluation = entry["evaluation"]
                return known
        trainer = self.trainer
        if self.files is None or trainer.position.update != update:
            return {}
        embedder = embedder or Embedder(trainer.model, self.tokenizer, trainer.world.device)
        evaluation = dict(self.evaluate(embedder))
        trainer.train_mode()
        self.log({"update": update, "evaluation": evaluation})
        return evaluation

    def choice(self, choose: Callable[[VideoCLIP], Choice]) -> Choice:
        """Decide how much of what was learned is used, and report it."""
        model, update = self.trainer.model.eval(), self.trainer.position.update
        kept = self.trainer.world.broadcast(choose(model) if self.files else None)
        assert kept is not None
        if not any("kept" in entry for entry in read_log(self.out)):
            self.log({"update": update, "kept": asdict(kept)})
        self.progress.print_line(str(kept))
        return kept

    def log(self, entry: dict[str, Any]) -> None:
        """Write a log entry, on the main process."""
        if self.files:
            self.files.log(entry)
            if self.on_log:
                self.on_log(entry)

    def save(self, validation_loss: float | None = None) -> None:
        """Save a checkpoint, unless its weights are no longer finite."""
        trainer = self.trainer
        update = trainer.position.update
        for name, tensor in trainer.model.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise VideoCLIPError(
                    f"update {update}: {name} is no longer finite and was not saved; {ADVICE}"
                )
        if self.files:
            with trainer.averaged() as trained:
                parts = trainer.model, self.tokenizer, trainer.optimizer, trainer.position, trained
                self.files.save_checkpoint(
                    update, lambda folder: write_checkpoint(folder, *parts), validation_loss
                )
        trainer.saved_at = time.monotonic()


def _choose_precision_and_compiling(
    config: RunConfig,
    source: BatchSource[BatchT],
    loss: Loss[BatchT],
    files: RunFolder,
    device: torch.device,
) -> tuple[str, bool]:
    """Return precision and whether towers are compiled: as begun, as configured, or as measured."""
    wanted = {"auto": None, "on": True, "off": False}[config.compile]
    precision: str = files.facts.get("precision", config.precision)
    compiled: bool | None = files.facts.get("compiled", wanted)
    if precision == "auto" or (compiled is None and device.type == "cuda"):
        batch, model = source.sample().to(device), loss.model.to(device).train()
        freeze(model, config.frozen)

        def step(loss: Loss[BatchT], precision: str) -> Tensor:
            with autocast(precision, device):
                value: Tensor = loss(batch, World(device=device))
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        if precision == "auto":
            precision = "bf16" if bf16_pays(partial(step, loss), device) else "fp32"
        if compiled is None:
            compiled = compiling_pays(loss, partial(step, precision=precision), device)
        model.zero_grad()
    files.remember(precision=precision, compiled=bool(compiled))
    return precision, bool(compiled)


def _refuse_differences(world: World, known: Mapping[str, Any]) -> None:
    """Make every process fail unless all have the same settings, data and initial model."""
    first, *others = world.gather(known)
    for rank, other in enumerate(others, start=1):
        if changed := differences(first, other):
            raise ConfigError(
                f"rank {rank} has other settings than rank 0 ({'; '.join(changed)}): give every "
                "machine the same command, data and models"
            )


def num_updates(config: RunConfig, source: BatchSource[Any], position: Position) -> int:
    """Return the updates of a whole run: those done at a position, and those from there on."""
    left = 0
    for epoch in range(position.epoch, config.epochs + 1):
        done = position.batch if epoch == position.epoch else 0
        left += max(0, -(-(source.num_batches(epoch) - done) // config.accumulate_batches))
    return position.update + left


def _change_of_processes(stored: Position, trainer: Trainer[Any]) -> str:
    """Return a sentence on what another number of processes means for a continued run."""
    before, now = stored.processes, trainer.world.size
    return (
        f"on {now} processes instead of {before}: an update has {now / before:g} times as many "
        f"pairs, {trainer.run_length - stored.update} updates are left, and the learning rate is "
        f"not scaled, so the result differs from a run on {before} all along"
    )


def _schedule_of_extension(config: RunConfig, trainer: Trainer[Any], old_epochs: int) -> str:
    """Return a sentence on what more epochs mean for the learning rate."""
    update = trainer.position.update
    before, after = (
        learning_rate(update, config.optim, length) for length in (update, trainer.run_length)
    )
    return (
        f"extending from {old_epochs} to {config.epochs} epochs: from update {update} on, the "
        f"learning rate follows the schedule of {trainer.run_length} updates ({before:.2g} -> "
        f"{after:.2g}), so the result differs from a run of {config.epochs} epochs from the start"
    )


@contextmanager
def _report_disk_errors(out: Path) -> Iterator[None]:
    """Turn errors of a full or protected disk into one line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
            raise
        raise CheckpointError(
            f"{out}: cannot write there ({error}); earlier checkpoints are intact: fix this and "
            "run the same command again"
        ) from error


def _model_card(
    config: RunConfig,
    facts: Mapping[str, Any],
    num_updates: int,
    after: Evaluation,
    kept: Choice | None,
) -> ModelCard:
    """Describe a trained model by what the run knows; its owner states licence and purpose."""
    data = facts.get("data")
    scores = "\n".join(f"- {name}: {text}" for name, text in measure_texts(after, ".4g").items())
    return ModelCard(
        data="\n".join(f"- {name}: {value}" for name, value in data.items())
        if isinstance(data, Mapping)
        else "",
        recipe=f"`{config.name}`: {num_updates:,} updates in {config.epochs} epochs, seed "
        f"{config.seed}. All settings are in the `config.json` of the run folder."
        + (f" Afterwards: {kept}." if kept else ""),
        protocol=scores and f"Measured by the run after training:\n\n{scores}",
    )


def _result(
    out: Path,
    keep_best: bool,
    before: Evaluation,
    after: Evaluation,
    kept: Choice | None,
) -> RunResult:
    entries = read_log(out)
    steps = [entry for entry in entries if "loss" in entry]
    validations = [entry["validation_loss"] for entry in entries if "validation_loss" in entry]
    if validations:
        validations = [min(validations) if keep_best else validations[-1]]
    return RunResult(
        model_folder=out / "model",
        num_updates=len(steps),
        seconds=sum(entry["seconds"] for entry in steps),
        loss=steps[-1]["loss"] if steps else float("nan"),
        validation_loss=validations[0] if validations else None,
        before=before,
        after=after,
        kept=kept,
    )
