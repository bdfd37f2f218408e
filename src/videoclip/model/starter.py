"""The starter model: useful before any training, made of weights that come as packages.

Words are embedded by all-MiniLM-L6-v2, pictures by the bridge from ImageNet's classes to that
space. Training on one's own narrated videos starts here (`videoclip pretrain starter`).
"""

from __future__ import annotations

import json
from importlib.resources import files

import safetensors.torch

from videoclip.data.tokenizer import Tokenizer
from videoclip.model.convert import from_bert
from videoclip.model.encoders import BridgedVideoEncoder, CentredTextEncoder
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import starter
from videoclip.weights.files import read_weights
from videoclip.weights.starter_files import image_weights_file, text_folder

__all__ = ["CLASS_TABLE", "sentence_model", "starter_model"]

CLASS_TABLE = "starter_classes.safetensors"
"""Made from the text tower by `python -m videoclip.model.starter_classes`, and kept as a file so
that the model is there at once and is the same, to the bit, on every machine."""


def starter_model() -> tuple[VideoCLIP, Tokenizer]:
    """Build the starter model from the installed packages.

    At this point the video tower says exactly what the bridge says: its residual is zero.

    Raises:
        MissingExtraError: If a package is not installed.
        CheckpointError: If its weights are damaged.
    """
    classifier = read_weights(image_weights_file())
    model, tokenizer = sentence_model()
    table = safetensors.torch.load(files(__package__).joinpath(CLASS_TABLE).read_bytes())
    video, text = model.video_encoder, model.text_encoder
    assert isinstance(video, BridgedVideoEncoder) and isinstance(text, CentredTextEncoder)
    video.bridge.class_weight.copy_(classifier["_fc.weight"])
    video.bridge.class_bias.copy_(classifier["_fc.bias"])
    video.bridge.class_embeddings.copy_(table["class_embeddings"])
    text.offset.copy_(table["offset"])
    return model, tokenizer


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
