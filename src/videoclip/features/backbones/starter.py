"""The starter backbone: what one frame a second shows, with weights from a package.

A feature is the last hidden layer of an ImageNet classifier, and attributes that need no network:
colours, and whether the frame is dark, grey or drawn. A classifier of things is trained to ignore
them, but people search for "a green frog" or "a black and white film".

Three square crops along a frame cover all of it at its own aspect ratio. On the short real clips
it was tuned on, their mean retrieved better than one centre crop or the squashed frame.

The network is EfficientNet-Lite0: EfficientNet-B0 without squeeze and excitation and with ReLU6 for
swish. Particular to this implementation:
- every batch norm is folded into the convolution before it while the weights are read;
- images lie as (B, H, W, C), so that 1 x 1 convolutions are linear maps and need no copies;
- on a processor that multiplies bf16 numbers, the network computes in bf16: twice as fast, and real
  clips are found as often (docs/starter.md);
- TensorFlow pads one row and column more behind than in front at stride 2; a kernel with an extra
  row and column of zeros in front does the same under torch's even padding, without a copy.

Source: Tan and Le, "EfficientNet" (arXiv 1905.11946), table 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.errors import CheckpointError, ConfigError
from videoclip.features.decode import Frame, ShorterSide
from videoclip.features.frame_backbone import FrameBackbone, fingerprint
from videoclip.weights.files import image_weights_file, read_weights

CROP_SIZE = 224
NUM_CROPS = 3
RESIZE = ShorterSide(240, interpolation="bicubic")
FRAMES_PER_BATCH = 1
"""On a CPU: the activations of more leave its cache."""
FRAMES_PER_BATCH_ON_GPU = 32

HUES = {
    "red": 15,
    "orange": 42,
    "yellow": 68,
    "green": 160,
    "turquoise": 195,
    "blue": 255,
    "purple": 290,
    "pink": 345,
}
"""Upper limit of each on the circle of hues, in degrees; above the last, it is red again."""
COLOURS = (*HUES, "brown", "white", "grey", "black")
ATTRIBUTES = (*COLOURS, "black and white", "dark", "drawn")
"""Names of the numbers that `attributes_of` returns."""
USUAL = (0.09, 0.19, 0.08, 0.07, 0.04, 0.13, 0.03, 0.05, 0.24, 0.23, 0.57, 0.34)
"""By colour: mean root of its share of the pixels in real videos. Only what exceeds it counts."""

STEP = 4
"""Colours are measured on every fourth row and column, flat areas on every fourth row."""
MIN_SPREAD, MIN_SATURATION = 0.15, 0.3
"""Between the strongest and the weakest of red, green and blue, by itself and as a share of the
strongest: below these, a pixel is white, grey or black."""
BLACK, WHITE = 0.2, 0.8
"""A pixel without colour is black below the first brightness (of 1) and white above the second."""
GREY_SPREAD, GREY_SHARE = 24 / 255, 0.01
"""A frame is grey if less than this share of its pixels has a larger spread."""
DARK_SHARE = 0.5
"""Share of black pixels from which darkness rises, from 0 to 1 where all are black."""
FLAT_DIFFERENCE = 0.75
"""Largest difference in brightness, of 255 levels, between neighbours in a flat area."""
FLAT_SHARES = (0.5, 0.9)
"""Shares of flat pixels at which the attribute "drawn" is 0 and 1."""

NETWORK_DIM = 1280
FEATURE_DIM = NETWORK_DIM + len(ATTRIBUTES)
MAP_CHANNELS = 320

STEM_CHANNELS = 32
STAGES = (
    # blocks, kernel, stride of the first block, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BATCH_NORM_EPS = 1e-3
"""TensorFlow's, with which the weights were trained."""


class SpatialConv(nn.Conv2d):
    """A convolution over the two middle axes, padded as TensorFlow's `SAME` if sides are even."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        grown = kernel + stride - 1
        super().__init__(in_channels, out_channels, grown, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, C')."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def can_fuse(x: Tensor) -> bool:
    """Whether oneDNN adds biases and clips within the kernels that compute an output from x."""
    is_bf16 = x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.is_grad_enabled()
    return is_bf16 and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def apply(layer: nn.Linear | SpatialConv, x: Tensor, *, clip: bool = True) -> Tensor:
    """Return a layer's output, by default its ReLU6, in one pass over memory where `can_fuse`.

    The result is the same to the bit, a third faster for the whole network. torch has no public
    function for it; these operators are those of its compiler.
    """
    if not can_fuse(x):
        output: Tensor = layer(x)
        return F.relu6(output, inplace=True) if clip else output
    last: tuple[str, list[float], str] = ("hardtanh", [0.0, 6.0], "") if clip else ("none", [], "")
    operators: Any = torch.ops.mkldnn
    if isinstance(layer, nn.Linear):
        fused: Tensor = operators._linear_pointwise(x, layer.weight, layer.bias, *last)
        return fused
    shape = layer.padding, layer.stride, layer.dilation, layer.groups
    channels_first = x.permute(0, 3, 1, 2)
    fused = operators._convolution_pointwise(
        channels_first, layer.weight, layer.bias, *shape, *last
    )
    return fused.permute(0, 2, 3, 1)


class InvertedBottleneck(nn.Module):
    """Expand, filter every channel separately, project; added to the input where shapes agree."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = nn.Linear(in_channels, inner) if expansion > 1 else None
        self.depthwise = SpatialConv(inner, inner, kernel, stride, groups=inner)
        self.project = nn.Linear(inner, out_channels)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, C')."""
        inner = x if self.expand is None else apply(self.expand, x)
        projected = apply(self.project, apply(self.depthwise, inner), clip=False)
        return projected + x if self.shortcut else projected


