"""The starter backbone: ImageNet features of one frame a second, with weights from a package.

Three square crops along a frame see all of it at its own aspect ratio. On the short real clips it
was tuned on, their mean found more than one centre crop or the squashed frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import ConfigError
from videoclip.features.decode import Mode, ShorterSide, sample_frames
from videoclip.features.efficientnet import (
    FEATURE_DIM,
    EfficientNetLite0,
    from_published,
)
from videoclip.features.fingerprint import fingerprint
from videoclip.weights.files import read_weights
from videoclip.weights.starter_files import image_weights_file

__all__ = ["StarterBackbone", "crops_along", "load"]

FRAMES_PER_SECOND = 1.0
CROP_SIZE = 224
NUM_CROPS = 3
RESIZE = ShorterSide(240, interpolation="bicubic")
FRAMES_PER_BATCH = 1
"""On a CPU: the activations of more leave its cache."""
FRAMES_PER_BATCH_ON_GPU = 32

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


class StarterBackbone:
    """EfficientNet-Lite0 over the seconds of a video.

    Args:
        network: Weights; put into eval mode.
        device: Torch device to compute on.
    """

    name = "starter"

    def __init__(self, network: EfficientNetLite0, device: str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.device = device
        self.frames_per_batch = FRAMES_PER_BATCH if device == "cpu" else FRAMES_PER_BATCH_ON_GPU
        self.spec = FeatureSpec(
            dim=FEATURE_DIM,
            features_per_second=FRAMES_PER_SECOND,
            backbone=self.name,
            normalized=False,
            fingerprint=fingerprint(network, (FRAMES_PER_SECOND, RESIZE, CROP_SIZE, NUM_CROPS)),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the package to load again."""
        return load, (None, self.device)

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield one video's features in order, as chunks (n, 1280).

        Raises:
            DecodeError: If the video cannot be read.
        """
        yield from self.features_by(path, "exact")

    def features_by(self, path: Path, mode: Mode) -> Iterator[FloatArray]:
        """See `keyframes.SinglePictures`."""
        sampled = sample_frames(path, FRAMES_PER_SECOND, mode=mode)
        frames = (crops_along(frame.rgb(RESIZE)) for frame in sampled)
        while batch := list(islice(frames, self.frames_per_batch)):
            yield self.embed_crops(np.stack(batch))

    def embed_crops(self, crops: ByteArray) -> FloatArray:
        """Turn crops (n, 3, 224, 224, 3) of RGB frames into features (n, 1280): their means."""
        with torch.inference_mode():
            pixels = torch.from_numpy(crops).to(self.device).flatten(0, 1)  # (3n, 224, 224, 3)
            features = (
                self.network((pixels.float() - 127) / 128).unflatten(0, crops.shape[:2]).mean(dim=1)
            )
        array: FloatArray = features.cpu().numpy()
        return array


def load(source: str | None, device: str = "cpu") -> StarterBackbone:
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
        raise ConfigError(f"backbone 'starter' has no variants: leave out ':{source}'")
    return StarterBackbone(from_published(read_weights(image_weights_file())), device)


def crops_along(frame: ByteArray) -> ByteArray:
    """Cut (H, W, 3) into squares (3, 224, 224, 3): at one end, in the middle and at the other."""
    height, width, _ = frame.shape
    ends = height - CROP_SIZE, width - CROP_SIZE
    corners = [[i * end // (NUM_CROPS - 1) for end in ends] for i in range(NUM_CROPS)]
    return np.stack([frame[y : y + CROP_SIZE, x : x + CROP_SIZE] for y, x in corners])
