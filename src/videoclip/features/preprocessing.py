"""How the image processors of Hugging Face prepare frames, by their own settings.

Pillow scales and crops a frame; it is normalised on the model's device.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from videoclip.features.decode import CentreCrop, Interpolation, Pixels, Resize, Squash
from videoclip.files import read_json
from videoclip.pretrained.loading import quietly, transformers_library

INTERPOLATIONS: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"}
"""Pillow's numbers for scaling filters, as image processors store them."""
PILLOW_FILTERS = {name: Image.Resampling(number) for number, name in INTERPOLATIONS.items()}
VIDEO_DEFAULTS = {"resample": 2, "image_mean": (0.485, 0.456, 0.406)} | {
    "image_std": (0.229, 0.224, 0.225)
}
"""What video processors do where their settings do not say."""
LARGEST_DIFFERENCE = 0.02
"""Between our pixel values and those of the model's image processor, on average."""


@dataclass(frozen=True)
class SquashCrop(Squash):
    """Scale to exactly width x height, then cut the centre square of `size` pixels, as ALIGN."""

    size: int = 1

    @property
    def crop(self) -> int | None:
        """Side of the centre square."""
        return self.size


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
        mean = np.array(settings["image_mean"] if normalises else (0.0, 0.0, 0.0))
        deviation = np.array(settings["image_std"] if normalises else (1.0, 1.0, 1.0))
        if settings.get("rescale_offset"):  # ALIGN: bytes become -1 to 1
            mean = mean + 1
        if settings.get("include_top"):  # EfficientNet divides once more
            deviation = deviation * settings["image_std"]
        return cls(
            resize=_resize_rule(settings),
            scale=settings.get("rescale_factor", 1 / 255) if rescales else 1.0,
            mean=tuple(mean.tolist()),
            deviation=tuple(deviation.tolist()),
        )

    def scaled(self, frame: NDArray[np.uint8]) -> Pixels:
        """Scale and crop a frame (H, W, 3) as image processors do, by Pillow: (h, w, 3)."""
        return scale_frame(frame, self.resize)

    def inputs(self, frames: Tensor) -> dict[str, Tensor]:
        """Turn what `scaled` returned, stacked, into what the network takes, by name."""
        return {"pixel_values": self(frames)}

    def __call__(self, frames: Tensor) -> Tensor:
        """Turn frames (n, H, W, 3) uint8 into pixel values (n, 3, H, W), on their device."""
        pixels = frames.permute(0, 3, 1, 2).float() * self.scale
        mean, deviation = (
            torch.tensor(x, device=frames.device)[:, None, None]
            for x in (self.mean, self.deviation)
        )
        return (pixels - mean) / deviation


