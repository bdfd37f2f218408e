"""A library's vectors once more, a byte a number: half as much to read in a first pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from videoclip.library.exact import ROWS_PER_BLOCK, ROWS_PER_PRODUCT, FloatArray, in_threads

__all__ = ["BytePass", "Codes", "products_are_quick"]

LARGEST = 127
SLACK = 1.0001
"""Bounds are reckoned in float32, which rounds as well."""


@lru_cache
def products_are_quick() -> bool:
    """Whether this processor multiplies bytes quicker than float16, and without saturating."""
    if "AVX512" not in cpu_capability():
        return False
    rows = torch.full((64, 256), LARGEST, dtype=torch.int8)
    rows[::2] = -LARGEST
    exact = rows.int() @ rows[:2].int().T
    return torch.equal(torch._int_mm(rows, rows[:2].T), exact)


def cpu_capability() -> str:
    """The instructions that torch uses here."""
    return str(torch.backends.cpu.get_cpu_capability())


class Codes:
    """Each row of a matrix as bytes: multiples of one step, in blocks of `ROWS_PER_BLOCK`.

    Args:
        dim: Width E.
    """

    def __init__(self, dim: int) -> None:
        self.blocks: list[Tensor] = []
        self.step = 0.0
        self.longest, self.error = 0.0, 0.0
        """Length of the longest row, and of the longest difference between a row and its code."""
        self._dim = dim

    @property
    def num_rows(self) -> int:
        """Rows there are codes of."""
        return sum(len(block) for block in self.blocks)

    def follow(self, matrix: Tensor, let_go: Callable[[], None] = lambda: None) -> None:
        """Code the rows (R, E) that were added since; rows never change.

        `let_go` is called whenever rows were looked at, for a matrix that is a file.
        """
        if len(matrix) <= self.num_rows:
            return
        if not self.step:
            # Larger numbers further on are cut off; that shows in the error.
            self.step = max(float(matrix[:ROWS_PER_BLOCK].abs().max()) / LARGEST, 1e-12)
        first = len(self.blocks) - (self.num_rows % ROWS_PER_BLOCK > 0)  # a broken one anew
        starts = range(first * ROWS_PER_BLOCK, len(matrix), ROWS_PER_BLOCK)
        with in_threads(min(torch.get_num_threads(), len(starts))) as run:
            coded = []
            for block in run(self._code, (matrix[s : s + ROWS_PER_BLOCK] for s in starts)):
                coded.append(block)
                let_go()
        self.blocks[first:] = [block for block, _, _ in coded]
        self.longest = max(self.longest, *(longest for _, longest, _ in coded))
        self.error = max(self.error, *(error for _, _, error in coded))

    def _code(self, rows: Tensor) -> tuple[Tensor, float, float]:
        block = torch.empty(rows.shape, dtype=torch.int8)
        longest, error = 0.0, 0.0
        for first in range(0, len(rows), ROWS_PER_PRODUCT):
            exact = rows[first : first + ROWS_PER_PRODUCT].float()
            steps = (exact / self.step).round_().clamp_(-LARGEST, LARGEST)
            block[first : first + ROWS_PER_PRODUCT] = steps
            longest = max(longest, float(exact.norm(dim=1).max()))
            error = max(error, float(steps.mul_(self.step).sub_(exact).norm(dim=1).max()))
        return block, longest, error


class BytePass:
    """The first pass over codes; see `FirstPass`.

    Args:
        codes: Of all rows.
        units: (N, E) float32, of length 1.
    """

    def __init__(self, codes: Codes, units: Tensor) -> None:
        self._codes = codes
        steps = units.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / LARGEST  # (N, 1)
        whole = (units / steps).round()
        self._queries = whole.to(torch.int8).T  # (E, N)
        self.scales: FloatArray = (steps[:, 0] * codes.step).numpy()
        # |q x - q' x'| <= |q - q'| |x| + |q'| |x - x'|
        query_errors = (whole * steps - units).norm(dim=1)
        lengths = (whole * steps).norm(dim=1)
        self.doubts: FloatArray = (
            SLACK * (query_errors * codes.longest + lengths * codes.error)
        ).numpy()

    def similarities(self, rows: range) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """See `FirstPass.similarities`."""
        block = self._codes.blocks[rows.start // ROWS_PER_BLOCK]
        size = ROWS_PER_BLOCK if self._queries.shape[1] == 1 else 4 * ROWS_PER_PRODUCT
        for first in range(0, len(rows), size):
            part = block[first : min(first + size, len(rows))]
            yield rows.start + first, torch._int_mm(part, self._queries).numpy()
