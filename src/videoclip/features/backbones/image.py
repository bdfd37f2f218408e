"""Any Hugging Face image model as a backbone: one pooled vector for each frame.

CLIP, SigLIP, DINOv2, ViT, ResNet and the like, from a local folder or a hub id that the user names
(`image:microsoft/resnet-50`). Models with a text side embed text into the same space
(`videoclip.pretrained.text_tower`); they compare by cosine, so their features are L2-normalised.
Features of all other models are not.

Frames are prepared as the model's own image processor does it (`features.preprocessing`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.data.tokenizer import pad_tokens
from videoclip.errors import CheckpointError, ConfigError
from videoclip.features.decode import Frame
from videoclip.features.frame_backbone import FrameBackbone, fingerprint
from videoclip.features.preprocessing import Preprocessing, read_preprocessing
from videoclip.files import write_json
from videoclip.pretrained.known import full_name
from videoclip.pretrained.loading import (
    check_model,
    files_digest,
    load_network,
    model_folder,
    transformers_library,
    unusable,
)
from videoclip.pretrained.text_tower import TextTower, load_text_tower
from videoclip.types import FloatArray

FAILURES = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, ConfigError)
"""Exceptions that loading an unsuitable model raises."""
VIDEO_MODELS = {"videomae": 8.0, "vjepa2": 4.0, "xclip": 4.0, "videoprism": 4.0}
"""Frames per second of the clips that each type of video model takes.
VideoMAE was trained on about 7.5 and V-JEPA 2 on 4; X-CLIP and VideoPrism on frames that are spread
over a clip of seconds."""


class ImageBackbone(FrameBackbone):
    """An image model over the frames of a video.

    Args:
        source: Local folder or hub id; sent to worker processes in place of the weights.
        network: A model of `transformers`; put into eval mode.
        preprocessing: How frames are prepared.
        device: Torch device to compute on.
        has_pooler: Whether the model's own pooled output is trained; if not, the state of its first
            token is used instead.
    """

    kind = "image"
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
        self.name = f"{self.kind}:{source}"
        self.preprocessing, self.resize = preprocessing, preprocessing.resize
        self.has_pooler = has_pooler
        self.has_text = hasattr(network, "get_text_features")
        on_gpu = torch.device(device).type == "cuda"
        # In half precision on a GPU, but for networks that may be trained (`FrameEncoder`). On a
        # CPU with bfloat16 units it gained 8 % (SigLIP base, 0.34 to 0.31 s a frame): not used.
        self.half = on_gpu and (self.has_text or self.kind == "video")
        if on_gpu:
            self.frames_per_batch *= 4
        if not has_pooler:
            self.network.pooler = None  # untrained; its output is not used
        self.spec = self.make_spec(self._dim(), self.fingerprint(), self.has_text)

    def _dim(self) -> int:
        """Return the width of the features of a frame; configurations name it in many ways."""
        black = self.preprocessing.scaled(np.zeros((32, 32, 3), dtype=np.uint8))
        return int(self.embed_frames(black[None]).shape[1])

    def fingerprint(self) -> str:
        """Return the fingerprint of weights and preprocessing.

        A dual encoder is not trained here, so a digest of its files replaces that of its weights.
        """
        if self.has_text:
            assert self.source is not None
            return files_fingerprint(model_folder(self.source), self.preprocessing)
        return fingerprint(self.network, (self.preprocessing, "Pillow", self.has_pooler))

    def embed_frames(self, frames: NDArray[np.uint8]) -> FloatArray:
        """As `features_of`, on arrays and without gradients."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.half):
            return super().embed_frames(frames)

    def prepare(self, frame: Frame) -> NDArray[np.uint8]:
        """Scale and crop one frame as the model's image processor does: (H, W, 3)."""
        return self.preprocessing.scaled(frame.rgb())

    def features_of(self, frames: Tensor) -> Tensor:
        """Turn RGB frames (n, H, W, 3) uint8 of the model's size into features (n, D)."""
        inputs = self.preprocessing.inputs(frames.to(self.device))
        if self.has_text:
            pooled = _pooled(self.network.get_image_features(**inputs))
            return F.normalize(pooled.float(), dim=1)
        output = self.network(**inputs)
        return _pooled(output) if self.has_pooler else output.last_hidden_state[:, 0]

    def save_pretrained(self, folder: Path) -> str:
        """Write the weights as they are now, and how frames are prepared, as a model folder.

        Returns:
            Their fingerprint.
        """
        source = transformers_library("backbone 'image'").ImageProcessingMixin
        settings, _ = source.get_image_processor_dict(self.source)
        self.network.save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", settings)
        return self.fingerprint()

    @cached_property
    def _text_tower(self) -> TextTower:
        assert self.source is not None
        return load_text_tower(self.source).to(self.device)

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
        tower = self._text_tower
        token_ids = [
            ids[: tower.max_text_tokens] for ids in tower.tokenizer.encode_batch(list(texts))
        ]
        text, mask = pad_tokens(token_ids, tower.tokenizer.pad_id)
        with torch.inference_mode():
            unit: FloatArray = tower(text.to(self.device), mask.to(self.device)).cpu().numpy()
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
    with named_model(source, "image", "microsoft/resnet-50") as (name, folder, model_type):
        if model_type in VIDEO_MODELS:
            raise ValueError(f"it takes clips of several frames: name it 'video:{name}'")
        preprocessing = read_preprocessing(folder)
        network, missing = load_network(folder, "frames")
        if hasattr(network, "get_text_features") and not hasattr(network, "get_image_features"):
            raise ValueError("it has no image encoder")
        # A classifier's checkpoint has no pooler; the library would fill one with random numbers.
        has_pooler = not any("pooler." in name for name in missing)
        if lacking := [name for name in missing if "pooler." not in name]:
            raise ValueError(f"it lacks '{lacking[0]}'")
        return ImageBackbone(name, network, preprocessing, device, has_pooler=has_pooler)


@contextmanager
def named_model(source: str | None, kind: str, example: str) -> Iterator[tuple[str, Path, str]]:
    """Find a model of `transformers`; yield its full name, its folder and its type.

    Args:
        source: A local folder, a hub id or a short name.
        kind: Name of the backbone, "image" or "video".
        example: A hub id, for the message.

    Raises:
        ConfigError: If no model is named.
        CheckpointError: If it cannot be found, or one of `FAILURES` is raised within the block.
        MissingExtraError: If `transformers` is not installed.
    """
    if not source:
        raise ConfigError(
            f"backbone '{kind}' needs a model: '{kind}:FOLDER' or '{kind}:HUB-ID', such as "
            f"'{kind}:{example}'"
        )
    transformers_library(f"backbone '{kind}'")
    source = full_name(source)
    try:
        folder = model_folder(source)
        yield source, folder, check_model(folder, source)["model_type"]
    except (*FAILURES, CheckpointError) as error:
        raise unusable(source, f"{kind} model", error) from error


def files_fingerprint(folder: Path, preprocessing: Preprocessing) -> str:
    """Return the fingerprint of the image side of a dual encoder, without loading its weights."""
    facts = repr((files_digest(folder), preprocessing))
    return hashlib.blake2b(facts.encode()).hexdigest()[:16]


def _pooled(output: Any) -> Tensor:
    """Return (n, D) from a model's output: a tensor, or an object with `pooler_output`."""
    pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return pooled.flatten(1)
