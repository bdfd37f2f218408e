"""Weights on disk: read whole, compared by name and shape, written into a new folder at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from videoclip.errors import CheckpointError, ConfigError
from videoclip.weights.torch_file import TorchFile

__all__ = ["check_shapes", "new_folder", "read_weights", "shapes_of"]

NAMES_IN_MESSAGE = 3


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read every tensor of a .safetensors or `torch.save` file; half precision becomes float32.

    Raises:
        CheckpointError: If the file is missing, damaged, holds something else or tries to run code,
            or a tensor holds NaN or infinite values.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            weights = safetensors.torch.load_file(path)
        except OSError as error:
            raise CheckpointError(f"cannot read {path} ({error})") from None
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path} is damaged ({error}): get it again") from None
    else:
        with TorchFile(path) as file:
            weights = {name: file.load(stored) for name, stored in file.state_dict().items()}
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            weights[name] = tensor.float()
            if not torch.isfinite(weights[name]).all():
                raise CheckpointError(
                    f"{path} is damaged ('{name}' holds NaN or infinite values): get it again"
                )
    return weights


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def check_shapes(
    found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]], where: Path | str
) -> None:
    """Make sure that weights are exactly those of a network.

    Raises:
        CheckpointError: Naming tensors that are missing, unexpected or of another shape.
    """
    mis_shaped = [
        f"'{name}' is {tuple(found[name])}, not {tuple(wanted[name])}"
        for name in wanted
        if name in found and tuple(found[name]) != tuple(wanted[name])
    ]
    missing = [f"'{name}'" for name in wanted if name not in found]
    unexpected = [f"'{name}'" for name in found if name not in wanted]
    kinds = {"missing": missing, "unexpected": unexpected, "mis-shaped": mis_shaped}
    problems = [f"{kind}: {_some(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise CheckpointError(f"{where} has other weights than expected: {'; '.join(problems)}")


@contextmanager
def new_folder(folder: Path | str) -> Iterator[Path]:
    """Give a folder to fill aside, which takes its name once it is complete.

    Raises:
        ConfigError: If something is already there.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} already exists: name a new folder, or remove it")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMES_IN_MESSAGE
    return ", ".join(names[:NAMES_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")
