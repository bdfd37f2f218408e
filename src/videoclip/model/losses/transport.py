"""InfoNCE over whole videos as well, whose clips and texts are matched by optimal transport."""

import torch
from torch import Tensor

from videoclip.config import LossConfig
from videoclip.model.losses import PairEmbeddings, by_video, infonce, softmax_loss

SMOOTHNESS = 0.1
"""Weight of the entropy of a transport plan."""
ROUNDS = 20
PROMPT_QUANTILE = 0.3
"""A clip, or text, prefers the bucket to partners less similar than this quantile of true pairs."""


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return InfoNCE over clips plus InfoNCE over videos; a video has `clips_per_video` clips.

    False negatives among clips are for `soft_target_share`.
    """
    video, text = by_video(pairs)
    similarity = torch.einsum("ace,bde->abcd", video, text)  # (V, V, C, C)
    true = (pairs.video * pairs.text).sum(dim=1).detach()
    plan = transport_plan(similarity.detach(), true.float().quantile(PROMPT_QUANTILE))
    videos = (plan * similarity).sum(dim=(2, 3)) / pairs.temperature
    return infonce.loss(pairs, config) + softmax_loss(videos)


@torch.no_grad()
def transport_plan(similarity: Tensor, prompt: Tensor) -> Tensor:
    """Return which share of the whole goes from each clip to each text: (..., C, C).

    Clips and texts have equal shares, and so has a bucket on either side, which is as similar to
    everything as `prompt` and takes what has no partner.

    Args:
        similarity: (..., C, C).
        prompt: Scalar.

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
