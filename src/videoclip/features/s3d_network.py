"""S3D-G: the network whose features the paper uses, a separable 3-D Inception with self-gating.

    clip -> space to depth -> conv1 .. conv_2c -> gating -> mixed_3b .. mixed_5c -> mean -> fc

Module names are those of the published MIL-NCE weights (537 entries), which load unchanged.
Written from a description of the network; shapes use B clips, C channels, and T, H, W for time,
height and width.

Source: Xie et al. 2018 (S3D-G), Miech et al. 2020 (weights trained on HowTo100M).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

S3D_DIM = 512
"""Width of the joint video-text space: the paper's video features."""

NUM_WORDS = 66250
"""Rows of the published word table."""

Triple = tuple[int, int, int]

LAYERS: dict[str, tuple[Any, ...]] = {
    # a pool: (kernel, stride); an Inception block: (b0, b1 reduce, b1, b2 reduce, b2, b3)
    "maxpool_3a": ((1, 3, 3), (1, 2, 2)),
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "maxpool_4a": ((3, 3, 3), (2, 2, 2)),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "maxpool_5a": ((2, 2, 2), (2, 2, 2)),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}


class FlatConv3d(nn.Conv3d):
    """A convolution over space alone or time alone, run as a 2-D one.

    With channels last in memory both views are free, and the whole network takes half the time on
    one thread, where PyTorch's 3-D kernels are slow.
    """

    def __init__(self, dim_in: int, dim_out: int, kernel: Triple) -> None:
        assert kernel[0] == 1 or kernel[1:] == (1, 1)
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        super().__init__(dim_in, dim_out, kernel, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, dim_out, T, H, W)."""
        b, c, t, h, w = x.shape
        if self.kernel_size[0] == 1:
            frames = x.transpose(1, 2).reshape(b * t, c, h, w)
            frames = F.conv2d(frames, self.weight[:, :, 0], padding=self.kernel_size[1] // 2)
            return frames.view(b, t, -1, h, w).transpose(1, 2)
        lines = x.reshape(b, c, t, h * w)
        lines = F.conv2d(lines, self.weight[..., 0], padding=(self.kernel_size[0] // 2, 0))
        return lines.view(b, -1, t, h, w)


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm and ReLU."""

    def __init__(self, dim_in: int, dim_out: int, kernel: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.conv1: nn.Conv3d = FlatConv3d(dim_in, dim_out, kernel)
        self.bn1 = nn.BatchNorm3d(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, dim_out, T, H, W)."""
        return F.relu_(self.bn1(self.conv1(x)))


class SeparableConvBlock(ConvBlock):
    """A 3 x 3 x 3 convolution in two: first over space, then over time."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__(dim_in, dim_out, kernel=(1, 3, 3))
        self.conv2 = FlatConv3d(dim_out, dim_out, kernel=(3, 1, 1))
        self.bn2 = nn.BatchNorm3d(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, dim_out, T, H, W)."""
        return F.relu_(self.bn2(self.conv2(super().forward(x))))


class ZeroPaddedMaxPool(nn.Module):
    """Max-pool as TensorFlow pads it ("SAME"); inputs are >= 0, so zeros never win wrongly."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.padding: list[int] = []
        for k, s in zip(reversed(kernel), reversed(stride), strict=True):  # F.pad: W, H, T
            self.padding += [(k - s) // 2, (k - s) - (k - s) // 2]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C, T', H', W'), each size divided by its stride, upwards."""
        return F.max_pool3d(F.pad(x, self.padding), self.kernel, self.stride, ceil_mode=True)


class SelfGating(nn.Module):
    """Scale every channel by a gate computed from its mean over the clip."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to the same shape."""
        gate = torch.sigmoid(self.fc(x.mean(dim=(2, 3, 4))))  # (B, C)
        return x * gate[:, :, None, None, None]


class InceptionBlock(nn.Module):
    """Four branches side by side, each gated, joined along the channels."""

    def __init__(self, dim_in: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        b0, b1_reduced, b1, b2_reduced, b2, b3 = widths
        self.conv_b0 = ConvBlock(dim_in, b0)
        self.conv_b1_a = ConvBlock(dim_in, b1_reduced)
        self.conv_b1_b = SeparableConvBlock(b1_reduced, b1)
        self.conv_b2_a = ConvBlock(dim_in, b2_reduced)
        self.conv_b2_b = SeparableConvBlock(b2_reduced, b2)
        self.conv_b3_b = ConvBlock(dim_in, b3)
        self.gating_b0 = SelfGating(b0)
        self.gating_b1 = SelfGating(b1)
        self.gating_b2 = SelfGating(b2)
        self.gating_b3 = SelfGating(b3)
        self.dim_out = b0 + b1 + b2 + b3

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, dim_out, T, H, W)."""
        pooled = F.max_pool3d(x, kernel_size=3, stride=1, padding=1)
        branches = (
            self.gating_b0(self.conv_b0(x)),
            self.gating_b1(self.conv_b1_b(self.conv_b1_a(x))),
            self.gating_b2(self.conv_b2_b(self.conv_b2_a(x))),
            self.gating_b3(self.conv_b3_b(pooled)),
        )
        return torch.cat(branches, dim=1)


class TextModule(nn.Module):
    """Bag of words to joint space; used by the MIL-NCE baseline, not by VideoCLIP."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.word_embd = nn.Embedding(num_words, 300)
        self.fc1 = nn.Linear(300, 2048)
        self.fc2 = nn.Linear(2048, S3D_DIM)

    def forward(self, word_ids: Tensor) -> Tensor:
        """Map (B, words) ids to (B, 512); the maximum runs over padding (id 0) too, as trained."""
        hidden = F.relu(self.fc1(self.word_embd(word_ids)))  # (B, words, 2048)
        embedding: Tensor = self.fc2(hidden.amax(dim=1))
        return embedding


class S3D(nn.Module):
    """The video and text branches, in the layout of the published weights.

    Args:
        num_words: Rows of the word table.
    """

    def __init__(self, num_words: int = NUM_WORDS) -> None:
        super().__init__()
        self.conv1 = ConvBlock(24, 64)  # the one kernel over space and time at once:
        self.conv1.conv1 = nn.Conv3d(24, 64, (2, 4, 4), padding=(1, 2, 2), bias=False)
        self.maxpool_2a = ZeroPaddedMaxPool((1, 3, 3), (1, 2, 2))
        self.conv_2b = ConvBlock(64, 64)
        self.conv_2c = SeparableConvBlock(64, 192)
        self.gating = SelfGating(192)
        dim = 192
        for name, sizes in LAYERS.items():
            if name.startswith("maxpool"):
                self.add_module(name, ZeroPaddedMaxPool(*sizes))
            else:
                block = InceptionBlock(dim, sizes)
                self.add_module(name, block)
                dim = block.dim_out
        self.fc = nn.Linear(dim, S3D_DIM)
        self.text_module = TextModule(num_words)

    def mixed_features(self, clips: Tensor) -> Tensor:
        """Return the pooled output of the convolutions, before the joint space.

        Args:
            clips: (B, 3, T, H, W) RGB in [0, 1]; T, H, W even.

        Returns:
            (B, 1024).
        """
        x = self.conv1(space_to_depth(clips))
        x = x[:, :, 1:, 1:, 1:]  # an even kernel padded on both sides gives one plane too many
        x = self.gating(self.conv_2c(self.conv_2b(self.maxpool_2a(x))))
        for name in LAYERS:
            x = self.get_submodule(name)(x)
        mean: Tensor = x.mean(dim=(2, 3, 4))
        return mean

    def forward(self, clips: Tensor) -> Tensor:
        """Map (B, 3, T, H, W) RGB clips in [0, 1] to (B, 512) embeddings."""
        embedding: Tensor = self.fc(self.mixed_features(clips))
        return embedding


def space_to_depth(clips: Tensor) -> Tensor:
    """Fold every 2 x 2 x 2 cell of pixels into channels.

    Args:
        clips: (B, C, T, H, W), T, H, W even.

    Returns:
        (B, 8 C, T/2, H/2, W/2), channels last in memory; channels run over (time, row, column)
        offset, then colour.
    """
    b, c, t, h, w = clips.shape
    cells = clips.reshape(b, c, t // 2, 2, h // 2, 2, w // 2, 2)
    cells = cells.permute(0, 2, 4, 6, 3, 5, 7, 1)  # (B, T/2, H/2, W/2, 2, 2, 2, C)
    cells = cells.reshape(b, t // 2, h // 2, w // 2, 8 * c)
    return cells.permute(0, 4, 1, 2, 3)  # (B, 8 C, T/2, H/2, W/2)
