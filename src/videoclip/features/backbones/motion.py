"""The motion backbone: what a second shows, and how it moves in that second.

The starter looks at one picture a second and forgets where in it things are. This one keeps each
quarter of a small picture by itself, and beside it how far every part of the picture moves, from
the optical flow between five pictures of that second: two streams, as in K. Simonyan and
A. Zisserman, "Two-stream convolutional networks for action recognition in videos", 2014, the second
without a network. At 128 pixels it is still several times as fast as the starter.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import ConfigError
from videoclip.features.decode import Squash, sample_frames
from videoclip.features.efficientnet import (
    MAP_CHANNELS,
    EfficientNetLite0,
    from_published,
)
from videoclip.features.fingerprint import fingerprint
from videoclip.features.flow import flow
from videoclip.weights.files import read_weights
from videoclip.weights.starter_files import image_weights_file

__all__ = ["APPEARANCE_DIM", "FEATURE_DIM", "FRAMES_PER_FEATURE", "MotionBackbone", "load"]

FRAMES_PER_FEATURE = 5
"""Pictures a second; the network looks at the middle one."""
SIDE = 128
RESIZE = Squash(SIDE, SIDE)
GRID = 2
"""Rows and columns that the picture is cut into for what it shows."""
FLOW_SIDE = 32
"""Width and height of the grey pictures that flow is computed on."""
FLOW_GRID = 8
"""Rows and columns that the picture is cut into for how it moves."""
FASTEST = 3
"""Pixels of those grey pictures from one to the next; what seems faster is an error."""
PERCENT_A_SECOND = 100 * FRAMES_PER_FEATURE / FLOW_SIDE
"""One of those pixels, in percent of the picture's width a second."""
APPEARANCE_DIM = GRID * GRID * MAP_CHANNELS
FEATURE_DIM = APPEARANCE_DIM + 2 * FLOW_GRID * FLOW_GRID
"""What every quarter shows, then how fast every cell moves to the right and down."""
SECONDS_PER_BATCH = 4
"""On a CPU: the activations of more leave its cache."""
SECONDS_PER_BATCH_ON_GPU = 64

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


class MotionBackbone:
    """EfficientNet-Lite0 on the middle of every second, and optical flow within it.

    Args:
        network: Weights; put into eval mode.
        device: Torch device to compute on.
    """

    name = "motion"

    def __init__(self, network: EfficientNetLite0, device: str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.device = device
        self.spec = FeatureSpec(
            dim=FEATURE_DIM,
            features_per_second=1.0,
            backbone=self.name,
            normalized=False,
            fingerprint=fingerprint(
                network, (FRAMES_PER_FEATURE, RESIZE, GRID, FLOW_SIDE, FLOW_GRID, FASTEST)
            ),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the package to load again."""
        return load, (None, self.device)

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield one video's features in order, as chunks (n, 1408).

        Raises:
            DecodeError: If the video cannot be read.
        """
        pictures = (frame.rgb(RESIZE) for frame in sample_frames(path, FRAMES_PER_FEATURE))
        seconds = SECONDS_PER_BATCH if self.device == "cpu" else SECONDS_PER_BATCH_ON_GPU
        while batch := list(islice(pictures, seconds * FRAMES_PER_FEATURE)):
            yield self._embed(np.stack(batch))

    def embed_frames(self, frames: ByteArray) -> FloatArray:
        """Turn pictures (5n, 128, 128, 3) of n seconds into features (n, 1408).

        A last second that lacks pictures stands still at its last one.
        """
        size = FRAMES_PER_FEATURE * SECONDS_PER_BATCH
        parts = [self._embed(frames[i : i + size]) for i in range(0, len(frames), size)]
        return np.concatenate(parts)

    def _embed(self, frames: ByteArray) -> FloatArray:
        if lacking := -len(frames) % FRAMES_PER_FEATURE:
            frames = np.concatenate([frames, np.repeat(frames[-1:], lacking, axis=0)])
        with torch.inference_mode():
            pixels = torch.from_numpy(frames).to(self.device)
            middle = pixels[FRAMES_PER_FEATURE // 2 :: FRAMES_PER_FEATURE].float()
            seen = _quarters(self.network.feature_map((middle - 127) / 128))
            features: FloatArray = torch.cat([seen, _motion(pixels)], dim=1).cpu().numpy()
        return features


def _quarters(feature_map: Tensor) -> Tensor:
    """Average the cells of a grid, each by itself: (n, 4, 4, 320) -> (n, 1280)."""
    number, height, width, channels = feature_map.shape
    cells = feature_map.reshape(number, GRID, height // GRID, GRID, width // GRID, channels)
    return cells.mean(dim=(2, 4)).flatten(1)


def _motion(pixels: Tensor) -> Tensor:
    """Average how the cells of a grid move in each second: (5n, 128, 128, 3) -> (n, 128).

    What most of the picture does is taken to be the camera's own motion, and left out.
    """
    grey = avg_pool2d(pixels.float().mean(dim=-1) / 255, SIDE // FLOW_SIDE)  # (5n, 32, 32)
    motion = torch.cat([flow(grey), grey.new_zeros(1, 2, FLOW_SIDE, FLOW_SIDE)])
    camera = motion.flatten(2).quantile(0.5, dim=2)[:, :, None, None]
    motion = (motion - camera).clamp(-FASTEST, FASTEST) * PERCENT_A_SECOND
    seconds = motion.reshape(-1, FRAMES_PER_FEATURE, 2, FLOW_SIDE, FLOW_SIDE)
    within = seconds[:, :-1].mean(dim=1)  # (n, 2, 32, 32)
    return avg_pool2d(within, FLOW_SIDE // FLOW_GRID).flatten(1)


def load(source: str | None, device: str = "cpu") -> MotionBackbone:
    """Load the weights from their package.

    Args:
        source: None: there is but one.
        device: Torch device to compute on.

    Raises:
        ConfigError: If a source is named.
        MissingExtraError: If the package is not installed.
        CheckpointError: If its weights are damaged.
    """
    if source is not None:
        raise ConfigError(f"backbone 'motion' has no variants: leave out ':{source}'")
    return MotionBackbone(from_published(read_weights(image_weights_file())), device)
