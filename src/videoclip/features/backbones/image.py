"""Any Hugging Face image model as a backbone: one pooled vector for one frame a second.

CLIP, SigLIP, DINOv2, ViT, ResNet and their kin, from a local folder or a hub id that the user names
(`image:microsoft/resnet-50`). Models with a text side embed words into the same space, which makes
the frame-embedding baseline of the evaluations; they compare by cosine, so that their features have
unit length, while those of all others are left as they are.

Pictures are scaled by the decoder and normalised here, so that neither torchvision nor Pillow is
needed; sizes, mean and deviation are those of the model's own `preprocessor_config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import CheckpointError, ConfigError, MissingExtraError
from videoclip.features.decode import CentreCrop, Interpolation, Mode, Resize, Squash, sample_frames
from videoclip.features.fingerprint import fingerprint

__all__ = ["ImageBackbone", "Preprocessing", "load", "size_of"]

FRAMES_PER_SECOND = 1.0
FRAMES_PER_BATCH = 16

INTERPOLATIONS: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"}
"""Pillow's numbers for scaling filters, as image processors store them."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a frame: scaled, its bytes times `scale`, then (x - mean) / deviation.

    Attributes:
        resize: How a frame of any size becomes one of the model's.
        scale: Factor that brings bytes to the range of mean and deviation.
        mean: Of the three colours.
        deviation: Of the three colours.
    """

    resize: Resize
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def from_processor(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Read the settings of a Hugging Face image processor.

        Raises:
            KeyError, TypeError, ValueError, ConfigError: If they make no sense.
        """
        normalises = settings.get("do_normalize", True)
        rescales = settings.get("do_rescale", True)
        return cls(
            resize=_resize_rule(settings),
            scale=settings.get("rescale_factor", 1 / 255) if rescales else 1.0,
            mean=tuple(settings["image_mean"]) if normalises else (0.0, 0.0, 0.0),
            deviation=tuple(settings["image_std"]) if normalises else (1.0, 1.0, 1.0),
        )

    def __call__(self, frames: Tensor) -> Tensor:
        """Turn frames (n, H, W, 3) uint8 into pixel values (n, 3, H, W), on their device."""
        pixels = frames.permute(0, 3, 1, 2).float() * self.scale
        mean, deviation = (
            torch.tensor(x, device=frames.device)[:, None, None]
            for x in (self.mean, self.deviation)
        )
        return (pixels - mean) / deviation


