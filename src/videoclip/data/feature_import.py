"""Features made elsewhere: a folder with one array per video, `VIDEO_ID.npy`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from videoclip.data.feature_spec import FeatureSpec
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError

__all__ = ["find_arrays", "import_features", "spec_of_arrays"]

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv")
"""Many dumps call the features of a.mp4 a.mp4.npy."""


def find_arrays(folder: Path | str) -> dict[str, Path]:
    """Return the arrays of a folder by video id, in order of their names.

    Raises:
        DataError: If there are none, or two for one video.
    """
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).glob("*.npy")):
        video_id = path.stem
        for suffix in VIDEO_SUFFIXES:
            video_id = video_id.removesuffix(suffix)
        if video_id in found:
            raise DataError(f"is of the same video as {found[video_id].name}: remove one", path)
        found[video_id] = path
    if not found:
        raise DataError("has no arrays: they are named VIDEO_ID.npy", folder)
    return found


def spec_of_arrays(
    arrays: dict[str, Path], backbone: str, features_per_second: float, normalized: bool
) -> FeatureSpec:
    """Return what imported features are; their width is that of the first.

    Args:
        arrays: From `find_arrays`.
        backbone: What made them, by the name that models ask for, such as "s3d".
        features_per_second: Their rate.
        normalized: Whether each has L2 norm 1.
    """
    features = _read(next(iter(arrays.values())))
    return FeatureSpec(
        dim=features.shape[-1],
        features_per_second=features_per_second,
        backbone=backbone,
        normalized=normalized,
        fingerprint="imported",
    )


def import_features(arrays: dict[str, Path], store: FeatureStore) -> list[str]:
    """Append every array that the store does not have.

    Returns:
        The ids that were added; running it again goes on where it stopped.

    Raises:
        DataError: At the first file that is no (T, D) array of finite numbers.
    """
    added = []
    for video_id, path in arrays.items():
        if video_id in store:
            continue
        features = _read(path)
        try:
            store.append(video_id, features)
        except DataError as error:
            raise DataError(f"not imported: {error}", path) from error
        added.append(video_id)
    return added


def _read(path: Path) -> np.ndarray:
    try:
        features: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"this is not an array ({error})", path) from error
    if features.ndim != 2 or not features.size:
        raise DataError(f"this is not (T, D) features but an array {features.shape}", path)
    return features
