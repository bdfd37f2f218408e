"""The feed: from groups of videos to batches of clip pairs, in time for the step.

What a batch holds follows from a key (seed, purpose, epoch, place in the epoch) and from nothing
else, so that a position is all the state there is and the number of workers changes nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from torch.utils.data import DataLoader, Dataset

from videoclip.config import ClipConfig
from videoclip.data.batch import Batch, collate, pad_features
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.tokenizer import pad_tokens
from videoclip.errors import VideoCLIPError

__all__ = ["Feed", "Group", "Purpose", "data_fingerprints", "dead_workers_told", "generator"]

FINGERPRINT_VIDEOS = 4096
SECONDS_FOR_SIGNAL = 1.0


class Purpose(IntEnum):
    """What randomness is for: one stream each, so that no use disturbs another."""

    TRAINING = 0
    VECTORS = 1
    VALIDATION = 2
    HELD_OUT = 3
    ORDER = 4


def generator(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """Return the generator of one use of randomness at one place of a run."""
    return np.random.default_rng([seed, int(purpose), *place])


def data_fingerprints(corpus: NarratedCorpus) -> dict[str, str]:
    """Return hex digests that change with the videos, their features or their words.

    Of a large corpus the features and words of some thousand videos are looked at, not all.
    """
    store, lengths = corpus.store, hashlib.sha256(repr(corpus.store.spec).encode())
    for video_id in corpus.video_ids:
        lengths.update(f"{video_id} {store.num_features(video_id)}\n".encode())
    some = range(0, len(corpus), 1 + len(corpus) // FINGERPRINT_VIDEOS)
    features, words = hashlib.sha256(), hashlib.sha256()
    for index in some:
        video = corpus[index]
        narration = video.narration
        features.update(f"{store.checksum(video.video_id)}\n".encode())
        counts = np.array([len(ids) for ids in narration.token_ids])
        for array in (narration.starts, narration.ends, counts, *narration.token_ids):
            words.update(array.tobytes())
    digests = {"videos": lengths, "features": features, "words": words}
    return {f"{name} fingerprint": digest.hexdigest()[:16] for name, digest in digests.items()}


@dataclass(frozen=True)
class Group:
    """Videos that share a batch, and the key that decides which clip pairs.

    Attributes:
        videos: Indices into the corpus.
        key: Seed, purpose and place, for `generator`.
    """

    videos: Sequence[int]
    key: tuple[int, Purpose, *tuple[int, ...]]


@contextmanager
def dead_workers_told() -> Iterator[None]:
    """Say in one line that a worker died, wherever the signal reaches this process.

    The loader's signal handler raises from whatever runs at that moment, be it a training step.

    Raises:
        VideoCLIPError: If one died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _dead_worker() from error


def _dead_worker() -> VideoCLIPError:
    return VideoCLIPError(
        "a process that prepares batches died, perhaps for want of memory; the last checkpoint is "
        "intact: lower num_workers and run the same command again"
    )


class Feed:
    """Draws clip pairs of a corpus and makes batches of them.

    Args:
        corpus: Narrated videos with their features.
        clips: How clip pairs are drawn.
        pad_id: Id that fills up short texts.
        num_workers: Processes that prepare batches ahead; 0: this one, when asked.
        pin_memory: Put batches where a GPU can fetch them by itself.
    """

    def __init__(
        self,
        corpus: NarratedCorpus,
        clips: ClipConfig,
        pad_id: int,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._corpus, self._clips = corpus, clips
        self._pad_id = pad_id
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
        with dead_workers_told():
            try:
                for batch in loader:
                    if isinstance(batch, VideoCLIPError):
                        raise batch
                    yield batch
            except (ConnectionError, EOFError, FileNotFoundError) as error:
                if "Caught" in str(error):  # what a worker raised, handed over
                    raise
                # A worker died while it handed over. Its signal may come later than the end of its
                # connections, and must not find us elsewhere.
                time.sleep(SECONDS_FOR_SIGNAL)
                raise _dead_worker() from error

    def batch(self, group: Group) -> Batch:
        """Make the batch of one group."""
        rng, corpus, clips = generator(*group.key), self._corpus, self._clips
        if clips.strategy == "mil_nce":
            drawn = [p for i in group.videos for p in corpus.draw_candidates(i, clips, rng)]
            features = pad_features([rows for rows, _ in drawn])
            return Batch(*features, *pad_tokens([t for _, ts in drawn for t in ts], self._pad_id))
        pairs = [pair for i in group.videos for pair in corpus.draw(i, clips, rng)]
        return collate(pairs, self._pad_id)


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
