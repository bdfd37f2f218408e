"""Narrated videos: those with both words and features, from which clip pairs are drawn.

A corpus lists the videos it left out, with the reason.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.random import Generator

from videoclip.config import ClipConfig
from videoclip.data.captions import Cue
from videoclip.data.clips import ClipPair, Narration, candidate_tokens, clip_tokens, draw_clip_pair
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.subtitles import MAX_SECONDS, find_narrations, read_subtitles
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import DataError

MAX_CUE_CHARACTERS = 96
MAX_CUE_TOKENS = 32
"""Longer cues are cut, first in characters, then in word pieces. Source: the released data."""


@dataclass(frozen=True)
class NarratedVideo:
    """One video and its narration.

    Attributes:
        video_id: Its name in the store.
        narration: Spans and word-piece ids of its cues.
    """

    video_id: str
    narration: Narration


class DrawnPair(NamedTuple):
    """A clip pair, read.

    Attributes:
        features: (rows, D) of the video clip.
        texts: Word-piece ids of its text; with MIL-NCE of each candidate.
        span: First and last second of the text, first and last second of the video clip.
    """

    features: np.ndarray
    texts: list[np.ndarray]
    span: tuple[float, float, int, int]


class FeatureReader(Protocol):
    """Where a corpus reads features: a `FeatureStore`, a `FrameStore` or released shards."""

    @property
    def spec(self) -> FeatureSpec:
        """Width, rate and backbone of the features."""

    @property
    def video_ids(self) -> list[str]:
        """Ids of all videos that have features."""

    def num_features(self, video_id: str) -> int:
        """Return the number of features of a video."""

    def checksum(self, video_id: str) -> int:
        """Return a checksum of the features of a video."""

    def read_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[np.ndarray]:
        """Read rows [start, stop) of a video for each (video_id, start, stop), (rows, D)."""


class NarratedCorpus(Sequence[NarratedVideo]):
    """Videos with words and features, in a fixed order; a `BatchPlan` holds their indices.

    Attributes:
        store: Where their features are.
        left_out: Reason by video id for each video that is not in the corpus.
        tokenizer: The vocabulary of the word-piece ids, where it is known.
    """

    def __init__(
        self,
        videos: Sequence[NarratedVideo],
        store: FeatureReader,
        left_out: Mapping[str, str] | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._videos = videos
        self.store = store
        self.left_out = dict(left_out or {})
        self.tokenizer = tokenizer

    @classmethod
    def from_captions(
        cls, store: FeatureReader, captions: Mapping[str, Sequence[Cue]], tokenizer: Tokenizer
    ) -> Self:
        """Join a store with the cues of each video, in the order of `captions`.

        Cues that begin after the last feature are left out, and videos with none left.
        """
        left_out: dict[str, str] = {}
        kept: dict[str, list[Cue]] = {}
        known = set(store.video_ids)
        for video_id, cues in captions.items():
            if video_id not in known:
                left_out[video_id] = "has no features; 'videoclip extract' computes them"
                continue
            duration = store.num_features(video_id) / store.spec.features_per_second
            inside = [
                replace(cue, end=duration) if cue.end == MAX_SECONDS else cue
                for cue in cues
                if cue.start < duration
            ]
            if cues and not inside:
                left_out[video_id] = f"all its narration comes after its end ({duration:.0f} s)"
            else:
                kept[video_id] = inside
        with_words = []
        for video in narrate(kept, tokenizer):
            if any(map(len, video.narration.token_ids)):
                with_words.append(video)
            else:
                left_out[video.video_id] = "has no words in its captions"
        return cls(with_words, store, left_out, tokenizer)

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        store: FeatureReader,
        tokenizer: Tokenizer,
        video_ids: Iterable[str] | None = None,
    ) -> Self:
        """Join the videos of a store, or some of them, with the subtitles found in a folder.

        The videos are sorted by id: their order in a store depends on which worker finished first,
        and batches and the held-out part follow the order.
        """
        captions: dict[str, Sequence[Cue]] = {}
        left_out: dict[str, str] = {}
        wanted = sorted(store.video_ids if video_ids is None else video_ids)
        for video_id, path in find_narrations(folder, wanted).items():
            if path is None:
                left_out[video_id] = "has no subtitles"
                continue
            try:
                captions[video_id] = read_subtitles(path)
            except DataError as error:
                left_out[video_id] = str(error)
        corpus = cls.from_captions(store, captions, tokenizer)
        corpus.left_out |= left_out
        return corpus

    @property
    def video_ids(self) -> list[str]:
        """Ids in the order of the corpus."""
        return [video.video_id for video in self._videos]

    def __len__(self) -> int:
        """Number of videos V."""
        return len(self._videos)

    @overload
    def __getitem__(self, index: int) -> NarratedVideo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NarratedVideo]: ...
    def __getitem__(self, index: int | slice) -> NarratedVideo | Sequence[NarratedVideo]:
        """Return a video, or several as a plain sequence."""
        return self._videos[index]

    def select(self, indices: Iterable[int]) -> Self:
        """Return the corpus of some of the videos, in the order given."""
        videos = [self._videos[i] for i in indices]
        return type(self)(videos, self.store, self.left_out, self.tokenizer)

    def split(self, num_held_out: int, seed: int) -> tuple[Self, Self]:
        """Return the training and the held-out corpus: the last videos of a seeded shuffle.

        Both keep the order of this corpus. The same seed holds out the same videos.

        Raises:
            DataError: If no video would be left to train on.
        """
        train, held_out = split_indices(len(self), num_held_out, seed)
        return self.select(train), self.select(held_out)

    def draw(
        self, index: int, config: ClipConfig, rng: Generator, max_tokens: int
    ) -> list[DrawnPair]:
        """Draw `clips_per_video` clip pairs of a video.

        A text is its word-piece ids, cut at `max_tokens`. There is one of each clip; with MIL-NCE
        there are `num_candidates`.
        """
        pairs = self.draw_pairs(index, config, rng, max_tokens)
        narration = self._videos[index].narration
        if config.strategy == "mil_nce":
            count = config.num_candidates
            texts = [candidate_tokens(narration, pair, count, max_tokens) for pair in pairs]
        else:
            texts = [[clip_tokens(narration, pair, max_tokens)] for pair in pairs]
        starts, ends = narration.starts, narration.ends
        spans = [
            (float(starts[p.text_start]), float(ends[p.text_end - 1]), p.video_start, p.video_end)
            for p in pairs
        ]
        return list(map(DrawnPair, self.read_clips(index, pairs), texts, spans))

    def draw_pairs(
        self, index: int, config: ClipConfig, rng: Generator, max_tokens: int
    ) -> list[ClipPair]:
        """Draw `clips_per_video` clip pairs of a video, without reading anything."""
        narration, seconds = self._videos[index].narration, self.num_seconds(index)
        return [
            draw_clip_pair(narration, seconds, config, rng, max_tokens)
            for _ in range(config.clips_per_video)
        ]

    def num_seconds(self, index: int) -> int:
        """Return the number of whole seconds of a video that have features; at least one."""
        num_features = self.store.num_features(self._videos[index].video_id)
        return max(1, math.floor(num_features / self.store.spec.features_per_second))

    def read_clips(self, index: int, pairs: Iterable[ClipPair]) -> list[np.ndarray]:
        """Read the features of a video's clips, (rows, D) float16 each, at least one row."""
        video_id, rate = self._videos[index].video_id, self.store.spec.features_per_second
        num_features = self.store.num_features(video_id)
        windows = []
        for pair in pairs:
            start = math.floor(pair.video_start * rate)
            num_rows = max(1, round((pair.video_end - pair.video_start) * rate))
            windows.append((video_id, start, min(start + num_rows, num_features)))
        return self.store.read_windows(windows)


