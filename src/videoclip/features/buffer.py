"""The features of one video, put together as they are computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from videoclip.features.backbones import Backbone

__all__ = ["FeatureBuffer", "features_of"]

FIRST_ROWS = 256

FloatArray = npt.NDArray[np.float32]


class FeatureBuffer:
    """One array that doubles when it is full.

    A list of small arrays would stand between the big ones that the network takes and gives back,
    and leave memory full of holes: half a gigabyte in an hour of video.

    Args:
        dim: Width D of a feature.
    """

    def __init__(self, dim: int) -> None:
        self._rows = np.empty((FIRST_ROWS, dim), dtype=np.float32)
        self._num = 0

    def append(self, chunk: FloatArray) -> None:
        """Add features (n, D)."""
        assert chunk.shape[1:] == self._rows.shape[1:], f"features of shape {chunk.shape}"
        end = self._num + len(chunk)
        if end > len(self._rows):
            rows = np.empty((max(end, 2 * len(self._rows)), self._rows.shape[1]), dtype=np.float32)
            rows[: self._num] = self._rows[: self._num]
            self._rows = rows
        self._rows[self._num : end] = chunk
        self._num = end

    def features(self) -> FloatArray:
        """Return all of them, (T, D)."""
        return self._rows[: self._num].copy()


def features_of(backbone: Backbone, path: Path) -> FloatArray:
    """Compute the features of one video, (T, D).

    Raises:
        DecodeError: If the video cannot be read.
    """
    buffer = FeatureBuffer(backbone.spec.dim)
    for chunk in backbone.features_for(path):
        buffer.append(chunk)
    return buffer.features()
