"""Exact search: the rows of a float16 matrix most similar to queries, in one pass over it.

The pass is made in low precision. How wrong that can be is known from the lengths of the vectors,
so every row that may belong to the k most similar is kept, and only those are compared again, in
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = [
    "Bounds",
    "FirstPass",
    "HalfPass",
    "LetGo",
    "Longest",
    "best_of",
    "in_threads",
    "nearest_rows",
]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Bounds: TypeAlias = tuple[int, FloatArray, FloatArray]
"""The first of n consecutive rows, what their similarities with N queries are at most (N, n), and
how far these may lie below the middle of what they can be (n,)."""
ReadRows: TypeAlias = Callable[[IntArray], Tensor]
"""Gives some rows (n, E), ascending, in float16."""
LetGo: TypeAlias = Callable[[], None]
InThreads: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

ROWS_PER_BLOCK = 32768
"""Rows that a thread takes at a time."""
ROWS_PER_PRODUCT = 2048
"""Rows multiplied with several queries, or compared, at a time: what stays in a core's cache."""
GROUPS_PER_WANTED = 16
"""Groups of numbers that are put in order, for each number wanted."""
HALF_DOUBT, BFLOAT_DOUBT = 2.001 * 2**-11, 3.001 * 2**-9
"""Of vectors of length 1: with one query it and the product are rounded to half precision; with
several, so are the rows, and all to bfloat16. Bounds are reckoned in float32, which rounds too."""


class FirstPass(Protocol):
    """Similarities of all rows with queries of length 1, quick and slightly wrong."""

    @property
    def centres(self) -> FloatArray:
        """What must be added to the bounds of each query: (N,)."""
        ...

    def bounds(self, rows: range) -> Iterator[Bounds]:
        """Bounds on the similarities of consecutive rows."""
        ...


class HalfPass:
    """The first pass that any processor makes well, straight over the matrix.

    Args:
        matrix: (R, E) float16.
        units: (N, E) float32, of length 1.
        longest: Length of the longest row.
        let_go: Called when some rows were looked at, for a matrix that is a file.
    """

    def __init__(
        self, matrix: Tensor, units: Tensor, longest: float, let_go: LetGo = lambda: None
    ) -> None:
        self._matrix, self._units, self._let_go = matrix, units, let_go
        self._doubt = longest * (HALF_DOUBT if len(units) == 1 else BFLOAT_DOUBT)
        self.centres = np.zeros(len(units), dtype=np.float32)

    def bounds(self, rows: range) -> Iterator[Bounds]:
        """See `FirstPass.bounds`."""
        doubts = np.full(len(rows), self._doubt, dtype=np.float32)
        if len(self._units) == 1:
            product = self._matrix[rows.start : rows.stop] @ self._units[0].half()
            self._let_go()
            yield rows.start, product.float().add_(self._doubt).numpy()[None], doubts
            return
        wide = torch.empty(ROWS_PER_PRODUCT, self._matrix.shape[1])
        narrow, narrow_units = wide.bfloat16(), self._units.bfloat16()
        for first in range(rows.start, rows.stop, ROWS_PER_PRODUCT):
            part = self._matrix[first : min(first + ROWS_PER_PRODUCT, rows.stop)]
            # By way of float32: from float16 straight to bfloat16 torch is four times slower.
            rounded = narrow[: len(part)].copy_(wide[: len(part)].copy_(part))
            products = (narrow_units @ rounded.T).float().add_(self._doubt)
            yield first, products.numpy(), doubts[: len(part)]
        self._let_go()


class Longest:
    """Length of the longest row of a matrix that grows; rows never change."""

    def __init__(self) -> None:
        self._length, self._num_rows = 0.0, 0

    def of(self, matrix: Tensor, let_go: LetGo = lambda: None) -> float:
        """Look at the rows (R, E) that were added since; see `HalfPass` for `let_go`."""
        for first in range(self._num_rows, len(matrix), ROWS_PER_PRODUCT):
            lengths = matrix[first : first + ROWS_PER_PRODUCT].float().norm(dim=1)
            self._length = max(self._length, float(lengths.max()))
            let_go()
        self._num_rows = max(self._num_rows, len(matrix))
        return self._length


