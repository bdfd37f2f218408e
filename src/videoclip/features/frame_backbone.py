"""What all backbones share: frames in batches through a frozen network, and a fingerprint.

A frame that hardly differs from the last one that was computed gets the same feature, without
computing it. With more than one core, or a GPU, a thread decodes and prepares frames while the
network computes.
"""

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeVar

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

MAX_BLOCK_DIFFERENCE = 8.0
"""Two frames count as the same if the mean absolute difference of pixel values (0 to 255) is lower
in every block."""
BLOCK = 16
"""Side of a block in pixels, small enough that a changed line of text or face fills a whole one."""
FEATURES_PER_CHUNK = 64
"""Largest number of features in a chunk."""
MAX_FRAMES_PER_SECOND = 1000
"""Largest rate, that of high-speed cameras; a mistyped one would compute for days."""

ItemT = TypeVar("ItemT")


class FrameBackbone:
    """A frozen network over frames sampled at a constant rate; subclass it to add a backbone.

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
        mode: Whether to decode the frame at each sample time, or the nearest keyframe.
        device: Torch device the network computes on.
        resize: How frames get the size that the network takes.
    """

    name: str
    spec: FeatureSpec
    frames_per_second: float = 1.0
    frames_per_feature: int = 1
    frames_per_batch: int = 1
    mode: Mode = "exact"
    device: str = "cpu"
    resize: Resize

    def __init__(self, network: nn.Module, source: str | None, device: str) -> None:
        self.network: Any = network.to(device).eval()
        self.source = source
        self.device = device
        self._is_computing = Lock()

    def prepare(self, frame: Frame) -> NDArray[np.uint8]:
        """Scale and crop one frame as the network takes it; by `resize`: (H, W, 3)."""
        return frame.rgb(self.resize)

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn prepared frames (n, ...) uint8 into features (ceil(n / frames_per_feature), D)."""
        raise NotImplementedError

    def embed_frames(self, frames: NDArray[np.uint8]) -> FloatArray:
        """Compute features without gradients: arrays in and out, shapes as in `features_of`.

        One thread at a time: what several have in the memory of a GPU would add up.
        """
        with self._is_computing, torch.inference_mode():
            features = self.features_of(torch.from_numpy(frames).to(self.device))
            array: FloatArray = features.cpu().numpy()
        return array

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield the features of one video in order, as chunks (n, D).

        Raises:
            DecodeError: If the video cannot be read.
        """
        yield from self.features_from(sample_frames(path, self.frames_per_second, mode=self.mode))

    def features_from(self, frames: Iterable[Frame]) -> Iterator[FloatArray]:
        """Yield the features of frames sampled at `frames_per_second`, as chunks (n, D)."""
        prepared: Iterator[NDArray[np.uint8]] = (
            image
            for frame, repeats in groupby(frames)
            for image in [self.prepare(frame)]
            for _ in repeats
        )
        if self.device != "cpu" or torch.get_num_threads() > 1:
            prepared = _prefetch(prepared, self.frames_per_batch + self.frames_per_feature)
        known = np.empty((0, 0), np.float32)  # the feature computed last, if any
        batch: list[list[NDArray[np.uint8]]] = []  # frames of each feature to compute
        latest: list[NDArray[np.uint8]] = []  # frames of the last feature known or in the batch
        positions: list[int] = []  # of the features to yield, among those known, then the batch
        while unit := list(islice(prepared, self.frames_per_feature)):
            if not _is_same(unit, latest):
                latest = unit
                batch.append(unit)
            positions.append(len(known) + len(batch) - 1)
            is_full = len(batch) * self.frames_per_feature >= self.frames_per_batch
            if is_full or len(positions) == FEATURES_PER_CHUNK:
                known = self._with(known, batch)
                yield known[positions]
                known, batch, positions = known[-1:], [], []
        if positions:
            yield self._with(known, batch)[positions]

    def _with(self, known: FloatArray, batch: list[list[NDArray[np.uint8]]]) -> FloatArray:
        """Return the known features (n, D) followed by those of a batch, which are computed."""
        if not batch:
            return known
        computed = self.embed_frames(np.stack([image for unit in batch for image in unit]))
        return np.concatenate([known, computed]) if len(known) else computed

    def make_spec(self, dim: int, fingerprint: str, normalized: bool = False) -> FeatureSpec:
        """Return what the features are."""
        return FeatureSpec(
            dim=dim,
            features_per_second=self.frames_per_second / self.frames_per_feature,
            backbone=self.name,
            normalized=normalized,
            fingerprint=fingerprint,
        )

    def at_rate(self, frames_per_second: float) -> Self:
        """Return the same network over frames sampled at another rate.

        Raises:
            ConfigError: If it is not a positive number.
        """
        if not 0 < frames_per_second < float("inf"):
            raise ConfigError(f"frames_per_second must be positive, got {frames_per_second!r}")
        if frames_per_second > MAX_FRAMES_PER_SECOND:
            raise ConfigError(
                f"frames_per_second must be at most {MAX_FRAMES_PER_SECOND}, got "
                f"{frames_per_second:g}; 1 to 30 is usual"
            )
        spec = replace(self.spec, features_per_second=frames_per_second / self.frames_per_feature)
        return self._altered(frames_per_second=float(frames_per_second), spec=spec)

    def _altered(self, **attributes: Any) -> Self:
        """Return the same network with other attributes; `copy` would load it again."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **attributes)
        return other

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the source to load again, without weights."""
        load = sys.modules[type(self).__module__].load
        return _load_as, (load, self.source, self.device, self.frames_per_second, self.mode)


