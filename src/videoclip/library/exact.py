"""Exact search: the rows of a growing file of vectors that are most similar to queries.

An int8 copy of the rows, half as large as the file, is made once and kept in memory. A search
multiplies this copy, and knows from the quantization error of each row how much its similarity can
differ. Rows that may be among the k best are read from the file and compared in float32, so that
the result is that of a float32 scan of the whole file.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numkong
import numpy as np
import numpy.typing as npt

from videoclip.types import BoolArray, FloatArray, IntArray, RealArray

HalfArray: TypeAlias = npt.NDArray[np.float16]
ReadRows: TypeAlias = Callable[[IntArray], HalfArray]
"""Reads rows (n, E), given by their ascending numbers."""
T = TypeVar("T")
R = TypeVar("R")

ROWS_PER_BLOCK = 16384
"""Rows that a thread scans at a time."""
ROWS_PER_CHUNK = 256
"""Rows that are quantized or compared in float32 at a time; they fit into a core's cache."""
NUM_SAMPLES = 4096
"""Rows whose mean is the centre of the codes."""
QUERIES_PER_SCAN, RESULTS_PER_SCAN = 64, 2**20
"""Limits to the memory of one scan: queries, and rows returned to all of them."""
ROWS_PER_GROUP = 16
"""Rows of a group; a group is only searched if its largest product is large enough."""
LARGEST_CODE = 127
LOWEST = np.iinfo(np.int32).min
"""Instead of the product of a row that is not allowed."""
TINY = 1e-12
"""Instead of a divisor of 0."""


@dataclass(frozen=True)
class _Block:
    """Consecutive rows (n, E) as int8 codes: row = centre + step * code + error.

    Attributes:
        codes: (n, E), in the order in which NumKong multiplies them.
        step: Of every row.
        error: Length of the longest error.
        radius: Distance from the centre of the row farthest from it.
    """

    codes: numkong.PackedMatrix
    step: float
    error: float
    radius: float


