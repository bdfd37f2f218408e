"""Videos with a label for every second, as batches and losses: CrossTask and COIN."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.benchmarks.examples import LabelledVideo, StepVideo
from videoclip.config import FinetuneConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.data.tokenizer import pad_tokens
from videoclip.data.windows import sliding_windows
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.evaluation.metrics.frames import label_targets, step_targets
from videoclip.evaluation.segmentation import BACKGROUND_TEXT
from videoclip.model.batch import Batch
from videoclip.model.videoclip import VideoCLIP, pad_features
from videoclip.training.performance import trained_towers
from videoclip.training.trainer import BatchSource, Embed, Loss, Purpose, generator
from videoclip.types import IntArray, RealArray

SAMPLE_WINDOWS = 8


@dataclass(frozen=True)
class WindowBatch(Batch):
    """The windows of one video, the texts its seconds are compared with, and the targets.

    Attributes:
        video: (W, T, D) float32 features, zero where padded.
        video_mask: (W, T), True where real.
        text: (K, L) word-piece ids of K steps or labels; K is 0 where a head replaces them.
        text_mask: (K, L), True where real.
        targets: (W, T, K) float, 1 where a step happens; or (W, T) int64 classes.
    """

    targets: Tensor


class _PerSecondLoss(Loss[WindowBatch]):
    """A loss over the real seconds of a batch; none uses all parameters of the model."""

    uses_all_parameters = False

    def forward(self, batch: WindowBatch, world: World) -> Tensor:
        """Return the cross-entropy of the seconds over exclusive labels."""
        return F.cross_entropy(self.logits(batch), batch.targets[batch.video_mask])

    def logits(self, batch: WindowBatch) -> Tensor:
        """Return (N, K) similarities of the N real seconds to the K texts, over temperature.

        Source: released fine-tuning, which hides [CLS] from the seconds.
        """
        model, mask = self.model, batch.video_mask
        seconds = model.video_tokens(batch.video, mask, attend_cls=False)[mask]
        return seconds.float() @ self.texts(batch).float().T / model.temperature

    def texts(self, batch: WindowBatch) -> Tensor:
        """Return (K, E) embeddings of the texts."""
        return self.model.encode_text(batch.text, batch.text_mask)


class StepLoss(_PerSecondLoss):
    """Binary cross-entropy of every second with every step, independently.

    Source: released CrossTask fine-tuning: mean over seconds and steps.
    """

    def forward(self, batch: WindowBatch, world: World) -> Tensor:
        """Return the loss of a batch."""
        targets = batch.targets[batch.video_mask]
        return F.binary_cross_entropy_with_logits(self.logits(batch), targets)


class LabelTextLoss(_PerSecondLoss):
    """Cross-entropy of every second over the label texts, the first of which is background.

    The texts are the same in every batch: a frozen text tower embeds them once.
    """

    recomputes_frozen_texts = False

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__(model)
        self._frozen: Tensor | None = None

    def texts(self, batch: WindowBatch) -> Tensor:
        """Return (K, E) embeddings of the label texts."""
        if trained_towers(self.model)[1]:
            return super().texts(batch)
        if self._frozen is None:
            with torch.no_grad():
                self._frozen = super().texts(batch)
        return self._frozen


class ClassLoss(_PerSecondLoss):
    """Cross-entropy of every second over the classes of the model's head.

    Source: released COIN fine-tuning: 779 classes, [CLS] hidden.
    """

    recomputes_frozen_texts = False

    def logits(self, batch: WindowBatch) -> Tensor:
        """Return the (N, K) logits of the head."""
        return self.model.classify(batch.video, batch.video_mask)[batch.video_mask].float()


@dataclass(frozen=True)
class PerSecondExample:
    """A video with the target of every second.

    Attributes:
        video_id: The video.
        texts: The K steps or labels that its seconds are compared with.
        targets: Turns its number of features T and their rate into (T, K) float or (T,) classes.
    """

    video_id: str
    texts: tuple[str, ...]
    targets: Callable[[int, float], RealArray | IntArray]


def step_example(video: StepVideo) -> PerSecondExample:
    """Return an example whose targets are which of the task's steps happen in each second."""
    steps = video.task.steps
    return PerSecondExample(
        video.video_id,
        steps,
        lambda num, rate: step_targets(video.segments, num, len(steps), rate).astype("float32"),
    )


