"""Optical flow between small grey frames.

The motion of a pixel is the least-squares solution over its neighbourhood, as in B. D. Lucas and
T. Kanade, "An iterative image registration technique with an application to stereo vision", 1981.
In frames this small nothing moves by more than a pixel or two, so one iteration is enough.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTHING = 3
"""Side of the box that smooths frames before gradients are taken, in pixels."""
NEIGHBOURHOOD = 5
"""Side of the box whose pixels are assumed to move together, in pixels."""
FLATNESS = 1e-4
"""Added to squared gradients of brightness in [0, 1], so that flat areas do not move."""


def flow(frames: Tensor) -> Tensor:
    """Estimate the motion from each frame to the next.

    Args:
        frames: Brightness in [0, 1], (n, height, width).

    Returns:
        Pixels to the right and pixels down, (n - 1, 2, height, width). Reversing the frames
        reverses the order and the sign of the result.
    """
    smooth = _box_mean(frames, SMOOTHING)
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


def _box_mean(frames: Tensor, side: int) -> Tensor:
    """Average the box around each pixel; the border is extended."""
    padded = functional.pad(frames[:, None], (side // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, side, stride=1)[:, 0]
