"""Retrieval of held-out narration, without annotation, and what it decides about a model.

It decides how much of a learned residual is kept, and whether a re-ranker is used.

Embeddings of a model that starts from a dual encoder are those of the dual encoder plus a share of
the learned residual. The smallest share is chosen that is not clearly worse than the best one. If
the 95 % interval of its gain over the dual encoder is not above zero, nothing is kept.

Source: WiSE-FT (arXiv 2109.01903), which interpolates all weights; a residual that starts at zero
needs one factor.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from videoclip.config import EvaluateConfig
from videoclip.evaluation.metrics.ranking import expected_rank, rank_queries, recall_at
from videoclip.evaluation.outcome import (
    BOUNDS,
    Evaluation,
    bootstrap_interval,
    means,
    measure,
)
from videoclip.model.batch import Batch, embed_batch
from videoclip.model.encoders import residuals_of
from videoclip.model.videoclip import VideoCLIP
from videoclip.types import FloatArray, IntArray, RealArray
from videoclip.zeroshot.rerank import corrections, rerank_clips

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the residual that are tried, ascending from 0, the dual encoder."""
RERANKER_WEIGHT = 1.0
"""Weight of the re-ranker's score beside the towers', where it is used. In every run on development
worlds it was the best or close to it: the two know about as much, and different things."""
LEAST_VIDEOS = 5
"""With fewer held-out videos, the whole residual is kept, and a re-ranker is not used."""
RERANKED_CLIPS = 20
"""Best clips of each held-out text that a re-ranker orders again."""