def label_example(video: LabelledVideo, label_texts: Sequence[str]) -> PerSecondExample:
    """Return an example whose targets are the label of each second.

    Args:
        video: The video.
        label_texts: Texts from label 1 on; empty where a head replaces them.
    """
    texts = (BACKGROUND_TEXT, *label_texts) if label_texts else ()
    return PerSecondExample(
        video.video_id, texts, lambda num, rate: label_targets(video.segments, num, rate)
    )


class PerSecondSource(BatchSource[WindowBatch]):
    """Batches of one video each, cut into overlapping windows.

    Args:
        config: The run.
        parts: Training and held-out examples; all have features.
        embedder: The model's settings and vocabulary.
        store: Features of all videos.
        world: The processes.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        parts: tuple[Sequence[PerSecondExample], Sequence[PerSecondExample]],
        embedder: Embedder,
        store: FeatureStore,
        world: World,
    ) -> None:
        self._config, self._store, self.world = config, store, world
        self._model, self._tokenizer = embedder.config, embedder.tokenizer
        self._training, self._held_out = parts
        self._rate = store.spec.features_per_second
        self._texts: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        digest = hashlib.sha256()
        for video in (*self._training, *self._held_out):
            targets = video.targets(store.num_features(video.video_id), self._rate)
            digest.update(repr((video.video_id, video.texts)).encode() + targets.tobytes())
        self.facts = {
            "data": {
                "videos": len(self._training),
                "held-out videos": len(self._held_out),
                "fingerprint": digest.hexdigest()[:16],
            },
            "init_from": embedder.fingerprint,
        }

    def sample(self) -> WindowBatch:
        """Return a few windows of a video."""
        batch, some = self._batch(self._training[0]), slice(SAMPLE_WINDOWS)
        video, mask, targets = batch.video[some], batch.video_mask[some], batch.targets[some]
        return WindowBatch(video, mask, batch.text, batch.text_mask, targets)

    def epoch_size(self, epoch: int) -> int:
        """Return the batches of an epoch: one a video."""
        return len(self._training)

    def batches(
        self, epoch: int, first: int, *, embed: Embed, plan_path: Path | None
    ) -> Iterator[WindowBatch]:
        """Yield this process's videos of an epoch, in another order each epoch."""
        rng = generator(self._config.seed, Purpose.ORDER, epoch)
        order = rng.permutation(len(self._training)).tolist()
        for place in self.world.own_places(first, self.num_batches(epoch)):
            yield self._batch(self._training[order[place]])

    def validation(self) -> Iterator[WindowBatch] | None:
        """Yield the held-out videos."""
        own = self._held_out[self.world.rank :: self.world.size]
        return map(self._batch, own) if self._held_out else None

    def _batch(self, video: PerSecondExample) -> WindowBatch:
        features = self._store.read(video.video_id)
        targets = torch.from_numpy(video.targets(len(features), self._rate))
        window = self._model.max_video_tokens
        step = min(window, max(1, round(self._config.window_step * self._rate)))
        spans = sliding_windows(len(features), window, step)
        clips, mask = pad_features([features[start:stop] for start, stop in spans])
        windows = targets.new_zeros(*mask.shape, *targets.shape[1:])
        for row, (start, stop) in zip(windows, spans, strict=True):
            row[: stop - start] = targets[start:stop]
        return WindowBatch(clips, mask, *self._encoded(video.texts), windows)

    def _encoded(self, texts: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        if texts not in self._texts:
            longest = self._model.max_text_tokens
            ids = [ids[:longest] for ids in self._tokenizer.encode_batch(texts)]
            empty = torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool)
            self._texts[texts] = pad_tokens(ids, self._model.pad_id) if ids else empty
        return self._texts[texts]
