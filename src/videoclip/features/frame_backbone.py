"""What all backbones share: frames in batches through a frozen network, and a fingerprint."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import ConfigError
from videoclip.features.backbones import Backbone, keyframe_fingerprint
from videoclip.features.contained import sample_frames
from videoclip.features.decode import Frame, Mode, Resize
from videoclip.types import FloatArray


class FrameBackbone:
    """A network over frames sampled at a steady rate; subclass it to add a backbone.

    Args:
        network: Frozen; moved to the device and put into eval mode.
        source: What the function `load` of the subclass's module took; None where there is one
            source only.
        device: Torch device to compute on.

    Attributes:
        name: What `load_backbone` takes to load it again.
        spec: What its features are.
        frames_per_second: Rate at which frames are sampled.
        frames_per_feature: Frames that make one feature.
        frames_per_batch: Frames given to `embed_frames` at once, a multiple of
            `frames_per_feature`.
        resize: How frames get the size that the network takes.
    """

    name: str
    spec: FeatureSpec
    frames_per_second: float = 1.0
    frames_per_feature: int = 1
    frames_per_batch: int = 1
    resize: Resize

    def __init__(self, network: nn.Module, source: str | None, device: str) -> None:
        self.network: Any = network.to(device).eval()
        self.source = source
        self.device = device

    def prepare(self, frame: Frame) -> NDArray[np.uint8]:
        """Scale and crop one frame as the network takes it; by `resize`: (H, W, 3)."""
        return frame.rgb(self.resize)

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn prepared frames (n, ...) uint8 into features (ceil(n / frames_per_feature), D)."""
        raise NotImplementedError

    def embed_frames(self, frames: NDArray[np.uint8]) -> FloatArray:
        """As `features_of`, on arrays and without gradients."""
        with torch.inference_mode():
            features = self.features_of(torch.from_numpy(frames).to(self.device))
            array: FloatArray = features.cpu().numpy()
        return array

    def features_for(self, path: Path, mode: Mode = "exact") -> Iterator[FloatArray]:
        """Yield the features of one video in order, as chunks (n, D).

        Raises:
            DecodeError: If the video cannot be read.
        """
        yield from self.features_from(sample_frames(path, self.frames_per_second, mode=mode))

    def features_from(self, frames: Iterable[Frame]) -> Iterator[FloatArray]:
        """Yield the features of frames sampled at `frames_per_second`, as chunks (n, D)."""
        prepared = (p for f, shown in groupby(frames) for p in [self.prepare(f)] for _ in shown)
        last, still = None, np.empty(0, np.float32)
        while batch := list(islice(prepared, self.frames_per_batch)):
            if any(image is not batch[0] for image in batch):
                yield self.embed_frames(np.stack(batch))
                continue
            if batch[0] is not last:  # one frame is on screen for long; it is computed once
                last = batch[0]
                still = self.embed_frames(np.stack(batch[: self.frames_per_feature]))
            yield still.repeat(-(-len(batch) // self.frames_per_feature), axis=0)

    def make_spec(self, dim: int, preprocessing: object, normalized: bool = False) -> FeatureSpec:
        """Return what the features are; see `fingerprint` for the preprocessing."""
        return FeatureSpec(
            dim=dim,
            features_per_second=self.frames_per_second / self.frames_per_feature,
            backbone=self.name,
            normalized=normalized,
            fingerprint=fingerprint(self.network, preprocessing),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the source to load again, without weights."""
        return sys.modules[type(self).__module__].load, (self.source, self.device)


class KeyframeBackbone:
    """A backbone that sees the keyframe nearest to each sample time: 20 times less to decode.

    Its features have another fingerprint, so that they are never mixed with exact ones.

    Args:
        backbone: Makes each feature from one frame.

    Raises:
        ConfigError: If it makes a feature from several frames.
    """

    def __init__(self, backbone: Backbone) -> None:
        if not isinstance(backbone, FrameBackbone) or backbone.frames_per_feature > 1:
            raise ConfigError(
                f"backbone '{backbone.name}' needs consecutive frames, which keyframes are not: "
                "leave out --fast"
            )
        self._backbone = backbone
        self.name = backbone.name
        self.device = getattr(backbone, "device", "cpu")
        self.spec: FeatureSpec = replace(
            backbone.spec, fingerprint=keyframe_fingerprint(backbone.spec.fingerprint)
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the backbone it wraps."""
        return KeyframeBackbone, (self._backbone,)

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield the features of one video; see `Backbone.features_for`."""
        yield from self._backbone.features_for(path, "fast")


def fingerprint(network: nn.Module, preprocessing: object) -> str:
    """Return a short hex digest of a network's tensors and its preprocessing.

    Args:
        network: Every parameter and buffer counts, by name and value.
        preprocessing: Anything whose `repr` describes all that is done to frames.
    """
    digest = hashlib.blake2b(repr(preprocessing).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
