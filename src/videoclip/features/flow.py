"""Optical flow: how far what a small grey picture shows moves until the next one.

Every pixel moves so that the brightness of its neighbourhood is explained best: least squares, as
in B. D. Lucas and T. Kanade, "An iterative image registration technique with an application to
stereo vision", 1981. On pictures this small nothing moves by more than a pixel or two, and one pass
is enough.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["flow"]

SMOOTHING = 3
"""Side of the box that pictures are smoothed with before slopes are taken, in pixels."""
NEIGHBOURHOOD = 5
"""Side of the box whose pixels move as one, in pixels."""
FLATNESS = 1e-4
"""Added to squared slopes, of brightness in [0, 1] a pixel: what has no texture stands still."""


def flow(pictures: Tensor) -> Tensor:
    """Estimate the motion between each picture and the next.

    Args:
        pictures: Brightness in [0, 1], (n, height, width).

    Returns:
        Pixels to the right and pixels down, (n - 1, 2, height, width). Pictures in reverse order
        give the same with its sign and its order reversed.
    """
    smooth = _box_mean(pictures, SMOOTHING)
    before, after = smooth[:-1], smooth[1:]
    middle = functional.pad(((before + after) / 2)[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (middle[:, 1:-1, 2:] - middle[:, 1:-1, :-2]) / 2
    down = (middle[:, 2:, 1:-1] - middle[:, :-2, 1:-1]) / 2
    change = after - before
    products = (across**2, down**2, across * down, across * change, down * change)
    xx, yy, xy, xt, yt = (_box_mean(product, NEIGHBOURHOOD) for product in products)
    xx, yy = xx + FLATNESS, yy + FLATNESS
    determinant = xx * yy - xy**2
    return torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant[:, None]


def _box_mean(pictures: Tensor, side: int) -> Tensor:
    """Average the box around each pixel; beyond the border the border goes on."""
    padded = functional.pad(pictures[:, None], (side // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, side, stride=1)[:, 0]
