"""EfficientNet-Lite0, with every batch norm folded into the convolution before it.

Lite means EfficientNet-B0 without squeeze and excitation and with ReLU6 for swish.
Source: Tan and Le, "EfficientNet" (arXiv 1905.11946), table 1; the weights were trained with
TensorFlow, hence its padding and its batch-norm epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.errors import CheckpointError

__all__ = ["FEATURE_DIM", "EfficientNetLite0", "fold_batch_norms"]

FEATURE_DIM = 1280

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


class SameConv(nn.Conv2d):
    """A convolution that gives ceil(size / stride) positions, padding as TensorFlow's `SAME`.

    At stride 2 that is one more row and column behind than in front, where torch pads evenly.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        even = kernel // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, even, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            height, width = (kernel - 1 - (size - 1) % stride for size in x.shape[2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class InvertedBottleneck(nn.Module):
    """Widen, filter every channel on its own, narrow; added to the input where shapes agree."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = SameConv(in_channels, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, out_channels, 1)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        inner = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        projected: Tensor = self.project(F.relu6(self.depthwise(inner), inplace=True))
        return projected + x if self.shortcut else projected


class EfficientNetLite0(nn.Module):
    """Images to the features in which ImageNet's class logits are linear; for inference only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for num_blocks, kernel, stride, expansion, out_channels in STAGES:
            for i in range(num_blocks):
                shape = channels, out_channels, kernel, stride if i == 0 else 1, expansion
                blocks.append(InvertedBottleneck(*shape))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(channels, FEATURE_DIM, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over the last feature map.

        Args:
            images: (B, 3, H, W) RGB, (x - 127) / 128 of values in [0, 255]; trained at 224 x 224.

        Returns:
            (B, 1280).
        """
        x = F.relu6(self.stem(images), inplace=True)  # (B, 32, H/2, W/2)
        x = F.relu6(self.head(self.blocks(x)), inplace=True)  # (B, 1280, H/32, W/32)
        return x.mean(dim=(2, 3))


def fold_batch_norms(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn weights of the published names into those of `EfficientNetLite0`.

    Args:
        weights: Convolutions, their batch norms and the classifier `_fc`, which is left to the
            model: logits are `_fc.weight @ feature + _fc.bias`.

    Raises:
        CheckpointError: If a tensor is missing or unexpected.
    """
    convolutions = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for i in range(sum(num_blocks for num_blocks, *_ in STAGES)):
        parts = {
            "expand": ("_expand_conv", "_bn0"),
            "depthwise": ("_depthwise_conv", "_bn1"),
            "project": ("_project_conv", "_bn2"),
        }
        if i == 0:  # the first stage does not widen
            del parts["expand"]
        for part, (conv, norm) in parts.items():
            convolutions[f"blocks.{i}.{part}"] = (f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}")

    statistics = ("weight", "bias", "running_mean", "running_var")
    wanted = {f"{conv}.weight" for conv, _ in convolutions.values()}
    wanted |= {f"{norm}.{name}" for _, norm in convolutions.values() for name in statistics}
    wanted |= {"_fc.weight", "_fc.bias"}
    found = {name for name in weights if not name.endswith(".num_batches_tracked")}
    if found != wanted:
        raise CheckpointError(
            "these are not the weights of EfficientNet-Lite0: "
            f"'{min(found ^ wanted)}' is missing or unexpected"
        )

    folded = {}
    for ours, (conv, norm) in convolutions.items():
        scale, shift, mean, variance = (weights[f"{norm}.{name}"] for name in statistics)
        scale = scale / (variance + BATCH_NORM_EPS).sqrt()
        folded[f"{ours}.weight"] = weights[f"{conv}.weight"] * scale[:, None, None, None]
        folded[f"{ours}.bias"] = shift - mean * scale
    return folded
