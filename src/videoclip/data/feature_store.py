"""Frozen features on disk: one append-only float16 file with a checked index, read by `pread`.

A store is a folder:

    store.json     what the features are (`FeatureSpec`); written last, so it marks a whole store
    features.bin   rows of D float16, one video after the other
    names.bin      video ids, UTF-8, one after the other
    index.bin      a record of 32 bytes per video: where its rows and its name are, and checksums

A video counts once its record is there, and the record is written after everything it speaks of
has reached the disk. So a crash at any moment loses at most the video in hand, and readers, which
look at nothing beyond the index, never see half of one. Several processes may append at once (a
lock makes them take turns) and any number may read; `refresh` shows what others have added.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from videoclip.data.feature_index import REMEDY, FeatureIndex, write_at
from videoclip.data.feature_spec import FeatureSpec, read_spec, write_spec
from videoclip.errors import DataError, IndexMismatchError

__all__ = ["FeatureSpec", "FeatureStore"]

RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)  # Linux: read only what is in memory


class FeatureStore:
    """The features of many videos. Make one with `create`, `open` or `open_or_create`.

    Reading is safe from threads, from forked processes and, by pickling, from spawned ones.

    Attributes:
        folder: Where it lies.
        spec: What its features are.
    """

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.folder = folder
        self.spec = spec
        self._row_bytes = spec.dim * 2
        self._index = FeatureIndex(folder)
        self._handle = os.open(folder / "features.bin", os.O_RDONLY | os.O_CLOEXEC)
        if hasattr(os, "posix_fadvise"):  # Linux
            # Windows are drawn at random: read-ahead would fetch megabytes nobody asked for.
            os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_RANDOM)
        self._check_length()

    @classmethod
    def create(cls, folder: str | Path, spec: FeatureSpec) -> FeatureStore:
        """Make an empty store.

        Raises:
            DataError: If there is one already, or the folder cannot be written.
        """
        folder = Path(folder)
        if (folder / "store.json").exists():
            raise DataError("there is a feature store here already", folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "features.bin").touch()
            FeatureIndex.create(folder)
            write_spec(folder / "store.json", spec)
        except OSError as error:
            raise DataError(f"cannot make a feature store: {error.strerror}", folder) from error
        return cls(folder, spec)

    @classmethod
    def open(cls, folder: str | Path) -> FeatureStore:
        """Open a store.

        Raises:
            DataError: If there is none or it is damaged; the message says what to do.
        """
        folder = Path(folder)
        if not (folder / "store.json").is_file():
            raise DataError("there is no feature store; 'videoclip extract' makes one", folder)
        spec = read_spec(folder / "store.json")
        try:
            return cls(folder, spec)
        except OSError as error:
            raise DataError(f"cannot read it: {error.strerror}; {REMEDY}", folder) from error

    @classmethod
    def open_or_create(cls, folder: str | Path, spec: FeatureSpec) -> FeatureStore:
        """Open the store in a folder, or make it there.

        Raises:
            DataError: If it is damaged or cannot be made.
            IndexMismatchError: If its features are others than `spec` says.
        """
        if not (Path(folder) / "store.json").exists():
            return cls.create(folder, spec)
        store = cls.open(folder)
        if differences := store.spec.differences(spec):
            store.close()
            raise IndexMismatchError(
                f"{folder}: the store holds other features ({differences}); use another folder"
            )
        return store

    @property
    def video_ids(self) -> list[str]:
        """Ids of all videos, in the order in which they were appended."""
        return list(self._index.positions)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._index.positions

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        """Say what it is instead of where in memory."""
        return (
            f"FeatureStore({str(self.folder)!r}, {len(self)} videos, {self.spec.backbone} "
            f"{self.spec.dim}-d at {self.spec.features_per_second:g}/s)"
        )

    def num_features(self, video_id: str) -> int:
        """Return the number of features of a video.

        Raises:
            DataError: If it is not in the store.
        """
        return self._index.find(video_id).length

    def read(
        self, video_id: str, start: int = 0, stop: int | None = None
    ) -> npt.NDArray[np.float16]:
        """Read rows [start, stop) of a video; reading all of it also checks its checksum.

        Returns:
            (stop - start, D) float16; fewer rows where the video ends before.

        Raises:
            DataError: If the video is not in the store or its bytes are damaged.
        """
        entry = self._index.find(video_id)
        first, last, _ = slice(start, stop).indices(entry.length)
        rows = np.empty((max(0, last - first), self.spec.dim), dtype=np.float16)
        self._fill(rows, entry.first + first)
        if len(rows) == entry.length and zlib.crc32(rows.data) != entry.checksum:
            raise DataError(f"the features of '{video_id}' are damaged; {REMEDY}", self.folder)
        return rows

    def read_windows(
        self, windows: Sequence[tuple[str, int, int]]
    ) -> list[npt.NDArray[np.float16]]:
        """Read many (video_id, start, stop) windows, each within its video, at full speed.

        Returns:
            An array (stop - start, D) float16 for each window, in order.

        Raises:
            DataError: If a video is not in the store or a window reaches beyond its end.
        """
        firsts, lengths = [], []
        for video_id, start, stop in windows:
            entry = self._index.find(video_id)
            if not 0 <= start <= stop <= entry.length:
                raise DataError(
                    f"window [{start}, {stop}) is not within the {entry.length} features of "
                    f"'{video_id}'",
                    self.folder,
                )
            firsts.append(entry.first + start)
            lengths.append(stop - start)
        # One allocation for all: many small ones cost more than the reading.
        rows = np.empty((sum(lengths), self.spec.dim), dtype=np.float16)
        stops = list(accumulate(lengths))
        arrays = [rows[stop - length : stop] for stop, length in zip(stops, lengths)]
        missing = [
            (window, first)
            for window, first in zip(arrays, firsts)
            if not self._fill_from_memory(window, first)
        ]
        # What is not in memory is asked for all at once: a disk likes many requests, not one.
        for window, first in missing:
            self._announce(window, first)
        for window, first in missing:
            self._fill(window, first)
        return arrays

    def checksum(self, video_id: str) -> int:
        """Return the checksum of a video's features, which was kept with them."""
        return self._index.find(video_id).checksum

    def append(self, video_id: str, features: npt.ArrayLike) -> None:
        """Add a video; when this returns, it is on the disk.

        Args:
            video_id: Not yet in the store.
            features: (T, D) finite numbers, T >= 1; kept as float16.

        Raises:
            DataError: If the video is there already, the array is not as it should be, or the
                disk refuses. The store stays as it was.
        """
        rows = self._checked(video_id, features)
        try:
            with self._index.locked():
                if video_id in self:
                    raise DataError(f"'{video_id}' is in the store already", self.folder)
                # The record speaks of these rows: they must be on the disk before it.
                offset = self._index.num_rows * self._row_bytes
                write_at(self.folder / "features.bin", rows.data, offset)
                self._index.append(video_id, len(rows), zlib.crc32(rows.data))
        except OSError as error:
            raise DataError(f"cannot add '{video_id}': {error.strerror}", self.folder) from error

    def refresh(self) -> None:
        """Take in what other processes have appended since.

        Raises:
            DataError: If the store is damaged.
        """
        self._index.refresh()
        self._check_length()

    def verify(self) -> None:
        """Read everything; `DataError` at the first video whose checksum is not right."""
        for video_id in self.video_ids:
            self.read(video_id)

    def close(self) -> None:
        """Close the file; reading is over."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.folder,)

    def _check_length(self) -> None:
        there = os.fstat(self._handle).st_size // self._row_bytes
        if there < self._index.num_rows:
            raise DataError(
                f"it ends after {there} of {self._index.num_rows} features; {REMEDY}",
                self.folder / "features.bin",
            )

    def _fill(self, rows: npt.NDArray[np.float16], first: int) -> None:
        """Read rows from the file, starting with row `first`."""
        if os.preadv(self._handle, [rows.data], first * self._row_bytes) != rows.nbytes:
            raise DataError(f"it has become shorter; {REMEDY}", self.folder / "features.bin")

    def _fill_from_memory(self, rows: npt.NDArray[np.float16], first: int) -> bool:
        """Read rows if the page cache has them; return whether it had."""
        if not RWF_NOWAIT:
            return False
        try:
            offset = first * self._row_bytes
            return os.preadv(self._handle, [rows.data], offset, RWF_NOWAIT) == rows.nbytes
        except OSError:  # not there, or a file system that cannot tell
            return False

    def _announce(self, rows: npt.NDArray[np.float16], first: int) -> None:
        """Let the kernel fetch rows in the background."""
        if hasattr(os, "posix_fadvise"):
            offset = first * self._row_bytes
            os.posix_fadvise(self._handle, offset, rows.nbytes, os.POSIX_FADV_WILLNEED)

    def _checked(self, video_id: str, features: npt.ArrayLike) -> npt.NDArray[np.float16]:
        """Return features as float16, or say what is wrong with them."""
        given = np.asarray(features)
        problem = None
        if not video_id:
            problem = "an empty video id"
        elif given.ndim != 2 or given.shape[1] != self.spec.dim or not len(given):
            problem = f"features of shape {given.shape} instead of (T, {self.spec.dim})"
        else:
            with np.errstate(over="ignore"):
                rows = np.ascontiguousarray(given, dtype=np.float16)
            if not np.isfinite(rows).all():
                problem = "features that are not finite, or too large for float16"
        if problem:
            raise DataError(f"cannot add '{video_id}': {problem}", self.folder)
        return rows
