"""The vectors of a library: one float16 matrix in one file, only ever appended to.

A row never moves or changes, so readers need no lock: they map the file and look at the rows the
catalogue names. Rows that no video owns (a writer was killed between file and catalogue, a video
was replaced) are simply never asked for. Search is exact (`exact`).
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout

from videoclip.errors import DataError
from videoclip.library.approximate import (
    RECALL_OF,
    ApproximateIndex,
    build_index,
    can_build,
    is_stale,
)
from videoclip.library.codes import BytePass, Codes, products_are_quick
from videoclip.library.exact import (
    BoolArray,
    FirstPass,
    FloatArray,
    HalfPass,
    IntArray,
    Longest,
    best_of,
    nearest_rows,
)

__all__ = ["MatrixStore", "VectorStore"]

BYTES = 2
"""Of one float16."""
FEW_SHARE = 1 / 16
"""Of the rows: so few that may be found are all compared, without a first pass."""
SEARCHES_WITHOUT_CODES = 1
"""Making codes takes ten times as long as a search without, which may be a process's only one."""
MOST_ROWS = 2**16
"""Rows in a row that are read; of more, the file is mapped."""
NUMBERS_PER_LOOK = 2**15
"""Numbers converted at a time."""


class VectorStore(Protocol):
    """What a library asks of the place where its vectors lie."""

    @property
    def dim(self) -> int:
        """Width E of a vector."""
        ...

    def append(self, vectors: FloatArray) -> int:
        """Add vectors (W, E), on disk for good on return, and return the row of the first.

        The caller holds the library's lock.
        """
        ...

    def read(self, first: int, count: int) -> FloatArray:
        """Return (count, E) float32 vectors from a row on."""
        ...

    def search(
        self,
        queries: FloatArray,
        k: int,
        num_rows: int,
        allowed: BoolArray | None = None,
        *,
        exact: bool = False,
    ) -> tuple[FloatArray, IntArray]:
        """Find the rows most similar to each query.

        Args:
            queries: (N, E).
            k: Rows per query; fewer are returned where fewer are allowed.
            num_rows: R; rows from here on are ignored.
            allowed: (R,) whether a row may be found; None: all may.
            exact: Whether to look at every row, even where an approximate index is at hand.

        Returns:
            Similarities (N, k), falling along a row, and rows (N, k).
        """
        ...

    def refresh_index(self, queries: FloatArray, num_rows: int) -> None:
        """See that an approximate index covers nearly all of the first rows, where that pays.

        Args:
            queries: (Q, E) of texts, by which its accuracy is set.
            num_rows: R.
        """
        ...