class EfficientNetLite0(nn.Module):
    """Images to features; ImageNet's class logits are a linear map of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SpatialConv(3, STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for num_blocks, kernel, stride, expansion, out_channels in STAGES:
            for i in range(num_blocks):
                shape = channels, out_channels, kernel, stride if i == 0 else 1, expansion
                blocks.append(InvertedBottleneck(*shape))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, NETWORK_DIM)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over the last feature map.

        Args:
            images: (B, H, W, 3) RGB, (x - 127) / 128 of values in [0, 255]; sides are multiples
                of 32, 224 in training.

        Returns:
            (B, 1280).
        """
        x = apply(self.head, self.feature_map(images))  # (B, H/32, W/32, 1280)
        return x.mean(dim=(1, 2))

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the input of the head, before averaging over the area: (B, H/32, W/32, 320)."""
        features: Tensor = self.blocks(apply(self.stem, images))
        return features


def from_published(weights: Mapping[str, Tensor]) -> EfficientNetLite0:
    """Build the network from weights of the published names.

    Args:
        weights: Convolutions, their batch norms and the classifier `_fc`, which is left to the
            model: logits are `_fc.weight @ feature + _fc.bias`.

    Raises:
        CheckpointError: If a tensor is missing or unexpected.
    """
    network = EfficientNetLite0()
    names = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for i in range(len(network.blocks)):
        theirs = f"_blocks.{i}."
        if i > 0:  # the first stage does not widen
            names[f"blocks.{i}.expand"] = (f"{theirs}_expand_conv", f"{theirs}_bn0")
        names[f"blocks.{i}.depthwise"] = (f"{theirs}_depthwise_conv", f"{theirs}_bn1")
        names[f"blocks.{i}.project"] = (f"{theirs}_project_conv", f"{theirs}_bn2")

    statistics = ("weight", "bias", "running_mean", "running_var")
    wanted = {"_fc.weight", "_fc.bias", *(f"{conv}.weight" for conv, _ in names.values())}
    wanted |= {f"{norm}.{name}" for _, norm in names.values() for name in statistics}
    found = {name for name in weights if not name.endswith(".num_batches_tracked")}
    if found != wanted:
        raise CheckpointError(
            "these are not the weights of EfficientNet-Lite0: "
            f"'{min(found ^ wanted)}' is missing or unexpected"
        )

    state = {}
    for ours, (conv, norm) in names.items():
        scale, shift, mean, variance = (weights[f"{norm}.{name}"] for name in statistics)
        scale = scale / (variance + BATCH_NORM_EPS).sqrt()
        kernel = weights[f"{conv}.weight"] * scale[:, None, None, None]
        module = network.get_submodule(ours)
        if isinstance(module, SpatialConv):
            zeros = module.kernel_size[0] - kernel.shape[-1]
            state[f"{ours}.weight"] = F.pad(kernel, (zeros, 0, zeros, 0))
        else:
            state[f"{ours}.weight"] = kernel.flatten(1)
        state[f"{ours}.bias"] = shift - mean * scale
    network.load_state_dict(state)
    return network


class StarterBackbone(FrameBackbone):
    """EfficientNet-Lite0 on one frame a second; see `FrameBackbone` for its arguments."""

    name = "starter"
    resize = RESIZE

    def __init__(self, network: EfficientNetLite0, device: str = "cpu") -> None:
        super().__init__(network, None, device)
        self.frames_per_batch = FRAMES_PER_BATCH if device == "cpu" else FRAMES_PER_BATCH_ON_GPU
        preprocessing = self.frames_per_second, RESIZE, CROP_SIZE, NUM_CROPS, ATTRIBUTES, USUAL
        self.spec = self.make_spec(FEATURE_DIM, fingerprint(network, preprocessing))
        if device == "cpu" and multiplies_bf16():  # the fingerprint is of the weights as they came
            self.network.bfloat16()

    def prepare(self, frame: Frame) -> NDArray[np.uint8]:
        """Scale a frame and cut its crops: (3, 224, 224, 3)."""
        return crops_along(super().prepare(frame))

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn crops (n, 3, 224, 224, 3) of RGB frames into features (n, 1295).

        The first 1280 are means over crops.
        """
        pixels = frames.flatten(0, 1)  # (3n, 224, 224, 3)
        features: Tensor = self.network((pixels.to(self.network.head.weight.dtype) - 127) / 128)
        means = features.float().view(*frames.shape[:2], NETWORK_DIM).mean(dim=1)
        return torch.cat([means, attributes_of(frames)], dim=1)


