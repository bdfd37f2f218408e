"""Any Hugging Face image model as a backbone: one pooled vector for one frame a second.

CLIP, SigLIP, DINOv2, ViT, ResNet and the like, from a local folder or a hub id that the user names
(`image:microsoft/resnet-50`). Models with a text encoder embed text into the same space, which
gives the frame-embedding baseline of the evaluations; they compare by cosine, so their features are
L2-normalised. Features of all other models are not.

Frames are scaled by the decoder and normalised here, so that neither torchvision nor Pillow is
needed; sizes, mean and deviation are those of the model's own `preprocessor_config.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.errors import CheckpointError, ConfigError, MissingExtraError, one_line
from videoclip.features.decode import CentreCrop, Interpolation, Resize, Squash
from videoclip.features.frame_backbone import FrameBackbone, fingerprint
from videoclip.files import write_json
from videoclip.types import FloatArray

INTERPOLATIONS: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"}
"""Pillow's numbers for scaling filters, as image processors store them."""


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
    def from_processor(cls, settings: Mapping[str, Any]) -> Self:
        """Read the settings of a Hugging Face image processor.

        Raises:
            KeyError, TypeError, ValueError, ConfigError: If they are invalid.
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


class ImageBackbone(FrameBackbone):
    """An image model over the frames of a video.

    Args:
        source: Local folder or hub id; sent to worker processes in place of the weights.
        network: A model of `transformers`; put into eval mode.
        preprocessing: What is done to frames before.
        device: Torch device to compute on.
        has_pooler: Whether the model's own pooled output is trained; if not, the state of its first
            token stands in.
    """

    frames_per_batch = 16

    def __init__(
        self,
        source: str,
        network: nn.Module,
        preprocessing: Preprocessing,
        device: str = "cpu",
        *,
        has_pooler: bool = True,
    ) -> None:
        super().__init__(network.float(), source, device)
        self.name = f"image:{source}"
        self.preprocessing, self.resize = preprocessing, preprocessing.resize
        self.has_pooler = has_pooler
        self.has_text = hasattr(network, "get_text_features")
        if not has_pooler:
            self.network.pooler = None  # random numbers that nothing reads
        # The configurations name the width in many ways; the features of a black frame show it.
        black = np.zeros((1, *size_of(preprocessing.resize), 3), dtype=np.uint8)
        dim = self.embed_frames(black).shape[1]
        self.spec = self.make_spec(dim, (preprocessing, has_pooler), normalized=self.has_text)

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights as they are now, and of the preprocessing."""
        return fingerprint(self.network, (self.preprocessing, self.has_pooler))

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn RGB frames (n, H, W, 3) uint8 of the model's size into features (n, D)."""
        pixels = self.preprocessing(frames.to(self.device))
        if self.has_text:
            pooled = _pooled(self.network.get_image_features(pixel_values=pixels))
            return F.normalize(pooled.float(), dim=1)
        output = self.network(pixel_values=pixels)
        return _pooled(output) if self.has_pooler else output.last_hidden_state[:, 0]

    def save_pretrained(self, folder: Path) -> str:
        """Write the weights as they are now, and how frames are prepared, as a folder to load.

        Returns:
            Their fingerprint.
        """
        source = _transformers().ImageProcessingMixin
        settings, _ = source.get_image_processor_dict(self.source)
        self.network.save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", settings)
        return self.fingerprint()

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed N texts into the space of the frames, as (N, D) of unit length.

        Raises:
            ConfigError: If the model has no text encoder.
        """
        if not self.has_text:
            raise ConfigError(
                f"image model '{self.source}' has no text encoder: name a model with one, such as "
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
        CheckpointError: If it cannot be found, is not an image model or lacks weights.
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
        reason = one_line(error)[:200]
        raise CheckpointError(f"'{source}' is not a usable image model: {reason}") from error


def _transformers() -> Any:
    """Import `transformers`, an extra that takes seconds to import."""
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError("backbone 'image'", "hf") from None
    transformers.utils.logging.disable_progress_bar()  # a bar for every file read or written
    return transformers


def _resize_rule(settings: Mapping[str, Any]) -> Resize:
    """Return how an image processor scales: to a fixed size, or the shorter side and a crop."""
    interpolation = INTERPOLATIONS[settings.get("resample", 3)]
    size, crop = _sides(settings["size"]), settings.get("crop_size")
    if len(size) == 2:
        return Squash(*size, interpolation)
    (side,) = size
    if "crop_pct" in settings:  # ConvNeXt and ResNet: the crop is a share of the scaled frame
        if side >= 384:
            return Squash(side, side, interpolation)
        return CentreCrop(int(side / settings["crop_pct"]), side, interpolation)
    if crop and settings.get("do_center_crop", True):
        return CentreCrop(side, _sides(crop)[0], interpolation)
    if isinstance(settings["size"], int):
        return Squash(side, side, interpolation)
    return CentreCrop(side, side, interpolation)


def _sides(size: Any) -> tuple[int, ...]:
    """Return (shorter side,) or (width, height) of a size stored as a number or by name."""
    if isinstance(size, Mapping):
        return (size["width"], size["height"]) if "height" in size else (size["shortest_edge"],)
    return (size,)


def size_of(resize: Resize) -> tuple[int, int]:
    """Return the height and width of frames that a rule scales."""
    if isinstance(resize, CentreCrop):
        return resize.size, resize.size
    assert isinstance(resize, Squash)
    return resize.height, resize.width


def _pooled(output: Any) -> Tensor:
    """Return (n, D) from a model's output: a tensor, or an object with `pooler_output`."""
    pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return pooled.flatten(1)
