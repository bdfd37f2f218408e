"""The vectors of a library: one float16 matrix in one file, only ever appended to.

A row never moves or changes, so readers need no lock: they map the file and look at the rows the
catalogue names. Rows that no video owns (a writer was killed between file and catalogue, a video
was replaced) are simply never asked for. Search is exact: on one query it reads the matrix once,
at the speed of memory; candidates are then compared again in float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from videoclip.errors import DataError

__all__ = ["MatrixStore", "VectorStore"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BYTES = 2
"""Of one float16."""
ROWS_PER_CHUNK = 4096
"""Rows widened at a time for several queries; small enough for the processor's cache."""
SPARE_CANDIDATES = 64
"""Fetched beyond k, so that rounding to half precision cannot cost a true neighbour its place."""


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
        self, queries: FloatArray, k: int, num_rows: int, allowed: BoolArray | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Find the rows most similar to each query.

        Args:
            queries: (N, E).
            k: Rows per query; fewer are returned where fewer are allowed.
            num_rows: R; rows from here on are ignored.
            allowed: (R,) whether a row may be found; None: all may.

        Returns:
            Similarities (N, k), falling along a row, and rows (N, k).
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
        return self._rows(first + count)[first:].float().numpy()

    def search(
        self, queries: FloatArray, k: int, num_rows: int, allowed: BoolArray | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Find the rows most similar to each query; see `VectorStore.search`."""
        matrix = self._rows(num_rows)
        num_allowed = num_rows if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, num_allowed)
        if k == 0 or len(queries) == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        wanted = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))  # (N, E)
        barred = None if allowed is None else torch.from_numpy(~allowed)
        num_candidates = min(k + SPARE_CANDIDATES, num_allowed)
        if len(wanted) == 1:
            candidates = _search_one(matrix, wanted[0], num_candidates, barred)[None]
        else:
            candidates = _search_many(matrix, wanted, num_candidates, barred)
        exact = torch.stack(
            [matrix[rows].float() @ query for rows, query in zip(candidates, wanted, strict=True)]
        )
        best, order = exact.topk(k, dim=1)  # (N, k)
        return best.numpy(), candidates.gather(1, order).numpy()

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
            mapped = np.memmap(self.path, np.float16, "c", shape=(on_disk, self._dim))
            self._matrix = torch.from_numpy(mapped)
        return self._matrix[:count]


def _search_one(
    matrix: torch.Tensor, query: torch.Tensor, k: int, barred: torch.Tensor | None
) -> torch.Tensor:
    """Rows (k,) of the highest half-precision similarities to one query (E,)."""
    # Of unit length the query cannot overflow half precision; its length changes no order.
    unit = (query / query.norm().clamp_min(1e-12)).half()
    similarities: torch.Tensor = (matrix @ unit).float()  # (R,)
    if barred is not None:
        similarities.masked_fill_(barred, -torch.inf)
    return similarities.topk(k, sorted=False).indices


def _search_many(
    matrix: torch.Tensor, queries: torch.Tensor, k: int, barred: torch.Tensor | None
) -> torch.Tensor:
    """Rows (N, k) of the highest similarities to each of several queries (N, E), in one pass."""
    best = torch.full((len(queries), 0), -torch.inf)
    rows = torch.empty((len(queries), 0), dtype=torch.int64)
    for first in range(0, len(matrix), ROWS_PER_CHUNK):
        chunk = matrix[first : first + ROWS_PER_CHUNK].float()
        similarities = queries @ chunk.T  # (N, chunk)
        if barred is not None:
            similarities.masked_fill_(barred[first : first + len(chunk)], -torch.inf)
        merged = torch.cat((best, similarities), dim=1)
        fresh = torch.arange(first, first + len(chunk)).expand(len(queries), -1)
        best, order = merged.topk(min(k, merged.shape[1]), dim=1)
        rows = torch.cat((rows, fresh), dim=1).gather(1, order)
    return rows


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can say so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
