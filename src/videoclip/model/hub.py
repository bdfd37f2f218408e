"""Model folders, on disk or on the Hugging Face hub: written whole, read strictly.

    config.json        settings (`ModelConfig`) and the version of this format
    model.safetensors  weights
    vocab.txt          vocabulary of the text tower
    README.md          model card
    backbone/          the backbone, if it was trained with the model
    checksums.json     SHA-256 of all but the card, and the embedder's fingerprint

A folder can be moved: backbones and dual encoders in local folders are named relative to it. The
hub library's mixin is not used, because it ignores unknown settings.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
from torch import nn

from videoclip.config import ModelConfig, from_dict, to_dict
from videoclip.data.tokenizer import VOCAB_FILE, Tokenizer
from videoclip.errors import CheckpointError, ConfigError, one_line
from videoclip.files import (
    CHECKSUMS_FILE,
    atomic_file,
    read_json,
    verify_checksums,
    write_checksums,
    write_json,
    write_text,
)
from videoclip.pretrained.known import CONFIG_FILE

if TYPE_CHECKING:
    from videoclip.model.videoclip import VideoCLIP

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
BACKBONE_FOLDER = "backbone"
"""In a model folder: the backbone that was trained along, if any."""
ADVICE = "copy the model again"
"""What to do with a damaged folder."""
FORMAT_PREFIX = "videoclip-model-"
FORMAT = 2
"""Version of config.json. 1: without a backbone fingerprint; local backbones by absolute path."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model card states beyond the settings, each in Markdown; empty: not stated.

    Attributes:
        data: Videos and texts the model was trained on.
        recipe: How it was trained.
        protocol: Its numbers and how they were measured.
        license: Identifier of the weights' licence as the hub lists them, such as "apache-2.0".
        limits: What it must not be relied on for.
    """

    data: str = ""
    recipe: str = ""
    protocol: str = ""
    license: str = ""
    limits: str = (
        "Embeddings reflect what the training videos and their narration contain, including their "
        "biases. Do not use them to identify people or to decide about them. Confidence is "
        "relative to the videos searched and is not a probability."
    )


def save_model(
    model: VideoCLIP,
    folder: Path,
    tokenizer: Tokenizer | None = None,
    card: ModelCard | None = None,
) -> None:
    """Write a model folder; each file is complete or absent, whenever the process dies.

    A frame encoder is written to `backbone/`.

    Args:
        model: The model.
        folder: Made if need be.
        tokenizer: Its vocabulary, which the text tower needs for texts.
        card: What the model card states beyond the settings. A card that is there already is kept
            if none is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)
    with _towers_alone(model) as frame_encoder:
        state = model.state_dict()
        tensors = {name: state[name].contiguous() for name in _stored_names(model).values()}
    if frame_encoder is not None:
        trained = frame_encoder.save_pretrained(folder / BACKBONE_FOLDER)
        config = replace(model.config, backbone="image:./backbone", backbone_fingerprint=trained)
    else:
        config = _with_paths(model.config, folder, _relative)
    with atomic_file(folder / WEIGHTS_FILE) as partial:
        safetensors.torch.save_file(tensors, partial, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, {"format": f"{FORMAT_PREFIX}{FORMAT}", **to_dict(config)})
    if card is not None or not (folder / CARD_FILE).exists():
        parameters = sum(tensor.numel() for tensor in tensors.values())
        write_text(folder / CARD_FILE, render_card(card or ModelCard(), config, parameters))

    if tokenizer is not None:
        tokenizer.save(folder)
    files = [name for name in (CONFIG_FILE, WEIGHTS_FILE, VOCAB_FILE) if (folder / name).is_file()]
    backbone = (path for path in (folder / BACKBONE_FOLDER).rglob("*") if path.is_file())
    files += sorted(path.relative_to(folder).as_posix() for path in backbone)
    more = {}
    if tokenizer is not None and frame_encoder is None:  # which no fingerprint covers
        more = {"embedder": {"fingerprint": fingerprint(model, tokenizer)}}
    write_checksums(folder, files, **more)


def render_card(card: ModelCard, config: ModelConfig, num_parameters: int) -> str:
    """Return a model card as Markdown with the hub's front matter."""
    from jinja2 import Template

    text = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    # A local folder says nothing to others; fingerprints identify backbone and dual encoder.
    kind, _, source = config.backbone.partition(":")
    is_local = source.startswith((".", "/"))
    backbone = kind if is_local else config.backbone
    dual_encoder = "a dual encoder" if is_local else f"`{config.dual_encoder}`"
    rendered: str = Template(text, trim_blocks=True, keep_trailing_newline=True).render(
        card=card,
        config=config,
        num_parameters=num_parameters,
        backbone=backbone,
        dual_encoder=dual_encoder,
    )
    return rendered


