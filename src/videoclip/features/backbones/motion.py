"""The motion backbone: what each second shows, and how it moves within that second.

The starter takes one frame a second and averages over its area. This one averages each quarter of a
small frame separately, and adds the motion of each part of the frame, from the optical flow between
five frames of that second: two streams, as in K. Simonyan and A. Zisserman, "Two-stream
convolutional networks for action recognition in videos", 2014, the second without a network. At
128 pixels it is still several times as fast as the starter.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.features.backbones.starter import MAP_CHANNELS, EfficientNetLite0, load_packaged
from videoclip.features.decode import Squash
from videoclip.features.frame_backbone import FrameBackbone, fingerprint

FRAMES_PER_FEATURE = 5
"""Frames a second; the network takes the middle one."""
SIDE = 128
RESIZE = Squash(SIDE, SIDE)
GRID = 2
"""Rows and columns that the frame is cut into for its appearance."""
FLOW_SIDE = 32
"""Width and height of the grey frames that flow is computed on."""
FLOW_GRID = 8
"""Rows and columns that the frame is cut into for its motion."""
FASTEST = 3
"""Pixels of those grey frames from one to the next; faster motion is discarded as an error."""
PERCENT_A_SECOND = 100 * FRAMES_PER_FEATURE / FLOW_SIDE
"""One of those pixels, in percent of the frame's width a second."""
SMOOTHING = 3
"""Side of the box that smooths frames before gradients are taken, in pixels."""
NEIGHBOURHOOD = 5
"""Side of the box whose pixels are assumed to move together, in pixels."""
FLATNESS = 1e-4
"""Added to squared gradients of brightness in [0, 1], so that flat areas do not move."""
APPEARANCE_DIM = GRID * GRID * MAP_CHANNELS
FEATURE_DIM = APPEARANCE_DIM + 2 * FLOW_GRID * FLOW_GRID
"""Appearance of every quarter, then how fast every cell moves to the right and down."""
SECONDS_PER_BATCH = 4
"""On a CPU; the activations of more seconds exceed its cache."""
SECONDS_PER_BATCH_ON_GPU = 64


class MotionBackbone(FrameBackbone):
    """EfficientNet-Lite0 on the middle of every second, and optical flow within it.

    See `FrameBackbone` for its arguments.
    """

    name = "motion"
    frames_per_second = FRAMES_PER_FEATURE
    frames_per_feature = FRAMES_PER_FEATURE
    resize = RESIZE

    def __init__(self, network: EfficientNetLite0, device: str = "cpu") -> None:
        super().__init__(network, None, device)
        seconds = SECONDS_PER_BATCH if device == "cpu" else SECONDS_PER_BATCH_ON_GPU
        self.frames_per_batch = seconds * FRAMES_PER_FEATURE
        preprocessing = FRAMES_PER_FEATURE, RESIZE, GRID, FLOW_SIDE, FLOW_GRID, FASTEST
        self.spec = self.make_spec(FEATURE_DIM, fingerprint(network, preprocessing))

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn frames (5n, 128, 128, 3) of n seconds into features (n, 1408).

        A last second with too few frames is filled up with its last frame.
        """
        lacking = -len(frames) % FRAMES_PER_FEATURE
        pixels = torch.cat([frames, frames[-1:].repeat_interleave(lacking, dim=0)])
        middle = pixels[FRAMES_PER_FEATURE // 2 :: FRAMES_PER_FEATURE].float()
        appearance = _quarters(self.network.feature_map((middle - 127) / 128))
        return torch.cat([appearance, _motion(pixels)], dim=1)


def _quarters(feature_map: Tensor) -> Tensor:
    """Average each cell of a grid: (n, 4, 4, 320) -> (n, 1280)."""
    number, height, width, channels = feature_map.shape
    cells = feature_map.reshape(number, GRID, height // GRID, GRID, width // GRID, channels)
    return cells.mean(dim=(2, 4)).flatten(1)


def _motion(pixels: Tensor) -> Tensor:
    """Average the motion of each cell of a grid over each second: (5n, 128, 128, 3) -> (n, 128).

    The median motion is taken to be the camera's, and subtracted.
    """
    grey = F.avg_pool2d(pixels.float().mean(dim=-1) / 255, SIDE // FLOW_SIDE)  # (5n, 32, 32)
    motion = torch.cat([flow(grey), grey.new_zeros(1, 2, FLOW_SIDE, FLOW_SIDE)])
    camera = motion.flatten(2).quantile(0.5, dim=2)[:, :, None, None]
    motion = (motion - camera).clamp(-FASTEST, FASTEST) * PERCENT_A_SECOND
    seconds = motion.reshape(-1, FRAMES_PER_FEATURE, 2, FLOW_SIDE, FLOW_SIDE)
    within = seconds[:, :-1].mean(dim=1)  # (n, 2, 32, 32)
    return F.avg_pool2d(within, FLOW_SIDE // FLOW_GRID).flatten(1)


def flow(frames: Tensor) -> Tensor:
    """Estimate the motion from each small grey frame to the next.

    The motion of a pixel is the least-squares solution over its neighbourhood. In frames this small
    nothing moves by more than a pixel or two, so one iteration is enough.

    Args:
        frames: Brightness in [0, 1], (n, height, width).

    Returns:
        Pixels to the right and pixels down, (n - 1, 2, height, width). Reversing the frames
        reverses the order and the sign of the result.

    Source: B. D. Lucas and T. Kanade, "An iterative image registration technique with an
    application to stereo vision", 1981.
    """
    smooth = _box_mean(frames, SMOOTHING)
    before, after = smooth[:-1], smooth[1:]
    middle = F.pad(((before + after) / 2)[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
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
    padded = F.pad(frames[:, None], (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, side, stride=1)[:, 0]


def load(source: str | None, device: str = "cpu") -> MotionBackbone:
    """Load the weights from their package; see `load_packaged`."""
    return MotionBackbone(load_packaged("motion", source), device)
