"""S3D trained on HowTo100M by MIL-NCE: the paper's backbone, one 512-d feature a second.

The user provides its weights: `videoclip convert s3d_howto100m.pth FOLDER` makes the folder
(config.json, model.safetensors, words.txt) that is read here.

Source: paper, section 5.3. Frames as released: 30 a second, the shorter side to 224,
centre crop, values in [0, 1], 30 frames a feature, black frames at the end, unit length.
The network is S3D-G (Xie et al. 2018), a separable 3-D Inception with self-gating:

    clip -> space to depth -> conv1 .. conv_2c -> gating -> mixed_3b .. mixed_5c -> mean -> fc

Module names are those of the published weights (Miech et al. 2020; 537 entries), which load
unchanged. In shapes: B clips, C channels, and T, H, W for time, height and width.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.errors import CheckpointError
from videoclip.features.decode import CentreCrop
from videoclip.features.frame_backbone import FrameBackbone, fingerprint
from videoclip.files import verify_checksums, write_checksums, write_state, write_text
from videoclip.types import FloatArray
from videoclip.weights.files import fill, read_weights

FOLDER_VARIABLE = "VIDEOCLIP_S3D"
"""Environment variable with the folder of converted weights, for the plain name `s3d`."""

FRAMES_PER_SECOND = 30
FRAME_SIZE = 224
RESIZE = CentreCrop(FRAME_SIZE, FRAME_SIZE, interpolation="bicubic")
SECONDS_PER_BATCH = 2
"""Clips per forward pass; each takes about 180 MB while it is computed."""

MAX_WORDS = 16
"""Words of a text that the text branch reads."""

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
WORDS_FILE = "words.txt"
WORD_TABLE = "text_module.word_embd.weight"

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


class S3DBackbone(FrameBackbone):
    """S3D over the seconds of a video, and its text branch.

    Args:
        network: Weights; put into eval mode.
        words: The words that ids 1, 2, ... stand for; id 0 is padding.
        source: Their folder; sent to worker processes in place of the weights.
        device: Torch device to compute on.
    """

    name = "s3d"
    frames_per_second = FRAMES_PER_SECOND
    frames_per_feature = FRAMES_PER_SECOND
    frames_per_batch = SECONDS_PER_BATCH * FRAMES_PER_SECOND
    resize = RESIZE

    def __init__(
        self, network: S3D, words: Sequence[str], source: str, device: str = "cpu"
    ) -> None:
        super().__init__(network, source, device)
        num_rows = network.text_module.word_embd.num_embeddings
        # Row 0 is padding, so the last word of a list as long as the table has no vector.
        self.word_ids = {word: i for i, word in enumerate(words, start=1) if i < num_rows}
        preprocessing = (FRAMES_PER_SECOND, RESIZE, "unit length")
        self.spec = self.make_spec(S3D_DIM, fingerprint(network, preprocessing), normalized=True)

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn RGB frames (30 n, 224, 224, 3) into features (n, 512) of unit length.

        A last second that lacks frames ends in black. Unit length as the released extraction script
        does by default; the released demo does not.
        """
        black = frames.new_zeros(-len(frames) % FRAMES_PER_SECOND, *frames.shape[1:])
        pixels = torch.cat([frames, black]).float() / 255
        pixels = pixels.view(-1, FRAMES_PER_SECOND, *frames.shape[1:]).permute(0, 4, 1, 2, 3)
        return F.normalize(self.network(pixels), dim=1)

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed N texts as (N, 512), for the MIL-NCE baseline; VideoCLIP does not use this."""
        ids = word_ids(texts, self.word_ids).to(self.device)
        with torch.inference_mode():
            embeddings: FloatArray = self.network.text_module(ids).cpu().numpy()
        return embeddings


def load(source: str | None, device: str = "cpu") -> S3DBackbone:
    """Load converted weights.

    Args:
        source: Their folder; None: the one named by the environment variable VIDEOCLIP_S3D.
        device: Torch device to compute on.

    Raises:
        CheckpointError: If there is no such folder, or a file in it is missing or damaged.
    """
    source = source or os.environ.get(FOLDER_VARIABLE)
    if not source:
        raise CheckpointError(
            "backbone 's3d' needs weights: make a folder of them with `videoclip convert "
            f"s3d_howto100m.pth FOLDER`, then set {FOLDER_VARIABLE}=FOLDER or name 's3d:FOLDER'"
        )
    folder = Path(source)
    verify_checksums(folder, "convert the published weights again")
    network = build_network(read_weights(folder / WEIGHTS_FILE), folder)
    words = read_words(folder / WORDS_FILE)
    _check_words(network, words, folder)
    return S3DBackbone(network, words, source, device)


def build_network(weights: Mapping[str, Tensor], where: Path) -> S3D:
    """Fill the network with weights of the published names.

    Raises:
        CheckpointError: If a tensor is missing, unexpected or of another shape.
    """
    table = weights.get(WORD_TABLE)
    network = S3D() if table is None or table.ndim != 2 else S3D(num_words=len(table))
    fill(network, weights, where)
    return network


def save(network: S3D, words: Sequence[str], folder: Path) -> None:
    """Write a network as a folder for `load`.

    Args:
        network: The weights.
        words: Words of the text branch, in the order of their ids from 1.
        folder: An existing folder.

    Raises:
        CheckpointError: If there are more words than the network has room for.
    """
    _check_words(network, words, folder)
    config = {"backbone": S3DBackbone.name, "num_words": len(words)}
    write_state(folder / CONFIG_FILE, config)
    write_text(folder / WORDS_FILE, "".join(f"{word}\n" for word in words))
    safetensors.torch.save_file(network.state_dict(), folder / WEIGHTS_FILE)
    write_checksums(folder, (CONFIG_FILE, WORDS_FILE, WEIGHTS_FILE))


def read_words(path: Path) -> list[str]:
    """Read the words of the text branch: a published `.npy` list, or one word a line.

    Raises:
        CheckpointError: If the file is missing or something else.
    """
    try:
        if path.suffix == ".npy":
            words = np.load(path, allow_pickle=False)
            if words.ndim != 1 or words.dtype.kind != "U":
                raise ValueError(f"an array of {words.dtype} in {words.ndim} dimensions")
            return [str(word) for word in words]
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a word list ({error}): download it again") from None


def _check_words(network: S3D, words: Sequence[str], folder: Path) -> None:
    num_rows = network.text_module.word_embd.num_embeddings
    if len(words) > num_rows:
        raise CheckpointError(
            f"{folder}: {len(words)} words do not fit a table of {num_rows}: use the list that "
            "belongs to the weights"
        )


def word_ids(texts: Sequence[str], ids: Mapping[str, int]) -> Tensor:
    """Return (N, 16) ids of the known words of N texts; 0 where there are fewer words."""
    rows = torch.zeros(len(texts), MAX_WORDS, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        words = [ids[word] for word in re.findall(r"[\w']+", text.lower()) if word in ids]
        row[: len(words)] = torch.tensor(words[:MAX_WORDS], dtype=torch.int64)
    return rows
