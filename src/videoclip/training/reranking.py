"""Choose on held-out narration with what weight a re-ranker is used, if at all."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from videoclip.config import PretrainConfig
from videoclip.data.narrated import NarratedCorpus
from videoclip.evaluation.outcome import bootstrap_interval
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.interpolation import LEAST_VIDEOS
from videoclip.training.narrated import SCORED_CLIPS_PER_VIDEO, Feed, groups_in_order
from videoclip.training.trainer import Purpose, embed_batch
from videoclip.types import RealArray
from videoclip.zeroshot.rerank import corrections, rerank_clips

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Weights of the re-ranker's score that are tried, from 0, the towers' order."""
RERANKED = 20
"""Best clips of each held-out text that are ordered again."""
MOST_VIDEOS = 256
"""Held-out videos that are compared; more would not make the choice better."""


@dataclass(frozen=True)
class RerankerWeight:
    """The chosen weight of a re-ranker, and what it gains on held-out narration.

    Attributes:
        weight: Of the re-ranker's score beside the towers' similarity; 0: it is not used.
        num_videos: Held-out videos.
        towers: Mean reciprocal rank of the towers' order.
        score: That of the best weight; `weight` is 0 instead where `low` is not above 0.
        low: Lower end of the 95 % interval of `score - towers`, from resampling videos.
        high: Upper end.
    """

    weight: float
    num_videos: int
    towers: float = math.nan
    score: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        """Return whether the re-ranker is used, and why, in one line."""
        if self.num_videos < LEAST_VIDEOS:
            return (
                f"the re-ranker is not used: {self.num_videos} held-out videos, and at least "
                f"{LEAST_VIDEOS} are needed to choose its weight; raise validation_share"
            )
        used = f"the re-ranker has weight {self.weight:g}"
        if not self.weight:
            used = "the re-ranker is not used, since it is not clearly better than the towers"
        return (
            f"{used}: mean reciprocal rank on {self.num_videos} held-out videos "
            f"{self.towers:.3f} by the towers, {self.score:.3f} with it (95 % interval of the "
            f"difference {self.low:+.3f} to {self.high:+.3f})"
        )


@torch.no_grad()
def choose_weight(
    model: VideoCLIP, num_videos: int, scores: Callable[[VideoCLIP], RealArray]
) -> RerankerWeight:
    """Choose the weight of a model's re-ranker, and set it in place.

    Args:
        model: A trained one with a re-ranker.
        num_videos: Held-out videos V.
        scores: Returns (V, N), the reciprocal ranks of N held-out texts of each video.
    """
    chosen = model.reranker.weight
    if num_videos < LEAST_VIDEOS:
        chosen.zero_()
        return RerankerWeight(0.0, num_videos)
    means = []
    for weight in WEIGHTS:
        chosen.fill_(weight)
        means.append(scores(model).mean(axis=1))
    best = int(np.argmax([mean.mean() for mean in means]))
    gain = means[best] - means[0]
    low, high = bootstrap_interval(
        lambda rows: float(gain[rows].mean()), np.arange(len(gain)), np.random.default_rng(0)
    )
    weight = WEIGHTS[best] if low > 0 else 0.0
    chosen.fill_(weight)
    towers, score = float(means[0].mean()), float(means[best].mean())
    return RerankerWeight(weight, num_videos, towers, score, float(low), float(high))


def reranked_scores(
    config: PretrainConfig, held_out: NarratedCorpus
) -> Callable[[VideoCLIP], RealArray]:
    """Return a function that scores a model and its re-ranker by narration not trained on.

    It returns (V, N), for N texts of each of V videos the reciprocal rank of the text's own clip
    among the clips of all other videos, of which the re-ranker orders the best. The clip pairs are
    the same each time, drawn as in training.

    Args:
        config: The run.
        held_out: Videos that are not trained on, of which at most `MOST_VIDEOS` are used.
    """
    clips = replace(config.clips, clips_per_video=SCORED_CLIPS_PER_VIDEO)
    feed = Feed(held_out, clips, config.model)
    num_videos = min(len(held_out), MOST_VIDEOS)
    groups = groups_in_order(config, num_videos, Purpose.HELD_OUT)
    video_of = np.repeat(np.arange(num_videos), SCORED_CLIPS_PER_VIDEO)
    of_others = video_of[:, None] != video_of
    np.fill_diagonal(of_others, True)

    @torch.inference_mode()
    def scores(model: VideoCLIP) -> RealArray:
        embedded, token_ids, arrays = [], [], []
        for batch in feed.batches(groups):
            embedded.append(embed_batch(model, batch))
            token_ids += [row[real].tolist() for row, real in zip(batch.text, batch.text_mask)]
            arrays += [row[real].numpy() for row, real in zip(batch.video, batch.video_mask)]
        videos, texts = (torch.cat(side) for side in zip(*embedded, strict=True))
        similarity = model.similarity(texts, videos).cpu().numpy()
        similarity = rerank_clips(
            lambda rows, columns, known: (
                known + corrections(model, token_ids, arrays, rows, columns)
            ),
            np.where(of_others, similarity, -np.inf),
            RERANKED,
        )
        ranks = 1 + (similarity > similarity.diagonal()[:, None]).sum(axis=1)
        reciprocal: RealArray = (1 / ranks).reshape(num_videos, -1)
        return reciprocal

    return scores