@dataclass(frozen=True)
class PatchPreprocessing(Preprocessing):
    """How SigLIP 2 (NaFlex) prepares frames: at their own aspect ratio, cut into square patches.

    A frame becomes (1 + N, 1, 3 P^2) bytes: first its rows and columns of patches, as 16-bit
    numbers, then a patch in each row, and black ones that fill it up to N.

    Attributes:
        patch_size: Side P of a patch.
        max_patches: Number N of patches of a frame.
    """

    patch_size: int
    max_patches: int

    @classmethod
    def from_processor(cls, settings: Mapping[str, Any]) -> Self:
        """Read the settings of the image processor."""
        side, most = settings["patch_size"], settings["max_num_patches"]
        plain = Preprocessing.from_processor({**settings, "size": side})
        return cls(**vars(plain), patch_size=side, max_patches=most)

    def scaled(self, frame: NDArray[np.uint8]) -> Pixels:
        """Scale a frame (H, W, 3) and cut it into patches."""
        side, (height, width) = self.patch_size, self._grid(*frame.shape[:2])
        size = width * side, height * side
        pixels = scale_frame(frame, Squash(*size, self.resize.interpolation))
        packed = np.zeros((1 + self.max_patches, 1, 3 * side * side), dtype=np.uint8)
        packed[0, 0, :4] = np.array([height, width], dtype="<u2").view(np.uint8)
        patches = pixels.reshape(height, side, width, side, 3).swapaxes(1, 2)
        packed[1 : 1 + height * width] = patches.reshape(height * width, 1, -1)
        return packed

    def __call__(self, frames: Tensor) -> Tensor:
        """Turn packed frames (n, 1 + N, 1, 3 P^2) into normalised patches (n, N, 3 P^2)."""
        patches = frames[:, 1:].reshape(-1, 1, self.patch_size**2, 3)  # (n N, 1, P^2, 3)
        values = super().__call__(patches).permute(0, 2, 3, 1)
        values = values.reshape(len(frames), self.max_patches, -1)
        return values * self._is_real(frames)[..., None]

    def inputs(self, frames: Tensor) -> dict[str, Tensor]:
        """Turn packed frames into patches, their mask and the shapes of the frames in patches."""
        mask = self._is_real(frames)
        shapes = self._shapes(frames)
        return {
            "pixel_values": self(frames),
            "pixel_attention_mask": mask,
            "spatial_shapes": shapes,
        }

    def _shapes(self, frames: Tensor) -> Tensor:
        numbers = frames[:, 0, 0, :4].long()
        return numbers[:, ::2] + 256 * numbers[:, 1::2]  # (n, 2)

    def _is_real(self, frames: Tensor) -> Tensor:
        numbers = self._shapes(frames).prod(dim=1, keepdim=True)
        return (torch.arange(self.max_patches, device=frames.device) < numbers).int()

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of patches of a frame: as many as allowed, at its own shape."""

        def grid(scale: float) -> tuple[int, int]:
            rows, columns = (
                max(1, math.ceil(side * scale / self.patch_size)) for side in (height, width)
            )
            return rows, columns

        smallest, largest = 1e-6, 100.0
        while largest - smallest >= 1e-5:  # the bounds and the precision of the processor
            scale = (smallest + largest) / 2
            if math.prod(grid(scale)) <= self.max_patches:
                smallest = scale
            else:
                largest = scale
        return grid(smallest)


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read how the image processor of a model prepares frames, and check it on one frame.

    Raises:
        CheckpointError: If the processor does more than scale, crop and normalise.
        OSError, KeyError, TypeError, ValueError, ConfigError: If its settings are invalid.
    """
    if (video := folder / "video_preprocessor_config.json").is_file():
        # Video processors need torchvision; they scale, crop and normalise as those of images do.
        return Preprocessing.from_processor(VIDEO_DEFAULTS | read_json(video))
    with quietly():
        processor = transformers_library("backbone 'image'").AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False, local_files_only=True
        )
        settings = processor.to_dict()
        uses_patches = "max_num_patches" in settings
        ours = (PatchPreprocessing if uses_patches else Preprocessing).from_processor(settings)
        frame = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
        theirs = processor([frame], return_tensors="pt")["pixel_values"]
    values = ours(torch.from_numpy(ours.scaled(frame))[None])[0]
    theirs = theirs.reshape(values.shape) if theirs.numel() == values.numel() else theirs
    if values.shape != theirs.shape or (values - theirs).abs().mean() > LARGEST_DIFFERENCE:
        raise ValueError(
            f"its image processor {type(processor).__name__} prepares images in a way that "
            "videoclip does not know"
        )
    return ours


def scale_frame(frame: NDArray[np.uint8], rule: Resize) -> Pixels:
    """Scale and crop a frame (H, W, 3) by a rule with Pillow, whose filters models were trained on.

    Sizes and crops are rounded down, as image processors do.
    """
    height, width, _ = frame.shape
    size = rule.scaled(width, height)
    if isinstance(rule, CentreCrop):
        shorter = min(width, height)
        size = (width * rule.shorter_side // shorter, height * rule.shorter_side // shorter)
    if size != (width, height):
        image = Image.fromarray(frame).resize(size, PILLOW_FILTERS[rule.interpolation])
        frame = np.asarray(image)
    if rule.crop is not None:
        top, left = (size[1] - rule.crop) // 2, (size[0] - rule.crop) // 2
        frame = frame[top : top + rule.crop, left : left + rule.crop]
    return np.array(frame)  # contiguous, and free of the whole frame


def _resize_rule(settings: Mapping[str, Any]) -> Resize:
    """Return how an image processor scales: to a fixed size, or the shorter side and a crop."""
    interpolation = INTERPOLATIONS[settings.get("resample", 3)]
    size, crop = _sides(settings["size"]), settings.get("crop_size")
    crops = settings.get("do_center_crop", crop is not None and len(size) == 1)
    if len(size) == 2 and crops:
        return SquashCrop(*size, interpolation, _sides(crop)[0])
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
    if resize.crop is not None:
        return resize.crop, resize.crop
    assert isinstance(resize, Squash)
    return resize.height, resize.width
