"""Nearest vectors by exact search."""

from __future__ import annotations

import numpy as np
import torch

_BASE_ROWS = 1 << 16
_QUERY_ROWS = 1 << 9
"""Distances held at once: 512 queries to 65,536 vectors, 128 MiB."""


def nearest(
    vectors: np.ndarray, queries: np.ndarray, count: int, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Find the vectors nearest to some of them, by Euclidean distance.

    Args:
        vectors: (V, E) float32.
        queries: (Q,) indices into `vectors`.
        count: Number of neighbours, the query itself included.
        device: Where to compute.

    Returns:
        (Q, min(count, V)) int64 indices, by increasing distance.
    """
    # Distances do not change when the mean is taken off, and their rounding error shrinks.
    mean = torch.from_numpy(vectors.mean(axis=0)).to(device)
    asked = torch.from_numpy(vectors[queries]).to(device) - mean  # (Q, E)
    count = min(count, len(vectors))
    best = asked.new_full((len(queries), count), torch.inf)
    found = torch.zeros_like(best, dtype=torch.int64)
    for first in range(0, len(vectors), _BASE_ROWS):
        base = torch.from_numpy(vectors[first : first + _BASE_ROWS]).to(device) - mean  # (V', E)
        half_squares = base.square().sum(dim=1) / 2
        for start in range(0, len(queries), _QUERY_ROWS):
            some = slice(start, start + _QUERY_ROWS)
            # |q - x|^2 / 2 without |q|^2, which is the same along a row.
            distances = torch.addmm(half_squares, asked[some], base.T, alpha=-1)  # (q, V')
            nearer, rows = distances.topk(min(count, len(base)), largest=False)
            merged = torch.cat([best[some], nearer], dim=1)
            best[some], columns = merged.topk(count, largest=False)
            found[some] = torch.cat([found[some], rows + first], dim=1).gather(1, columns)
    return found.cpu().numpy()
