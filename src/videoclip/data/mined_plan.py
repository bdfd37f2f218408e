"""Mined batches: groups of mutual neighbours that cover every video exactly once.

Hard negatives help until they are no negatives: the nearest neighbours of a video often show the
same thing, so they are kept out of its batch.

Source: after "Breaking the Batch Barrier" (B3, arXiv 2505.11293), which drops the nearest p and
cuts the neighbour graph with METIS; here the cut is greedy and needs no library.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import Generator

__all__ = ["mined_groups"]

_PART_SIZE = 4096
"""Videos that are compared all with all; larger corpora are first cut into such parts."""
_DIRECTION_SAMPLE = 64


def mined_groups(
    vectors: np.ndarray,
    size: int,
    *,
    drop_nearest: int,
    max_similarity: float,
    rng: Generator,
    device: torch.device | str = "cpu",
) -> list[np.ndarray]:
    """Partition videos into groups whose members are near each other, but not too near.

    Args:
        vectors: (V, E) float32.
        size: Videos of a group; the last group may be smaller.
        drop_nearest: Two videos do not share a group if one is among this many nearest of the
            other (within its part), as long as there is anybody else to take.
        max_similarity: Nor if the cosine of their vectors is above this; 1 allows all.
        rng: Decides the cuts and the seeds, so every epoch differs.
        device: Where distances are computed.

    Returns:
        Index arrays that together hold each of 0..V-1 once, in random order but for a small one.
    """
    centred = vectors - vectors.mean(axis=0)
    groups: list[np.ndarray] = []
    for part in _parts(centred, np.arange(len(vectors)), size, rng):
        distances, too_near = _compare(
            vectors[part], centred[part], drop_nearest, max_similarity, device
        )
        groups.extend(part[group] for group in _grow_groups(distances, too_near, size, rng))
    whole = [group for group in groups if len(group) == size]
    small = [group for group in groups if len(group) < size]
    return [whole[i] for i in rng.permutation(len(whole))] + small


def _parts(
    vectors: np.ndarray, members: np.ndarray, size: int, rng: Generator
) -> Iterator[np.ndarray]:
    """Halve the members along random directions until a part is small enough to compare.

    Every cut is at a whole number of groups, so that one group at most ends up small.
    """
    if len(members) <= _PART_SIZE or len(members) < 2 * size:
        yield members
        return
    first, second = rng.choice(members, (2, _DIRECTION_SAMPLE))
    direction = vectors[first].mean(axis=0) - vectors[second].mean(axis=0)
    direction += vectors[rng.choice(members)] - vectors[rng.choice(members)]
    half = len(members) // size // 2 * size
    order = np.argpartition(vectors[members] @ direction, half)
    yield from _parts(vectors, members[order[:half]], size, rng)
    yield from _parts(vectors, members[order[half:]], size, rng)


def _compare(
    vectors: np.ndarray,
    centred: np.ndarray,
    drop_nearest: int,
    max_similarity: float,
    device: torch.device | str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, n) distances of a part and (n, n) bool, True where two must not meet."""
    base = torch.from_numpy(centred).to(device)
    distances = torch.cdist(base, base)  # (n, n)
    distances.fill_diagonal_(0)
    too_near = torch.zeros_like(distances, dtype=torch.bool)
    if drop_nearest:
        count = min(drop_nearest + 1, len(base))  # a video is its own nearest
        too_near.scatter_(1, distances.topk(count, largest=False).indices, True)
        too_near |= too_near.T.clone()
    if max_similarity < 1:
        unit = torch.nn.functional.normalize(torch.from_numpy(vectors).to(device))
        too_near |= unit @ unit.T > max_similarity
    return distances.cpu().numpy(), too_near.cpu().numpy()


def _grow_groups(
    distances: np.ndarray, too_near: np.ndarray, size: int, rng: Generator
) -> Iterator[np.ndarray]:
    """From random seeds, add one by one whoever is nearest to the group as a whole."""
    free = np.ones(len(distances), dtype=bool)
    for seed in rng.permutation(len(distances)):
        if not free[seed]:
            continue
        group, member = [seed], seed
        free[seed] = False
        total = distances[seed].copy()
        refused = too_near[seed].copy()
        while len(group) < size and free.any():
            allowed = free & ~refused
            if allowed.any():
                member = np.where(allowed, total, np.inf).argmin()
            else:
                member = np.where(free, total, -np.inf).argmax()  # the least near of all
            group.append(member)
            free[member] = False
            total += distances[member]
            refused |= too_near[member]
        yield np.array(group)
