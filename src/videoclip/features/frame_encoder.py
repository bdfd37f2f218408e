"""An image backbone that is trained together with the towers, on stored frames.

Elsewhere backbones are frozen and their features are stored. After training, this one is saved as a
backbone folder like any other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from videoclip.config import ModelConfig
from videoclip.data.frame_store import FrameSpec, FrameStore
from videoclip.errors import ConfigError, DecodeError, IndexMismatchError
from videoclip.features.backbones import Backbone
from videoclip.features.backbones.image import ImageBackbone
from videoclip.features.contained import sample_frames
from videoclip.features.preprocessing import size_of
from videoclip.types import OnProgress
from videoclip.weights.files import fill, read_weights


class FrameEncoder(nn.Module):
    """A trainable image backbone: frames to features.

    It stays in evaluation mode, so that batch norms keep their statistics: a feature does not
    depend on the rest of the batch, and is the same in training and in use.

    Args:
        backbone: The image model to start from; its weights are trained in place.
        frames_at_once: Frames per forward pass. Activations are recomputed in the backward pass
            (gradient checkpointing), which bounds memory for any batch and changes no gradient.

    Raises:
        ConfigError: If it is not an image model, or has a text encoder, which would not be trained.
    """

    def __init__(self, backbone: Backbone, frames_at_once: int = 32) -> None:
        super().__init__()
        if not isinstance(backbone, ImageBackbone):
            raise ConfigError(
                f"backbone '{backbone.name}' cannot be trained; use an image model, such as "
                "'image:microsoft/resnet-50'"
            )
        if backbone.has_text:
            raise ConfigError(
                f"'{backbone.source}' has a text encoder, which would not be trained; use "
                "an image-only model, such as 'image:microsoft/resnet-50'"
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
        """Size and rate of the frames that it expects."""
        resize = self.backbone.preprocessing.resize
        return FrameSpec(*size_of(resize), ImageBackbone.frames_per_second, str(resize))

    def check(self, store: object, config: ModelConfig) -> None:
        """Check that a corpus has the frames it expects, and that a model expects its features.

        Without a `store` only the model is checked: the frames are yet to be stored.

        Raises:
            ConfigError: If the model expects features of another width or rate.
            IndexMismatchError: If the corpus has features, or frames of another size or rate.
        """
        if (config.feature_dim, config.features_per_second) != (
            self.feature_dim,
            ImageBackbone.frames_per_second,
        ):
            raise ConfigError(
                f"'{self.backbone.source}' computes {ImageBackbone.frames_per_second:g} features "
                f"of width {self.feature_dim} per second, and the model expects others; set "
                "model.feature_dim and model.features_per_second"
            )
        held = store.frames if isinstance(store, FrameStore) else "features"
        if store is not None and held != self.frames:
            raise IndexMismatchError(
                f"the backbone expects {self.frames}, but the corpus has {held}; create a "
                "FrameStore for this backbone"
            )

    def train(self, mode: bool = True) -> Self:
        """Do nothing: the network stays in evaluation mode."""
        return super().train(False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Encode the frames of a batch.

        Args:
            frames: (B, T, height, width, 3) uint8.
            mask: (B, T), True at frames, False at padding.

        Returns:
            (B, T, D) float32, zero at padding.
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
        """Load the weights of a folder that `save_pretrained` wrote.

        Raises:
            CheckpointError: If they are damaged or of another network.
        """
        path = folder / "model.safetensors"
        fill(self.network, read_weights(path), path)

    def _encode(self, frames: Tensor) -> Tensor:
        # Channels first in memory, so that gradients have the layout that DDP's buckets expect.
        frames = frames.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        features: Tensor = self.backbone.features_of(frames)
        return features.float()


def store_frames(
    videos: Mapping[Path, str],
    store: FrameStore,
    encoder: FrameEncoder,
    on_progress: OnProgress | None = None,
) -> dict[Path, str]:
    """Add the frames of videos to a store; videos that are in it already are skipped.

    Args:
        videos: Video id by file, from `name_videos`.
        store: A store with the encoder's `frames`.
        encoder: Determines size and rate.
        on_progress: Called with the number of finished videos and of all videos.

    Returns:
        Reason by file for each video that could not be read.
    """
    failed: dict[Path, str] = {}
    for done, (path, video_id) in enumerate(videos.items(), start=1):
        if video_id not in store:
            frames = sample_frames(path, encoder.backbone.frames_per_second)
            try:
                store.append(video_id, map(encoder.backbone.prepare, frames))
            except DecodeError as error:
                failed[path] = str(error)
        if on_progress is not None:
            on_progress(done, len(videos))
    return failed
