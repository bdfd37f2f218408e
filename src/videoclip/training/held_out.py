"""How well a model finds the clips of narration that it was not trained on, without annotation."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from videoclip.config import PretrainConfig
from videoclip.data.narrated import NarratedCorpus
from videoclip.embedding import Embedder
from videoclip.evaluation.metrics.ranking import expected_rank, rank_queries, recall_at
from videoclip.evaluation.outcome import bootstrap_interval
from videoclip.model.batch import embed_batch
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.narrated import Feed, groups_in_order
from videoclip.training.run import BOUNDS
from videoclip.training.trainer import Purpose
from videoclip.types import IntArray, RealArray
from videoclip.zeroshot.rerank import corrections, rerank_clips

RETRIEVAL_CLIPS_PER_VIDEO = 4
SCORED_CLIPS_PER_VIDEO = 16
MOST_SCORED_VIDEOS = 256
"""Held-out videos that choices are made on; more would not make them better."""
TOP = 20
"""Best clips of each held-out text that a re-ranker orders again."""


def held_out_scores(
    config: PretrainConfig, held_out: NarratedCorpus
) -> Callable[[VideoCLIP], RealArray]:
    """Return a function that scores a model by narration it was not trained on.

    The same clip pairs of each video are used each time, drawn as in training. It returns (V, N),
    for N texts of each of V videos the reciprocal rank of the text's own clip among the clips of
    all other videos, of which the model's re-ranker, if it has one, orders the best.

    Args:
        config: The run.
        held_out: Videos that are not trained on.
    """
    clips = replace(config.clips, clips_per_video=SCORED_CLIPS_PER_VIDEO)
    feed = Feed(held_out, clips, config.model)
    groups = groups_in_order(config, len(held_out), Purpose.HELD_OUT)
    video_of = np.repeat(np.arange(len(held_out)), SCORED_CLIPS_PER_VIDEO)
    is_candidate = video_of[:, None] != video_of
    np.fill_diagonal(is_candidate, True)

    @torch.inference_mode()
    def scores(model: VideoCLIP) -> RealArray:
        embedded, token_ids, arrays = [], [], []
        for batch in feed.batches(groups):
            embedded.append(embed_batch(model, batch))
            if model.config.num_cross_layers:
                token_ids += _rows(batch.text, batch.text_mask)
                arrays += _rows(batch.video, batch.video_mask)
        videos, texts = (torch.cat(side) for side in zip(*embedded, strict=True))
        texts = texts[:: len(texts) // len(videos)]  # the first candidate of MIL-NCE
        similarity = model.similarity(texts, videos).cpu().numpy()
        similarity = np.where(is_candidate, similarity, -np.inf)
        if model.config.num_cross_layers:
            correct = partial(corrections, model, token_ids, arrays)
            similarity = rerank_clips(lambda *pair: pair[2] + correct(*pair[:2]), similarity, TOP)
        ranks = 1 + (similarity > similarity.diagonal()[:, None]).sum(axis=1)
        reciprocal: RealArray = (1 / ranks).reshape(len(held_out), -1)
        return reciprocal

    return scores


def _rows(values: Tensor, mask: Tensor) -> list[np.ndarray]:
    """Return the real part of each row."""
    return [row[real].numpy() for row, real in zip(values, mask, strict=True)]


def held_out_retrieval(
    config: PretrainConfig, held_out: NarratedCorpus
) -> Callable[[Embedder], dict[str, float]]:
    """Return a function that measures retrieval on held-out videos, without any annotation.

    The same few aligned clip pairs of each video are used each time; a text is correct for any clip
    of its own video, among the clips of all. Intervals are over resampled videos.

    Args:
        config: The run.
        held_out: Videos that are not trained on.
    """
    clips = replace(config.clips, strategy="aligned", clips_per_video=RETRIEVAL_CLIPS_PER_VIDEO)
    feed = Feed(held_out, clips, config.model)
    groups = groups_in_order(config, len(held_out), Purpose.HELD_OUT)

    @torch.inference_mode()
    def evaluate(embedder: Embedder) -> dict[str, float]:
        model, videos, texts = embedder.model, [], []
        for batch in feed.batches(groups):
            video, text = embed_batch(model, batch)
            videos.append(video.cpu())
            texts.append(text.cpu())
        similarity = model.similarity(torch.cat(texts), torch.cat(videos)).numpy()
        video_of = np.repeat(np.arange(len(held_out)), RETRIEVAL_CLIPS_PER_VIDEO)
        ranks = rank_queries(similarity, video_of, video_of)
        scores = [recall_at(ranks, 1), recall_at(ranks, 5), expected_rank(ranks)]

        def measure(items: IntArray) -> list[float]:
            first, five, rank = (values[items] for values in scores)
            return [float(first.mean()), float(five.mean()), float(np.median(rank))]

        names = [f"text-to-video {name}" for name in ("R@1", "R@5", "MedR")]
        values = measure(np.arange(len(similarity)))
        low, high = bootstrap_interval(measure, video_of, np.random.default_rng(config.seed))
        found = dict(zip(names, values, strict=True))
        for end, bounds in zip(BOUNDS, (low, high), strict=True):
            found |= {name + end: float(bound) for name, bound in zip(names, bounds, strict=True)}
        return found | {"clips": float(len(similarity))}

    return evaluate
