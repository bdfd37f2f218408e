"""The batch plan of an epoch: every video embedded where the plan needs it, the plan kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from videoclip.config import ClipConfig, PlanConfig, PretrainConfig
from videoclip.data.batch_plan import BatchPlan, make_plan, needs_vectors, video_vectors
from videoclip.distributed import World
from videoclip.errors import DataError
from videoclip.training.feed import Feed, Group, Purpose
from videoclip.training.objective import PairObjective

__all__ = ["embed_videos", "epoch_plan", "num_groups", "vector_clips"]


def num_groups(config: PlanConfig, num_videos: int, epoch: int) -> int:
    """Return how many batches the plan of an epoch has."""
    if config.kind == "retrieval" and needs_vectors(config, epoch):
        return max(1, num_videos // config.videos_per_batch)
    return -(-num_videos // config.videos_per_batch)


def vector_clips(config: PretrainConfig) -> ClipConfig:
    """Return how the clip pairs are drawn that stand for a video."""
    plan = config.plan
    return replace(
        config.clips, strategy=plan.vector_strategy, clips_per_video=plan.clips_per_vector
    )


def epoch_plan(
    run: PretrainConfig,
    num_videos: int,
    epoch: int,
    vectors: Callable[[], np.ndarray],
    path: Path | None,
    world: World,
) -> BatchPlan:
    """Return the plan of an epoch, the same in every process.

    Args:
        run: Its plan and seed.
        num_videos: Videos V that are trained on.
        epoch: Epoch, from 1.
        vectors: Makes the (V, E) video vectors, in all processes together; called where the kind
            of plan asks for them and none is kept.
        path: Where the main process keeps it; one that is there already is used again.
        world: The processes.

    Raises:
        DataError: If the plan that is kept is none of these videos.
    """
    kept = BatchPlan.load(path) if path is not None and path.exists() else None
    kept = world.broadcast(kept)
    if kept is not None:
        whole = len(kept) == num_groups(run.plan, num_videos, epoch)
        if not whole or max(map(max, kept.groups)) >= num_videos:
            raise DataError("is no plan of this run's videos: restore it, or start anew", path)
        return kept
    rows = vectors() if needs_vectors(run.plan, epoch) else None
    plan = None
    if path is not None:
        plan = make_plan(
            run.plan, num_videos, seed=run.seed, epoch=epoch, vectors=rows, device=world.device
        )
        plan.save(path)
    plan = world.broadcast(plan)
    assert plan is not None
    return plan


def embed_videos(
    objective: PairObjective,
    run: PretrainConfig,
    feed: Feed,
    num_videos: int,
    epoch: int,
    world: World,
) -> np.ndarray:
    """Return (V, E) float32, the mean embedding of clip pairs of each video, in every process.

    Each process embeds a share of the videos. Source: paper, section 3.4 (algorithm 1, line 2); the
    release embeds and groups each share by itself.

    Args:
        objective: Its model embeds; in eval mode, on the world's device.
        run: Its plan and seed.
        feed: Draws the clip pairs that stand for a video, see `vector_clips`.
        num_videos: Videos V the feed draws from.
        epoch: Decides which clip pairs.
        world: The processes.
    """
    seed, size, width = run.seed, run.plan.videos_per_batch, objective.model.config.hidden_size
    groups = [
        Group(range(i, min(i + size, num_videos)), (seed, Purpose.VECTORS, epoch, i))
        for i in range(0, num_videos, size)
    ]
    own = _share(groups, world)
    parts = [np.zeros((0, width), dtype=np.float32)]
    for group, batch in zip(own, feed.batches(own), strict=True):
        outputs = objective.embed(batch.to(world.device))
        clips = (x.view(len(group.videos), -1, width).cpu().numpy() for x in outputs[:2])
        parts.append(video_vectors(*clips))
    rows = torch.from_numpy(np.concatenate(parts)).to(world.device)
    return world.gather_rows(rows).cpu().numpy()


def _share(groups: list[Group], world: World) -> list[Group]:
    """This process's groups: consecutive ones, so that gathered rows are in order."""
    bounds = np.linspace(0, len(groups), world.size + 1).round().astype(int)
    return groups[bounds[world.rank] : bounds[world.rank + 1]]
