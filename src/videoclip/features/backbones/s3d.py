"""S3D trained on HowTo100M by MIL-NCE: the paper's backbone, one 512-d feature a second.

The user provides its weights: `videoclip convert s3d_howto100m.pth FOLDER` makes the folder
(config.json, model.safetensors, words.txt) that is read here.

Source: paper, section 5.3. Frames as released: 30 a second, the shorter side to 224,
centre crop, values in [0, 1], 30 frames a feature, black frames at the end, unit length.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from videoclip.errors import CheckpointError
from videoclip.features.decode import CentreCrop
from videoclip.features.frame_backbone import NetworkBackbone
from videoclip.features.s3d_network import S3D, S3D_DIM
from videoclip.files import write_json, write_text
from videoclip.types import FloatArray
from videoclip.weights.files import check_shapes, read_weights, shapes_of

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


class S3DBackbone(NetworkBackbone):
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
        self.spec = self.make_spec(S3D_DIM, preprocessing, normalized=True)

    def embed_frames(self, frames: NDArray[np.uint8]) -> FloatArray:
        """Turn RGB frames (30 n, 224, 224, 3) into features (n, 512) of unit length.

        A last second that lacks frames ends in black. Unit length as the released extraction script
        does by default; the released demo does not.
        """
        black = np.zeros((-len(frames) % FRAMES_PER_SECOND, *frames.shape[1:]), dtype=np.uint8)
        clips = np.concatenate([frames, black])
        with torch.inference_mode():
            pixels = torch.from_numpy(clips).to(self.device).float() / 255
            pixels = pixels.view(-1, FRAMES_PER_SECOND, *frames.shape[1:]).permute(0, 4, 1, 2, 3)
            features: FloatArray = F.normalize(self.network(pixels), dim=1).cpu().numpy()
        return features

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
    check_shapes(shapes_of(weights), shapes_of(network.state_dict()), where)
    network.load_state_dict(weights)
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
    write_json(folder / CONFIG_FILE, config)
    write_text(folder / WORDS_FILE, "".join(f"{word}\n" for word in words))
    safetensors.torch.save_file(network.state_dict(), folder / WEIGHTS_FILE)


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
