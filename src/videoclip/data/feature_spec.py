"""What frozen features are: said once, kept beside them, compared at every door."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from videoclip.config import from_dict
from videoclip.errors import ConfigError, DataError
from videoclip.files import write_text

__all__ = ["FeatureSpec", "read_spec", "write_spec"]

FORMAT = 1
"""Layout of a store's files; another number is refused."""


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

    def __post_init__(self) -> None:
        if self.dim < 1 or not 0 < self.features_per_second < float("inf") or not self.backbone:
            raise ConfigError("features need a positive width, a positive rate and a backbone")

    def differences(self, other: FeatureSpec) -> str:
        """Say where two specs differ, as "dim 512, not 1280; ..."; empty if they agree."""
        return "; ".join(
            f"{f.name} {getattr(self, f.name)!r}, not {getattr(other, f.name)!r}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        )


def write_spec(path: Path, spec: FeatureSpec) -> None:
    """Write a spec as JSON, whole or not at all."""
    write_text(path, json.dumps({"format": FORMAT, "spec": asdict(spec)}, indent=2))


def read_spec(path: Path) -> FeatureSpec:
    """Read what `write_spec` wrote.

    Raises:
        DataError: If it is damaged or of another format.
    """
    try:
        content = json.loads(path.read_text())
        version = content["format"]
        spec = content["spec"] if version == FORMAT else None
        if spec is not None:
            return from_dict(FeatureSpec, spec)
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"this does not describe features ({error})", path) from error
    raise DataError(f"format {version} is not known; this version reads {FORMAT}", path)
