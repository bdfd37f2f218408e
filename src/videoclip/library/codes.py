"""A library's vectors once more, a byte a number: half as much to read in a first pass.

Coded is how far a row lies from the mean of all, in steps of its own: embeddings of one library are
much alike, and some rows lie further out than others. oneDNN multiplies bytes by way of torch's
quantised linear layer, with the rows as its weights: it returns bounds, the error of each row added
like a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from videoclip.library.exact import (
    ROWS_PER_BLOCK,
    ROWS_PER_PRODUCT,
    Bounds,
    FloatArray,
    LetGo,
    in_threads,
)

__all__ = ["BytePass", "Codes", "products_are_quick"]

LARGEST = 127
ZERO = 128
"""Bytes of queries have no sign: this one means 0."""
SLACK = 1.0001
"""Bounds are reckoned in float32, which rounds as well."""
NUM_SAMPLES = 4096
"""Rows whose mean is the centre of the codes."""


@lru_cache
def products_are_quick() -> bool:
    """Whether this processor multiplies bytes quicker than float16, and without saturating."""
    if "AVX512" not in cpu_capability():
        return False
    rows = torch.full((64, 256), LARGEST, dtype=torch.int8)
    rows[::2] = -LARGEST
    queries = torch.full((2, 256), ZERO + LARGEST, dtype=torch.uint8)
    queries[1] = ZERO - LARGEST
    products = _linear(queries, 1.0, _Block(_packed(rows), *torch.ones(3, 64)), torch.zeros(64))
    exact = (queries.int() - ZERO) @ rows.int().T
    return torch.equal(products, exact.float())


def cpu_capability() -> str:
    """The instructions that torch uses here."""
    return str(torch.backends.cpu.get_cpu_capability())


@dataclass(frozen=True)
class _Block:
    """Some rows: in steps (n,) from the centre, in the order in which oneDNN multiplies them.

    `errors` (n,) are the lengths of the differences between the rows and their codes, `reaches`
    (n,) what these come to together with the distances from the centre.
    """

    codes: Any
    steps: Tensor
    errors: Tensor
    reaches: Tensor


class Codes:
    """Each row of a matrix as bytes, in blocks of `ROWS_PER_BLOCK`.

    Args:
        dim: Width E.
    """

    def __init__(self, dim: int) -> None:
        self.blocks: list[_Block] = []
        self.centre = torch.zeros(dim)
        """What all are coded from: (E,)."""

    @property
    def num_rows(self) -> int:
        """Rows there are codes of."""
        return sum(len(block.steps) for block in self.blocks)

    def follow(self, matrix: Tensor, let_go: LetGo = lambda: None) -> None:
        """Code the rows (R, E) that were added since; rows never change.

        `let_go` is called whenever rows were looked at, for a matrix that is a file.
        """
        if len(matrix) <= self.num_rows:
            return
        if not self.blocks:  # later rows may lie elsewhere, and have larger errors
            self.centre = matrix[:: -(-len(matrix) // NUM_SAMPLES)].float().mean(dim=0)
            let_go()
        first = len(self.blocks) - (self.num_rows % ROWS_PER_BLOCK > 0)  # a broken one anew
        added = matrix[first * ROWS_PER_BLOCK :]
        # All at once: between the blocks, they would split what these give back.
        numbers = torch.empty(3, len(added))
        starts = range(0, len(added), ROWS_PER_BLOCK)
        parts = [slice(start, start + ROWS_PER_BLOCK) for start in starts]
        with in_threads(min(torch.get_num_threads(), len(parts))) as run:
            coded = []
            for block in run(lambda part: self._code(added[part], numbers[:, part]), parts):
                coded.append(block)
                let_go()
        self.blocks[first:] = coded

    def _code(self, rows: Tensor, numbers: Tensor) -> _Block:
        codes = torch.empty(rows.shape, dtype=torch.int8)
        steps, errors, reaches = numbers
        for first in range(0, len(rows), ROWS_PER_PRODUCT):
            part = slice(first, first + ROWS_PER_PRODUCT)
            away = rows[part].float() - self.centre
            steps[part] = (away.abs().amax(dim=1) / LARGEST).clamp_min(1e-12)
            whole = (away / steps[part, None]).round_()
            codes[part] = whole
            reaches[part] = away.norm(dim=1)
            errors[part] = whole.mul_(steps[part, None]).sub_(away).norm(dim=1)
        reaches += errors
        errors *= SLACK
        reaches *= SLACK
        return _Block(_packed(codes), steps, errors, reaches)


class BytePass:
    """The first pass over codes; see `FirstPass`.

    Args:
        codes: Of all rows.
        units: (N, E) float32, of length 1.
    """

    def __init__(self, codes: Codes, units: Tensor) -> None:
        self._codes = codes
        self._step = max(float(units.abs().max()) / LARGEST, 1e-12)
        whole = (units / self._step).round()
        self._queries = (whole + ZERO).to(torch.uint8)
        self._error = float((whole * self._step - units).norm(dim=1).max())
        self.centres: FloatArray = (units @ codes.centre).numpy()

    def bounds(self, rows: range) -> Iterator[Bounds]:
        """See `FirstPass.bounds`."""
        block = self._codes.blocks[rows.start // ROWS_PER_BLOCK]
        # |q x - q' x'| <= |q'| |x - x'| + |q - q'| |x|, and |q'| <= 1 + |q - q'|
        doubts = torch.add(block.errors, block.reaches, alpha=self._error)
        bounds = _linear(self._queries, self._step, block, doubts)
        yield rows.start, bounds[:, : len(rows)].numpy(), doubts[: len(rows)].numpy()


def _packed(codes: Tensor) -> Any:
    """Rows of bytes (n, E) in oneDNN's own order."""
    return torch.ops.onednn.qlinear_prepack(codes, None)


def _linear(queries: Tensor, step: float, block: _Block, bias: Tensor) -> Tensor:
    """Products (N, n) of queries (N, E), in steps from `ZERO`, with a block, plus a bias (n,)."""
    none = torch.zeros(1, dtype=torch.int32).expand(len(bias))
    products: Tensor = torch.ops.onednn.qlinear_pointwise(
        *(queries, step, ZERO, block.codes, block.steps, none, bias),
        *(1.0, 0, torch.float32, "none", [], ""),
    )
    return products
