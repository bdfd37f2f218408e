"""Clips with texts as batches: the data of fine-tuning for retrieval and VideoQA."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videoclip.benchmarks.examples import RetrievalExample
from videoclip.config import FinetuneConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import DataError
from videoclip.evaluation.trial import Clip, find_clip
from videoclip.model.batch import Batch, collate
from videoclip.training.trainer import BatchSource, Embed, Purpose, generator
from videoclip.types import IntArray

SAMPLE_PAIRS = 8


@dataclass(frozen=True)
class _ClipTexts:
    """A clip and the word-piece ids of each of its texts."""

    clip: Clip
    texts: tuple[list[int], ...]


class ClipSource(BatchSource[Batch]):
    """Batches of different clips, each with one of its texts.

    An epoch visits every clip `texts_per_clip` times, in another order and with another choice of
    texts each time, and no batch holds a clip twice. Source: released fine-tuning, which repeats
    the list of videos instead.

    Args:
        config: The run.
        parts: Training and held-out examples.
        embedder: The model's settings and vocabulary.
        store: Features of all videos.
        world: The processes.

    Raises:
        DataError: If a text has no words, or no clip has features.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        parts: tuple[Sequence[RetrievalExample], Sequence[RetrievalExample]],
        embedder: Embedder,
        store: FeatureStore,
        world: World,
    ) -> None:
        self._config, self._store, self.world = config, store, world
        self._model, self._tokenizer = embedder.config, embedder.tokenizer
        self._training, self._held_out = map(self._with_texts, parts)
        if len(self._training) < 2:
            raise DataError(
                f"{len(self._training)} clips to train on: extract features of more videos",
                store.folder,
            )
        digest = hashlib.sha256(repr((self._training, self._held_out)).encode())
        self.facts = {
            "data": {
                "clips": len(self._training),
                "held-out clips": len(self._held_out),
                "fingerprint": digest.hexdigest()[:16],
            },
            "init_from": embedder.fingerprint,
        }

    def sample(self) -> Batch:
        """Return a few pairs."""
        some = np.arange(min(SAMPLE_PAIRS, len(self._training)))
        return self._batch(self._training, some, np.random.default_rng(0))

    def epoch_size(self, epoch: int) -> int:
        """Return the batches of an epoch: all visits to all clips."""
        return self._config.texts_per_clip * self._groups_per_visit()

    def batches(
        self, epoch: int, first: int, *, embed: Embed, plan_path: Path | None
    ) -> Iterator[Batch]:
        """Yield this process's batches of an epoch."""
        seed, world = self._config.seed, self.world
        groups = [
            group
            for visit in range(self._config.texts_per_clip)
            for group in np.array_split(
                generator(seed, Purpose.ORDER, epoch, visit).permutation(len(self._training)),
                self._groups_per_visit(),
            )
        ]
        for place in world.own_places(first, self.num_batches(epoch)):
            rng = generator(seed, Purpose.TRAINING, epoch, place)
            yield self._batch(self._training, groups[place], rng)

    def validation(self) -> Iterator[Batch] | None:
        """Yield the held-out clips, each with the same text each time."""
        size, seed, world = self._config.pairs_per_batch, self._config.seed, self.world
        count = len(self._held_out)
        if not count:
            return None
        groups = np.array_split(np.arange(count), -(-count // size))
        return (
            self._batch(self._held_out, group, generator(seed, Purpose.VALIDATION, i))
            for i, group in enumerate(groups)
            if i % world.size == world.rank
        )

    def _groups_per_visit(self) -> int:
        return -(-len(self._training) // self._config.pairs_per_batch)

    def _batch(
        self, clips: Sequence[_ClipTexts], chosen: IntArray, rng: np.random.Generator
    ) -> Batch:
        some = [clips[i] for i in chosen.tolist()]
        features = self._store.read_windows([item.clip for item in some])
        texts = [item.texts[rng.integers(len(item.texts))] for item in some]
        return collate(list(zip(features, texts, strict=True)), self._model.pad_id)

    def _with_texts(self, examples: Sequence[RetrievalExample]) -> list[_ClipTexts]:
        rate = self._store.spec.features_per_second
        seconds = min(self._config.clip_seconds, self._model.max_video_tokens / rate)
        longest = self._model.max_text_tokens
        token_ids = self._tokenizer.encode_batch([example.text for example in examples])
        texts: dict[Clip, list[list[int]]] = {}
        for example, ids in zip(examples, token_ids, strict=True):
            if not ids:
                raise DataError(f"a text of '{example.video_id}' has no words: {example.text!r}")
            clip = find_clip(self._store, example.video_id, example.start, example.end, seconds)
            if clip is not None:  # None: the features end before it begins
                texts.setdefault(clip, []).append(ids[:longest])
        return [_ClipTexts(clip, tuple(ids)) for clip, ids in texts.items()]
