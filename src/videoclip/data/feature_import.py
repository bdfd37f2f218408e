"""Importing features made elsewhere: a folder with one array per video, `VIDEO_ID.npy`."""

from __future__ import annotations

import tokenize
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import DataError, one_line

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv")
"""Suffixes removed from names, since many folders have a.mp4.npy for a.mp4."""
UNIT_TOLERANCE = 0.01
"""Largest deviation from norm 1 of a normalised feature in half precision."""


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
            raise DataError(f"same video id as {found[video_id].name}; remove one of them", path)
        found[video_id] = path
    if not found:
        raise DataError("has no arrays; name a folder with files VIDEO_ID.npy", folder)
    return found


def spec_of_arrays(
    arrays: Mapping[str, Path], backbone: str, features_per_second: float, normalized: bool
) -> FeatureSpec:
    """Return the spec of features to import, checking the header of every file.

    Args:
        arrays: From `find_arrays`.
        backbone: Name of the backbone that made them, such as "s3d".
        features_per_second: Their rate.
        normalized: Whether each has L2 norm 1.

    Raises:
        DataError: At the first file that is not a (T, D) array of numbers, or has another D.
    """
    widths: dict[int, Path] = {}
    for path in arrays.values():
        widths.setdefault(_open(path).shape[1], path)
    if len(widths) > 1:
        (width, first), (other, path), *_ = widths.items()
        raise DataError(
            f"width {other}, but {first.name} has {width}; import them separately",
            path,
        )
    return FeatureSpec(
        dim=next(iter(widths)),
        features_per_second=features_per_second,
        backbone=backbone,
        normalized=normalized,
        fingerprint="imported",
    )


def import_features(arrays: Mapping[str, Path], store: FeatureStore) -> list[str]:
    """Append every array that the store does not have.

    Returns:
        The ids that were added; a second call continues an interrupted one.

    Raises:
        DataError: At the first array that does not fit the store.
    """
    added = []
    for video_id, path in arrays.items():
        if video_id in store:
            continue
        features = _open(path)
        if store.spec.normalized:
            lengths = np.linalg.norm(features.astype(np.float32), axis=1)
            if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
                raise DataError("features are not L2-normalised, but --normalized was given", path)
        try:
            store.append(video_id, features)
        except DataError as error:
            store.refresh()
            if video_id in store:  # another process added it meanwhile
                continue
            raise DataError(f"not imported: {error}", path) from error
        added.append(video_id)
    return added


def _open(path: Path) -> np.ndarray:
    """Map an array into memory; only its header is read and checked."""
    try:
        features: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(f"not a NumPy array ({one_line(error)})", path) from error
    if features.ndim != 2 or not features.size or features.dtype.kind not in "fiu":
        raise DataError(
            f"expected (T, D) numbers, got an array {features.shape} of {features.dtype}", path
        )
    return features
