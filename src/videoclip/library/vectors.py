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
ROWS_PER_PRODUCT, ROWS_PER_BLOCK = 2048, 65536
"""Rows multiplied with several queries at a time, so that they stay in the processor's cache, and
rows whose similarities are looked through together."""
ROWS_PER_GROUP = 64
"""Rows whose maximum stands for them while a bound is looked for."""
HALF_DOUBT, BFLOAT_DOUBT = 2 * 2 * 2**-11, 2 * 3 * 2**-9
"""How far two similarities, of vectors of length 1, can be apart in truth that rounding brings
together: query and result are rounded to half precision; rows too to bfloat16."""
LEAST = -3e38
"""Below every similarity but that of a barred row, which is minus infinity."""


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
        self._longest, self._num_measured = 0.0, 0

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
        # Of unit length a query cannot overflow half precision; its length changes no order.
        units = wanted / wanted.norm(dim=1, keepdim=True).clamp_min(1e-12)
        longest = self._longest_of(matrix)
        if len(units) == 1:
            candidates = [_search_one(matrix, units[0], k, barred, HALF_DOUBT * longest)]
        else:
            candidates = _search_many(matrix, units, k, barred, BFLOAT_DOUBT * longest)
        similarities = np.empty((len(wanted), k), dtype=np.float32)
        found = np.empty((len(wanted), k), dtype=np.int64)
        for i, rows in enumerate(candidates):
            parts = [
                matrix[part].float() @ wanted[i] for part in torch.split(rows, ROWS_PER_PRODUCT)
            ]
            best, order = torch.cat(parts).topk(k)
            similarities[i], found[i] = best.numpy(), rows[order].numpy()
        return similarities, found

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

    def _longest_of(self, matrix: torch.Tensor) -> float:
        """Length of the longest row, which says how much rounding can do; each is read once."""
        for first in range(self._num_measured, len(matrix), ROWS_PER_PRODUCT):
            rows = matrix[first : first + ROWS_PER_PRODUCT].float()
            self._longest = max(self._longest, float(rows.norm(dim=1).max()))
        self._num_measured = max(self._num_measured, len(matrix))
        return self._longest

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
    matrix: torch.Tensor, unit: torch.Tensor, k: int, barred: torch.Tensor | None, doubt: float
) -> torch.Tensor:
    """Rows among which are the k most similar to one query (E,), from one half-precision pass."""
    similarities: torch.Tensor = (matrix @ unit.half()).float()  # (R,)
    if barred is not None:
        similarities.masked_fill_(barred, -torch.inf)
    # However close others are: every row that rounding may have kept from the first k.
    return (similarities >= max(_bound(similarities, k) - doubt, LEAST)).nonzero()[:, 0]


def _bound(similarities: torch.Tensor, k: int) -> float:
    """A similarity that at least k rows reach, near the k-th largest; LEAST where there are fewer.

    The k-th largest of the maxima of small groups is that, and much quicker to find.
    """
    num_groups = len(similarities) // ROWS_PER_GROUP
    if num_groups >= 2 * k:
        groups = similarities[: num_groups * ROWS_PER_GROUP].view(num_groups, ROWS_PER_GROUP)
        similarities = groups.amax(dim=1)
    return float(similarities.topk(k).values[-1]) if len(similarities) >= k else LEAST


def _search_many(
    matrix: torch.Tensor, units: torch.Tensor, k: int, barred: torch.Tensor | None, doubt: float
) -> list[torch.Tensor]:
    """Rows among which are the k most similar to each of several queries (N, E), in one pass.

    Many queries are fastest as matrix products in bfloat16. Of each block only the rows above a
    bound are remembered, which rises as better ones turn up.
    """
    narrow_units = units.bfloat16()  # (N, E)
    wide = torch.empty(ROWS_PER_PRODUCT, matrix.shape[1])
    narrow = wide.bfloat16()
    block = torch.empty(len(units), min(ROWS_PER_BLOCK, len(matrix)))  # similarities
    candidates = [_Candidates(k, doubt) for _ in units]
    for first in range(0, len(matrix), ROWS_PER_BLOCK):
        size = min(ROWS_PER_BLOCK, len(matrix) - first)
        for start in range(0, size, ROWS_PER_PRODUCT):
            rows = matrix[first + start : first + min(start + ROWS_PER_PRODUCT, size)]
            # By way of float32: from float16 straight to bfloat16 torch is four times slower.
            rounded = narrow[: len(rows)].copy_(wide[: len(rows)].copy_(rows))
            block[:, start : start + len(rows)] = narrow_units @ rounded.T
        if barred is not None:
            block[:, :size].masked_fill_(barred[first : first + size], -torch.inf)
        for similarities, found in zip(block[:, :size], candidates, strict=True):
            found.add(similarities, first)
    return [found.rows for found in candidates]


class _Candidates:
    """Rows that may be among the k most similar, however their similarities were rounded."""

    def __init__(self, k: int, doubt: float) -> None:
        self._k, self._doubt = k, doubt
        self._least = LEAST
        self._similarities = torch.empty(0)
        self.rows = torch.empty(0, dtype=torch.int64)

    def add(self, similarities: torch.Tensor, first: int) -> None:
        """Look through the similarities of the rows from `first` on."""
        least = max(self._least, _bound(similarities, self._k) - self._doubt)
        new = (similarities >= least).nonzero()[:, 0]
        self._similarities = torch.cat((self._similarities, similarities[new]))
        self.rows = torch.cat((self.rows, new + first))
        if len(new) and len(self.rows) > self._k:
            self._least = max(_bound(self._similarities, self._k) - self._doubt, LEAST)
            keep = self._similarities >= self._least
            self._similarities, self.rows = self._similarities[keep], self.rows[keep]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can say so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