def nearest_rows(
    num_rows: int,
    first_pass: FirstPass,
    queries: Tensor,
    k: int,
    read_rows: ReadRows,
    allowed: BoolArray | None = None,
) -> tuple[FloatArray, IntArray]:
    """Find the rows most similar to each query, on as many threads as torch may use.

    Args:
        num_rows: R.
        first_pass: Of these rows with these queries, made of length 1.
        queries: (N, E) float32.
        k: Rows to find for each, at most as many as are allowed.
        read_rows: Gives the rows themselves, finite.
        allowed: (R,) whether a row may be found; None: all may.

    Returns:
        Similarities (N, k), falling along a row, and rows (N, k).
    """
    starts = iter(range(0, num_rows, ROWS_PER_BLOCK))  # a thread takes the next when it is done

    def look_through(_: int) -> _Candidates:
        found = _Candidates(k, len(queries))
        for start in starts:
            rows = range(start, min(start + ROWS_PER_BLOCK, num_rows))
            if allowed is None or allowed[rows.start : rows.stop].any():
                for first, bounds, doubts in first_pass.bounds(rows):
                    barred = None if allowed is None else ~allowed[first : first + len(doubts)]
                    found.add(first, bounds, doubts, barred)
        return found

    num_threads = min(torch.get_num_threads(), -(-num_rows // ROWS_PER_BLOCK))
    with in_threads(num_threads) as run:
        candidates = _Candidates.joined(list(run(look_through, range(num_threads)))).by_query()
        # What the likely best k truly reach bounds the others better than what they seem to reach.
        orders = [np.argpartition(doubts - bounds, k - 1) for _, bounds, doubts in candidates]
        firsts = [rows[order[:k]] for (rows, *_), order in zip(candidates, orders, strict=True)]
        best = _compare_all(read_rows, queries, firsts, run)
        lengths = queries.norm(dim=1).clamp_min(1e-12).numpy()
        least = np.array([some.min() for some in best]) / lengths - first_pass.centres
        others = [
            rows[order[k:][bounds[order[k:]] >= bound]]
            for (rows, bounds, _), order, bound in zip(
                candidates, orders, _just_below(least), strict=True
            )
        ]
        more = _compare_all(read_rows, queries, others, run)
    rows = [np.concatenate(pair) for pair in zip(firsts, others, strict=True)]
    return _best(rows, [np.concatenate(pair) for pair in zip(best, more, strict=True)], k)


def _best(
    rows: Sequence[IntArray], similarities: Sequence[FloatArray], k: int
) -> tuple[FloatArray, IntArray]:
    """The k most similar of the rows compared with each query."""
    orders = [np.argsort(-compared, kind="stable")[:k] for compared in similarities]
    best = np.stack([compared[order] for compared, order in zip(similarities, orders)])
    return best, np.stack([some[order] for some, order in zip(rows, orders)])


def best_of(
    read_rows: ReadRows, queries: Tensor, rows: Sequence[IntArray], k: int
) -> tuple[FloatArray, IntArray]:
    """Find the k rows most similar to each query among some given ones, at least k of them."""
    return _best(rows, _compare_all(read_rows, queries, rows), k)


def _compare_all(
    read_rows: ReadRows, queries: Tensor, rows: Sequence[IntArray], run: InThreads = map
) -> list[FloatArray]:
    """Similarities, in float32, of each query with rows of its own."""
    counts = [len(some) for some in rows]
    flat, owners = np.concatenate(rows), np.repeat(np.arange(len(rows)), counts)
    similarities = np.empty(len(flat), dtype=np.float32)
    order = np.argsort(flat)  # in order of the file

    def compare(first: int) -> None:
        pairs = order[first : first + ROWS_PER_PRODUCT]
        part = read_rows(flat[pairs]).float()
        products = part.mul_(queries[torch.from_numpy(owners[pairs])])
        similarities[pairs] = products.sum(dim=1).numpy()

    for _ in run(compare, range(0, len(flat), ROWS_PER_PRODUCT)):
        pass
    return np.split(similarities, np.cumsum(counts)[:-1])


@contextmanager
def in_threads(num_threads: int) -> Iterator[InThreads]:
    """Give what calls a function side by side, like `map`, torch working on one thread in each.

    The threads are our own, since torch's would meet again after every one of many small products.
    """
    if num_threads <= 1:
        yield map
        return
    usual = torch.get_num_threads()
    with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map
    torch.set_num_threads(usual)  # what was set last counts for threads that start later


class _Candidates:
    """Rows that may be among the k most similar to each of N queries."""

    def __init__(self, k: int, num_queries: int) -> None:
        self._k, self._num_queries = k, num_queries
        self._least = np.full(num_queries, -np.inf, dtype=np.float32)
        self._found: list[tuple[npt.NDArray[Any], ...]] = []
        """Queries, rows, bounds and doubts."""
        self._num_found = 0
        self._next_look = 2 * k * num_queries

    def add(
        self, first: int, bounds: FloatArray, doubts: FloatArray, barred: BoolArray | None = None
    ) -> None:
        """Look at rows from `first` on: bounds (N, n), doubts (n,), which may not be found."""
        if barred is not None:
            bounds[:, barred] = -np.inf
        if np.isneginf(self._least).any():
            self._raise(_reached(bounds - 2 * doubts, self._k))
        places = np.flatnonzero(bounds >= self._least[:, None])
        queries, rows = np.divmod(places, bounds.shape[1])
        self._found.append((queries, rows + first, bounds.ravel()[places], doubts[rows]))
        self._num_found += len(rows)
        if self._num_found > self._next_look:
            self._tighten()

    @classmethod
    def joined(cls, shares: list[_Candidates]) -> _Candidates:
        """What several shares of the rows gave, as one."""
        whole = cls(shares[0]._k, shares[0]._num_queries)
        for share in shares:
            whole._found += share._found
        whole._tighten()
        return whole

    def by_query(self) -> list[tuple[IntArray, FloatArray, FloatArray]]:
        """Rows left for each query, their bounds and doubts."""
        queries, *columns = self._found[0]
        order = _stable_order(queries)
        ends = np.cumsum(np.bincount(queries, minlength=self._num_queries))[:-1]
        parts = (np.split(column[order], ends) for column in columns)
        return [(rows, bounds, doubts) for rows, bounds, doubts in zip(*parts, strict=True)]

    def _tighten(self) -> None:
        """Raise the bounds to what the rows found so far allow, and drop those below."""
        columns = [np.concatenate(column) for column in zip(*self._found, strict=True)]
        queries, _, bounds, doubts = columns
        counts = np.bincount(queries, minlength=self._num_queries)
        order = _stable_order(queries)
        place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.full((len(counts), counts.max()), -np.inf, dtype=np.float32)
        table[queries[order], place] = (bounds - 2 * doubts)[order]
        self._raise(_reached(table, self._k))
        keep = np.isfinite(bounds) & (bounds >= self._least[queries])
        self._found = [tuple(column[keep] for column in columns)]
        self._num_found = int(keep.sum())
        self._next_look = 2 * max(self._num_found, self._k * len(counts))

    def _raise(self, reached: FloatArray) -> None:
        """Given what k rows reach at least (N,), other rows must as well."""
        self._least = np.maximum(self._least, _just_below(reached))


def _reached(table: FloatArray, k: int) -> FloatArray:
    """What k numbers of each row (n,) reach, nearly as much as there is: (N,)."""
    num = table.shape[1]
    if num < k:
        return np.full(len(table), -np.inf, dtype=np.float32)
    # Most of the k largest are the largest of a small group, and those are few to put in order.
    size = max(1, num // (GROUPS_PER_WANTED * k))
    largest = table[:, : num - num % size].reshape(len(table), size, -1).max(axis=1)
    return np.partition(largest, largest.shape[1] - k, axis=1)[:, -k]


def _stable_order(queries: IntArray) -> IntArray:
    """Order that puts like queries together; of small numbers numpy counts instead of comparing."""
    small = queries.astype(np.uint16) if queries.max(initial=0) < 2**16 else queries
    return np.argsort(small, kind="stable")


def _just_below(bounds: FloatArray) -> FloatArray:
    """The numbers of float32 below those given, which may have been rounded up."""
    return np.nextafter(bounds.astype(np.float32), np.float32(-np.inf))
