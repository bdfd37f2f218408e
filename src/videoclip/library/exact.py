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
from itertools import pairwise
from typing import NamedTuple, TypeAlias, TypeVar

import numkong
import numpy as np
import numpy.typing as npt

from videoclip.types import BoolArray, FloatArray, IntArray, RealArray
from videoclip.zeroshot.confidence import products

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
NO_ROW = np.iinfo(np.int32).max
"""Instead of the number of a row; beyond all rows."""
LARGEST_CODE = 127
LOWEST = np.iinfo(np.int32).min
"""Instead of the product of a row that is not allowed."""
TINY = 1e-12
"""Instead of a divisor of 0."""


@dataclass(frozen=True)
class _Block:
    """Rows (n, E) as int8 codes: row = centre + step * code + error.

    Rows with components of like size form a group, which shares a step: the components of a row
    seldom reach the largest one of its block. The rows of a group are n / `ROWS_PER_GROUP` apart.

    Attributes:
        codes: (n, E), in the order in which NumKong multiplies them.
        rows: (n,) their numbers; `NO_ROW` at the places of the last group that hold none.
        last_row: The largest of them.
        steps: (n / `ROWS_PER_GROUP`,) of each group.
        error: Length of the longest error, divided by the step of its row.
        radius: Distance from the centre of the row farthest from it.
    """

    codes: numkong.PackedMatrix
    rows: npt.NDArray[np.int32]
    last_row: int
    steps: FloatArray
    error: float
    radius: float


