"""Features made elsewhere: a folder with one array per video, `VIDEO_ID.npy`."""

from __future__ import annotations

import tokenize
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import DataError

__all__ = ["find_arrays", "import_features", "spec_of_arrays"]

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv")
"""Many dumps call the features of a.mp4 a.mp4.npy."""
UNIT_TOLERANCE = 0.01
"""How far from 1 the length of a normalised feature may be: half precision is coarse."""


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
        raise DataError("is no folder with arrays: they are named VIDEO_ID.npy", folder)
    return found


def spec_of_arrays(
    arrays: Mapping[str, Path], backbone: str, features_per_second: float, normalized: bool
) -> FeatureSpec:
    """Return what imported features are, after a look at every file's header.

    Args:
        arrays: From `find_arrays`.
        backbone: What made them, by the name that models ask for, such as "s3d".
        features_per_second: Their rate.
        normalized: Whether each has L2 norm 1.

    Raises:
        DataError: At the first file that is no (T, D) array of numbers, or of another width.
    """
    widths: dict[int, Path] = {}
    for path in arrays.values():
        widths.setdefault(_open(path).shape[1], path)
    if len(widths) > 1:
        (width, first), (other, path), *_ = widths.items()
        raise DataError(f"is {other} wide, but {first.name} {width}: import them apart", path)
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
        The ids that were added; running it again goes on where it stopped.

    Raises:
        DataError: At the first array that is not as the store's features are.
    """
    added = []
    for video_id, path in arrays.items():
        if video_id in store:
            continue
        features = _open(path)
        if store.spec.normalized:
            lengths = np.linalg.norm(features.astype(np.float32), axis=1)
            if np.abs(lengths - 1).max() > UNIT_TOLERANCE:
                raise DataError("these features are not of length 1, as was said", path)
        try:
            store.append(video_id, features)
        except DataError as error:
            store.refresh()
            if video_id in store:  # another process was quicker
                continue
            raise DataError(f"not imported: {error}", path) from error
        added.append(video_id)
    return added


def _open(path: Path) -> np.ndarray:
    """Map an array: its header is read and checked, its numbers are not."""
    try:
        features: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"this is not an array ({reason})", path) from error
    if features.ndim != 2 or not features.size or features.dtype.kind not in "fiu":
        raise DataError(
            f"this is not (T, D) features but an array {features.shape} of {features.dtype}", path
        )
    return features
