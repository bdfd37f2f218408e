"""The motion backbone: what a second shows, and how it changes within that second.

The starter looks at one picture a second and forgets where in it things are. This one looks at two
small pictures a second with the same ImageNet network, keeps each quarter of the picture by itself,
and says what both show (their mean) and what has changed (their difference). At 128 pixels it is
still several times as fast as the starter.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from videoclip.data.feature_store import FeatureSpec
from videoclip.data.starter_files import image_weights_file
from videoclip.data.weights import read_weights
from videoclip.errors import ConfigError
from videoclip.features.backbones.efficientnet import (
    MAP_CHANNELS,
    EfficientNetLite0,
    from_published,
)
from videoclip.features.backbones.fingerprint import fingerprint
from videoclip.features.decode import sample_frames
from videoclip.features.resize import Squash

__all__ = ["FEATURE_DIM", "FRAMES_PER_FEATURE", "MotionBackbone", "load"]

FRAMES_PER_FEATURE = 2
"""Pictures a second."""
GRID = 2
"""Rows and columns the picture is cut into."""
FEATURE_DIM = 2 * GRID * GRID * MAP_CHANNELS
"""Mean and difference of every cell."""
SIDE = 128
RESIZE = Squash(SIDE, SIDE)
SECONDS_PER_BATCH = 2
"""On a CPU: the activations of more leave its cache."""
SECONDS_PER_BATCH_ON_GPU = 32

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


class MotionBackbone:
    """EfficientNet-Lite0 over both halves of every second.

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
            fingerprint=fingerprint(network, (FRAMES_PER_FEATURE, RESIZE, GRID)),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the package to load again."""
        return load, (None, self.device)

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield one video's features in order, as chunks (n, 2560).

        Raises:
            DecodeError: If the video cannot be read.
        """
        pictures = (frame.rgb(RESIZE) for frame in sample_frames(path, FRAMES_PER_FEATURE))
        seconds = SECONDS_PER_BATCH if self.device == "cpu" else SECONDS_PER_BATCH_ON_GPU
        while batch := list(islice(pictures, seconds * FRAMES_PER_FEATURE)):
            yield self.embed_frames(np.stack(batch))

    def embed_frames(self, frames: ByteArray) -> FloatArray:
        """Turn pictures (2n, 128, 128, 3) of n seconds into features (n, 2560).

        A last picture without a second half stands for its whole second: nothing moves in it.
        """
        if len(frames) % FRAMES_PER_FEATURE:
            frames = np.concatenate([frames, frames[-1:]])
        parts = []
        size = FRAMES_PER_FEATURE * SECONDS_PER_BATCH
        with torch.inference_mode():
            for first in range(0, len(frames), size):
                pixels = torch.from_numpy(frames[first : first + size]).to(self.device)
                parts.append(_cells(self.network.feature_map((pixels.float() - 127) / 128)))
        cells = torch.cat(parts)  # (2n, 1280)
        before, after = cells[::FRAMES_PER_FEATURE], cells[1::FRAMES_PER_FEATURE]
        features: FloatArray = (
            torch.cat([(before + after) / 2, after - before], dim=1).cpu().numpy()
        )
        return features


def _cells(feature_map: Tensor) -> Tensor:
    """Average the cells of a grid, each by itself: (n, 4, 4, 320) -> (n, 1280)."""
    number, height, width, channels = feature_map.shape
    cells = feature_map.reshape(number, GRID, height // GRID, GRID, width // GRID, channels)
    return cells.mean(dim=(2, 4)).flatten(1)


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
