"""S3D trained on HowTo100M by MIL-NCE: the paper's backbone, one 512-d feature a second.

Its weights are the user's to bring: `videoclip convert s3d_howto100m.pth FOLDER` makes the folder
(config.json, model.safetensors, words.txt) that is read here.

Source: paper, section 5.3. Frames as released: 30 a second, the shorter side to 224,
centre crop, values in [0, 1], 30 frames a feature, black frames at the end, unit length.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import CheckpointError
from videoclip.features.decode import CentreCrop, sample_frames
from videoclip.features.fingerprint import fingerprint
from videoclip.features.s3d_network import S3D, S3D_DIM
from videoclip.weights.files import check_shapes, read_weights, shapes_of

__all__ = [
    "FOLDER_VARIABLE",
    "S3DBackbone",
    "build_network",
    "clips_of",
    "load",
    "read_words",
    "save",
    "word_ids",
]

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

FloatArray = npt.NDArray[np.float32]


class S3DBackbone:
    """S3D over the seconds of a video, and its text branch.

    Args:
        network: Weights; put into eval mode.
        words: The words that ids 1, 2, ... stand for; id 0 is padding.
        folder: Where they came from; sent to worker processes in place of the weights.
        device: Torch device to compute on.
    """

    name = "s3d"

    def __init__(
        self, network: S3D, words: Sequence[str], folder: Path, device: str = "cpu"
    ) -> None:
        self.network = network.to(device).eval()
        num_rows = network.text_module.word_embd.num_embeddings
        # Row 0 is padding, so that a list as long as the table has a last word without a vector.
        self.word_ids = {word: i for i, word in enumerate(words, start=1) if i < num_rows}
        self.folder = folder
        self.device = device
        preprocessing = (FRAMES_PER_SECOND, RESIZE, "unit length")
        self.spec = FeatureSpec(
            dim=S3D_DIM,
            features_per_second=1.0,
            backbone=self.name,
            normalized=True,
            fingerprint=fingerprint(network, preprocessing),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the folder to load again."""
        return load, (str(self.folder), self.device)

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield one video's features in order, as chunks (n, 512) of unit rows.

        Raises:
            DecodeError: If the video cannot be read.
        """
        frames = (frame.rgb(RESIZE) for frame in sample_frames(path, FRAMES_PER_SECOND))
        seconds = clips_of(frames)
        while batch := list(islice(seconds, SECONDS_PER_BATCH)):
            yield self.embed_clips(np.stack(batch))

    def embed_clips(self, clips: npt.NDArray[np.uint8]) -> FloatArray:
        """Turn clips (n, 30, 224, 224, 3) of RGB frames into features (n, 512) of unit length.

        Unit length as the released extraction script does by default; the released demo does not.
        """
        with torch.inference_mode():
            pixels = torch.from_numpy(clips).to(self.device).float() / 255
            features = F.normalize(self.network(pixels.permute(0, 4, 1, 2, 3)), dim=1)
        return features.cpu().numpy()

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed N texts as (N, 512), for the MIL-NCE baseline; VideoCLIP does not use this."""
        ids = word_ids(texts, self.word_ids).to(self.device)
        with torch.inference_mode():
            embeddings: Tensor = self.network.text_module(ids)
        return embeddings.cpu().numpy()


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
            "backbone 's3d' needs weights: make a folder of them by `videoclip convert "
            f"s3d_howto100m.pth FOLDER`, then set {FOLDER_VARIABLE}=FOLDER or name 's3d:FOLDER'"
        )
    folder = Path(source)
    network = build_network(read_weights(folder / WEIGHTS_FILE), folder)
    words = read_words(folder / WORDS_FILE)
    _check_words(network, words, folder)
    return S3DBackbone(network, words, folder, device)


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
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / WORDS_FILE).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
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
        raise CheckpointError(f"{path} is no list of words ({error}): get it again") from None


def _check_words(network: S3D, words: Sequence[str], folder: Path) -> None:
    num_rows = network.text_module.word_embd.num_embeddings
    if len(words) > num_rows:
        raise CheckpointError(
            f"{folder}: {len(words)} words do not fit a table of {num_rows}: use the list that "
            "came with the weights"
        )


def word_ids(texts: Sequence[str], ids: Mapping[str, int]) -> Tensor:
    """Return (N, 16) ids of the known words of N texts; 0 where there are fewer words."""
    rows = torch.zeros(len(texts), MAX_WORDS, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        words = [ids[word] for word in re.findall(r"[\w']+", text.lower()) if word in ids]
        row[: len(words)] = torch.tensor(words[:MAX_WORDS], dtype=torch.int64)
    return rows


def clips_of(frames: Iterator[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    """Group frames (H, W, 3) by the second as (30, H, W, 3), the last one ending in black."""
    while second := list(islice(frames, FRAMES_PER_SECOND)):
        clip = np.zeros((FRAMES_PER_SECOND, *second[0].shape), dtype=np.uint8)
        clip[: len(second)] = second
        yield clip