class MatrixStore:
    """A float16 matrix in a file without a header; the catalogue knows its width.

    Args:
        path: The file; made by the first `append`.
        dim: Width E.
    """

    def __init__(self, path: Path | str, dim: int) -> None:
        assert dim > 0
        self.path = Path(path)
        self._dim = dim
        self._matrix = torch.empty((0, dim), dtype=torch.float16)
        self._handle: FileIO | None = None
        self._file: mmap.mmap | None = None
        self._opened: tuple[tuple[int, int], ApproximateIndex] | None = None
        self._codes, self._lock = Codes(dim), threading.Lock()
        self._longest, self._num_searches = Longest(), 0

    @property
    def dim(self) -> int:
        """Width E of a vector."""
        return self._dim

    @property
    def num_rows(self) -> int:
        """Whole rows in the file, owned or not."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return size // (self._dim * BYTES)

    def append(self, vectors: FloatArray) -> int:
        """Add vectors; see `VectorStore.append`.

        Raises:
            DataError: If a vector is not finite in half precision.
        """
        assert vectors.ndim == 2 and vectors.shape[1] == self._dim
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(vectors, dtype=np.float16)
        if not np.isfinite(half).all():
            raise DataError("an embedding is not finite, or beyond half precision", self.path)
        is_new = not self.path.exists()
        first = self.num_rows
        with self.path.open("ab") as file:
            file.truncate(first * self._dim * BYTES)  # a killed writer's broken row
            file.write(half.tobytes())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)
        return first

    def read(self, first: int, count: int) -> FloatArray:
        """Return (count, E) float32 vectors from a row on."""
        half = self._stretch(first, count)
        vectors = torch.empty(half.shape)
        # So few at a time that torch does it here: waking its threads would take longer.
        step = max(1, NUMBERS_PER_LOOK // self._dim)
        for start in range(0, count, step):
            part = slice(start, start + step)
            vectors[part].copy_(half[part])
        found: FloatArray = vectors.numpy()
        return found

    def search(
        self,
        queries: FloatArray,
        k: int,
        num_rows: int,
        allowed: BoolArray | None = None,
        *,
        exact: bool = False,
    ) -> tuple[FloatArray, IntArray]:
        """Find the rows most similar to each query; see `VectorStore.search`."""
        matrix = self._rows(num_rows)
        num_allowed = num_rows if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, num_allowed)
        if k == 0 or len(queries) == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        wanted = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))  # (N, E)
        index = None if exact else self._index()
        if allowed is not None and num_allowed <= max(k, FEW_SHARE * num_rows):
            found = best_of(self._pick, wanted, [np.flatnonzero(allowed)] * len(wanted), k)
        elif index is None or index.num_rows > num_rows:
            found = self._nearest(matrix, wanted, k, allowed)
        else:
            found = self._nearly(index, matrix, wanted, k, allowed)
        self._let_go()
        return found

    def _nearly(
        self,
        index: ApproximateIndex,
        matrix: torch.Tensor,
        queries: torch.Tensor,
        k: int,
        allowed: BoolArray | None,
    ) -> tuple[FloatArray, IntArray]:
        """Candidates of an index and all rows added since, compared exactly."""
        near = index.candidates(queries.numpy(), k, allowed)
        added = np.arange(index.num_rows, len(matrix))
        if allowed is not None:
            added = added[allowed[added]]
        rows = [np.concatenate((row[row >= 0], added)) for row in near]
        if min(map(len, rows)) < k:  # it found too few: look everywhere
            return self._nearest(matrix, queries, k, allowed)
        return best_of(self._pick, queries, rows, k)

    def refresh_index(self, queries: FloatArray, num_rows: int) -> None:
        """See that there is an approximate index of nearly all of the first rows, if that pays.

        It needs the extra `ann`. Where another process is at it, this one leaves it alone.

        Args:
            queries: (Q, E) of texts, by which its accuracy is set.
            num_rows: R.
        """
        index = self._index()
        if not (can_build() and is_stale(index.num_rows if index else 0, num_rows)):
            return
        lock = FileLock(self.index_path.with_suffix(".lock"), blocking=False)
        try:
            with lock:
                self.build_index(queries, num_rows)
        except Timeout:
            return

    def build_index(self, queries: FloatArray, num_rows: int) -> None:
        """Build the approximate index of the first rows, or add to it what is missing."""
        exact = self.search(queries, RECALL_OF, num_rows, exact=True)[0]
        build_index(self._rows(num_rows).numpy(), self.index_path, queries, exact)
        self._let_go()

    @property
    def index_path(self) -> Path:
        """Where the approximate index of this file lies, if there is one."""
        return self.path.with_suffix(".ivf")

    def _index(self) -> ApproximateIndex | None:
        """The approximate index, opened anew where it has been replaced."""
        if not can_build():
            return None
        try:
            status = self.index_path.stat()
        except FileNotFoundError:
            return None
        stamp = status.st_ino, status.st_mtime_ns
        if self._opened is None or self._opened[0] != stamp:
            self._opened = stamp, ApproximateIndex(self.index_path)
        return self._opened[1]

    def _nearest(
        self, matrix: torch.Tensor, queries: torch.Tensor, k: int, allowed: BoolArray | None
    ) -> tuple[FloatArray, IntArray]:
        """The nearest of all rows."""
        units = torch.nn.functional.normalize(queries)
        first_pass: FirstPass
        with self._lock:
            if self._num_searches >= SEARCHES_WITHOUT_CODES and products_are_quick():
                self._codes.follow(matrix, self._let_go)
                first_pass = BytePass(self._codes, units)
            else:
                longest = self._longest.of(matrix, self._let_go)
                first_pass = HalfPass(matrix, units, longest, self._let_go)
            self._num_searches += 1
        return nearest_rows(len(matrix), first_pass, queries, k, self._pick, allowed)

    def rewrite(self, path: Path | str, ranges: Iterable[tuple[int, int]]) -> MatrixStore:
        """Copy ranges (first row, number of rows) into a new file, for compaction."""
        matrix = self._rows(self.num_rows)
        with Path(path).open("wb") as file:
            for first, count in ranges:
                file.write(matrix[first : first + count].numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(Path(path).parent)
        return MatrixStore(path, self._dim)

    def _let_go(self) -> None:
        """Have the pages of the file that were looked at no longer counted as this process's."""
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)

    def _pick(self, rows: IntArray) -> torch.Tensor:
        """Some known rows (n, E), which lie far apart: reading them is quicker than mapping."""
        if self._handle is None or not hasattr(os, "pread"):
            return self._matrix[torch.from_numpy(rows)]
        file, width = self._handle.fileno(), self._dim * BYTES
        found = bytearray().join(os.pread(file, width, row) for row in (rows * width).tolist())
        return self._checked(found, len(rows))

    def _stretch(self, first: int, count: int) -> torch.Tensor:
        """Rows that follow each other (count, E)."""
        mapped = self._rows(first + count)[first:]
        if self._handle is None or not hasattr(os, "preadv") or len(mapped) > MOST_ROWS:
            return mapped
        width = self._dim * BYTES
        found = bytearray(count * width)
        num_read = os.preadv(self._handle.fileno(), [found], first * width)
        return (
            self._checked(found, count)
            if num_read == len(found)
            else self._checked(found[:num_read], count)
        )

    def _checked(self, found: bytearray, count: int) -> torch.Tensor:
        """Rows (count, E) that were read, if they all are there."""
        if len(found) != count * self._dim * BYTES:
            raise DataError("became shorter while it was read: rebuild the library", self.path)
        return torch.frombuffer(found, dtype=torch.float16).view(-1, self._dim)

    def _rows(self, count: int) -> torch.Tensor:
        """The first rows of the file, mapped; mapped again where it has grown since."""
        if count > len(self._matrix):
            on_disk = self.num_rows
            if count > on_disk:
                raise DataError(
                    f"holds {on_disk} of the {count} vectors the catalogue knows: "
                    "rebuild the library with `videoclip index VIDEOS --library L --rebuild`",
                    self.path,
                )
            # Copy on write, since torch wants memory it may write; nothing here ever does.
            if self._handle is None:  # kept open, since compaction may remove the file
                self._handle = self.path.open("rb", buffering=0)
                weakref.finalize(self, self._handle.close)
            self._file = mmap.mmap(
                self._handle.fileno(), on_disk * self._dim * BYTES, access=mmap.ACCESS_COPY
            )
            self._matrix = torch.frombuffer(self._file, dtype=torch.float16).view(-1, self._dim)
        return self._matrix[:count]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can say so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
