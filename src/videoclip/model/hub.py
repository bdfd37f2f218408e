"""Model folders: config.json and model.safetensors, read strictly, on disk or on the hub.

The hub library's mixin is not used: it drops unknown settings in silence.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from videoclip.config import ModelConfig, from_dict, to_dict
from videoclip.errors import CheckpointError, ConfigError

__all__ = ["BACKBONE_FOLDER", "load_config", "load_weights", "model_folder", "push", "save_model"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
BACKBONE_FOLDER = "backbone"
"""In a model folder: the backbone that was trained along, if any."""
FORMAT = "videoclip-model-1"


def save_model(model: nn.Module, config: ModelConfig, folder: Path) -> None:
    """Write a model folder; each file is complete or absent, whenever the process dies.

    A frame encoder lies apart, as the backbone it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"format": FORMAT, **to_dict(config)}
    partial = folder / (WEIGHTS_FILE + ".partial")
    with _towers_alone(model) as frame_encoder:
        tensors = _distinct_tensors(model)
    if frame_encoder is not None:
        frame_encoder.save_pretrained(folder / BACKBONE_FOLDER)
    safetensors.torch.save_file(tensors, partial, metadata={"format": "pt"})
    _finish(partial, folder / WEIGHTS_FILE)
    partial = folder / (CONFIG_FILE + ".partial")
    partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    _finish(partial, folder / CONFIG_FILE)


def load_config(folder: Path) -> ModelConfig:
    """Read and check config.json of a model folder.

    Raises:
        CheckpointError: If the file is missing, broken or of another kind.
    """
    path = folder / CONFIG_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a model folder: it has no {CONFIG_FILE}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy the model again") from None
    if not isinstance(settings, dict) or settings.pop("format", None) != FORMAT:
        raise CheckpointError(
            f"{path} was not written by videoclip; other checkpoints become model folders by "
            "`videoclip convert`"
        )
    try:
        return from_dict(ModelConfig, settings)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def load_weights(model: nn.Module, folder: Path) -> None:
    """Fill a model from model.safetensors, every tensor by name and shape.

    Raises:
        CheckpointError: If the file is missing or broken, or a tensor is missing, unexpected or
            of another shape; the message names it.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a model folder: it has no {WEIGHTS_FILE}")
    try:
        with _towers_alone(model) as frame_encoder:
            safetensors.torch.load_model(model, str(path), strict=True)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy the model again") from None
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its config: {_one_line(error)}") from None
    if frame_encoder is not None:
        frame_encoder.load_pretrained(folder / BACKBONE_FOLDER)


def model_folder(folder_or_hub_id: Path | str) -> Path:
    """A local folder as it is; a hub id (`owner/name`) as the folder it was fetched into.

    Raises:
        CheckpointError: If it is neither.
    """
    folder = Path(folder_or_hub_id)
    if folder.is_dir():
        return folder
    name = str(folder_or_hub_id)
    looks_like_id = re.fullmatch(r"[\w][\w.-]*/[\w.-]+", name) and not folder.parent.exists()
    if not looks_like_id:
        raise CheckpointError(f"there is no model folder {folder}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"'{name}' is neither a folder nor to be had from the hub: {_one_line(error)}"
        ) from None


def push(model: nn.Module, config: ModelConfig, hub_id: str, *, private: bool) -> str:
    """Upload a model folder to the hub and return its address there."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(hub_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, config, Path(folder))
        commit = api.upload_folder(repo_id=hub_id, folder_path=folder)
    return str(commit)


@contextmanager
def _towers_alone(model: Any) -> Iterator[Any]:
    """Take the frame encoder off a model for a while, and lend it out; None where there is none."""
    frame_encoder, model.frame_encoder = model.frame_encoder, None
    try:
        yield frame_encoder
    finally:
        model.frame_encoder = frame_encoder


def _distinct_tensors(model: nn.Module) -> dict[str, Tensor]:
    """State of a model; of names that share one tensor (shared towers) the first."""
    distinct: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        distinct.setdefault(tensor.data_ptr(), (name, tensor.contiguous()))
    return dict(distinct.values())


def _finish(partial: Path, path: Path) -> None:
    """Make `partial` durable, then let it take the place of `path`."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
