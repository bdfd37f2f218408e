"""Batch plans: which videos share a batch, decided once per epoch.

A plan is a list of groups of videos. What each kind promises of one epoch:

    consecutive  every video exactly once, neighbours in the corpus together
    shuffled     every video exactly once, at random
    retrieval    V // k groups of k different videos near a seed; no seed twice, but other videos
                 may be in several groups or in none (the method, as released)
    mined        every video exactly once, groups of mutual neighbours without the nearest ones

Only the last group of a plan may be smaller than k. A plan follows from the vectors, the seed and
the epoch alone; one process makes it and sends it to the others.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from videoclip.config import PlanConfig
from videoclip.errors import ConfigError, DataError
from videoclip.files import parse_state, read_regular, seal, write_text

_PART_SIZE = 4096
"""Videos compared all with all; larger corpora are first clustered into parts about this big."""
_CLUSTER_ROUNDS = 8


@dataclass(frozen=True)
class BatchPlan:
    """The batches of one epoch.

    Attributes:
        groups: For each batch the indices of its videos in the corpus; none is empty.
        leads: Probability of each lead of `training.narrated.LEADS`; empty if none was fitted.
    """

    groups: tuple[tuple[int, ...], ...]
    leads: tuple[float, ...] = ()

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.groups)

    def save(self, path: Path | str) -> None:
        """Write the plan as JSON; an existing file is replaced whole or not at all."""
        write_text(Path(path), json.dumps(seal({"groups": self.groups, "leads": self.leads})))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a saved plan.

        Raises:
            DataError: If the file is missing or is not a plan.
        """
        try:
            content = parse_state(read_regular(path))
            groups = tuple(tuple(map(int, group)) for group in content["groups"])
            plan = cls(groups, tuple(map(float, content["leads"])))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                "is not a batch plan; restore the file or start a new run", path
            ) from error
        return plan


