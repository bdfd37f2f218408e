"""Models of `transformers` in local folders and on the Hugging Face hub: found, checked and loaded.

Only a model that the user names is downloaded, and only its settings, vocabulary and weights; a
model that was downloaded before is read without network. Code that comes with a model is never run.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from safetensors import SafetensorError
from torch import nn

from videoclip.errors import CheckpointError, MissingExtraError, one_line
from videoclip.files import read_json
from videoclip.pretrained.known import (
    CONFIG_FILE,
    STARTER,
    WEIGHTS,
    cached_folder,
    full_name,
    weights_files,
)
from videoclip.weights.files import sampled_digest

SETTINGS = ("*.json", "*.txt", "*.model")
"""Files of a model that are not weights."""
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")

Side: TypeAlias = Literal["text", "frames"]
"""Half of a dual encoder."""
OTHER_SIDE: dict[Side, tuple[str, ...]] = {
    "text": ("vision", "visual", "video", "image", "mit", "prompts"),
    "frames": ("text",),
}
"""By side: how the names of parts begin that only the other one needs."""


def model_folder(folder_or_hub_id: Path | str) -> Path:
    """Return a local folder as it is, and for a hub id (`owner/name`) the downloaded folder.

    A short name (`videoclip models`) stands for its hub id. A model in the hub's cache is not
    looked up again; otherwise it is downloaded.

    Raises:
        CheckpointError: If there is no such folder and the download fails.
    """
    name = full_name(folder_or_hub_id)
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name) or folder.parent.exists():
        if folder.is_file():
            raise CheckpointError(
                f"{folder}: is a file; name the model's folder, such as RUN/model"
            )
        if name == STARTER:
            raise CheckpointError(
                "the starter is no model folder; Embedder.from_pretrained('starter') loads it"
            )
        raise CheckpointError(
            f"there is no model folder {folder}; name one such as RUN/model, a hub id, or one of "
            "`videoclip models`"
        )
    return cached_folder(name) or _download(name)


def is_transformers_model(folder: Path) -> bool:
    """Return whether a model folder is one of `transformers`, not one of this package."""
    settings = read_json(folder / CONFIG_FILE, "download the model again")
    names = {"model_type", "auto_map", "architectures"}
    return isinstance(settings, dict) and "format" not in settings and bool(names & settings.keys())


def _download(hub_id: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
    )

    try:
        names = [file.rfilename for file in HfApi().model_info(hub_id).siblings or ()]
        has_safetensors = any(name.endswith(".safetensors") for name in names)
        weights = WEIGHTS[:1] if has_safetensors else WEIGHTS
        # Folders of a repository hold other formats (onnx, openvino).
        top = [name for name in names if "/" not in name]
        return Path(
            snapshot_download(hub_id, allow_patterns=[*SETTINGS, *weights], ignore_patterns=["*/*"])
            if top
            else snapshot_download(hub_id, allow_patterns=[CONFIG_FILE])
        )
    except GatedRepoError:
        reason = (
            f"access to it must be granted: accept its terms on https://huggingface.co/{hub_id} "
            "and run `hf auth login`"
        )
    except RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private (`hf auth login`)"
    except (HTTPError, OSError, ValueError) as error:  # HTTPError: also without a connection
        reason = f"{one_line(error):.200}; without a connection, name a folder with the model"
    raise CheckpointError(
        f"'{hub_id}' is not a local folder, and the download from the hub failed: {reason}"
    ) from None


def transformers_library(what: str) -> Any:
    """Import `transformers`, an extra that takes seconds to import.

    Args:
        what: What needs it, for the message.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError(what, "hf") from None
    transformers.utils.logging.disable_progress_bar()  # a bar for every file read or written
    return transformers


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the remarks that `transformers` logs while it loads a model off the terminal."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def check_model(folder: Path, name: str) -> dict[str, Any]:
    """Return the config.json of a model that `transformers` itself can load.

    Args:
        folder: Folder of the model.
        name: What the user called it, for messages.

    Raises:
        CheckpointError: If it is no such model, or needs code of its own.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"'{name}' is not a model folder: it has no {CONFIG_FILE}")
    settings = read_json(folder / CONFIG_FILE, "download the model again")
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    known = transformers_library(f"model '{name}'").models.auto.configuration_auto.CONFIG_MAPPING
    if kind in known:
        assert isinstance(settings, dict)
        return settings
    if isinstance(settings, dict) and "auto_map" in settings:
        raise CheckpointError(
            f"'{name}' needs code from its own repository, which videoclip never runs: name a "
            "model that transformers knows (see `videoclip models`)"
        )
    what = f"its type '{kind}' is unknown" if kind else f"its {CONFIG_FILE} names no model_type"
    raise CheckpointError(
        f"'{name}' cannot be loaded by this transformers ({what}): upgrade it, or name another "
        "model (see `videoclip models`)"
    )


def load_network(folder: Path, side: Side | None = None) -> tuple[Any, list[str]]:
    """Load a model in float32 and evaluation mode.

    Args:
        folder: Its folder.
        side: The half of a dual encoder to keep; None: all of it.

    Returns:
        The model, and the names of parameters of the kept parts that its files lack.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError: If it cannot be
            loaded.
    """
    auto = transformers_library("a model of transformers").AutoModel
    try:
        with quietly():
            network, report = auto.from_pretrained(
                folder,
                dtype="float32",
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise OSError(f"its weights are damaged ({error}): download it again") from error
    others = OTHER_SIDE[side] if side else ()
    for part, _ in list(network.named_children()):
        if part.startswith(others):
            network.set_submodule(part, nn.Identity())
    missing = [name for name in report["missing_keys"] if not name.startswith(others)]
    return network.eval(), sorted(missing)


def files_digest(folder: Path) -> str:
    """Return a hex digest of a model's weights and settings, read in milliseconds.

    It is the same wherever the folder is; see `sampled_digest`.
    """
    digest = hashlib.blake2b(sampled_digest(weights_files(folder)).encode(), digest_size=16)
    digest.update((folder / CONFIG_FILE).read_bytes())
    return digest.hexdigest()


def unusable(name: str, what: str, error: Exception) -> CheckpointError:
    """Return the error that a named model is not usable as `what`, with the reason in one line."""
    reason = one_line(error)[:300]
    if reason.startswith(f"'{name}'"):
        reason = "it" + reason.removeprefix(f"'{name}'")
    return CheckpointError(f"'{name}' is not a usable {what}: {reason}")
