"""Frozen features on disk: one append-only float16 file with a checked index, read by `pread`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FeatureSpec"]


@dataclass(frozen=True)
class FeatureSpec:
    """What features are, stored beside them and checked wherever they are used.

    Attributes:
        dim: Width D of one feature.
        features_per_second: Rate; feature i stands for seconds [i / rate, (i + 1) / rate).
        backbone: Name of the frozen backbone that made them, as `load_backbone` takes it.
        normalized: Whether each feature has L2 norm 1.
        fingerprint: Identifies the backbone's weights and preprocessing.
    """

    dim: int
    features_per_second: float
    backbone: str
    normalized: bool
    fingerprint: str
