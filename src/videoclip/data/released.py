"""HowTo100M as the authors prepared it: captions without repeats, and the sharded files.

A shard holds up to 4096 videos: their features in one array, their cues in two, each with the
offsets at which videos begin. The arrays are memory-mapped, so a corpus may exceed memory; drawing
many random clips is faster from a `FeatureStore`.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from videoclip.data.captions import Cue
from videoclip.data.clips import Narration
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.narrated import NarratedVideo
from videoclip.errors import DataError
from videoclip.weights.torch_file import read_plain_pickle

_NAMES = {
    "features": "{}_{}.npy",
    "spans": "raw_caption_dedup.bert-base-uncased.{}.startends_{}.npy",
    "tokens": "raw_caption_dedup.bert-base-uncased.{}.caps_ids_{}.npy",
}
"""File names of the arrays of a shard, "train_0" for instance, and their parts."""


class ShardFolder(Sequence[NarratedVideo]):
    """Released shards: a sequence of narrated videos, and the reader of their features.

    `NarratedCorpus(shards, shards)` makes a corpus of it.

    Args:
        folder: Folder of the arrays.
        split: "train" or "val", the prefix of their names.
        spec: Width, rate and backbone of the features, which the files do not have.

    Raises:
        DataError: If a file is missing, broken or does not fit the others.
    """

    def __init__(self, folder: Path | str, split: str, spec: FeatureSpec) -> None:
        self.folder = Path(folder)
        self.spec = spec
        self._split = split
        ids = read_shard_ids(self.folder / f"{split}_meta.pkl")
        self._arrays: dict[str, np.ndarray] = {}
        self._places: dict[str, tuple[int, int]] = {}
        for shard in sorted(ids):
            for kind in ("features", "spans", "tokens"):
                self._check(kind, shard, len(ids[shard]))
            self._places |= {video_id: (shard, i) for i, video_id in enumerate(ids[shard])}
        self.video_ids = list(self._places)

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be pickled with its content; the other process maps it again.
        return self.__dict__ | {"_arrays": {}}

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.video_ids)

    @overload
    def __getitem__(self, index: int) -> NarratedVideo: ...
    @overload
    def __getitem__(self, index: slice) -> list[NarratedVideo]: ...
    def __getitem__(self, index: int | slice) -> NarratedVideo | list[NarratedVideo]:
        """Return a video with its narration, of which only word-piece ids are known."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        video_id = self.video_ids[index]
        spans = self._rows("spans", video_id).astype(np.float64)  # (C, 2)
        tokens = self._rows("tokens", video_id)  # (C, 32), filled up with -1
        ids = tuple(np.array(row[row >= 0]) for row in tokens)
        return NarratedVideo(video_id, Narration(spans[:, 0], spans[:, 1], ids))

    def num_features(self, video_id: str) -> int:
        """Return the number of features of a video."""
        return len(self._rows("features", video_id))

    def checksum(self, video_id: str) -> int:
        """Return the checksum of a video's features."""
        return zlib.crc32(np.ascontiguousarray(self._rows("features", video_id)).data)

    def read_windows(self, windows: Sequence[tuple[str, int, int]]) -> list[np.ndarray]:
        """Read rows [start, stop) of a video for each (video_id, start, stop), (rows, D)."""
        return [np.array(self._rows("features", name)[a:b]) for name, a, b in windows]

    def _rows(self, kind: str, video_id: str) -> np.ndarray:
        if video_id not in self._places:
            raise DataError(f"'{video_id}' is not in these shards", self.folder)
        shard, index = self._places[video_id]
        starts = self._array(kind, shard, "starts")
        return self._array(kind, shard, "data")[starts[index] : starts[index + 1]]

    def _array(self, kind: str, shard: int, part: str) -> np.ndarray:
        name = _NAMES[kind].format(f"{self._split}_{shard}", part)
        if name not in self._arrays:
            path = self.folder / name
            try:
                self._arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"cannot read this shard ({error})", path) from error
        return self._arrays[name]

    def _check(self, kind: str, shard: int, num_videos: int) -> None:
        starts, data = self._array(kind, shard, "starts"), self._array(kind, shard, "data")
        width = {"features": self.spec.dim, "spans": 2, "tokens": data.shape[-1]}[kind]
        fits = starts.shape == (num_videos + 1,) and (np.diff(starts) >= 0).all()
        if not (fits and starts[0] == 0 and data.shape == (starts[-1], width)):
            raise DataError(
                f"the {kind} of shard {shard} do not fit its {num_videos} videos or width "
                f"{width}; copy the shard again",
                self.folder,
            )


def read_shard_ids(path: Path | str) -> dict[int, list[str]]:
    """Read the released table of video ids by shard, a pickle, without running anything in it.

    Raises:
        DataError: If the file is missing or holds anything but numbers and lists of text.
    """
    table = read_plain_pickle(path)
    try:
        return {int(shard): [str(video_id) for video_id in ids] for shard, ids in table.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"is not a table of shards ({error})", path) from error


def deduplicate_cues(cues: Iterable[Cue], coin: Callable[[], bool]) -> list[Cue]:
    """Remove from each caption what it repeats of the previous one, as in the released data.

    Args:
        cues: Captions in order; blank ones are dropped.
        coin: For each partial repeat, True leaves it with the earlier caption, False with the
            later; for instance `lambda: rng.random() > 0.5`.

    Source: the released preparation of HowTo100M. It finds overlaps letter by letter, so that an
    accidental one is cut as well; `clean_cues` compares words and keeps words that are spoken
    twice.
    """
    kept: list[Cue] = []
    for cue in cues:
        cue = replace(cue, text=cue.text.replace("\n", " ").strip())
        if not cue.text:
            continue
        if not kept:
            kept.append(cue)
            continue
        previous = kept.pop()
        if previous.text.endswith(cue.text):
            kept.append(replace(previous, end=max(previous.end, cue.end)))
        elif cue.text.startswith(previous.text):
            start, end = min(previous.start, cue.start), max(previous.end, cue.end)
            kept.append(Cue(start, end, cue.text))
        elif not (repeated := _shortest_overlap(previous.text, cue.text)):
            kept += [previous, cue]
        elif coin():
            border = max(previous.end, cue.start)
            kept.append(replace(previous, end=border))
            kept.append(Cue(border, cue.end, cue.text[repeated:].strip()))
        else:
            before = previous.text[:-repeated].strip()
            kept += [Cue(previous.start, min(previous.end, cue.start), before), cue]
    return kept


def _shortest_overlap(first: str, second: str) -> int:
    """Return the length of the shortest beginning of `second` that `first` ends with, or 0."""
    lengths = range(1, min(len(first), len(second)) + 1)
    return next((n for n in lengths if first.endswith(second[:n])), 0)
