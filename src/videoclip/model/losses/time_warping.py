"""InfoNCE over whole videos as well, whose clips and texts are matched by time warping."""

import torch
from torch import Tensor

from videoclip.config import LossConfig
from videoclip.model.losses import PairEmbeddings, by_video, infonce, softmax_loss


def loss(pairs: PairEmbeddings, config: LossConfig) -> Tensor:
    """Return InfoNCE over clips plus InfoNCE over videos; a video has `clips_per_video` clips."""
    video, text = by_video(pairs)
    similarity = torch.einsum("ace,bde->abcd", video, text)  # (V, V, C, C)
    videos = warped(similarity) / pairs.temperature
    return infonce.loss(pairs, config) + softmax_loss(videos)


def warped(similarity: Tensor) -> Tensor:
    """Return the mean similarity along the best monotone alignment of two sequences.

    Args:
        similarity: (..., C, D) of the clips of one sequence to the texts of another.

    Returns:
        (...) the smallest sum of distances 1 - similarity on a path from the first to the last of
        both that skips none, divided by the longer sequence, as a similarity.

    Source: TempCLR (arXiv 2212.13738), which contrasts sequences by this cost.
    """
    cost = 1 - similarity
    num_rows, num_columns = cost.shape[-2:]
    above: list[Tensor] = []
    for i in range(num_rows):
        row: list[Tensor] = []
        for j in range(num_columns):
            before = [*row[-1:], *above[max(j - 1, 0) : j + 1]]
            here = cost[..., i, j]
            row.append(here + torch.stack(before).amin(dim=0) if before else here)
        above = row
    return 1 - above[-1] / max(num_rows, num_columns)
