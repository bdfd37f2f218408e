"""InfoNCE over whole videos as well, whose clips and texts are matched by optimal transport."""

import torch
from torch import Tensor

from videoclip.config import LossConfig
from videoclip.model.losses import PairEmbeddings, by_video, infonce, softmax_loss

SMOOTHNESS = 0.1
"""Weight of the entropy of a transport plan."""
ROUNDS = 20
"""Iterations of Sinkhorn's algorithm, each of rows and then columns."""
PROMPT_QUANTILE = 0.3
"""Quantile of the similarities of true pairs below which clips and texts prefer the bucket."""


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return InfoNCE over clips plus InfoNCE over videos; each video has `clips_per_video` clips.

    The similarity of two videos is that of their clips and texts, weighted by `transport_plan`.
    """
    video, text = by_video(pairs)
    similarity = torch.einsum("ace,bde->abcd", video, text)  # (V, V, C, C)
    true = (pairs.video * pairs.text).sum(dim=1).detach()
    plan = transport_plan(similarity.detach(), true.float().quantile(PROMPT_QUANTILE))
    videos = (plan * similarity).sum(dim=(2, 3)) / pairs.temperature
    return infonce.loss(pairs, config) + softmax_loss(videos)


@torch.no_grad()
def transport_plan(similarity: Tensor, prompt: Tensor) -> Tensor:
    """Return the share of the total mass that each clip sends to each text: (..., C, C).

    All clips and texts have equal mass, and so has one bucket on each side, for those without a
    partner. The mass that goes to a bucket is left out of the result.

    Args:
        similarity: (..., C, C) of clips with texts.
        prompt: Scalar, the similarity of a bucket with everything.

    Source: the alignable prompt bucket of Norton (arXiv 2401.16702).
    """
    size = similarity.shape[-1] + 1
    log_plan = prompt.to(similarity).expand(*similarity.shape[:-2], size, size).clone()
    log_plan[..., :-1, :-1] = similarity
    log_plan /= SMOOTHNESS
    for _ in range(ROUNDS):
        log_plan = log_plan - log_plan.logsumexp(dim=-1, keepdim=True)
        log_plan = log_plan - log_plan.logsumexp(dim=-2, keepdim=True)
    return log_plan.exp()[..., :-1, :-1] / size
