"""A backbone that sees only keyframes: twenty times less to decode, and less exact in time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import ConfigError
from videoclip.features.backbones import Backbone
from videoclip.features.decode import Mode

__all__ = ["KeyframeBackbone", "SinglePictures"]


@runtime_checkable
class SinglePictures(Protocol):
    """A backbone that takes each picture by itself, so that the nearest keyframe can stand in."""

    def features_by(self, path: Path, mode: Mode) -> Iterator[npt.NDArray[np.float32]]:
        """As `Backbone.features_for`, with pictures sampled in a mode of `sample_frames`."""
        ...


class KeyframeBackbone:
    """A backbone over the keyframe nearest to every second.

    Its features have a fingerprint of their own, so that they are never taken for exact ones.

    Args:
        backbone: Takes each picture by itself.

    Raises:
        ConfigError: If it does not.
    """

    def __init__(self, backbone: Backbone) -> None:
        if not isinstance(backbone, SinglePictures):
            raise ConfigError(
                f"backbone '{backbone.name}' looks at how pictures follow each other: keyframes "
                "will not do, leave out --fast"
            )
        self._backbone = backbone
        self._pictures: SinglePictures = backbone
        self.name = backbone.name
        digest = hashlib.blake2b(f"keyframes {backbone.spec.fingerprint}".encode(), digest_size=16)
        self.spec: FeatureSpec = replace(backbone.spec, fingerprint=digest.hexdigest())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the backbone it wraps."""
        return KeyframeBackbone, (self._backbone,)

    def features_for(self, path: Path) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the features of one video; see `Backbone.features_for`."""
        yield from self._pictures.features_by(path, "fast")
