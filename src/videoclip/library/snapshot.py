"""A consistent view of a library in memory: which rows of vectors are which seconds of whom."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from videoclip.library.catalog import IndexedVideo
from videoclip.zeroshot.moments import Proposal
from videoclip.zeroshot.windows import WindowConfig, window_spans

__all__ = ["Snapshot"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Snapshot:
    """The videos of a library at one moment of its life.

    Windows are not stored one by one: a video's first row, its length and the library's window
    lengths say it all, so that a million windows cost a few thousand rows of the catalogue.

    Args:
        videos: In order of their first rows.
        features_per_second: Rate of the features.
        windows: The library's window lengths.
    """

    def __init__(
        self, videos: Sequence[IndexedVideo], features_per_second: float, windows: WindowConfig
    ) -> None:
        self.videos = videos
        self._rate = features_per_second
        self._windows = windows
        self._keys = np.array([video.id for video in videos], dtype=np.int64)  # (V,)
        self._first = np.array([video.first_row for video in videos], dtype=np.int64)  # (V,)
        self._count = np.array([video.num_windows for video in videos], dtype=np.int64)
        self.num_rows = int((self._first + self._count).max(initial=0))
        """Rows beyond it belong to nobody (yet)."""
        self._live = None
        if int(self._count.sum()) < self.num_rows:
            self._live = self._covered(np.ones(len(videos), dtype=bool))

    @property
    def num_live(self) -> int:
        """Rows that some video owns."""
        return int(self._count.sum())

    def owners(self, rows: IntArray) -> IntArray:
        """Positions in `videos` of the owners of live rows."""
        return np.searchsorted(self._first, rows, side="right") - 1

    def allowed(self, keys: Collection[int] | None = None) -> BoolArray | None:
        """Which rows (num_rows,) may be found: those of the given videos, or of all; None: each."""
        if keys is None:
            return self._live
        return self._covered(np.isin(self._keys, np.fromiter(keys, dtype=np.int64)))

    def windows(self, video: IndexedVideo) -> IntArray:
        """(W, 2) half-open ranges of features of a video's windows, in the order of their rows."""
        windows = window_spans(video.num_features, self._rate, self._windows)
        assert len(windows) == video.num_windows
        return windows

    def seconds(self, video: IndexedVideo, span: Proposal) -> Proposal:
        """A moment counted in features, in seconds."""
        start = span.start / self._rate
        # The last feature may stand for less than its share of a second.
        end = max(min(span.end / self._rate, video.duration), start + 0.001)
        return span._replace(start=start, end=end, best=min(span.best / self._rate, end))

    def spans(self, video: IndexedVideo) -> FloatArray:
        """(W, 2) seconds of a video's windows, in the order of their rows."""
        spans = self.windows(video) / self._rate
        # The last feature may stand for less than its share of a second.
        spans[:, 1] = np.maximum(np.minimum(spans[:, 1], video.duration), spans[:, 0] + 0.001)
        return spans

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First row and number of rows of each video."""
        yield from zip(self._first.tolist(), self._count.tolist(), strict=True)

    def _covered(self, chosen: BoolArray) -> BoolArray:
        change = np.zeros(self.num_rows + 1, dtype=np.int8)
        change[self._first[chosen]] += 1
        change[(self._first + self._count)[chosen]] -= 1
        return np.cumsum(change[:-1], dtype=np.int8).astype(bool)
