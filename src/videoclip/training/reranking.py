"""Choose on held-out narration with what weight a re-ranker is used, if at all."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from videoclip.model.videoclip import VideoCLIP
from videoclip.training.interpolation import LEAST_VIDEOS
from videoclip.types import RealArray

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the re-ranker's score that are tried, from 0, the towers' order, to an equal vote."""


@dataclass(frozen=True)
class RerankerWeight:
    """The chosen weight of a re-ranker, and what it gains on held-out narration.

    Attributes:
        weight: Of the re-ranker's score beside the towers' similarity; 0: it is not used.
        num_videos: Held-out videos.
        towers: Mean reciprocal rank of the towers' order.
        score: That of the best weight; `weight` is 0 unless it is better by more than `error`.
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
                f"{LEAST_VIDEOS} are needed to choose its weight; raise validation_share"
            )
        used = f"the re-ranker has weight {self.weight:g}"
        if not self.weight:
            used = "the re-ranker is not used, since it is not better by a standard error"
        return (
            f"{used}: mean reciprocal rank on {self.num_videos} held-out videos "
            f"{self.towers:.3f} by the towers, {self.score:.3f} with it (standard error of the "
            f"difference {self.error:.3f})"
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
    gain = means[best] - means[0]  # (V,)
    error = float(gain.std(ddof=1)) / math.sqrt(num_videos)
    weight = WEIGHTS[best] if gain.mean() > error else 0.0
    chosen.fill_(weight)
    towers, score = float(means[0].mean()), float(means[best].mean())
    return RerankerWeight(weight, num_videos, towers, score, error)