def multiplies_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers by itself; emulation would be slower."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.11
    return capabilities.get("avx512_bf16", False)


def load(source: str | None, device: str = "cpu") -> StarterBackbone:
    """Load the weights from their package; see `load_packaged`."""
    return StarterBackbone(load_packaged("starter", source), device)


def crops_along(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut (H, W, 3) into squares (3, 224, 224, 3): at one end, in the middle and at the other."""
    height, width, _ = frame.shape
    ends = height - CROP_SIZE, width - CROP_SIZE
    corners = [[i * end // (NUM_CROPS - 1) for end in ends] for i in range(NUM_CROPS)]
    return np.stack([frame[y : y + CROP_SIZE, x : x + CROP_SIZE] for y, x in corners])


def load_packaged(backbone: str, source: str | None) -> EfficientNetLite0:
    """Load the network with the weights of its installed package.

    Args:
        backbone: Name of the backbone, for messages.
        source: Must be None: there is one set of weights.

    Raises:
        ConfigError: If a source is named.
        MissingExtraError: If the package is not installed.
        CheckpointError: If its weights are damaged.
    """
    if source is not None:
        raise ConfigError(f"backbone '{backbone}' has no variants: leave out ':{source}'")
    return from_published(read_weights(image_weights_file()))


def attributes_of(frames: Tensor) -> Tensor:
    """Measure the attributes of frames.

    Args:
        frames: (n, ..., H, W, 3) uint8 RGB; what lies between is part of a frame, such as crops.

    Returns:
        (n, 15): for each colour the root of its share minus `USUAL`; then whether a frame is black
        and white, dark, and drawn, from 0 to 1.
    """
    pixels = frames[..., STEP // 2 :: STEP, STEP // 2 :: STEP, :].flatten(1, -2).float() / 255
    colours = _colours(pixels)  # (n, P)
    shares = torch.stack([(colours == i).float().mean(dim=1) for i in range(len(COLOURS))], dim=1)
    spread = pixels.amax(dim=-1) - pixels.amin(dim=-1)
    is_grey = ((spread > GREY_SPREAD).float().mean(dim=1) < GREY_SHARE).float()
    dark = ((shares[:, COLOURS.index("black")] - DARK_SHARE) / (1 - DARK_SHARE)).clamp(min=0)
    brightness = frames[..., ::STEP, :, :].float().mean(dim=-1)  # (n, ..., H / 4, W)
    is_flat = brightness.diff(dim=-1).abs() < FLAT_DIFFERENCE
    least, most = FLAT_SHARES
    drawn = ((is_flat.flatten(1).float().mean(dim=1) - least) / (most - least)).clamp(0, 1)
    unusual = shares.sqrt() - torch.tensor(USUAL, device=frames.device)
    return torch.cat([unusual, torch.stack([is_grey, dark, drawn], dim=1)], dim=1)


def _colours(pixels: Tensor) -> Tensor:
    """Return the position in `COLOURS` of each pixel: (..., 3) from 0 to 1 -> (...)."""
    red, green, blue = pixels.unbind(dim=-1)
    value, weakest = pixels.amax(dim=-1), pixels.amin(dim=-1)
    spread = value - weakest
    saturation = spread / value.clamp(min=1e-6)
    safe = spread.clamp(min=1e-6)
    sextant = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = 60 * sextant
    limits = torch.tensor(list(HUES.values()), device=pixels.device, dtype=hue.dtype)
    found = torch.bucketize(hue, limits, right=True) % len(HUES)
    is_red = found == COLOURS.index("red")
    is_warm = is_red | (found == COLOURS.index("orange"))
    is_strong = is_red & (saturation > 0.6) & (value > 0.3)
    found[is_warm & (value < 0.55) & ~is_strong] = COLOURS.index("brown")
    found[is_red & (saturation < 0.55) & (value > 0.75)] = COLOURS.index("pink")
    is_pale = (spread <= MIN_SPREAD) | (saturation <= MIN_SATURATION)
    found[is_pale] = COLOURS.index("grey")
    found[is_pale & (value > WHITE)] = COLOURS.index("white")
    found[(is_pale & (value <= BLACK)) | (value < MIN_SPREAD)] = COLOURS.index("black")
    return found
