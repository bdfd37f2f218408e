"""Pre-training: from narrated videos to a model folder; the same call continues a broken run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videoclip.config import ClipConfig, PretrainConfig, to_dict
from videoclip.data.batch import Batch
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder, check_features, with_features
from videoclip.errors import ConfigError
from videoclip.features.frame_encoder import FrameEncoder
from videoclip.model.hub import BACKBONE_FOLDER
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.feed import Feed, Group, Purpose, data_fingerprints
from videoclip.training.loop import Trainer
from videoclip.training.objective import PairObjective, pair_objective, split
from videoclip.training.plans import embed_videos, epoch_plan, num_groups, vector_clips
from videoclip.training.run_folder import differences
from videoclip.training.teacher import load_teacher
from videoclip.training.train import Evaluation, RunResult, train

__all__ = ["pretrain"]

SAMPLE_PAIRS = 8


def pretrain(
    config: PretrainConfig,
    corpus: NarratedCorpus,
    folder: Path | str,
    *,
    tokenizer: Tokenizer,
    start: VideoCLIP | None = None,
    frame_encoder: FrameEncoder | None = None,
    evaluate: Callable[[Embedder], Evaluation] | None = None,
    watch: Callable[[Mapping[str, Any]], None] | None = None,
    world: World | None = None,
    shown: bool = True,
) -> RunResult:
    """Pre-train a model on narrated videos.

    Args:
        config: The run.
        corpus: Narrated videos with their features, or with frames where the backbone is trained.
        folder: Run folder. If the run is there already it continues where it was saved last; on
            a CPU the weights end up bit-identical to those of an unbroken run.
        tokenizer: What the words of the corpus went through; it is saved with the model.
        start: Model to start from, of `config.model`, trained in place; random weights if absent.
        frame_encoder: The backbone, trained in place; wanted if `config.train_backbone`. The
            trained model has it in its folder `backbone`, and its config names that.
        evaluate: Called on the main process before and after training, with the model in eval
            mode; its numbers go into the log and the result.
        watch: Told every entry of the log, on the main process.
        world: The processes; this one alone if absent.
        shown: Whether progress is written to stderr.

    Raises:
        ConfigError: If the run was started with other settings or data.
        CheckpointError: If the run folder cannot be written, or a checkpoint cannot be read.
        DataError: If no video is left to train on.
        IndexMismatchError: If the features are not of the kind the model takes, or the teacher.
        VideoCLIPError: If the loss stops being finite.

    Source: paper, sections 3 and 5.3.
    """
    if start is not None and start.config != config.model:
        changed = differences(to_dict(config.model), to_dict(start.config))
        raise ConfigError(f"the model to start from has other settings: {'; '.join(changed)}")
    if config.train_backbone != (frame_encoder is not None):
        raise ConfigError("train_backbone and frame_encoder go together: give both or neither")
    if frame_encoder is None:
        check_features(config.model, corpus.store.spec)
    else:
        frame_encoder.check(corpus.store, config.model)
    world = world or World()
    teacher = load_teacher(config, corpus.store.spec, tokenizer) if config.plan.teacher else None
    with torch.random.fork_rng([world.device] if world.device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        model = start or VideoCLIP(config.model)
    if frame_encoder is None:
        model.config = with_features(model.config, corpus.store.spec)
    embedder = Embedder(model, tokenizer, world.device)  # checks that they belong together
    fingerprint = embedder.fingerprint if start else "random"
    if frame_encoder is not None:
        fingerprint += f" on {frame_encoder.fingerprint}"
        trained = Path(folder).resolve() / "model" / BACKBONE_FOLDER
        model.frame_encoder = frame_encoder
        model.config = replace(model.config, backbone=f"image:{trained}")
    return train(
        config,
        NarratedLessons(config, corpus, fingerprint, world, teacher),
        folder,
        model=model,
        tokenizer=tokenizer,
        evaluate=evaluate,
        watch=watch,
        world=world,
        shown=shown,
    )


class NarratedLessons:
    """Clip pairs of narrated videos, in the batches of each epoch's plan.

    Args:
        config: The run.
        corpus: Of which some videos may be held out.
        start: Fingerprint of the model to start from, or "random".
        world: The processes.
        teacher: Says which videos are near, if not the model itself.
    """

    def __init__(
        self,
        config: PretrainConfig,
        corpus: NarratedCorpus,
        start: str,
        world: World,
        teacher: Embedder | None = None,
    ) -> None:
        self.config, self.world = config, world
        self.teacher = teacher
        self._teacher_vectors: np.ndarray | None = None
        self.training, self.held_out = corpus.split(config.validation_videos, config.seed)
        self.objective: Callable[[VideoCLIP, World, str], PairObjective] = pair_objective(
            config.loss, chunk_pairs=config.chunk_pairs, seed=config.seed
        )
        data = {"videos": len(corpus), **data_fingerprints(corpus)}
        taught_by = teacher and teacher.fingerprint
        self.facts = {"data": data, "start": start, "teacher": taught_by}

    def sample(self) -> Batch:
        """Return a few pairs."""
        some = range(min(len(self.training), self.config.plan.videos_per_batch))
        group = Group(some, (self.config.seed, Purpose.TRAINING, 0))
        return next(split(self._feed(self.training, self.config.clips).batch(group), SAMPLE_PAIRS))

    def num_batches(self, epoch: int) -> int:
        """Return the batches of an epoch, for each process.

        Raises:
            ConfigError: If there are fewer batches than processes.
        """
        groups = num_groups(self.config.plan, len(self.training), epoch)
        if groups < self.world.size:
            raise ConfigError(
                f"{len(self.training)} videos make {groups} batches of plan.videos_per_batch "
                f"({self.config.plan.videos_per_batch}), but there are {self.world.size} processes"
            )
        return groups // self.world.size

    def batches(
        self, trainer: Trainer[Batch], epoch: int, plan_path: Path | None
    ) -> Iterator[Batch]:
        """Yield the own batches of an epoch's plan."""
        config, world = self.config, self.world
        plan = epoch_plan(
            config,
            len(self.training),
            epoch,
            lambda: self._vectors(trainer, epoch),
            plan_path,
            world,
        )
        own = [
            Group(plan.groups[place], (config.seed, Purpose.TRAINING, epoch, place))
            for place in world.own_places(trainer.position.batch, self.num_batches(epoch))
        ]
        return self._feed(self.training, config.clips).batches(own)

    def _vectors(self, trainer: Trainer[Batch], epoch: int) -> np.ndarray:
        """What a plan is made from: the model's view as it is now, or the teacher's, made once."""
        feed = self._feed(self.training, vector_clips(self.config))
        embed = partial(embed_videos, run=self.config, feed=feed, num_videos=len(self.training))
        if self.teacher is None:
            assert isinstance(trainer.objective, PairObjective)
            trainer.model.eval()
            vectors = embed(trainer.objective, epoch=epoch, world=self.world)
            trainer.train_mode()
            return vectors
        if self._teacher_vectors is None:
            model, alone = self.teacher.model, World(device=self.world.device)
            objective = PairObjective(model.to(alone.device), self.config.loss, alone)
            # Of no epoch, so that a continued run makes them again as they were.
            self._teacher_vectors = embed(objective, epoch=0, world=self.world)
            model.cpu()  # it is not asked again
        return self._teacher_vectors

    def validation(self) -> Iterator[Batch] | None:
        """Yield the same clip pairs of the held-out videos each time."""
        size, seed = self.config.plan.videos_per_batch, self.config.seed
        groups = [
            Group(range(i, min(i + size, len(self.held_out))), (seed, Purpose.VALIDATION, i))
            for i in range(0, len(self.held_out), size)
        ]
        if not groups:
            return None
        own = groups[self.world.rank :: self.world.size]
        return self._feed(self.held_out, self.config.clips).batches(own)

    def _feed(self, corpus: NarratedCorpus, clips: ClipConfig) -> Feed:
        return Feed(
            corpus,
            clips,
            self.config.model.pad_id,
            self.config.num_workers,
            pin_memory=self.world.device.type == "cuda",
        )