def _load_as(
    load: Callable[[str | None, str], FrameBackbone],
    source: str | None,
    device: str,
    frames_per_second: float,
    mode: Mode,
) -> FrameBackbone:
    backbone = load(source, device)
    if backbone.frames_per_second != frames_per_second:
        backbone = backbone.at_rate(frames_per_second)
    return backbone if mode == "exact" else with_keyframes(backbone)


def with_keyframes(backbone: Backbone) -> FrameBackbone:
    """Return a backbone that sees the keyframe nearest to each sample time.

    There is about 20 times less to decode. The features have another fingerprint, so that they
    are never mixed with exact ones.

    Raises:
        ConfigError: If it computes a feature from several frames, or is not a `FrameBackbone`.
    """
    if not isinstance(backbone, FrameBackbone) or backbone.frames_per_feature > 1:
        raise ConfigError(
            f"backbone '{backbone.name}' needs consecutive frames, which keyframes are not: leave "
            "out --fast"
        )
    fingerprint = keyframe_fingerprint(backbone.spec.fingerprint)
    return backbone._altered(mode="fast", spec=replace(backbone.spec, fingerprint=fingerprint))


def _prefetch(items: Iterator[ItemT], number: int) -> Iterator[ItemT]:
    """Yield the items of an iterator; a thread computes up to `number` of them in advance."""
    end: Any = object()
    thread = ThreadPoolExecutor(1)
    try:
        waiting = deque(thread.submit(next, items, end) for _ in range(number))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)


def _is_same(unit: list[NDArray[np.uint8]], other: list[NDArray[np.uint8]]) -> bool:
    """Return whether the frames of two features are the same, see `MAX_BLOCK_DIFFERENCE`."""
    return len(unit) == len(other) and all(map(_is_same_frame, unit, other))


def _is_same_frame(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Compare two prepared frames (..., H, W, C) of the same size."""
    if image is other:
        return True
    if image.shape != other.shape:
        return False
    *_, height, width, channels = image.shape
    rows, columns = max(1, height // BLOCK), max(1, width // BLOCK)
    difference = np.abs(np.subtract(image, other, dtype=np.int16))
    blocks = difference[..., : height // rows * rows, : width // columns * columns, :]
    blocks = blocks.reshape(-1, rows, height // rows, columns, width // columns * channels)
    return bool(blocks.mean(axis=(2, 4), dtype=np.float32).max() < MAX_BLOCK_DIFFERENCE)


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