class ImageBackbone:
    """An image model over the frames of a video.

    Args:
        source: Local folder or hub id; sent to worker processes in place of the weights.
        network: A model of `transformers`; put into eval mode.
        preprocessing: What is done to frames before.
        device: Torch device to compute on.
        has_pooler: Whether the model's own pooled output is trained; if not, the state of its first
            token stands in.
    """

    def __init__(
        self,
        source: str,
        network: nn.Module,
        preprocessing: Preprocessing,
        device: str = "cpu",
        *,
        has_pooler: bool = True,
    ) -> None:
        self.source = source
        self.network: Any = network.to(device).float().eval()
        self.preprocessing = preprocessing
        self.device = device
        self.has_pooler = has_pooler
        self.has_text = hasattr(network, "get_text_features")
        # The width is in no one place of the many configurations: look at a black frame.
        height, width = size_of(preprocessing.resize)
        black = self.embed_frames(np.zeros((1, height, width, 3), dtype=np.uint8))
        self.spec = FeatureSpec(
            dim=black.shape[1],
            features_per_second=FRAMES_PER_SECOND,
            backbone=self.name,
            normalized=self.has_text,
            fingerprint=fingerprint(network, (preprocessing, has_pooler)),
        )

    @property
    def name(self) -> str:
        """`image:` and the folder or hub id."""
        return f"image:{self.source}"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the source to load again."""
        return load, (self.source, self.device)

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield one video's features in order, as chunks (n, D).

        Raises:
            DecodeError: If the video cannot be read.
        """
        yield from self.features_by(path, "exact")

    def features_by(self, path: Path, mode: Mode) -> Iterator[FloatArray]:
        """See `keyframes.SinglePictures`."""
        resize = self.preprocessing.resize
        sampled = sample_frames(path, FRAMES_PER_SECOND, mode=mode)
        frames = (frame.rgb(resize) for frame in sampled)
        while batch := list(islice(frames, FRAMES_PER_BATCH)):
            yield self.embed_frames(np.stack(batch))

    def embed_frames(self, frames: npt.NDArray[np.uint8]) -> FloatArray:
        """Turn RGB frames (n, H, W, 3) of the model's size into features (n, D)."""
        with torch.inference_mode():
            features: FloatArray = self.features_of(torch.from_numpy(frames)).cpu().numpy()
            return features

    def features_of(self, frames: Tensor) -> Tensor:
        """As `embed_frames`, on tensors and with gradients: (n, H, W, 3) uint8 -> (n, D)."""
        pixels = self.preprocessing(frames.to(self.device))
        if self.has_text:
            pooled = _pooled(self.network.get_image_features(pixel_values=pixels))
            return F.normalize(pooled.float(), dim=1)
        output = self.network(pixel_values=pixels)
        return _pooled(output) if self.has_pooler else output.last_hidden_state[:, 0]

    def save_pretrained(self, folder: Path) -> None:
        """Write the weights as they are now, and how frames are prepared, as a folder to load."""
        source = _transformers().ImageProcessingMixin
        settings, _ = source.get_image_processor_dict(self.source)
        self.network.save_pretrained(folder)
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed N texts into the space of the frames, as (N, D) of unit length.

        Raises:
            ConfigError: If the model has no text side.
        """
        if not self.has_text:
            raise ConfigError(
                f"image model '{self.source}' knows no words: name one with a text side, such as "
                "CLIP or SigLIP"
            )
        tokenizer = _transformers().AutoTokenizer.from_pretrained(self.source)
        config = self.network.config
        # SigLIP has only ever seen texts filled up to full length.
        padding = "max_length" if config.model_type.startswith("siglip") else True
        longest = config.text_config.max_position_embeddings
        tokens = tokenizer(
            list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt"
        )
        with torch.inference_mode():
            embeddings = _pooled(self.network.get_text_features(**tokens.to(self.device)))
            unit: FloatArray = F.normalize(embeddings.float(), dim=1).cpu().numpy()
            return unit


def load(source: str | None, device: str = "cpu") -> ImageBackbone:
    """Load an image model.

    Args:
        source: A local folder, or a hub id (then fetched, if it is not in the cache yet).
        device: Torch device to compute on.

    Raises:
        ConfigError: If no model is named.
        CheckpointError: If it cannot be had, is no image model or lacks weights.
        MissingExtraError: If `transformers` is not installed.
    """
    if not source:
        raise ConfigError(
            "backbone 'image' needs a model: 'image:FOLDER' or 'image:HUB-ID', such as "
            "'image:microsoft/resnet-50'"
        )
    transformers = _transformers()
    try:
        settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(source)
        network, report = transformers.AutoModel.from_pretrained(source, output_loading_info=True)
        preprocessing = Preprocessing.from_processor(settings)
        missing = sorted(report["missing_keys"])
        # A classifier's checkpoint has no pooler; the library would fill one with random numbers.
        has_pooler = not any("pooler." in name for name in missing)
        if lacking := [name for name in missing if "pooler." not in name]:
            raise ValueError(f"it lacks '{lacking[0]}'")
        return ImageBackbone(source, network, preprocessing, device, has_pooler=has_pooler)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"'{source}' is no usable image model: {reason}") from error


def _transformers() -> Any:
    """The `transformers` package; it takes seconds to import and is an extra."""
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError("backbone 'image'", "hf") from None
    transformers.utils.logging.disable_progress_bar()  # a bar for every file read or written
    return transformers


def _resize_rule(settings: Mapping[str, Any]) -> Resize:
    """How an image processor scales: to a fixed size, or the shorter side with a centre crop."""
    interpolation = INTERPOLATIONS[settings.get("resample", 3)]
    size, crop = _sides(settings["size"]), settings.get("crop_size")
    if len(size) == 2:
        return Squash(*size, interpolation)
    (side,) = size
    if "crop_pct" in settings:  # ConvNeXt and ResNet: the crop is a share of the scaled picture
        if side >= 384:
            return Squash(side, side, interpolation)
        return CentreCrop(int(side / settings["crop_pct"]), side, interpolation)
    if crop and settings.get("do_center_crop", True):
        return CentreCrop(side, _sides(crop)[0], interpolation)
    if isinstance(settings["size"], int):
        return Squash(side, side, interpolation)
    return CentreCrop(side, side, interpolation)


def _sides(size: Any) -> tuple[int, ...]:
    """(shorter side,) or (width, height) of a size, stored as a number or by name."""
    if isinstance(size, Mapping):
        return (size["width"], size["height"]) if "height" in size else (size["shortest_edge"],)
    return (size,)


def size_of(resize: Resize) -> tuple[int, int]:
    """Height and width of what a rule gives."""
    if isinstance(resize, CentreCrop):
        return resize.size, resize.size
    assert isinstance(resize, Squash)
    return resize.height, resize.width


def _pooled(output: Any) -> Tensor:
    """(n, D) out of what a model answers: a tensor of old, or an output with `pooler_output`."""
    pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return pooled.flatten(1)