def make_plan(
    config: PlanConfig,
    num_videos: int,
    *,
    seed: int,
    epoch: int,
    vectors: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> BatchPlan:
    """Make the plan of an epoch; the same arguments give the same plan.

    Args:
        config: Which kind, and its sizes.
        num_videos: Number of videos V.
        seed: Seed of the run.
        epoch: Epoch, from 1.
        vectors: (V, E) float32, see `video_vectors`; needed if `needs_vectors(config, epoch)`.
        device: Where neighbours are searched.

    Raises:
        ConfigError: If the vectors are missing, of another number or not finite.
    """
    rng = np.random.default_rng([seed, epoch])
    if not needs_vectors(config, epoch):
        shuffled, size = config.kind != "consecutive", config.videos_per_batch
        order = (rng.permutation(num_videos) if shuffled else np.arange(num_videos)).tolist()
        return BatchPlan(tuple(tuple(order[i : i + size]) for i in range(0, num_videos, size)))
    if vectors is None or len(vectors) != num_videos:
        found = "none" if vectors is None else str(len(vectors))
        raise ConfigError(
            f"plan.kind '{config.kind}' needs {num_videos} video vectors, got {found}"
        )
    if not np.isfinite(vectors).all():
        raise ConfigError("the video vectors of the batch plan are not all finite numbers")
    if config.kind == "mined":
        return mined_plan(vectors, config, rng, device)
    return retrieval_plan(vectors, config, rng, device)


def needs_vectors(config: PlanConfig, epoch: int) -> bool:
    """Return whether the plan of an epoch, from 1, is made from video vectors."""
    return config.kind in ("retrieval", "mined") and epoch >= config.first_epoch


def retrieval_plan(
    vectors: np.ndarray, config: PlanConfig, rng: Generator, device: torch.device | str = "cpu"
) -> BatchPlan:
    """Fill each batch with videos near a random seed.

    `num_neighbours` of 2k is the method (a sample of the candidates, the seed may drop out);
    `num_neighbours` equal to k is its "retrieve k" ablation (the seed and its nearest).

    Source: paper, section 3.4. Deviation: the search is exact and over all videos, where the
    release probes one cell of an inverted file over each process's own share.
    """
    num_videos, size = len(vectors), config.videos_per_batch
    seeds = rng.choice(num_videos, max(1, num_videos // size), replace=False)
    return sample_groups(seeds, nearest(vectors, seeds, config.num_neighbours, device), size, rng)


def sample_groups(
    seeds: np.ndarray, neighbours: Iterable[np.ndarray], videos_per_batch: int, rng: Generator
) -> BatchPlan:
    """Draw a group from each seed's candidates: itself and what it found.

    Args:
        seeds: (G,) one per group.
        neighbours: For each seed the indices of its neighbours, nearest first, itself among them.
        videos_per_batch: Largest group.
        rng: Source of the samples.
    """
    groups = []
    for seed, found in zip(seeds, neighbours, strict=True):
        candidates = np.concatenate([[seed], found[found != seed]])[: len(found)]
        if len(candidates) > videos_per_batch:
            candidates = rng.choice(candidates, videos_per_batch, replace=False)
        groups.append(tuple(candidates.tolist()))
    return BatchPlan(tuple(groups))


def video_vectors(video: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Average the embeddings of a video's clip pairs into the one vector that represents it.

    Args:
        video: (V, C, E) embeddings of C video clips of each video.
        text: (V, C, E) embeddings of their texts.

    Returns:
        (V, E) float32.

    Source: paper, section 3.4.
    """
    mean: np.ndarray = ((video + text) / 2).mean(axis=1, dtype=np.float32)
    return mean


def mined_plan(
    vectors: np.ndarray, config: PlanConfig, rng: Generator, device: torch.device | str = "cpu"
) -> BatchPlan:
    """Partition videos into groups of similar, but not too similar, ones, in random order.

    Hard negatives help until they are no negatives: the nearest neighbours of a video often show
    the same thing, so they are kept out of its batch, unless no other video is left.

    Source: after "Breaking the Batch Barrier" (B3, arXiv 2505.11293), which drops the nearest p and
    cuts the neighbour graph with METIS; here the cut is greedy and needs no library.
    """
    base, size = torch.from_numpy(vectors).to(device), config.videos_per_batch
    groups: list[np.ndarray] = []
    rest: list[np.ndarray] = []
    for part in _parts(base, rng):
        for group in _group_part(base, part, config, rng):
            (groups if len(group) == size else rest).append(group)
    groups = [groups[i] for i in rng.permutation(len(groups))]
    if rest:  # what was left over in each part
        groups.extend(_group_part(base, np.concatenate(rest), config, rng))
    return BatchPlan(tuple(tuple(group.tolist()) for group in groups))


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
    vectors: Tensor, part: np.ndarray, config: PlanConfig, rng: Generator
) -> Iterator[np.ndarray]:
    """Yield groups of a part, grown from random seeds by adding the video nearest to the group."""
    members = vectors[torch.from_numpy(part).to(vectors.device)]
    distances, too_near = _compare(members, config)
    for group in _grow_groups(distances, too_near, config.videos_per_batch, rng):
        yield part[group]


def _compare(vectors: Tensor, config: PlanConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, n) distances of a part and (n, n) bool, True where two are too similar."""
    centred = vectors - vectors.mean(dim=0)
    distances = torch.cdist(centred, centred)  # (n, n)
    distances.fill_diagonal_(0)
    too_near = torch.zeros_like(distances, dtype=torch.bool)
    if config.drop_nearest:
        count = min(config.drop_nearest + 1, len(vectors))  # a video is its own nearest
        too_near.scatter_(1, distances.topk(count, largest=False).indices, True)
        too_near |= too_near.T.clone()
    if config.max_similarity < 1:
        unit = torch.nn.functional.normalize(vectors)
        too_near |= unit @ unit.T > config.max_similarity
    return distances.cpu().numpy(), too_near.cpu().numpy()


def _grow_groups(
    distances: np.ndarray, too_near: np.ndarray, size: int, rng: Generator
) -> Iterator[np.ndarray]:
    """Yield groups grown from random seeds by adding the video nearest to the group as a whole."""
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
            if cost[member] == np.inf:  # all are too similar: take the least similar
                member = np.where(free, distances[group].sum(axis=0), -np.inf).argmax()
            group.append(member)
        yield np.array(group)


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
