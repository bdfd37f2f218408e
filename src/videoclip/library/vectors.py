"""The vectors of a library: one float16 matrix in one file, to which rows are only appended.

A row never moves or changes, so readers need no lock: they read the rows that the catalogue names.
Rows that no video owns (a writer was killed between file and catalogue, or a video was replaced)
stay until compaction and are never asked for.
"""

import mmap
import os
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from videoclip.errors import DataError
from videoclip.files import atomic_file, open_regular, report_disk_errors, sync
from videoclip.library.approximate import RECALL_OF, IndexFile, build_index, find_candidates
from videoclip.library.exact import ExactIndex, HalfArray, compare, highest, to_float32
from videoclip.types import BoolArray, FloatArray, IntArray
from videoclip.zeroshot.confidence import BIAS_UNIT, hub_biases

REBUILD = "rebuild the library with `videoclip index VIDEOS --library L --rebuild`"
FEW_SHARE = 1 / 16
"""Share of the rows: if a filter allows fewer, only these are read, and compared in float32."""
FEW_QUERIES = 8
"""A first search with at most so many compares every row: making the int8 copy takes longer."""


class MatrixStore:
    """A float16 matrix in a file without a header; the catalogue knows its width.

    Args:
        path: The file; created by the first `append`.
        dim: Width E.
    """

    def __init__(self, path: Path | str, dim: int) -> None:
        assert dim > 0
        self.path = Path(path)
        self.dim = dim
        self._row_bytes = 2 * dim
        self._handle: int | None = None
        self._map: mmap.mmap | None = None
        self._exact = ExactIndex(dim)
        self._was_searched = False
        self.index = IndexFile(self.path.with_suffix(".ivf"))

    @property
    def num_rows(self) -> int:
        """Complete rows in the file, whether a video owns them or not."""
        return self.path.stat().st_size // self._row_bytes if self.path.exists() else 0

    def append(self, vectors: FloatArray) -> int:
        """Add vectors (W, E) durably and return the row of the first.

        The caller holds the library's lock.

        Raises:
            DataError: If a vector is not finite in half precision.
        """
        assert vectors.ndim == 2 and vectors.shape[1] == self.dim
        half = to_half(vectors, self.path)
        is_new, first = not self.path.exists(), self.num_rows
        with report_disk_errors(self.path), self.path.open("ab") as file:
            file.truncate(first * self._row_bytes)  # an incomplete row of a killed writer
            file.write(half.tobytes())
        sync(self.path)
        if is_new:
            sync(self.path.parent)
        return first

    def read(self, first: int, count: int) -> FloatArray:
        """Return `count` consecutive vectors (count, E).

        Raises:
            DataError: If there are fewer.
        """
        return to_float32(self.map_half(first, count))

    def read_half(self, first: int, count: int) -> HalfArray:
        """Return consecutive vectors as they are stored; see `read`."""
        return self._read_ranges([(first, count)])

    def map_half(self, first: int, count: int) -> HalfArray:
        """Return consecutive vectors as they are stored, mapped into memory instead of copied.

        Raises:
            DataError: If there are fewer.
        """
        handle, end = self._open(), (first + count) * self._row_bytes
        if handle is None or os.fstat(handle).st_size < end:
            return self.read_half(first, count)
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(handle, 0, prot=mmap.PROT_READ)
        rows = np.frombuffer(self._map, np.float16, count * self.dim, first * self._row_bytes)
        return rows.reshape(count, self.dim)

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
            allowed: (R,) whether a row may be returned; None: every row.
            exact: Whether to compare every row even if there is an approximate index.

        Returns:
            Similarities (N, k), descending, and rows (N, k); of equal rows the first.
        """
        num_allowed = num_rows if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, num_allowed)
        if k == 0 or len(queries) == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        index = self.index.open() if not exact and self.index.path.exists() else None
        is_first, self._was_searched = not self._was_searched, True
        is_small = allowed is not None and num_allowed <= max(k, FEW_SHARE * num_rows)
        if is_small or (index is None and is_first and len(queries) <= FEW_QUERIES):
            every = np.arange(num_rows) if allowed is None else np.flatnonzero(allowed)
            candidates = [every] * len(queries)
        elif index is not None and index.ntotal <= num_rows:
            added = np.arange(index.ntotal, num_rows)
            if allowed is not None:
                added = added[allowed[added]]
            found = find_candidates(index, queries, k, allowed)
            candidates = [np.concatenate((np.sort(some[some >= 0]), added)) for some in found]
        else:
            candidates = []
        if min(map(len, candidates), default=0) < k:
            return self._exact.search(self._read_rows, queries, k, num_rows, allowed)
        pairs = zip(queries, candidates, strict=True)
        best = [
            highest(compare(self._read_rows, query[None], some), some, k) for query, some in pairs
        ]
        return np.stack([pair[0] for pair in best]), np.stack([pair[1] for pair in best])

    def refresh_index(self, queries: FloatArray, num_rows: int) -> None:
        """Build or extend the approximate index if the library is large enough for one.

        Args:
            queries: (Q, E) of texts; the index is tuned to find their nearest rows.
            num_rows: R, rows to cover.
        """
        self.index.refresh(num_rows, lambda: self.build_index(queries, num_rows))

    def build_index(self, queries: FloatArray, num_rows: int) -> None:
        """Build or extend the approximate index; see `refresh_index`."""
        exact = self.search(queries, RECALL_OF, num_rows, exact=True)[0]
        matrix = np.memmap(self.path, np.float16, mode="r", shape=(num_rows, self.dim))
        build_index(matrix, self.index.path, queries, exact)

    def rewrite(self, path: Path, ranges: Iterable[tuple[int, int]]) -> Self:
        """Copy ranges (first row, number of rows) into a new file, for compaction."""
        with atomic_file(path) as partial, partial.open("wb") as file:
            for first, count in ranges:
                file.write(self.read_half(first, count).tobytes())
        return type(self)(path, self.dim)

    def _open(self) -> int | None:
        """Return the open file, None before the first `append`; compaction may remove its name."""
        if self._handle is None and self.path.exists():
            try:
                self._handle = open_regular(self.path)
            except OSError as error:
                reason = f"cannot be read ({error.strerror}); {REBUILD}"
                raise DataError(reason, self.path) from error
            weakref.finalize(self, os.close, self._handle)
        return self._handle

    def _read_rows(self, rows: IntArray) -> HalfArray:
        """Read some rows (n, E), given by ascending numbers."""
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # of consecutive rows
        counts = np.diff(starts, append=len(rows))
        return self._read_ranges(list(zip(rows[starts].tolist(), counts.tolist(), strict=True)))

    def _read_ranges(self, ranges: Sequence[tuple[int, int]]) -> HalfArray:
        """Read the rows (n, E) of ascending ranges (first row, number of rows)."""
        handle, size = self._open(), self._row_bytes
        parts = [] if handle is None else [os.pread(handle, n * size, i * size) for i, n in ranges]
        data = b"".join(parts)
        if len(data) < size * sum(count for _, count in ranges):
            raise DataError(
                f"holds {self.num_rows} of the {sum(ranges[-1])} vectors that the catalogue lists; "
                f"{REBUILD}",
                self.path,
            )
        return np.frombuffer(data, np.float16).reshape(-1, self.dim)


def with_biases(vectors: FloatArray, unrelated: FloatArray) -> FloatArray:
    """Return rows (W, E + 1) as they are stored: vectors (W, E), each followed by its bias.

    Args:
        vectors: Of the windows.
        unrelated: (Q, E) queries that hardly any video shows.
    """
    biases = hub_biases(vectors, unrelated) / BIAS_UNIT
    return np.concatenate((vectors, biases[:, None]), axis=1)


def to_half(vectors: FloatArray, place: Path | str) -> HalfArray:
    """Convert vectors to half precision.

    Raises:
        DataError: If one is not finite in half precision; the message names `place`.
    """
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(vectors, dtype=np.float16)
    if not np.isfinite(half).all():
        raise DataError("an embedding is not finite in half precision", place)
    return half
