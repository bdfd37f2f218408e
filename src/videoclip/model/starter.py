"""The starter model: useful before any training, made of weights that come as packages.

Texts are embedded by all-MiniLM-L6-v2, frames by the bridge from ImageNet's classes to that space.
Training on one's own narrated videos starts here (`videoclip pretrain starter`).
"""

import json
from importlib.resources import files
from pathlib import Path

import safetensors.torch

from videoclip.data.tokenizer import Tokenizer
from videoclip.model.convert import from_bert
from videoclip.model.encoders import BridgedVideoEncoder, CentredTextEncoder
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import starter
from videoclip.weights.files import image_weights_file, read_weights, sampled_digest, text_folder

CLASS_TABLE = "starter_classes.safetensors"
"""Made from the text tower by `tools/starter_classes.py`, and kept as a file so
that the model loads at once and is bit-identical on every machine."""

FINGERPRINT = "d9baec94c7181ee3"
"""Fingerprint of the embedder with the pinned packages. What the untrained residual of the video
tower holds does not count, since it is multiplied by zero."""
SAMPLED_DIGEST = "b2b99d722492023f0d6f6c834a772fb2"
"""Of the files that the fingerprint belongs to."""


def starter_model() -> tuple[VideoCLIP, Tokenizer]:
    """Build the starter model from the installed packages.

    Before training the video tower returns what the bridge returns: its residual is zero.

    Raises:
        MissingExtraError: If a package is not installed.
        CheckpointError: If its weights are damaged.
    """
    classifier = read_weights(image_weights_file(), ("_fc.weight", "_fc.bias"))
    model, tokenizer = sentence_model()
    table = safetensors.torch.load(files(__package__).joinpath(CLASS_TABLE).read_bytes())
    video, text = model.video_encoder, model.text_encoder
    assert isinstance(video, BridgedVideoEncoder) and isinstance(text, CentredTextEncoder)
    video.bridge.class_weight.copy_(classifier["_fc.weight"])
    video.bridge.class_bias.copy_(classifier["_fc.bias"])
    video.bridge.class_embeddings.copy_(table["class_embeddings"])
    text.offset.copy_(table["offset"])
    return model, tokenizer


def starter_fingerprint() -> str | None:
    """Return the embedder's fingerprint if the packages are the pinned ones, else None."""
    folder = text_folder()
    paths = [
        image_weights_file(),
        *(folder / name for name in ("model.safetensors", "config.json", "vocab.txt")),
        Path(__file__).with_name(CLASS_TABLE),
    ]
    return FINGERPRINT if sampled_digest(paths) == SAMPLED_DIGEST else None


def sentence_model() -> tuple[VideoCLIP, Tokenizer]:
    """Build the starter with an empty bridge: its texts are plain sentence embeddings.

    Raises:
        MissingExtraError: If the package of the sentence encoder is not installed.
        CheckpointError: If its weights are damaged.
    """
    folder = text_folder()
    weights = read_weights(folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = from_bert(weights, settings, starter().model, folder).eval()
    return model, Tokenizer.from_folder(folder)
