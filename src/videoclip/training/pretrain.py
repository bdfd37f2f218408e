"""Pre-training: from narrated videos to a model folder; the same call continues a broken run."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from videoclip.config import ClipConfig, PretrainConfig, to_dict
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder, check_features
from videoclip.errors import CheckpointError, ConfigError
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.checkpoint import read_checkpoint, write_checkpoint, write_model_folder
from videoclip.training.feed import Feed, Group, Purpose, data_fingerprint
from videoclip.training.loop import Trainer, train_epoch
from videoclip.training.memory import freed_memory_kept
from videoclip.training.plans import epoch_plan, num_groups, vector_clips
from videoclip.training.progress import ProgressLine
from videoclip.training.run import RunFolder, differences, read_log, write_folder
from videoclip.training.speed import bf16_pays, matmul_peak

__all__ = ["PretrainResult", "pretrain"]

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR)
Evaluation = Mapping[str, float]


@dataclass(frozen=True)
class PretrainResult:
    """What a run has come to.

    Attributes:
        model_folder: The trained model with its vocabulary.
        num_updates: Updates of the whole run.
        seconds: Wall time of all updates.
        loss: Of the last update.
        validation_loss: After the last epoch, if videos were held out.
        before: What `evaluate` said of the untrained model.
        after: What it says of the trained one.
    """

    model_folder: Path
    num_updates: int
    seconds: float
    loss: float
    validation_loss: float | None
    before: Evaluation
    after: Evaluation


def pretrain(
    config: PretrainConfig,
    corpus: NarratedCorpus,
    folder: Path | str,
    *,
    tokenizer: Tokenizer,
    start: VideoCLIP | None = None,
    evaluate: Callable[[Embedder], Evaluation] | None = None,
    watch: Callable[[Mapping[str, Any]], None] | None = None,
    world: World | None = None,
    shown: bool = True,
) -> PretrainResult:
    """Pre-train a model on narrated videos.

    Args:
        config: The run.
        corpus: Narrated videos with their features.
        folder: Run folder. If the run is there already it continues where it was saved last; on
            a CPU the weights end up bit-identical to those of an unbroken run.
        tokenizer: What the words of the corpus went through; it is saved with the model.
        start: Model to start from, of `config.model`, trained in place; random weights if absent.
        evaluate: Called on the main process before and after training, with the model in eval
            mode; its numbers go into the log and the result.
        watch: Told every entry of the log, on the main process.
        world: The processes; this one alone if absent.
        shown: Whether progress is written to stderr.

    Raises:
        ConfigError: If the run was started with other settings or data.
        CheckpointError: If the run folder cannot be written, or a checkpoint cannot be read.
        DataError: If no video is left to train on.
        IndexMismatchError: If the features are not of the kind the model takes.
        VideoCLIPError: If the loss stops being finite.

    Source: paper, sections 3 and 4.
    """
    world = world or World()
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices), freed_memory_kept():
        run = _Run(config, corpus, Path(folder), tokenizer, start, world)
        if not world.on_main:
            return run.train(shown=False)
        run.evaluate, run.watch = evaluate, watch
        settings, keep = to_dict(config), config.keep_checkpoints
        try:
            with RunFolder(run.folder, settings, run.facts, keep) as run.files:
                return run.train(shown)
        except (OSError, SafetensorError) as error:
            if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
                raise
            raise CheckpointError(
                f"{folder}: cannot write there ({error}); what was saved before is intact: put "
                "that right and run the same command again"
            ) from error


class _Run:
    """One call of `pretrain`: what its stages share. Only the main process has `files`."""

    def __init__(
        self,
        config: PretrainConfig,
        corpus: NarratedCorpus,
        folder: Path,
        tokenizer: Tokenizer,
        start: VideoCLIP | None,
        world: World,
    ) -> None:
        if start is not None and start.config != config.model:
            changed = differences(to_dict(config.model), to_dict(start.config))
            raise ConfigError(f"the model to start from has other settings: {'; '.join(changed)}")
        check_features(config.model, corpus.store.spec)
        self.config, self.folder, self.tokenizer, self.world = config, folder, tokenizer, world
        self.files: RunFolder | None = None
        self.evaluate: Callable[[Embedder], Evaluation] | None = None
        self.watch: Callable[[Mapping[str, Any]], None] | None = None
        self.training, self.held_out = corpus.split(config.validation_videos, config.seed)
        torch.manual_seed(config.seed)
        self.model = start or VideoCLIP(config.model)
        embedder = self._embedder()  # checks that words and model belong together
        self.facts = {
            "data": {"videos": len(corpus), "fingerprint": data_fingerprint(corpus)},
            "processes": world.size,
            "start": embedder.fingerprint if start else "random",
        }

    def train(self, shown: bool) -> PretrainResult:
        """Train what is left of the run."""
        config, world, files = self.config, self.world, self.files
        epochs = range(1, config.epochs + 1)
        run_length = sum(map(self._num_steps, epochs))
        newest = world.broadcast(files.newest() if files else None)
        precision = world.broadcast(self._precision())
        trainer = Trainer(self.model, config, world, run_length, precision)
        if newest is not None:
            trainer.position = read_checkpoint(newest.folder, self.model, trainer.optimizer)
        if files:
            files.rewind_log(newest.update if newest else -1)
        if config.compile:
            for tower in (self.model.video_encoder, self.model.text_encoder):
                tower.bert.compile(dynamic=True)

        with ProgressLine(run_length, trainer.position.update, shown) as line:
            peak = world.size * matmul_peak(world.device, precision)
            line.say(
                f"{world.size} x {world.device} in {precision}: matrices multiply at "
                f"{peak / 1e9:.0f} GFLOP/s"
            )
            if newest is not None:
                line.say(f"continuing {self.folder} at update {newest.update}")
            before = self._evaluation(trainer, 0)
            for epoch in epochs[trainer.position.epoch - 1 :]:
                self._train_epoch(trainer, epoch, line, peak)
            after = self._evaluation(trainer, run_length)
        if files:
            write_folder(
                self.folder / "model",
                lambda folder: write_model_folder(folder, self.model, self.tokenizer),
            )
        world.barrier()
        return self._result(before, after)

    def _train_epoch(self, trainer: Trainer, epoch: int, line: ProgressLine, peak: float) -> None:
        config, world, files = self.config, self.world, self.files
        path = files.plan_path(epoch) if files else None
        feed = self._feed(self.training, vector_clips(config))
        plan = epoch_plan(trainer, feed, len(self.training), epoch, path)
        num_steps = self._num_steps(epoch)
        places = range(trainer.position.step * world.size, num_steps * world.size)
        own = [
            Group(plan.groups[place], (config.seed, Purpose.TRAINING, epoch, place))
            for place in places[world.rank :: world.size]
        ]

        def log(entry: dict[str, Any]) -> None:
            entry["peak_share"] = round(entry["flops_per_second"] / peak, 4)
            self._log(entry)
            line.show(entry)

        train_epoch(
            trainer,
            self._feed(self.training, config.clips).batches(own),
            log=log,
            save=lambda: self._save(trainer),
            num_steps=num_steps,
        )
        update, loss = trainer.position.update, self._validation_loss(trainer)
        trainer.position = replace(trainer.position, epoch=epoch + 1, step=0)
        if loss is not None:
            self._log({"update": update, "epoch": epoch, "validation_loss": loss})
            line.say(f"epoch {epoch}: validation loss {loss:.4f}")
        due = update % config.save_every_updates == 0 or epoch == config.epochs
        if due or (files and files.is_best(loss)):
            self._save(trainer, loss)

    def _num_steps(self, epoch: int) -> int:
        """Updates of an epoch: each takes one batch of every process."""
        groups = num_groups(self.config.plan, len(self.training), epoch)
        if groups < self.world.size:
            raise ConfigError(
                f"{len(self.training)} videos make {groups} batches of plan.videos_per_batch "
                f"({self.config.plan.videos_per_batch}), but there are {self.world.size} processes"
            )
        return groups // self.world.size

    def _embedder(self) -> Embedder:
        """The model as it is now, in eval mode."""
        return Embedder(self.model, self.tokenizer, self.world.device)

    def _feed(self, corpus: NarratedCorpus, clips: ClipConfig) -> Feed:
        return Feed(
            corpus,
            clips,
            self.config.model.pad_id,
            self.config.num_workers,
            pin_memory=self.world.device.type == "cuda",
        )

    def _validation_loss(self, trainer: Trainer) -> float | None:
        """The loss of the same clip pairs of the held-out videos each time."""
        size, seed = self.config.plan.videos_per_batch, self.config.seed
        groups = [
            Group(range(i, min(i + size, len(self.held_out))), (seed, Purpose.VALIDATION, i))
            for i in range(0, len(self.held_out), size)
        ]
        if not groups:
            return None
        own = groups[self.world.rank :: self.world.size]
        return trainer.validation_loss(self._feed(self.held_out, self.config.clips).batches(own))

    def _precision(self) -> str:
        """What the run began with, what is asked for, or what measures as quicker."""
        if self.files is None:
            return ""
        precision: str = self.files.facts.get("precision", self.config.precision)
        if precision == "auto":
            some = range(min(len(self.training), self.config.plan.videos_per_batch))
            group = Group(some, (self.config.seed, Purpose.TRAINING, 0))
            batch = self._feed(self.training, self.config.clips).batch(group)
            pays = bf16_pays(self.model.train(), batch, self.config.loss, self.world.device)
            precision = "bf16" if pays else "fp32"
        self.files.remember(precision=precision)
        return precision

    def _evaluation(self, trainer: Trainer, update: int) -> Evaluation:
        """What `evaluate` says at an update; the log remembers it for a continued run."""
        for entry in read_log(self.folder) if self.evaluate else ():
            if entry["update"] == update and "evaluation" in entry:
                known: Evaluation = entry["evaluation"]
                return known
        if self.evaluate is None or trainer.position.update != update:
            return {}
        evaluation = dict(self.evaluate(self._embedder()))
        trainer.train_mode()
        self._log({"update": update, "evaluation": evaluation})
        return evaluation

    def _log(self, entry: dict[str, Any]) -> None:
        if self.files:
            self.files.log(entry)
            if self.watch:
                self.watch(entry)

    def _save(self, trainer: Trainer, validation_loss: float | None = None) -> None:
        if self.files:
            self.files.save_checkpoint(
                trainer.position.update,
                lambda folder: write_checkpoint(
                    folder, self.model, self.tokenizer, trainer.optimizer, trainer.position
                ),
                validation_loss,
            )

    def _result(self, before: Evaluation, after: Evaluation) -> PretrainResult:
        entries = read_log(self.folder)
        steps = [entry for entry in entries if "loss" in entry]
        validations = [entry["validation_loss"] for entry in entries if "validation_loss" in entry]
        return PretrainResult(
            model_folder=self.folder / "model",
            num_updates=len(steps),
            seconds=sum(entry["seconds"] for entry in steps),
            loss=steps[-1]["loss"] if steps else float("nan"),
            validation_loss=validations[-1] if validations else None,
            before=before,
            after=after,
        )
