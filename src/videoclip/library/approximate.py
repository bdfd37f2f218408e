"""An approximate index beside a large file of vectors: quick candidates, compared again exactly.

It covers the first rows of one file, which never change; so all it has to record is how many.
Rows that were added since are searched as they are, rows that no video owns any more are never
allowed, and compaction starts another file, which has no index until one is built.

It is an inverted file of faiss with a byte a number, measured beside other kinds in
`bench/approximate.py`: the exact comparison of a few spare candidates makes good what bytes lose.
"""

from __future__ import annotations

import importlib.util
import os
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from videoclip.errors import DataError
from videoclip.library.exact import BoolArray, FloatArray, IntArray

__all__ = ["PAYS_FROM", "RECALL_OF", "ApproximateIndex", "build_index", "can_build", "is_stale"]

PAYS_FROM = 500_000
"""Rows from which on an index pays: below, an exact search takes some milliseconds."""
STALE_SHARE = 1 / 64
"""Of the rows, which may be missing from an index before they are added to it."""
SAMPLES_PER_LIST = 48
RECALL, RECALL_OF = 0.97, 10
"""Share of the true first neighbours of the queries at hand that so many lists are probed for. They
are few, and not those people ask: 0.95 is what is wanted of others."""
CANDIDATES, SPARE = 256, 64
"""Candidates at least, and beyond those wanted: bytes mix up similarities near to each other."""
TIE = 1e-5
"""Similarities nearer than that are equal."""
ROWS_PER_ADD = 65536


def can_build() -> bool:
    """Whether the extra `ann` is installed."""
    return importlib.util.find_spec("faiss") is not None


def is_stale(num_covered: int, num_rows: int) -> bool:
    """Whether so many rows are missing from an index that it pays to build it, or to add them."""
    return num_rows >= PAYS_FROM and num_rows - num_covered > STALE_SHARE * num_covered


class ApproximateIndex:
    """An open index file.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import faiss

        self._faiss = faiss
        try:
            self._index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise DataError("not an index of vectors: delete it", path) from error

    @property
    def num_rows(self) -> int:
        """Rows it covers, from the first on."""
        return int(self._index.ntotal)

    def candidates(self, queries: FloatArray, k: int, allowed: BoolArray | None) -> IntArray:
        """Rows among which are probably the nearest to queries; -1 where there are no more.

        Args:
            queries: (N, E).
            k: Rows wanted for each; some more are returned.
            allowed: Whether a row may be found, of at least the rows covered; None: all may.
        """
        wanted = _num_candidates(k)
        if allowed is not None:
            covered = allowed[: self.num_rows]
            share = max(float(np.count_nonzero(covered)) / len(covered), 1 / self._index.nlist)
            # As many that may be found are among more. To leave the others out afterwards is
            # quicker than to ask of each row of a list.
            wanted = min(ceil(wanted / share), len(covered))
        rows: IntArray = self._index.search(queries, wanted)[1]
        if allowed is not None:
            rows[~covered[rows]] = -1
        return rows


def build_index(
    matrix: npt.NDArray[np.float16], path: Path, queries: FloatArray, exact: FloatArray
) -> None:
    """Index the rows of a matrix, or add those that are missing; the file appears whole.

    Args:
        matrix: (R, E).
        path: The file.
        queries: (Q, E) by which it is decided how many lists are probed.
        exact: (Q, n) similarities of their nearest rows, falling.
    """
    import faiss

    dim = matrix.shape[1]
    index: Any = faiss.read_index(str(path)) if path.exists() else None
    if index is None or len(matrix) > 4 * index.ntotal:  # its lists would be too long
        num_lists = 2 ** round(np.log2(2 * np.sqrt(len(matrix))))
        index = faiss.index_factory(dim, f"IVF{num_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.by_residual = False  # so that lists are scanned without decoding them anew
        index.cp.max_points_per_centroid = SAMPLES_PER_LIST
        rng = np.random.default_rng(0)
        sample = rng.choice(len(matrix), min(len(matrix), SAMPLES_PER_LIST * num_lists), False)
        index.train(matrix[np.sort(sample)].astype(np.float32))
    for first in range(index.ntotal, len(matrix), ROWS_PER_ADD):
        index.add(matrix[first : first + ROWS_PER_ADD].astype(np.float32))
    index.nprobe = 1
    while index.nprobe < index.nlist and _recall(index, matrix, queries, exact) < RECALL:
        index.nprobe = min(index.nlist, 1 + index.nprobe * 5 // 4)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    faiss.write_index(index, str(aside))
    aside.replace(path)


def _num_candidates(k: int) -> int:
    return max(k + SPARE, CANDIDATES)


def _recall(
    index: Any, matrix: npt.NDArray[np.float16], queries: FloatArray, exact: FloatArray
) -> float:
    """Share of rows found that are as similar as the n-th nearest; of equals, any."""
    num_wanted = exact.shape[1]
    shares = []
    for query, rows, best in zip(
        queries, index.search(queries, _num_candidates(num_wanted))[1], exact
    ):
        similarities = matrix[rows[rows >= 0]].astype(np.float32) @ query
        num_right = np.count_nonzero(similarities >= best[-1] - TIE)
        shares.append(min(num_right / num_wanted, 1.0))
    return float(np.mean(shares))
