"""Any Hugging Face video model as a backbone: clips of as many frames as it was trained on.

VideoMAE, V-JEPA 2, X-CLIP and VideoPrism, from a local folder or a hub id that the user names
(`video:facebook/vjepa2-vitl-fpc64-256`). Clips follow each other without overlap; the last one is
filled up with its last frame.

- VideoMAE (8 frames a second) and V-JEPA 2 (4 frames a second) give a feature a second: the mean of
  the states of the patches in that second, each in the context of its whole clip.
- X-CLIP and VideoPrism (4 frames a second) give a feature a clip, L2-normalised, in the space of
  their texts: every 2 seconds for a model of 8 frames.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.data.feature_store import FeatureSpec
from videoclip.features.backbones.image import (
    FAILURES,
    VIDEO_MODELS,
    ImageBackbone,
    files_fingerprint,
    named_model,
)
from videoclip.features.decode import Frame
from videoclip.features.preprocessing import Preprocessing, read_preprocessing
from videoclip.pretrained.loading import (
    load_network,
    model_folder,
    transformers_library,
    unusable,
)
from videoclip.types import FloatArray


class VideoBackbone(ImageBackbone):
    """A model over clips of a video; see `ImageBackbone` for its arguments.

    Attributes:
        frames_per_clip: Frames that go through the network together.
    """

    kind = "video"

    def __init__(
        self, source: str, network: Any, preprocessing: Preprocessing, device: str = "cpu"
    ) -> None:
        rates = sampling(network.config)
        self.frames_per_clip, self.frames_per_second, self.frames_per_feature = rates
        self.frames_per_batch = self.frames_per_clip
        super().__init__(source, network, preprocessing, device)

    def _dim(self) -> int:
        """Return the width of the features without computing a clip."""
        config = self.network.config
        if not self.has_text:
            return int(config.hidden_size)
        width = getattr(config, "projection_dim", None) or config.vision_config.hidden_size
        return int(width)

    def features_from(self, frames: Iterable[Frame]) -> Iterator[FloatArray]:
        """Yield the features of frames sampled at `frames_per_second`, as chunks (n, D)."""
        prepared = map(self.prepare, frames)
        while clip := list(islice(prepared, self.frames_per_clip)):
            yield self.embed_frames(np.stack(clip))

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn prepared frames (n, H, W, 3) into features (ceil(n / frames_per_feature), D)."""
        clips = torch.split(frames, self.frames_per_clip)
        return torch.cat([self._features_of_clip(clip) for clip in clips])

    def _features_of_clip(self, frames: Tensor) -> Tensor:
        """Turn up to `frames_per_clip` frames into features."""
        number = -(-len(frames) // self.frames_per_feature)
        missing = self.frames_per_clip - len(frames)
        frames = torch.cat([frames, frames[-1:].expand(missing, *frames.shape[1:])])
        pixels = self.preprocessing(frames.to(self.device))[None]  # (1, N, 3, H, W)
        kind = self.network.config.model_type
        if self.has_text:
            name = "pixel_values" if kind == "xclip" else "pixel_values_videos"
            output = self.network.get_video_features(**{name: pixels})
            return F.normalize(output.pooler_output.float(), dim=-1)
        if kind == "vjepa2":
            output = self.network(pixel_values_videos=pixels, skip_predictor=True)
        else:
            output = self.network(pixel_values=pixels)
        states: Tensor = output.last_hidden_state[0]  # (patches of the clip in order of time, D)
        num_features = self.frames_per_clip // self.frames_per_feature
        features = states.view(num_features, -1, states.shape[1]).mean(dim=1)
        return features[:number].float()


def sampling(config: Any) -> tuple[int, float, int]:
    """Return frames per clip, frames per second and frames per feature of one of `VIDEO_MODELS`."""
    vision = getattr(config, "vision_config", config)
    frames = getattr(vision, "frames_per_clip", None) or vision.num_frames
    rate = VIDEO_MODELS[config.model_type]
    has_text = hasattr(config, "text_config")
    per_feature = frames if has_text or frames % rate else int(rate)
    return int(frames), rate, int(per_feature)


def load(source: str | None, device: str = "cpu") -> VideoBackbone:
    """Load a video model.

    Args:
        source: A local folder, or a hub id (then fetched, if it is not in the cache yet).
        device: Torch device to compute on.

    Raises:
        ConfigError: If no model is named.
        CheckpointError: If it cannot be found, is not a video model or lacks weights.
        MissingExtraError: If `transformers` is not installed.
    """
    example = "facebook/vjepa2-vitl-fpc64-256"
    with named_model(source, "video", example) as (name, folder, model_type):
        if model_type not in VIDEO_MODELS:
            known = ", ".join(VIDEO_MODELS)
            raise ValueError(f"it is of type '{model_type}', and known are {known}")
        network, missing = load_network(folder, "frames")
        if lacking := [name for name in missing if not name.startswith(("predictor", "decoder"))]:
            raise ValueError(f"it lacks '{lacking[0]}'")
        return VideoBackbone(name, network, read_preprocessing(folder), device)


def frames_spec(
    folder_or_hub_id: Path | str, dim: int, frames_per_second: float | None = None
) -> FeatureSpec:
    """Return what the features of a dual encoder are, image or video, without loading its weights.

    Args:
        folder_or_hub_id: The model.
        dim: Width of its embeddings, as its text side has it.
        frames_per_second: Rate at which frames are sampled; by default the model's own.

    Raises:
        CheckpointError: If it has no usable image side.
    """
    name, folder = str(folder_or_hub_id), model_folder(folder_or_hub_id)
    source = str(folder.absolute()) if Path(name).is_dir() else name
    config = transformers_library(f"model '{name}'").AutoConfig.from_pretrained(folder)
    try:
        fingerprint = files_fingerprint(folder, read_preprocessing(folder))
    except FAILURES as error:
        raise unusable(name, "dual encoder", error) from error
    kind, usual, frames_per_feature = "image", ImageBackbone.frames_per_second, 1
    if config.model_type in VIDEO_MODELS:
        kind, (_, usual, frames_per_feature) = "video", sampling(config)
    rate = (frames_per_second or usual) / frames_per_feature
    return FeatureSpec(
        dim=dim,
        features_per_second=rate,
        backbone=f"{kind}:{source}",
        normalized=True,
        fingerprint=fingerprint,
    )
