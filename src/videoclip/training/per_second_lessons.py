"""Videos whose every second has an answer: what CrossTask and COIN are fine-tuned on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from videoclip.benchmarks.examples import LabelledVideo, StepVideo
from videoclip.config import FinetuneConfig
from videoclip.data.batch import pad_features
from videoclip.data.feature_store import FeatureStore
from videoclip.data.tokenizer import pad_tokens
from videoclip.data.windows import sliding_windows
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.evaluation.metrics.targets import label_targets, step_targets
from videoclip.evaluation.segmentation import BACKGROUND_TEXT
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.feed import Purpose, generator
from videoclip.training.loop import Trainer
from videoclip.training.per_second_objective import (
    ClassLoss,
    LabelTextLoss,
    PerSecondLoss,
    PerSecondObjective,
    StepLoss,
    WindowBatch,
)

__all__ = ["Answered", "PerSecondLessons", "answer_labels", "answer_steps"]

SAMPLE_WINDOWS = 8


@dataclass(frozen=True)
class Answered:
    """A video with what is right about it.

    Attributes:
        video_id: The video.
        texts: What its seconds are compared with, of K steps or labels.
        targets: From its number of features T and their rate to (T, K) bool or (T,) classes.
    """

    video_id: str
    texts: tuple[str, ...]
    targets: Callable[[int, float], np.ndarray]


def answer_steps(video: StepVideo) -> Answered:
    """Ask of every second which of the steps of the video's task happen."""
    steps = video.task.steps
    return Answered(
        video.video_id,
        steps,
        lambda num, rate: step_targets(video.segments, num, len(steps), rate).astype(np.float32),
    )


def answer_labels(video: LabelledVideo, texts: Sequence[str]) -> Answered:
    """Ask of every second which label it has.

    Args:
        video: The video.
        texts: Of the labels, from label 1; empty where a head knows them.
    """
    all_texts = (BACKGROUND_TEXT, *texts) if texts else ()
    return Answered(
        video.video_id, all_texts, lambda num, rate: label_targets(video.segments, num, rate)
    )


class PerSecondLessons:
    """One video a batch, cut into overlapping windows.

    Args:
        config: The run.
        loss: What is minimised.
        parts: What is learned, and what is held out and only measured; all have features.
        embedder: Whose settings and vocabulary the batches are for.
        store: Features of all videos.
        world: The processes.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        loss: type[StepLoss] | type[LabelTextLoss] | type[ClassLoss],
        parts: tuple[Sequence[Answered], Sequence[Answered]],
        embedder: Embedder,
        store: FeatureStore,
        world: World,
    ) -> None:
        self._config, self._store, self._world = config, store, world
        self._model, self._tokenizer = embedder.config, embedder.tokenizer
        self._training, self._held_out = parts
        self._loss: PerSecondLoss = loss
        self._texts: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        digest = hashlib.sha256()
        for video in (*self._training, *self._held_out):
            answers = video.targets(store.num_features(video.video_id), self._rate)
            digest.update(repr((video.video_id, video.texts)).encode() + answers.tobytes())
        self.facts = {
            "data": {
                "videos": len(self._training),
                "held-out videos": len(self._held_out),
                "fingerprint": digest.hexdigest()[:16],
            },
            "start": embedder.fingerprint,
        }

    def objective(self, model: VideoCLIP, world: World, precision: str) -> PerSecondObjective:
        """Build what is minimised."""
        return PerSecondObjective(self._loss, model, world, precision, self._config.seed)

    def sample(self) -> WindowBatch:
        """Return a few windows of a video."""
        batch = self._batch(self._training[0])
        some = slice(SAMPLE_WINDOWS)
        return WindowBatch(
            batch.video[some],
            batch.video_mask[some],
            batch.text,
            batch.text_mask,
            batch.targets[some],
        )

    def num_batches(self, epoch: int) -> int:
        """Return the batches of an epoch, for each process.

        Raises:
            ConfigError: If there are fewer videos than processes.
        """
        if len(self._training) < self._world.size:
            raise ConfigError(
                f"{len(self._training)} videos to train on, but there are {self._world.size} "
                "processes"
            )
        return len(self._training) // self._world.size

    def batches(
        self, trainer: Trainer[WindowBatch], epoch: int, plan_path: Path | None
    ) -> Iterator[WindowBatch]:
        """Yield the own videos of an epoch, in an order of its own."""
        world = self._world
        rng = generator(self._config.seed, Purpose.ORDER, epoch)
        order = rng.permutation(len(self._training)).tolist()
        for place in world.own_places(trainer.position.batch, self.num_batches(epoch)):
            yield self._batch(self._training[order[place]])

    def validation(self) -> Iterator[WindowBatch] | None:
        """Yield the held-out videos."""
        own = self._held_out[self._world.rank :: self._world.size]
        return map(self._batch, own) if self._held_out else None

    @property
    def _rate(self) -> float:
        return self._store.spec.features_per_second

    def _batch(self, video: Answered) -> WindowBatch:
        features = self._store.read(video.video_id)
        targets = torch.from_numpy(video.targets(len(features), self._rate))
        window = self._model.max_video_tokens
        step = min(window, max(1, round(self._config.window_step * self._rate)))
        spans = sliding_windows(len(features), window, step)
        clips, mask = pad_features([features[start:stop] for start, stop in spans])
        answers = targets.new_zeros(*mask.shape, *targets.shape[1:])
        for row, (start, stop) in zip(answers, spans, strict=True):
            row[: stop - start] = targets[start:stop]
        return WindowBatch(clips, mask, *self._encoded(video.texts), answers)

    def _encoded(self, texts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        if texts not in self._texts:
            longest = self._model.max_text_tokens
            ids = [ids[:longest] for ids in self._tokenizer.encode_batch(texts)]
            empty = torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool)
            self._texts[texts] = pad_tokens(ids, self._model.pad_id) if ids else empty
        return self._texts[texts]