def held_out_retrieval(
    model: VideoCLIP, batches: Iterable[Batch], num_videos: int, seed: int
) -> Evaluation:
    """Return text-to-video R@1, R@5 and MedR, each with its 95 % interval over videos.

    A text is correct for any clip of its own video, among the clips of all.

    Args:
        model: In eval mode.
        batches: Equally many clip pairs of each video, in the order of the videos.
        num_videos: How many videos they are.
        seed: Of the bootstrap.
    """
    similarity = _similarity(model, [embed_batch(model, batch) for batch in batches])
    video_of = np.repeat(np.arange(num_videos), len(similarity) // num_videos)
    ranks = rank_queries(similarity, video_of, video_of)
    recalls = means({f"text-to-video R@{k}": recall_at(ranks, k) for k in (1, 5)})
    expected = expected_rank(ranks)

    def statistics(items: IntArray) -> dict[str, float]:
        return {**recalls(items), "text-to-video MedR": float(np.median(expected[items]))}

    found: dict[str, float] = {}
    for m in measure(statistics, video_of, EvaluateConfig(seed=seed)):
        low, high = (m.name + end for end in BOUNDS)
        found |= {m.name: m.value, low: m.low, high: m.high}
    return found | {"clips": float(len(similarity))}


@torch.inference_mode()
def reciprocal_ranks(model: VideoCLIP, batches: Iterable[Batch], num_videos: int) -> RealArray:
    """Return (V, N): of N texts of each video, 1 / the rank of the text's own clip.

    It is ranked among the clips of all other videos, of which the model's re-ranker, if it has one,
    orders the best.

    Args:
        model: In eval mode.
        batches: As for `held_out_retrieval`.
        num_videos: How many videos V they are.
    """
    embedded, token_ids, features = [], [], []
    for batch in batches:
        embedded.append(embed_batch(model, batch))
        if model.config.num_cross_layers:
            token_ids += _rows(batch.text, batch.text_mask)
            features += _rows(batch.video, batch.video_mask)
    similarity = _similarity(model, embedded)
    video_of = np.repeat(np.arange(num_videos), len(similarity) // num_videos)
    is_candidate = video_of[:, None] != video_of
    np.fill_diagonal(is_candidate, True)
    similarity = np.where(is_candidate, similarity, -np.inf)
    if model.config.num_cross_layers:
        correct = partial(corrections, model, token_ids, features)
        similarity = rerank_clips(
            lambda *pair: pair[2] + correct(*pair[:2]), similarity, RERANKED_CLIPS
        )
    ranks = 1 + (similarity > similarity.diagonal()[:, None]).sum(axis=1)
    reciprocal: RealArray = (1 / ranks).reshape(num_videos, -1)
    return reciprocal


def _similarity(model: VideoCLIP, embedded: Sequence[tuple[Tensor, Tensor]]) -> FloatArray:
    """Return (N, N) similarities of texts (rows) and clips; of candidate texts the first counts."""
    videos, texts = (torch.cat(side) for side in zip(*embedded, strict=True))
    texts = texts[:: len(texts) // len(videos)]
    similarity: FloatArray = model.similarity(texts, videos).cpu().numpy()
    return similarity


def _rows(values: Tensor, mask: Tensor) -> list[np.ndarray]:
    """Return the real part of each row."""
    return [row[real].numpy() for row, real in zip(values, mask, strict=True)]


@dataclass(frozen=True)
class Interpolation:
    """What was kept of a learned residual.

    Attributes:
        share: Kept share of the residual, from 0 (the dual encoder) to 1 (the trained model).
        num_videos: Held-out videos.
        start: Mean reciprocal rank of the dual encoder on held-out narration.
        score: That of the chosen share; `share` is 0 instead where `low` is not above 0.
        low: Lower end of the 95 % interval of `score - start`, from resampling videos.
        high: Upper end.
    """

    share: float
    num_videos: int
    start: float = math.nan
    score: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        """Return what was kept, and why, in one line."""
        if self.num_videos < LEAST_VIDEOS:
            return (
                f"kept all that was learned, unchecked: {self.num_videos} held-out videos, and at "
                f"least {LEAST_VIDEOS} are needed to compare it with the start"
            )
        kept = f"kept {self.share:.0%} of what was learned" if self.share else "kept the start"
        why = "" if self.share else ", since training made retrieval not clearly better"
        return (
            f"{kept}{why}: mean reciprocal rank on {self.num_videos} held-out videos "
            f"{self.start:.3f} before, {self.score:.3f} after (95 % interval of the difference "
            f"{self.low:+.3f} to {self.high:+.3f})"
        )


@torch.no_grad()
def interpolate(
    model: VideoCLIP, num_videos: int, scores: Callable[[VideoCLIP], RealArray]
) -> Interpolation:
    """Choose the share of the learned residuals to keep, and scale them by it in place.

    Args:
        model: A trained one that starts from a dual encoder.
        num_videos: Held-out videos V.
        scores: Returns (V, N), the reciprocal ranks of N held-out texts of each video.
    """
    if num_videos < LEAST_VIDEOS:
        return Interpolation(1.0, num_videos)
    trained = [residual.scale.clone() for residual in residuals_of(model)]
    temperature = float(torch.as_tensor(model.temperature))

    def keep(share: float) -> None:
        for residual, whole in zip(residuals_of(model), trained, strict=True):
            residual.scale.copy_(share * whole)
        if model.config.learn_temperature:
            start = math.log(model.config.temperature)
            model.log_temperature.fill_(start + share * (math.log(temperature) - start))

    means = []
    for share in SHARES:
        keep(share)
        means.append(scores(model).mean(axis=1))
    chosen, low, high = choose_share(np.stack(means))
    share = SHARES[chosen] if low > 0 else 0.0
    keep(share)
    start, score = float(means[0].mean()), float(means[chosen].mean())
    return Interpolation(share, num_videos, start, score, low, high)


def choose_share(scores: RealArray) -> tuple[int, float, float]:
    """Choose the smallest share that is not clearly worse than the best one.

    Args:
        scores: (S, V) of each share, from 0 on, and each video.

    Returns:
        Index of the share, and the 95 % interval of its gain over the start. It is the smallest one
        whose mean is within one standard error, of their difference, of the best mean.
    """
    lead = scores[scores.mean(axis=1).argmax()] - scores  # (S, V)
    error = lead.std(axis=1, ddof=1) / math.sqrt(scores.shape[1])
    chosen = int((lead.mean(axis=1) <= error).argmax())
    gain = scores[chosen] - scores[0]
    low, high = bootstrap_interval(
        lambda rows: float(gain[rows].mean()), np.arange(len(gain)), np.random.default_rng(0)
    )
    return chosen, float(low), float(high)


@dataclass(frozen=True)
class RerankerWeight:
    """Whether a re-ranker is used, and what it gains on held-out narration.

    Attributes:
        weight: Of the re-ranker's score beside the towers' similarity; 0: it is not used.
        num_videos: Held-out videos.
        towers: Mean reciprocal rank of the towers' order.
        score: That with the re-ranker; it is used if it is better.
        error: Standard error of the difference, over videos.
    """

    weight: float
    num_videos: int
    towers: float = math.nan
    score: float = math.nan
    error: float = math.nan

    def __str__(self) -> str:
        """Return whether the re-ranker is used, and why, in one line."""
        if self.num_videos < LEAST_VIDEOS:
            return (
                f"the re-ranker is not used: {self.num_videos} held-out videos, and at least "
                f"{LEAST_VIDEOS} are needed to see whether it helps; raise validation_share"
            )
        used = "the re-ranker is used"
        if not self.weight:
            used = "the re-ranker is not used, since it is not better"
        return (
            f"{used}: mean reciprocal rank on {self.num_videos} held-out videos "
            f"{self.towers:.3f} by the towers, {self.score:.3f} with it (standard error of the "
            f"difference {self.error:.3f})"
        )


@torch.no_grad()
def choose_weight(
    model: VideoCLIP, num_videos: int, scores: Callable[[VideoCLIP], RealArray]
) -> RerankerWeight:
    """Use a model's re-ranker if it helps: its weight is set in place.

    Args:
        model: A trained one with a re-ranker.
        num_videos: Held-out videos V.
        scores: Returns (V, N), the reciprocal ranks of N held-out texts of each video.
    """
    chosen = model.reranker.weight
    chosen.zero_()
    if num_videos < LEAST_VIDEOS:
        return RerankerWeight(0.0, num_videos)
    towers = scores(model).mean(axis=1)  # (V,)
    chosen.fill_(RERANKER_WEIGHT)
    score = scores(model).mean(axis=1)
    error = float((score - towers).std(ddof=1)) / math.sqrt(num_videos)
    if score.mean() <= towers.mean():
        chosen.zero_()
    return RerankerWeight(
        float(chosen), num_videos, float(towers.mean()), float(score.mean()), error
    )


Choice: TypeAlias = Interpolation | RerankerWeight
