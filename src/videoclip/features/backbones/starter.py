"""The starter backbone: ImageNet features of one frame a second, with weights from a package.

Three square crops along a frame cover all of it at its own aspect ratio. On the short real clips
it was tuned on, their mean retrieved better than one centre crop or the squashed frame.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from videoclip.features.decode import Frame, ShorterSide
from videoclip.features.efficientnet import FEATURE_DIM, EfficientNetLite0, load_packaged
from videoclip.features.frame_backbone import NetworkBackbone
from videoclip.types import FloatArray

CROP_SIZE = 224
NUM_CROPS = 3
RESIZE = ShorterSide(240, interpolation="bicubic")
FRAMES_PER_BATCH = 1
"""On a CPU: the activations of more leave its cache."""
FRAMES_PER_BATCH_ON_GPU = 32


class StarterBackbone(NetworkBackbone):
    """EfficientNet-Lite0 on one frame a second; see `NetworkBackbone` for its arguments."""

    name = "starter"
    resize = RESIZE

    def __init__(
        self, network: EfficientNetLite0, source: str | None = None, device: str = "cpu"
    ) -> None:
        super().__init__(network, source, device)
        self.frames_per_batch = FRAMES_PER_BATCH if device == "cpu" else FRAMES_PER_BATCH_ON_GPU
        self.spec = self.make_spec(
            FEATURE_DIM, (self.frames_per_second, RESIZE, CROP_SIZE, NUM_CROPS)
        )

    def prepare(self, frame: Frame) -> NDArray[np.uint8]:
        """Scale a frame and cut its crops: (3, 224, 224, 3)."""
        return crops_along(super().prepare(frame))

    def embed_frames(self, frames: NDArray[np.uint8]) -> FloatArray:
        """Turn crops (n, 3, 224, 224, 3) of RGB frames into features (n, 1280): their means."""
        with torch.inference_mode():
            pixels = torch.from_numpy(frames).to(self.device).flatten(0, 1)  # (3n, 224, 224, 3)
            features = self.network((pixels.float() - 127) / 128)
            array: FloatArray = features.unflatten(0, frames.shape[:2]).mean(dim=1).cpu().numpy()
        return array


def load(source: str | None, device: str = "cpu") -> StarterBackbone:
    """Load the weights from their package; see `load_packaged`."""
    return StarterBackbone(load_packaged("starter", source), device=device)


def crops_along(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut (H, W, 3) into squares (3, 224, 224, 3): at one end, in the middle and at the other."""
    height, width, _ = frame.shape
    ends = height - CROP_SIZE, width - CROP_SIZE
    corners = [[i * end // (NUM_CROPS - 1) for end in ends] for i in range(NUM_CROPS)]
    return np.stack([frame[y : y + CROP_SIZE, x : x + CROP_SIZE] for y, x in corners])