def split_indices(num_videos: int, num_held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices of training and held-out videos: the last ones of a seeded shuffle.

    Both are sorted. The same seed holds out the same videos.

    Raises:
        DataError: If no video would be left to train on.
    """
    if num_held_out and num_held_out >= num_videos:
        raise DataError(
            f"cannot hold out {num_held_out} of {num_videos} videos: set a smaller "
            "validation_videos"
        )
    order = np.random.default_rng(seed).permutation(num_videos)
    train, held_out = np.split(order, [num_videos - num_held_out])
    return sorted(train.tolist()), sorted(held_out.tolist())


def narrate(captions: Mapping[str, Sequence[Cue]], tokenizer: Tokenizer) -> list[NarratedVideo]:
    """Turn the cues of each video into word pieces, with the limits of the released data."""
    texts = [cue.text[:MAX_CUE_CHARACTERS] for cues in captions.values() for cue in cues]
    ids = iter(tokenizer.encode_batch(texts))
    videos = []
    for video_id, cues in captions.items():
        narration = Narration(
            starts=np.array([cue.start for cue in cues], dtype=np.float64),
            ends=np.array([cue.end for cue in cues], dtype=np.float64),
            token_ids=tuple(np.array(next(ids)[:MAX_CUE_TOKENS], dtype=np.int32) for _ in cues),
        )
        videos.append(NarratedVideo(video_id, narration))
    return videos
