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
from torch import Tensor

__all__ = ["mined_groups"]

_PART_SIZE = 4096
"""Videos compared all with all; larger corpora are first clustered into parts about this big."""
_CLUSTER_ROUNDS = 8


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
        rng: Decides the clusters and the seeds, so every epoch differs.
        device: Where distances are computed.

    Returns:
        Index arrays that together hold each of 0..V-1 once, in random order but for a small one.
    """
    base = torch.from_numpy(vectors).to(device)
    groups: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for part in _parts(base, rng):
        for group in _group_part(base, part, size, drop_nearest, max_similarity, rng):
            (groups if len(group) == size else rest).append(group)
    groups = [groups[i] for i in rng.permutation(len(groups))]
    if rest:  # what was left over in each part
        left = np.concatenate(rest)
        groups.extend(_group_part(base, left, size, drop_nearest, max_similarity, rng))
    return groups


def _parts(vectors: Tensor, rng: Generator) -> list[np.ndarray]:
    """Cluster videos by k-means into index arrays of at most twice the part size."""
    num_videos = len(vectors)
    num_parts = -(-num_videos // _PART_SIZE)
    cells = torch.zeros(num_videos, dtype=torch.int64, device=vectors.device)
    if num_parts > 1:
        first = torch.from_numpy(rng.choice(num_videos, num_parts, replace=False))
        centroids = vectors[first.to(vectors.device)]
        for _ in range(_CLUSTER_ROUNDS):
            half_squares = centroids.square().sum(dim=1) / 2
            cells = torch.addmm(half_squares, vectors, centroids.T, alpha=-1).argmin(dim=1)
            sizes = torch.bincount(cells, minlength=num_parts).clamp(min=1)
            sums = torch.zeros_like(centroids).index_add_(0, cells, vectors)
            centroids = sums / sizes[:, None]
    order = cells.argsort(stable=True).cpu().numpy()
    borders = torch.bincount(cells).cumsum(0)[:-1].cpu().numpy()
    parts = []
    for cell in np.split(order, borders):
        parts.extend(np.array_split(cell, -(-len(cell) // (2 * _PART_SIZE))) if len(cell) else [])
    return parts


def _group_part(
    vectors: Tensor,
    part: np.ndarray,
    size: int,
    drop_nearest: int,
    max_similarity: float,
    rng: Generator,
) -> Iterator[np.ndarray]:
    members = vectors[torch.from_numpy(part).to(vectors.device)]
    distances, too_near = _compare(members, drop_nearest, max_similarity)
    for group in _grow_groups(distances, too_near, size, rng):
        yield part[group]


def _compare(
    vectors: Tensor, drop_nearest: int, max_similarity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, n) distances of a part and (n, n) bool, True where two must not meet."""
    centred = vectors - vectors.mean(dim=0)
    distances = torch.cdist(centred, centred)  # (n, n)
    distances.fill_diagonal_(0)
    too_near = torch.zeros_like(distances, dtype=torch.bool)
    if drop_nearest:
        count = min(drop_nearest + 1, len(vectors))  # a video is its own nearest
        too_near.scatter_(1, distances.topk(count, largest=False).indices, True)
        too_near |= too_near.T.clone()
    if max_similarity < 1:
        unit = torch.nn.functional.normalize(vectors)
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
        cost = np.where(free, np.float32(0), np.float32(np.inf))  # summed distances to the group
        while True:
            free[member] = False
            cost += distances[member]
            cost[too_near[member]] = np.inf
            cost[member] = np.inf
            if len(group) == size or not free.any():
                break
            member = cost.argmin()
            if cost[member] == np.inf:  # nobody is allowed: take the least near of all
                member = np.where(free, distances[group].sum(axis=0), -np.inf).argmax()
            group.append(member)
        yield np.array(group)
