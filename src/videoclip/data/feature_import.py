"""Features made elsewhere: a folder with one `<video_id>.npy` per video."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError

__all__ = ["import_npy_folder"]


def import_npy_folder(folder: str | Path, store: FeatureStore) -> list[str]:
    """Append every `<video_id>.npy` of a folder that the store does not have, in sorted order.

    Returns:
        The ids that were added; running it again goes on where it stopped.

    Raises:
        DataError: At the first file that is no (T, D) array of finite numbers.
    """
    added = []
    for path in sorted(Path(folder).glob("*.npy")):
        if path.stem in store:
            continue
        try:
            features = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"this is not an array ({error})", path) from error
        try:
            store.append(path.stem, features)
        except DataError as error:
            raise DataError(f"not imported: {error}", path) from error
        added.append(path.stem)
    return added
