"""An image backbone inside the training graph: pictures in, features out, gradients back.

Everywhere else a backbone is frozen and its features are kept on disk. Here its weights are trained
with the towers, and afterwards it is a backbone like any other, in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from videoclip.config import ModelConfig
from videoclip.data.frame_store import FrameSpec, FrameStore
from videoclip.errors import ConfigError, DecodeError, IndexMismatchError
from videoclip.features.backbones import Backbone
from videoclip.features.backbones.image import ImageBackbone, size_of
from videoclip.features.decode import sample_frames
from videoclip.weights.files import check_shapes, read_weights, shapes_of

__all__ = ["FrameEncoder", "store_frames"]


class FrameEncoder(nn.Module):
    """The network of an image backbone, trained.

    It stays in evaluation mode: batch norms keep their statistics and scale by them, so that a
    feature does not depend on what else is in the batch, and what was trained is what is used.

    Args:
        backbone: The image model to begin with; its weights are trained in place.
        frames_at_once: Pictures whose activations are held at once: all are computed again on the
            way back, which bounds memory for any batch and changes no gradient.

    Raises:
        ConfigError: If it is not an image model, or has a text encoder, which would not be trained.
    """

    def __init__(self, backbone: Backbone, frames_at_once: int = 32) -> None:
        super().__init__()
        if not isinstance(backbone, ImageBackbone):
            raise ConfigError(
                f"backbone '{backbone.name}' cannot be trained: name an image model, such as "
                "'image:microsoft/resnet-50'"
            )
        if backbone.has_text:
            raise ConfigError(
                f"'{backbone.source}' has a text encoder, which would not be trained: name a model "
                "of images alone, such as 'image:microsoft/resnet-50'"
            )
        self.network: nn.Module = backbone.network
        self.feature_dim = backbone.spec.dim
        self.frames_at_once = frames_at_once
        self.fingerprint = backbone.spec.fingerprint
        self.backbone = backbone
        self.eval()
        size = size_of(backbone.preprocessing.resize)
        black = torch.zeros(1, *size, 3, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self._encode(black)
        self.flops_per_frame = int(counter.get_total_flops())

    @property
    def frames(self) -> FrameSpec:
        """The kind of frames it takes."""
        resize = self.backbone.preprocessing.resize
        return FrameSpec(*size_of(resize), ImageBackbone.frames_per_second, str(resize))

    def check(self, store: object, config: ModelConfig) -> None:
        """Make sure that a corpus holds the pictures it takes, and a model takes its features.

        Raises:
            ConfigError: If the model takes features of another width or rate.
            IndexMismatchError: If the corpus holds features, or pictures scaled otherwise.
        """
        if (config.feature_dim, config.features_per_second) != (
            self.feature_dim,
            ImageBackbone.frames_per_second,
        ):
            raise ConfigError(
                f"'{self.backbone.source}' makes {self.feature_dim} numbers of a picture and "
                f"{ImageBackbone.frames_per_second:g} pictures a second: set model.feature_dim and "
                "model.features_per_second"
            )
        held = store.frames if isinstance(store, FrameStore) else "features"
        if held != self.frames:
            raise IndexMismatchError(
                f"the backbone is trained on {self.frames}, but the corpus holds {held}: make a "
                "FrameStore for this backbone"
            )

    def train(self, mode: bool = True) -> FrameEncoder:
        """Stay in evaluation mode, see above."""
        return super().train(False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Encode the real pictures of a batch.

        Args:
            frames: (B, T, height, width, 3) uint8.
            mask: (B, T), True where real.

        Returns:
            (B, T, D) float32, zero where masked.
        """
        parts = torch.split(frames[mask], self.frames_at_once)
        encoded = [checkpoint(self._encode, part, use_reentrant=False) for part in parts]
        features = torch.cat(encoded)
        return features.new_zeros(*mask.shape, self.feature_dim).masked_scatter(
            mask[..., None], features
        )

    def save_pretrained(self, folder: Path) -> str:
        """Write the backbone as a folder that `image:FOLDER` names; return its fingerprint."""
        return self.backbone.save_pretrained(folder)

    def load_pretrained(self, folder: Path) -> None:
        """Take the weights of such a folder.

        Raises:
            CheckpointError: If they are damaged or another network's.
        """
        path = folder / "model.safetensors"
        weights = read_weights(path)
        check_shapes(shapes_of(weights), shapes_of(self.network.state_dict()), path)
        self.network.load_state_dict(weights)

    def _encode(self, frames: Tensor) -> Tensor:
        # Colours first in memory, so that gradients have the layout DDP's buckets expect.
        frames = frames.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        features: Tensor = self.backbone.features_of(frames)
        return features.float()


def store_frames(
    videos: Mapping[Path, str],
    store: FrameStore,
    encoder: FrameEncoder,
    on_done: Callable[[str], None] = lambda video_id: None,
) -> dict[Path, str]:
    """Put the pictures of videos into a store; those that are there already are skipped.

    Args:
        videos: Ids by file, as `name_videos` gives them.
        store: Made for this encoder.
        encoder: Says at which rate and how scaled.
        on_done: Told the id of each video that was added.

    Returns:
        Reason by file for each video that could not be read.
    """
    failed: dict[Path, str] = {}
    for path, video_id in videos.items():
        if video_id in store:
            continue
        try:
            store.append(video_id, _pictures(path, encoder))
        except DecodeError as error:
            failed[path] = str(error)
        else:
            on_done(video_id)
    return failed


def _pictures(path: Path, encoder: FrameEncoder) -> Iterable[npt.NDArray[np.uint8]]:
    backbone = encoder.backbone
    return map(backbone.prepare, sample_frames(path, backbone.frames_per_second))