class ExactIndex:
    """The int8 copy of a file of vectors, and the search in it; safe from several threads.

    Args:
        dim: Width E.
    """

    def __init__(self, dim: int) -> None:
        self._blocks: list[_Block] = []
        self.num_rows = 0
        """Rows copied so far."""
        self._centre = np.zeros(dim, np.float32)
        self._lock = threading.Lock()

    def search(
        self,
        read_rows: ReadRows,
        queries: FloatArray,
        k: int,
        num_rows: int,
        allowed: BoolArray | None = None,
    ) -> tuple[FloatArray, IntArray]:
        """Find the k rows most similar to each query, on as many threads as torch may use.

        Args:
            read_rows: Reads rows of the file; the same file each time.
            queries: (N, E).
            k: At least 1, and at most as many rows as are allowed.
            num_rows: R; rows from here on are ignored.
            allowed: (R,) whether a row may be returned; None: every row.

        Returns:
            Similarities (N, k), descending, and rows (N, k); of equal rows the first.
        """
        with self._lock:
            self._add_rows(read_rows, num_rows)
        per_scan = min(QUERIES_PER_SCAN, max(1, RESULTS_PER_SCAN // k))
        found = [
            self._scan(read_rows, queries[first : first + per_scan], k, num_rows, allowed)
            for first in range(0, len(queries), per_scan)
        ]
        similarities, rows = map(np.concatenate, zip(*found, strict=True))
        return similarities, rows

    def _add_rows(self, read_rows: ReadRows, num_rows: int) -> None:
        """Copy the rows up to `num_rows` that are not copied yet; rows never change."""
        if num_rows <= self.num_rows:
            return
        if not self._blocks:  # rows added later may be far from it, and have larger errors
            sample = np.arange(0, num_rows, -(-num_rows // NUM_SAMPLES))
            self._centre = to_float32(read_rows(sample)).mean(axis=0)
        first = self.num_rows // ROWS_PER_BLOCK  # a block that is not full is copied again
        self._blocks[first:] = _in_threads(
            partial(self._quantize, read_rows), _blocks_of(num_rows)[first:]
        )
        self.num_rows = num_rows

    def _quantize(self, read_rows: ReadRows, rows: range) -> _Block:
        """Return the copy of consecutive rows."""
        half = read_rows(np.array(rows))
        num_padded = -(-len(rows) // ROWS_PER_GROUP) * ROWS_PER_GROUP
        codes = np.zeros((num_padded, half.shape[1]), np.int8)
        chunks = [slice(i, i + ROWS_PER_CHUNK) for i in range(0, len(half), ROWS_PER_CHUNK)]
        farthest = max(float(np.abs(self._offsets(half[chunk])).max()) for chunk in chunks)
        step = max(farthest / LARGEST_CODE, TINY)
        error, radius = 0.0, 0.0
        for chunk in chunks:
            offsets = self._offsets(half[chunk])
            radius = max(radius, float(_lengths(offsets).max()))
            rounded = np.rint(offsets * (1 / step))
            codes[chunk.start : chunk.start + len(rounded)] = rounded
            offsets -= np.multiply(rounded, step, out=rounded)
            error = max(error, float(_lengths(offsets).max()))
        return _Block(numkong.dots_pack(codes), step, error, radius)

    def _offsets(self, half: HalfArray) -> FloatArray:
        """Return the differences of rows (n, E) from the centre."""
        offsets = to_float32(half)
        offsets -= self._centre
        return offsets

    def _scan(
        self,
        read_rows: ReadRows,
        queries: FloatArray,
        k: int,
        num_rows: int,
        allowed: BoolArray | None,
    ) -> tuple[FloatArray, IntArray]:
        """Search with some of the queries; see `search`."""
        group_size = ROWS_PER_GROUP if num_rows > 4 * ROWS_PER_GROUP * k else 1
        scan = _Scan(queries, k, group_size, self._centre)

        def scan_block(rows: range) -> tuple[npt.NDArray[Any], ...]:
            mask = None if allowed is None else allowed[rows.start : rows.stop]
            return scan.candidates(self._blocks[rows.start // ROWS_PER_BLOCK], rows, mask)

        def choose(i: int) -> tuple[FloatArray, IntArray]:
            """Return the similarities and rows of one query."""
            mine = owners == i
            order = np.argpartition(lower[mine], -k)
            likely, others = np.sort(rows[mine][order[-k:]]), order[:-k]
            found = compare(read_rows, queries[i], likely)
            # What k likely rows reach excludes more of the others than their lower bounds do.
            is_near = upper[mine][others] >= scan.offset_similarity(i, found.min())
            others = np.sort(rows[mine][others[is_near]])
            more = compare(read_rows, queries[i], others)
            return highest(np.concatenate((found, more)), np.concatenate((likely, others)), k)

        blocks = [
            rows
            for rows in _blocks_of(num_rows)
            if allowed is None or allowed[rows.start : rows.stop].any()
        ]
        columns = zip(*_in_threads(scan_block, blocks), strict=True)
        owners, rows, lower, upper = map(np.concatenate, columns)
        # Not in threads: they would wait for each other after each of many short reads.
        best = [choose(i) for i in range(len(queries))]
        return np.stack([pair[0] for pair in best]), np.stack([pair[1] for pair in best])


class _Scan:
    """Queries (N, E) as int8 codes, and lower bounds of their k best similarities so far.

    All bounds are for a query scaled to length 1 and a row's offset from the centre.
    """

    def __init__(self, queries: FloatArray, k: int, group_size: int, centre: FloatArray) -> None:
        self._k, self._group_size = k, group_size
        self._lengths = np.maximum(_lengths(queries), TINY)
        units = queries / self._lengths[:, None]
        self._steps = np.maximum(np.abs(units).max(axis=1) / LARGEST_CODE, TINY)[:, None]
        self._codes = np.rint(units / self._steps).astype(np.int8)
        self._errors = _lengths(self._codes * self._steps - units)[:, None]
        self._centre_similarities = units @ centre  # (N,)
        self._rounding = len(centre) * 2.0**-22  # of sums of float32 products, at most; doubled
        self._slack = self._rounding * float(_lengths(centre[None])[0])
        self._best = np.full((len(queries), k), -np.inf)
        self._lock = threading.Lock()

    def candidates(
        self, block: _Block, rows: range, allowed: BoolArray | None
    ) -> tuple[npt.NDArray[Any], ...]:
        """Find the rows of a block, given by their numbers, that may be among the k best.

        Returns positions of queries, rows, and lower and upper bounds of their similarities.
        """
        products = np.asarray(numkong.dots_packed(self._codes, block.codes))  # (N, n)
        products[:, len(rows) :] = LOWEST
        if allowed is not None:
            products[:, : len(rows)][:, ~allowed] = LOWEST
        groups = products.reshape(len(products), self._group_size, -1)
        largest = groups.max(axis=1)
        scale = block.step * self._steps  # (N, 1)
        # |q x - q' x'| <= |q'| |x - x'| + |q - q'| |x| for a query q, an offset x, and their codes
        margin = block.error * (1 + self._errors) + block.radius * self._errors
        margin += self._rounding * block.radius + self._slack
        num_best = min(self._k, largest.shape[1])
        best = np.partition(largest, -num_best, axis=1)[:, -num_best:] * scale - margin
        with self._lock:
            best = np.concatenate((self._best, best), axis=1)
            self._best = np.partition(best, -self._k, axis=1)[:, -self._k :]
            least = np.floor((self._best[:, :1] - margin) / scale)
        least = np.maximum(least, LOWEST + 1)
        owners, columns = _positions(largest >= least)
        members = groups[owners, :, columns]
        positions, places = _positions(members >= least[owners])
        owners, columns = owners[positions], columns[positions]
        similarities = members[positions, places] * scale[owners, 0]
        margins = margin[owners, 0]
        found = rows.start + places * groups.shape[2] + columns
        return owners, found, similarities - margins, similarities + margins

    def offset_similarity(self, i: int, similarity: float) -> float:
        """Convert a similarity of query i and a row to one that can be compared with bounds."""
        return float(similarity / self._lengths[i] - self._centre_similarities[i])


def compare(read_rows: ReadRows, query: FloatArray, rows: IntArray) -> FloatArray:
    """Return the float32 similarities (n,) of a query (E,) and some rows (n,), ascending."""
    similarities = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), ROWS_PER_CHUNK):
        part = slice(first, first + ROWS_PER_CHUNK)
        # Unlike a matrix product, this adds up each row in the same order wherever it is.
        np.einsum("ne,e->n", to_float32(read_rows(rows[part])), query, out=similarities[part])
    return similarities


def highest(similarities: FloatArray, rows: IntArray, k: int) -> tuple[FloatArray, IntArray]:
    """Return the k highest similarities, descending, and their rows; of equal ones the first."""
    if k < len(rows):  # sorting a few is faster
        is_high = similarities >= np.partition(similarities, -k)[-k]
        similarities, rows = similarities[is_high], rows[is_high]
    order = np.lexsort((rows, -similarities))[:k]
    return similarities[order], rows[order]


def to_float32(half: HalfArray) -> FloatArray:
    """Convert an array; several times faster than `astype`."""
    return np.asarray(numkong.astype(half, "float32"))


def _positions(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Return rows and columns of what is true in a mask; several times faster than `nonzero`."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return rows, columns


def _lengths(vectors: RealArray) -> FloatArray:
    """Return the lengths (n,) of vectors (n, E)."""
    return np.asarray(np.sqrt(np.einsum("ne,ne->n", vectors, vectors)))


def _blocks_of(num_rows: int) -> list[range]:
    """Divide the first rows into blocks."""
    size = ROWS_PER_BLOCK
    return [range(first, min(first + size, num_rows)) for first in range(0, num_rows, size)]


def _in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply a function to items on as many threads as torch may use."""
    import torch  # imported here, since it takes long and not every user of a library needs it

    num_threads = min(torch.get_num_threads(), len(items))
    if num_threads <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(function, items))
