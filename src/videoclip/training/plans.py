"""The batch plan of an epoch: every video embedded where the plan needs it, the plan kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from videoclip.config import ClipConfig, PlanConfig, PretrainConfig
from videoclip.data.batch import Batch
from videoclip.data.batch_plan import BatchPlan, make_plan, needs_vectors, video_vectors
from videoclip.distributed import World
from videoclip.training.feed import Feed, Group, Purpose
from videoclip.training.loop import Trainer
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
    trainer: Trainer[Batch],
    run: PretrainConfig,
    feed: Feed,
    num_videos: int,
    epoch: int,
    path: Path | None,
) -> BatchPlan:
    """Return the plan of an epoch, the same in every process.

    Args:
        trainer: Whose model embeds the videos, where the kind of plan asks for it.
        run: Its plan and seed.
        feed: Draws the clip pairs that stand for a video.
        num_videos: Videos V the feed draws from.
        epoch: Epoch, from 1.
        path: Where the main process keeps it; one that is there already is used again.
    """
    config, world = run.plan, trainer.world
    kept = BatchPlan.load(path) if path is not None and path.exists() else None
    kept = world.broadcast(kept)
    if kept is not None:
        return kept
    vectors = None
    if needs_vectors(config, epoch):
        vectors = embed_videos(trainer, run, feed, num_videos, epoch)
    plan = None
    if path is not None:
        plan = make_plan(
            config,
            num_videos,
            seed=run.seed,
            epoch=epoch,
            vectors=vectors,
            device=world.device,
        )
        plan.save(path)
    plan = world.broadcast(plan)
    assert plan is not None
    return plan


def embed_videos(
    trainer: Trainer[Batch], run: PretrainConfig, feed: Feed, num_videos: int, epoch: int
) -> np.ndarray:
    """Return (V, E) float32, the mean embedding of clip pairs of each video, in every process.

    Each process embeds a share of the videos. Source: paper, section 3.4 (algorithm 1, line 2); the
    release embeds and groups each share by itself.
    """
    seed, size, world = run.seed, run.plan.videos_per_batch, trainer.world
    assert isinstance(trainer.objective, PairObjective)
    groups = [
        Group(range(i, min(i + size, num_videos)), (seed, Purpose.VECTORS, epoch, i))
        for i in range(0, num_videos, size)
    ]
    own = _share(groups, world)
    trainer.model.eval()
    shape = (0, trainer.model.config.hidden_size)
    parts = [np.zeros(shape, dtype=np.float32)]
    for group, batch in zip(own, feed.batches(own), strict=True):
        outputs = trainer.objective.embed(batch.to(world.device))
        clips = (x.view(len(group.videos), -1, x.shape[1]).cpu().numpy() for x in outputs[:2])
        parts.append(video_vectors(*clips))
    trainer.train_mode()
    rows = torch.from_numpy(np.concatenate(parts)).to(world.device)
    return world.gather_rows(rows).cpu().numpy()


def _share(groups: list[Group], world: World) -> list[Group]:
    """This process's groups: consecutive ones, so that gathered rows are in order."""
    bounds = np.linspace(0, len(groups), world.size + 1).round().astype(int)
    return groups[bounds[world.rank] : bounds[world.rank + 1]]