def load_config(folder: Path) -> ModelConfig:
    """Read and check config.json of a model folder; a relative backbone becomes absolute.

    Raises:
        CheckpointError: If the file is missing, broken, of another kind or of a newer version.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a model folder: it has no {CONFIG_FILE}; name one such as RUN/model"
        )
    settings = read_json(path, ADVICE)
    name = settings.pop("format", None) if isinstance(settings, dict) else None
    version = re.fullmatch(FORMAT_PREFIX + r"(\d+)", str(name))
    if not version and (folder / "model" / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} is a run; name its model: {folder / 'model'}")
    if not version:
        raise CheckpointError(
            f"{path} was not written by videoclip; convert other checkpoints with "
            "`videoclip convert`"
        )
    if int(version[1]) > FORMAT:
        raise CheckpointError(
            f"{path} has format {version[1]}, but this videoclip reads formats up to {FORMAT}: "
            "upgrade it with `pip install -U videoclip`"
        )
    try:
        config = from_dict(ModelConfig, settings)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return _with_paths(config, folder, _absolute)


def load_weights(model: nn.Module, folder: Path, *, assign: bool = False) -> None:
    """Fill a model from model.safetensors, every tensor by name and shape.

    Args:
        model: What to fill.
        folder: The model folder.
        assign: Put the tensors of the file, mapped into memory, in place of the model's (which may
            be on the device "meta"), instead of copying into them.

    Raises:
        CheckpointError: If the file is missing or broken, or a tensor is missing, unexpected or
            of another shape; the message names it.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a model folder: it has no {WEIGHTS_FILE}")
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {ADVICE}") from None
    with _towers_alone(model) as frame_encoder:
        own = model.state_dict()
        for name, stored in _stored_names(model).items():
            if name not in tensors and stored in tensors:
                tensors[name] = tensors[stored]
        tensors = {n: t.to(own[n].dtype) if n in own else t for n, t in tensors.items()}
        try:
            model.load_state_dict(tensors, assign=assign)
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit its config: {one_line(error)}") from None
    verify_checksums(folder, ADVICE)
    if frame_encoder is not None:
        frame_encoder.load_pretrained(folder / BACKBONE_FOLDER)


def fingerprint(model: VideoCLIP, tokenizer: Tokenizer) -> str:
    """Return a hex digest of weights, settings and vocabulary."""
    settings = to_dict(model.config)
    del settings["dual_encoder"]  # its fingerprint is there
    known = settings.pop("backbone_fingerprint")
    kind, _, source = settings["backbone"].partition(":")
    if known and source:  # wherever the backbone's folder is now
        settings["backbone"] = f"{kind}:{known}"
    text = json.dumps(settings, sort_keys=True) + tokenizer.fingerprint
    digest = hashlib.blake2b(text.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def stored_fingerprint(folder: Path) -> str | None:
    """Return the embedder's fingerprint as stored with files that `load_weights` has compared.

    None for an older or foreign folder: there it is computed from the weights, which takes long.
    """
    facts: dict[str, str] = read_json(folder / CHECKSUMS_FILE).get("embedder", {})
    return facts.get("fingerprint")


def push(save: Callable[[Path], object], hub_id: str, *, private: bool) -> str:
    """Upload a model folder to the hub and return its address there.

    Args:
        save: Writes the folder.
        hub_id: `owner/name`.
        private: Whether a new repository is private.

    Raises:
        ConfigError: If there is no access token.
        CheckpointError: If the upload fails.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HFValidationError,
        HTTPError,
    )

    if not get_token():
        raise ConfigError(
            f"no Hugging Face token to push '{hub_id}' with: run `hf auth login` or set HF_TOKEN"
        )
    api = HfApi()
    try:
        api.create_repo(hub_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            return str(api.upload_folder(repo_id=hub_id, folder_path=folder))
    except (HTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(f"cannot push to '{hub_id}': {one_line(error)}") from None


def _with_paths(
    config: ModelConfig, folder: Path, change: Callable[[str, Path], str]
) -> ModelConfig:
    """Return a config with the names of backbone and dual encoder changed, which may be paths."""
    kind, colon, source = config.backbone.partition(":")
    backbone = f"{kind}{colon}{change(source, folder)}"
    return replace(config, backbone=backbone, dual_encoder=change(config.dual_encoder, folder))


def _absolute(source: str, folder: Path) -> str:
    """Return a path that is relative to a model folder as an absolute one."""
    is_relative = source.startswith(("./", "../"))
    return os.path.normpath(folder.absolute() / source) if is_relative else source


def _relative(source: str, folder: Path) -> str:
    """Return the path of a local folder relative to a model folder.

    A backbone that belongs to another model folder is copied into this one.
    """
    path, own = Path(source), folder.absolute() / BACKBONE_FOLDER
    if not source or not path.is_dir():
        return source
    is_in_model = path.name == BACKBONE_FOLDER and (path.parent / CONFIG_FILE).is_file()
    if is_in_model and path != own:
        path = shutil.copytree(path, own, dirs_exist_ok=True)
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"


@contextmanager
def _towers_alone(model: Any) -> Iterator[Any]:
    """Take the frame encoder off a model for the block, and yield it; None where there is none."""
    frame_encoder, model.frame_encoder = model.frame_encoder, None
    try:
        yield frame_encoder
    finally:
        model.frame_encoder = frame_encoder


def _stored_names(model: nn.Module) -> dict[str, str]:
    """Return the name under which each tensor is stored: of names that share one, the first."""
    state = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}
