"""Retrieval on held-out narrated videos: what a run has changed, without any annotation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from videoclip.config import PretrainConfig
from videoclip.data.narrated import NarratedCorpus
from videoclip.embedding import Embedder
from videoclip.evaluation.metrics.ranking import expected_rank, rank_queries, recall_at
from videoclip.training.feed import Feed, Group, Purpose

__all__ = ["held_out_retrieval"]

CLIPS_PER_VIDEO = 4


def held_out_retrieval(
    config: PretrainConfig, held_out: NarratedCorpus
) -> Callable[[Embedder], dict[str, float]]:
    """Return what `pretrain` can call before and after training.

    From each held-out video the same few aligned clip pairs are drawn each time; a text is right
    about any clip of its own video, among the clips of all.

    Args:
        config: The run.
        held_out: Videos that are not trained on.
    """
    clips = replace(config.clips, strategy="aligned", clips_per_video=CLIPS_PER_VIDEO)
    feed, size = Feed(held_out, clips, config.model.pad_id), config.plan.videos_per_batch
    groups = [
        Group(range(i, min(i + size, len(held_out))), (config.seed, Purpose.HELD_OUT, i))
        for i in range(0, len(held_out), size)
    ]

    @torch.inference_mode()
    def evaluate(embedder: Embedder) -> dict[str, float]:
        model, videos, texts = embedder.model, [], []
        for batch in feed.batches(groups):
            batch = batch.to(embedder.device)
            videos.append(model.encode_video(batch.video, batch.video_mask).cpu())
            texts.append(model.encode_text(batch.text, batch.text_mask).cpu())
        similarity = model.similarity(torch.cat(texts), torch.cat(videos)).numpy()
        video_of = np.repeat(np.arange(len(held_out)), CLIPS_PER_VIDEO)
        ranks = rank_queries(similarity, video_of, video_of)
        return {
            "text-to-video R@1": float(recall_at(ranks, 1).mean()),
            "text-to-video R@5": float(recall_at(ranks, 5).mean()),
            "text-to-video MedR": float(np.median(expected_rank(ranks))),
            "clips": float(len(similarity)),
        }

    return evaluate
