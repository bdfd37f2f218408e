"""The feed: from groups of videos to batches of clip pairs, in time for the step.

What a batch holds follows from a key (seed, purpose, epoch, place in the epoch) and from nothing
else, so that a position is all the state there is and the number of workers changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import DataLoader, Dataset

from videoclip.config import ClipConfig
from videoclip.data.batch import Batch, pad_features, pad_tokens
from videoclip.data.clips import candidate_tokens, clip_tokens, draw_clip_pair
from videoclip.errors import ConfigError, VideoCLIPError

if TYPE_CHECKING:
    from videoclip.data.narrated import NarratedCorpus

__all__ = ["Feed", "Group", "Purpose", "generator", "split_videos"]


class Purpose(IntEnum):
    """What randomness is for: one stream each, so that no use disturbs another."""

    SPLIT = 0
    PLAN = 1
    TRAINING = 2
    VECTORS = 3
    VALIDATION = 4


def generator(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """Return the generator of one use of randomness at one place of a run."""
    return np.random.default_rng([seed, int(purpose), *place])


def split_videos(num_videos: int, num_held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices for training and those held out, each in the order of the corpus.

    Raises:
        ConfigError: If no video is left to train on.
    """
    if num_held_out >= num_videos:
        raise ConfigError(
            f"validation_videos ({num_held_out}) leaves none of {num_videos} videos to train on: "
            "lower it or add videos"
        )
    order = generator(seed, Purpose.SPLIT).permutation(num_videos).tolist()
    split = num_videos - num_held_out
    return sorted(order[:split]), sorted(order[split:])


@dataclass(frozen=True)
class Group:
    """Videos that share a batch, and the key that decides which clip pairs.

    Attributes:
        videos: Indices into the corpus.
        key: Seed, purpose and place, for `generator`.
    """

    videos: Sequence[int]
    key: tuple[int, Purpose, *tuple[int, ...]]


class Feed:
    """Draws clip pairs of a corpus and makes batches of them.

    Args:
        corpus: Narrated videos with their features.
        clips: How clip pairs are drawn.
        max_video_tokens: Longest video clip the model takes, in features.
        pad_id: Id that fills up short texts.
        num_workers: Processes that prepare batches ahead; 0: this one, when asked.
        pin_memory: Put batches where a GPU can fetch them by itself.
    """

    def __init__(
        self,
        corpus: NarratedCorpus,
        clips: ClipConfig,
        max_video_tokens: int,
        pad_id: int,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._corpus, self._clips = corpus, clips
        self._max_video_tokens, self._pad_id = max_video_tokens, pad_id
        self._num_workers, self._pin_memory = num_workers, pin_memory

    def batches(self, groups: Sequence[Group]) -> Iterator[Batch]:
        """Yield the batch of each group, in order.

        Raises:
            VideoCLIPError: If the data of a video cannot be read, or a worker died.
        """
        if not self._num_workers:
            yield from map(self.batch, groups)
            return
        loader = DataLoader(
            _Batches(self, groups),
            batch_size=None,
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
        )
        try:
            for batch in loader:
                if isinstance(batch, VideoCLIPError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise VideoCLIPError(
                "a process that prepares batches died, perhaps for want of memory; the last "
                "checkpoint is intact: lower num_workers and run the same command again"
            ) from error

    def batch(self, group: Group) -> Batch:
        """Make the batch of one group."""
        rng = generator(*group.key)
        features, texts = [], []
        for video in group.videos:
            for clip_features, clip_texts in self._clip_pairs(video, rng):
                features.append(clip_features)
                texts.extend(clip_texts)
        return Batch(*pad_features(features), *pad_tokens(texts, self._pad_id))

    def _clip_pairs(
        self, index: int, rng: np.random.Generator
    ) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Features and candidate texts of each clip pair drawn from one video."""
        video, store, clips = self._corpus[index], self._corpus.store, self._clips
        rate, num_rows = store.spec.features_per_second, store.num_features(video.video_id)
        num_seconds = max(1, int(num_rows / rate))
        pairs = [
            draw_clip_pair(video.narration, num_seconds, clips, rng)
            for _ in range(clips.clips_per_video)
        ]
        spans = []
        for pair in pairs:
            start = min(math.floor(pair.video_start * rate), num_rows - 1)
            stop = max(start + 1, math.ceil(pair.video_end * rate))
            spans.append((start, min(stop, start + self._max_video_tokens)))
        # One read for all pairs of a video: on a cold disk a seek costs more than its seconds.
        first = min(start for start, _ in spans)
        rows = store.read(video.video_id, first, max(stop for _, stop in spans))
        if clips.strategy == "mil_nce":
            texts = [candidate_tokens(video.narration, pair, clips) for pair in pairs]
        else:
            texts = [[clip_tokens(video.narration, pair, clips.text_capacity)] for pair in pairs]
        return [
            (rows[start - first : stop - first], text)
            for (start, stop), text in zip(spans, texts, strict=True)
        ]


class _Batches(Dataset[Batch | VideoCLIPError]):
    """The batches of some groups, by index, for a `DataLoader`."""

    def __init__(self, feed: Feed, groups: Sequence[Group]) -> None:
        self._feed, self._groups = feed, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Batch | VideoCLIPError:
        # An error is handed over as it is: the loader would wrap it in a traceback.
        try:
            return self._feed.batch(self._groups[index])
        except VideoCLIPError as error:
            return error