class _Hits(NamedTuple):
    """Groups of rows of a block of which one may be among the k best of a query.

    Attributes:
        rows: (g, G) of all groups of the block.
        groups: (n,) numbers of the groups found.
        owners: (n,) positions of the queries.
        products: (n, G) of the codes of the query and of each row.
        scales: (n,) similarity per product.
        margins: (n,) greatest error of the similarities.
        upper: (n,) upper bound of the largest similarity.
    """

    rows: npt.NDArray[np.int32]
    groups: IntArray
    owners: IntArray
    products: npt.NDArray[np.int32]
    scales: FloatArray
    margins: FloatArray
    upper: FloatArray


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
        self._blocks[first:] = in_threads(
            partial(self._quantize, read_rows), _blocks_of(num_rows)[first:]
        )
        self.num_rows = num_rows

    def _quantize(self, read_rows: ReadRows, rows: range) -> _Block:
        """Return the copy of consecutive rows."""
        half = read_rows(np.array(rows))
        chunks = [slice(i, i + ROWS_PER_CHUNK) for i in range(0, len(half), ROWS_PER_CHUNK)]
        peaks = np.concatenate([np.abs(self._offsets(half[chunk])).max(axis=1) for chunk in chunks])
        num_groups = -(-len(rows) // ROWS_PER_GROUP)
        order = np.full(num_groups * ROWS_PER_GROUP, -1)
        order[: len(rows)] = np.argsort(peaks, kind="stable")
        groups = order.reshape(num_groups, ROWS_PER_GROUP)
        steps = np.maximum(peaks[groups].max(axis=1) / LARGEST_CODE, TINY)
        places = np.empty(len(rows), np.int64)
        places[order[: len(rows)]] = np.arange(len(rows))
        group_of, member = np.divmod(places, ROWS_PER_GROUP)
        codes = np.zeros((order.size, half.shape[1]), np.int8)
        error, radius = 0.0, 0.0
        for chunk in chunks:
            offsets = self._offsets(half[chunk])
            radius = max(radius, float(_lengths(offsets).max()))
            offsets /= steps[group_of[chunk], None]
            rounded = np.rint(offsets)
            codes[member[chunk] * num_groups + group_of[chunk]] = rounded
            error = max(error, float(_lengths(offsets - rounded).max()))
        numbers = np.where(groups < 0, NO_ROW, groups + rows.start).T.ravel().astype(np.int32)
        return _Block(numkong.dots_pack(codes), numbers, int(numbers.max()), steps, error, radius)

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

        def scan_block(rows: range) -> _Hits:
            return scan.hits(self._blocks[rows.start // ROWS_PER_BLOCK], num_rows, allowed)

        blocks = [
            rows
            for rows in _blocks_of(num_rows)
            if allowed is None or allowed[rows.start : rows.stop].any()
        ]
        found = (scan.candidates(hits) for hits in in_threads(scan_block, blocks))
        owners, rows, lower, upper = map(np.concatenate, zip(*found, strict=True))
        order = np.lexsort((-lower, owners))
        owners, rows, upper = owners[order], rows[order], upper[order]
        ends = np.searchsorted(owners, np.arange(len(queries) + 1))
        # What the k likeliest rows reach excludes more of the others than their lower bounds do.
        is_likely = np.arange(len(rows)) - ends[owners] < k
        similarities = np.full(len(rows), -np.inf, np.float32)
        similarities[is_likely] = compare(read_rows, queries, rows[is_likely], owners[is_likely])
        lowest = similarities[is_likely].reshape(-1, k).min(axis=1)
        is_near = ~is_likely & (upper >= scan.offset_similarities(lowest)[owners])
        similarities[is_near] = compare(read_rows, queries, rows[is_near], owners[is_near])
        parts = [slice(*part) for part in pairwise(ends.tolist())]
        best = [highest(similarities[part], rows[part], k) for part in parts]
        return np.stack([pair[0] for pair in best]), np.stack([pair[1] for pair in best])


class _Scan:
    """Queries (N, E) as int8 codes, and lower bounds of their k best similarities so far.

    All bounds are for a query scaled to length 1 and a row's offset from the centre.
    """

    def __init__(self, queries: FloatArray, k: int, group_size: int, centre: FloatArray) -> None:
        self._k, self._group_size = k, group_size
        self._lengths = np.maximum(_lengths(queries), TINY)
        units = (queries / self._lengths[:, None]).astype(np.float32)
        self._steps = np.maximum(np.abs(units).max(axis=1) / LARGEST_CODE, TINY)[:, None]
        self._codes = np.rint(units / self._steps).astype(np.int8)
        self._errors = _lengths(self._codes * self._steps - units)[:, None]
        self._centre_similarities = products(units, centre[None])[:, 0]  # (N,)
        self._rounding = len(centre) * 2.0**-22  # of sums of float32 products, at most; doubled
        self._slack = self._rounding * float(_lengths(centre[None])[0])
        self.best = np.full((len(queries), k), -np.inf, np.float32)
        """Lower bounds (N, k) of the similarities of the best rows so far, the least one first."""
        self._lock = threading.Lock()
        self._memory = threading.local()

    def hits(self, block: _Block, num_rows: int, allowed: BoolArray | None) -> _Hits:
        """Find the groups of rows of a block that may be among the k best so far."""
        products = self._products(block)
        if allowed is not None or block.last_row >= num_rows:
            is_wrong = block.rows >= num_rows
            if allowed is not None:
                is_wrong |= ~allowed[np.where(is_wrong, 0, block.rows)]
            products[:, is_wrong] = LOWEST
        groups = products.reshape(len(products), self._group_size, -1)
        num_groups = groups.shape[2]
        largest = groups.max(axis=1)
        # |q x - q' x'| <= |q'| |x - x'| + |q - q'| |x| for a query q, an offset x, and their codes
        steps = block.steps if self._group_size > 1 else np.tile(block.steps, ROWS_PER_GROUP)
        slip = block.error * (1 + self._errors) / self._steps
        rest = block.radius * (self._errors + self._rounding) + self._slack
        likely = largest.astype(np.float32)
        num_best = min(self._k, num_groups)
        best = np.partition((likely - slip) * steps, -num_best, axis=1)[:, -num_best:]
        with self._lock:
            best = np.concatenate((self.best, best * self._steps - rest), axis=1)
            self.best = np.partition(best, -self._k, axis=1)[:, -self._k :]
            least = (self.best[:, :1] - rest) / self._steps
        owners, columns = _positions(((likely + slip) * steps >= least) & (largest > LOWEST))
        rows = block.rows.reshape(self._group_size, -1).T
        scales = steps[columns] * self._steps[owners, 0]
        margins = slip[owners, 0] * scales + rest[owners, 0]
        upper = likely[owners, columns] * scales + margins
        return _Hits(rows, columns, owners, groups[owners, :, columns], scales, margins, upper)

    def candidates(self, hits: _Hits) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        """Return the rows of a block that may be among the k best of the blocks scanned so far.

        Returns:
            (n,) each: positions of the queries, rows, lower and upper bounds of their similarities.
        """
        is_possible = hits.upper >= self.best[hits.owners, 0]  # fewer rows had been seen before
        groups, owners, products, scales, margins = (x[is_possible] for x in hits[1:6])
        upper = products.astype(np.float32) * scales[:, None] + margins[:, None]
        least = self.best[owners, :1]
        found, members = _positions((upper >= least) & (products > LOWEST))
        rows = hits.rows[groups[found], members].astype(np.int64)
        upper = upper[found, members]
        return owners[found], rows, upper - 2 * margins[found], upper

    def _products(self, block: _Block) -> npt.NDArray[np.int32]:
        """Return the products (N, n) of all codes, in memory that a thread's next call reuses."""
        shape = len(self._codes), len(block.rows)
        out = getattr(self._memory, "products", None)
        if out is None or out.shape != shape:
            out = self._memory.products = numkong.empty(shape, dtype="int32")
        return np.asarray(numkong.dots_packed(self._codes, block.codes, out=out))

    def offset_similarities(self, similarities: FloatArray) -> RealArray:
        """Convert similarities (N,) of each query to ones that can be compared with bounds."""
        return np.asarray(similarities / self._lengths - self._centre_similarities)


def compare(
    read_rows: ReadRows, queries: FloatArray, rows: IntArray, owners: IntArray | None = None
) -> FloatArray:
    """Return the float32 similarities (n,) of rows and queries.

    Args:
        read_rows: Reads rows.
        queries: (N, E).
        rows: (n,).
        owners: (n,) the query of each row; None: there is one query.
    """
    similarities = np.empty(len(rows), np.float32)
    order = np.argsort(rows, kind="stable")
    for first in range(0, len(rows), ROWS_PER_CHUNK):
        part = order[first : first + ROWS_PER_CHUNK]
        some = queries if owners is None else queries[owners[part]]
        # Unlike a matrix product, this adds up each row in the same order wherever it is.
        similarities[part] = np.einsum("ne,ne->n", to_float32(read_rows(rows[part])), some)
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


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply a function to items on as many threads as torch may use."""
    import torch  # imported here, since it takes long and not every user of a library needs it

    num_threads = min(torch.get_num_threads(), len(items))
    if num_threads <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(function, items))
