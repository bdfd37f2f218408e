"""An approximate index beside a large file of vectors: it finds candidates fast, to be compared.

It covers the first rows of one file, which never change, so their number is all it has to record.
Rows added later are compared one by one, rows that no video owns are never allowed, and compaction
starts another file, which has no index until one is built.

The index is an inverted file (IVF) of faiss with one byte a number, measured beside other kinds in
`bench/approximate.py`. A few more candidates than wanted, compared in float32, make up for the
coarse bytes.
"""

import importlib.util
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from videoclip.errors import DataError
from videoclip.files import atomic_file
from videoclip.library.exact import HalfArray, to_float32
from videoclip.types import BoolArray, FloatArray, IntArray

MIN_ROWS = 500_000
"""Rows from which an index is built; below, an exact search takes a few milliseconds."""
STALE_SHARE = 1 / 64
"""Rows that may be missing from an index before they are added, as a share of the rows it has."""
SAMPLES_PER_LIST = 48
RECALL, RECALL_OF = 0.97, 10
"""Lists are probed until this share of the nearest rows of the tuning queries is found. Of other
queries 0.95 is wanted, but the tuning queries are few and unlike them."""
MIN_CANDIDATES, SPARE_CANDIDATES = 256, 64
"""Candidates for each query: at least, and beyond the rows wanted."""
REMEDY = "delete it, and the next update builds another"
TIE = 1e-5
"""Similarities that differ by less are taken as equal."""
ROWS_PER_ADD = 65536
FOOTER = struct.Struct("<4sI")
"""After the index, which ends before it: a mark and the crc32 of the index."""
FOOTER_MARK = b"vclp"


class IndexFile:
    """The file of an approximate index, whether it exists or not.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[tuple[int, int], Any] | None = None

    def open(self) -> Any:
        """Return the faiss index; None if there is none, or the extra `ann` is not installed.

        Raises:
            DataError: If the file cannot be read.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        if not _is_installed():
            return None
        version = status.st_ino, status.st_mtime_ns
        if self._opened is None or self._opened[0] != version:  # it has been replaced
            import faiss

            self.verify()
            try:
                index = faiss.read_index(str(self.path), faiss.IO_FLAG_MMAP_IFC)
            except RuntimeError as error:
                raise DataError(f"is not a faiss index; {REMEDY}", self.path) from error
            self._opened = version, index
        return self._opened[1]

    def verify(self) -> None:
        """Raise a `DataError` if the file differs from its checksum, which older ones lack."""
        content = np.memmap(self.path, np.uint8, mode="r")
        mark, expected = FOOTER.unpack(content[-FOOTER.size :].tobytes().rjust(FOOTER.size))
        if mark == FOOTER_MARK and zlib.crc32(content[: -FOOTER.size].data) != expected:
            raise DataError(f"is damaged; {REMEDY}", self.path)

    def refresh(self, num_rows: int, build: Callable[[], None]) -> None:
        """Build or extend the index if enough rows are missing; needs the extra `ann`.

        Nothing is done while another process builds the index.
        """
        if num_rows < MIN_ROWS or not _is_installed():
            return
        index = self.open()
        num_covered = index.ntotal if index else 0
        if num_rows - num_covered > STALE_SHARE * num_covered:
            lock = FileLock(self.path.with_suffix(".lock"), blocking=False)
            with suppress(Timeout), lock:
                build()


def find_candidates(
    index: Any, queries: FloatArray, k: int, allowed: BoolArray | None = None
) -> IntArray:
    """Return rows (N, n) that probably include the k nearest to each query; -1 pads.

    Args:
        index: From `IndexFile.open`; it covers the first `ntotal` rows.
        queries: (N, E).
        k: Rows wanted for each query.
        allowed: Whether a row may be returned, for at least the rows covered; None: every row.
    """
    wanted = max(k + SPARE_CANDIDATES, MIN_CANDIDATES)
    if allowed is None:
        return np.asarray(index.search(queries, wanted)[1])
    covered = allowed[: index.ntotal]
    share = max(float(np.count_nonzero(covered)) / len(covered), 1 / index.nlist)
    # To ask for more and drop the others afterwards is faster than to test each row of a list.
    rows = np.asarray(index.search(queries, min(ceil(wanted / share), len(covered)))[1])
    rows[~covered[rows]] = -1
    return rows


def build_index(matrix: HalfArray, path: Path, queries: FloatArray, exact: FloatArray) -> None:
    """Build the index of the rows of a matrix, or add the rows that are missing from it.

    Args:
        matrix: (R, E).
        path: The index file, written atomically.
        queries: (Q, E) of texts; so many lists are probed that their nearest rows are found.
        exact: (Q, n) similarities of their nearest rows, descending.
    """
    import faiss

    index: Any = faiss.read_index(str(path)) if path.exists() else None
    if index is None or len(matrix) > 4 * index.ntotal:  # its lists would be too long
        num_lists = 2 ** round(np.log2(2 * np.sqrt(len(matrix))))
        kind = f"IVF{num_lists},SQ8"
        index = faiss.index_factory(matrix.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.by_residual = False  # then lists need not be decoded for each query
        index.cp.max_points_per_centroid = SAMPLES_PER_LIST
        num_samples = min(len(matrix), SAMPLES_PER_LIST * num_lists)
        sample = np.random.default_rng(0).choice(len(matrix), num_samples, replace=False)
        index.train(to_float32(matrix[np.sort(sample)]))
    for first in range(index.ntotal, len(matrix), ROWS_PER_ADD):
        index.add(to_float32(matrix[first : first + ROWS_PER_ADD]))
    index.nprobe = 1
    while index.nprobe < index.nlist and _recall(index, matrix, queries, exact) < RECALL:
        index.nprobe = min(index.nlist, 1 + index.nprobe * 5 // 4)
    with atomic_file(path) as partial:
        faiss.write_index(index, str(partial))
        checksum = zlib.crc32(np.memmap(partial, np.uint8, mode="r").data)
        with partial.open("ab") as file:
            file.write(FOOTER.pack(FOOTER_MARK, checksum))


def _is_installed() -> bool:
    return importlib.util.find_spec("faiss") is not None


def _recall(index: Any, matrix: HalfArray, queries: FloatArray, exact: FloatArray) -> float:
    """Return the share found of the n nearest rows; rows as similar as the n-th count as well."""
    num_wanted = exact.shape[1]
    candidates = find_candidates(index, queries, num_wanted)
    shares = []
    for query, rows, nearest in zip(queries, candidates, exact, strict=True):
        similarities = to_float32(matrix[rows[rows >= 0]]) @ query
        num_correct = np.count_nonzero(similarities >= nearest[-1] - TIE)
        shares.append(min(num_correct / num_wanted, 1.0))
    return float(np.mean(shares))
