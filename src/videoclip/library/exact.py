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

__all__ = ["FirstPass", "HalfPass", "best_of", "in_threads", "nearest_rows"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ReadRows: TypeAlias = Callable[[IntArray], Tensor]
"""Gives some rows (n, E), ascending, in float16."""
InThreads: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

ROWS_PER_BLOCK = 65536
"""Rows that a thread takes at a time."""
ROWS_PER_PRODUCT = 2048
"""Rows multiplied with several queries, or compared, at a time: what stays in a core's cache."""
HALF_DOUBT, BFLOAT_DOUBT = 2.001 * 2**-11, 3.001 * 2**-9
"""Of vectors of length 1: with one query it and the product are rounded to half precision; with
several, so are the rows, and all to bfloat16. Bounds are reckoned in float32, which rounds too."""


class FirstPass(Protocol):
    """Similarities of all rows with queries of length 1, quick and slightly wrong."""

    @property
    def scales(self) -> FloatArray:
        """What the similarities with each query (N,) must be multiplied with."""
        ...

    @property
    def doubts(self) -> FloatArray:
        """How far they may then still be from the true ones: (N,)."""
        ...

    def similarities(self, rows: range) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """The first of n consecutive rows, and their similarities (n, N)."""
        ...


class HalfPass:
    """The first pass that any processor makes well, straight over the matrix.

    Args:
        matrix: (R, E) float16.
        units: (N, E) float32, of length 1.
        longest: Length of the longest row.
    """

    def __init__(self, matrix: Tensor, units: Tensor, longest: float) -> None:
        self._matrix, self._units = matrix, units
        self.scales = np.ones(len(units), dtype=np.float32)
        doubt = longest * (HALF_DOUBT if len(units) == 1 else BFLOAT_DOUBT)
        self.doubts = np.full(len(units), doubt, dtype=np.float32)

    def similarities(self, rows: range) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """See `FirstPass.similarities`."""
        if len(self._units) == 1:
            product = self._matrix[rows.start : rows.stop] @ self._units[0].half()
            yield rows.start, product.float().numpy()[:, None]
            return
        wide = torch.empty(ROWS_PER_PRODUCT, self._matrix.shape[1])
        narrow, narrow_units = wide.bfloat16(), self._units.bfloat16().T
        for first in range(rows.start, rows.stop, ROWS_PER_PRODUCT):
            part = self._matrix[first : min(first + ROWS_PER_PRODUCT, rows.stop)]
            # By way of float32: from float16 straight to bfloat16 torch is four times slower.
            rounded = narrow[: len(part)].copy_(wide[: len(part)].copy_(part))
            yield first, (rounded @ narrow_units).float().numpy()


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
    doubts = first_pass.doubts / first_pass.scales
    starts = iter(range(0, num_rows, ROWS_PER_BLOCK))  # a thread takes the next when it is done

    def look_through(_: int) -> _Candidates:
        found = _Candidates(k, doubts)
        for start in starts:
            rows = range(start, min(start + ROWS_PER_BLOCK, num_rows))
            if allowed is None or allowed[rows.start : rows.stop].any():
                for first, similarities in first_pass.similarities(rows):
                    found.add(similarities, first, allowed)
        return found

    num_threads = min(torch.get_num_threads(), -(-num_rows // ROWS_PER_BLOCK))
    with in_threads(num_threads) as run:
        shares = list(run(look_through, range(num_threads)))
        candidates = _Candidates.joined(shares).by_query()
        # What the best k truly reach bounds the others better than what they seem to reach.
        orders = [np.argpartition(-rounded, k - 1) for _, rounded in candidates]
        firsts = [rows[order[:k]] for (rows, _), order in zip(candidates, orders, strict=True)]
        best = _compare_all(read_rows, queries, firsts, run)
        lengths = queries.norm(dim=1).clamp_min(1e-12).numpy()
        least = [float(best[i].min()) / lengths[i] for i in range(len(best))]
        bounds = _just_below(np.array(least) / first_pass.scales - doubts)
        others = [
            rows[order[k:][rounded[order[k:]] >= bound]]
            for (rows, rounded), order, bound in zip(candidates, orders, bounds, strict=True)
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
    """Rows that may be among the k most similar to each query, however they were rounded."""

    def __init__(self, k: int, doubts: FloatArray) -> None:
        self._k, self._doubts = k, doubts
        self._least = np.full(len(doubts), -np.inf, dtype=np.float32)
        self._found: list[tuple[IntArray, IntArray, FloatArray]] = []  # queries, rows, similarities
        self._num_found = 0
        self._next_look = 2 * k * len(doubts)

    def add(
        self, similarities: npt.NDArray[Any], first: int, allowed: BoolArray | None = None
    ) -> None:
        """Look at the similarities (n, N) of the rows from `first` on."""
        barred = None if allowed is None else ~allowed[first : first + len(similarities)]
        if len(similarities) >= self._k and np.isneginf(self._least).any():
            seen = similarities.astype(np.float32)
            if barred is not None:
                seen[barred] = -np.inf
            self._raise(np.partition(seen, len(seen) - self._k, axis=0)[-self._k])
        reached = similarities >= _just_below(self._least, similarities.dtype)
        if barred is not None:
            reached[barred] = False
        places = np.flatnonzero(reached)
        rows, queries = np.divmod(places, similarities.shape[1])
        self._found.append((queries, rows + first, similarities.ravel()[places].astype(np.float32)))
        self._num_found += len(rows)
        if self._num_found > self._next_look:
            self._tighten()

    @classmethod
    def joined(cls, shares: list[_Candidates]) -> _Candidates:
        """What several shares of the rows gave, as one."""
        whole = cls(shares[0]._k, shares[0]._doubts)
        for share in shares:
            whole._found += share._found
        whole._tighten()
        return whole

    def by_query(self) -> list[tuple[IntArray, FloatArray]]:
        """Rows left for each query, and their similarities."""
        queries, rows, similarities = self._found[0]
        order = _stable_order(queries)
        ends = np.cumsum(np.bincount(queries, minlength=len(self._doubts)))[:-1]
        return list(zip(np.split(rows[order], ends), np.split(similarities[order], ends)))

    def _tighten(self) -> None:
        """Raise the bounds to what the rows found so far allow, and drop those below."""
        queries, rows, similarities = (np.concatenate(part) for part in zip(*self._found))
        counts = np.bincount(queries, minlength=len(self._least))
        if counts.max() >= self._k:
            order = _stable_order(queries)
            place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
            table = np.full((len(counts), counts.max()), -np.inf, dtype=np.float32)
            table[queries[order], place] = similarities[order]
            self._raise(np.partition(table, -self._k, axis=1)[:, -self._k])
        keep = similarities >= _just_below(self._least)[queries]
        self._found = [(queries[keep], rows[keep], similarities[keep])]
        self._num_found = int(keep.sum())
        self._next_look = 2 * max(self._num_found, self._k * len(counts))

    def _raise(self, reached: FloatArray) -> None:
        """Given what k rows seem to reach (N,): one that matters is at most so far below.

        Both may be wrong, in opposite directions.
        """
        self._least = np.maximum(self._least, reached - 2 * self._doubts)


def _stable_order(queries: IntArray) -> IntArray:
    """Order that puts like queries together; of small numbers numpy counts instead of comparing."""
    small = queries.astype(np.uint16) if queries.max(initial=0) < 2**16 else queries
    return np.argsort(small, kind="stable")


def _just_below(bounds: Any, dtype: npt.DTypeLike = np.float32) -> Any:
    """Bounds of a type that similarities of it can be compared with, never above the given ones."""
    if np.issubdtype(dtype, np.integer):
        return np.floor(np.maximum(bounds, np.iinfo(dtype).min // 2)).astype(dtype)
    return np.nextafter(np.asarray(bounds, dtype=np.float32), np.float32(-np.inf))
