"""Frozen backbones: raw video in, one feature per 1/rate second out.

Every module of this package is a backbone and has a function `load(source, device)`; adding one is
adding a file (docs/adding.md), and `videoclip.features.frame_backbone` has what they share. The
module's name is the backbone's: a user types `NAME` or `NAME:SOURCE` ("starter",
"image:google/siglip-base").
"""

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from videoclip.config import ModelConfig
from videoclip.data.feature_store import FeatureSpec
from videoclip.errors import CheckpointError, ConfigError, IndexMismatchError, unknown
from videoclip.files import parse_state
from videoclip.types import FloatArray

BACKBONES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
"""Names of all backbones."""
UNKNOWN_FINGERPRINTS = ("", "imported", "released")
"""What stands in a `FeatureSpec` whose backbone was not at hand; only names are compared then."""


@runtime_checkable
class Backbone(Protocol):
    """A frozen network over the frames of a video.

    An implementation must pickle (extraction sends it to worker processes), be deterministic, and
    keep memory bounded however long the video is.
    """

    @property
    def name(self) -> str:
        """What `load_backbone` takes to make this backbone again."""

    @property
    def spec(self) -> FeatureSpec:
        """What the features are; `spec.backbone` equals `name`."""

    def features_for(self, path: Path) -> Iterator[FloatArray]:
        """Yield the features of one video in order, as chunks (n, D) of any n >= 1.

        Feature i stands for seconds [i / rate, (i + 1) / rate). Frames come from
        `videoclip.features.contained.sample_frames`.

        Raises:
            DecodeError: If the video cannot be read.
        """


def load_backbone(
    name_or_folder: str | Path, device: str = "auto", frames_per_second: float | None = None
) -> Backbone:
    """Load a frozen backbone, for `extract_features`; only its own module is imported.

    Args:
        name_or_folder: `NAME` ("starter", "motion", "s3d"), `NAME:SOURCE` ("image:FOLDER",
            "image:HUB-ID", "video:HUB-ID", "s3d:FOLDER"), or a folder whose `config.json` names its
            `backbone`.
        device: Torch device the network runs on; "auto" is the GPU where there is one.
        frames_per_second: Rate at which frames are sampled; by default the backbone's own. The
            features follow each other as much faster.

    Raises:
        ConfigError: If there is no such backbone, or it has one rate only.
        CheckpointError: If its weights are missing or broken.
        MissingExtraError: If it needs packages that are not installed.
    """
    text = str(name_or_folder)
    name, colon, source = text.partition(":")
    config = Path(text) / "config.json"
    if name not in BACKBONES and config.is_file():
        name, colon, source = _name_in(config), ":", text
    if name not in BACKBONES:
        raise ConfigError(f"{unknown('backbone', name, BACKBONES)}, or a backbone's folder")
    from videoclip.distributed import choose_device  # here, since it imports torch

    module = importlib.import_module(f"{__name__}.{name}")
    backbone = module.load(source if colon else None, choose_device(device))
    assert isinstance(backbone, Backbone)
    if frames_per_second is None:
        return backbone
    change: Callable[[float], Backbone] | None = getattr(backbone, "at_rate", None)
    if change is None:
        raise ConfigError(f"backbone '{backbone.name}' has one rate: leave out --frames-per-second")
    return change(frames_per_second)


def keyframe_fingerprint(exact: str) -> str:
    """Return the fingerprint of a backbone's features from keyframes, given that of exact ones."""
    return hashlib.blake2b(f"keyframes {exact}".encode(), digest_size=16).hexdigest()


def feature_differences(config: ModelConfig, spec: FeatureSpec) -> str:
    """Return what differs between features and the kind a model takes; empty if nothing does.

    Where both fingerprints are known, the backbone is compared by fingerprint (a backbone keeps it
    when its folder moves), else by name. Features from keyframes count as their backbone's.
    """
    pairs: dict[str, tuple[object, object]] = {
        "backbone": (config.backbone, spec.backbone),
        "width": (config.feature_dim, spec.dim),
        "features per second": (config.features_per_second, spec.features_per_second),
        "normalised": (config.normalized_features, spec.normalized),
    }
    wanted, found = config.backbone_fingerprint, spec.fingerprint
    if not {wanted, found} & set(UNKNOWN_FINGERPRINTS):
        del pairs["backbone"]
        if keyframe_fingerprint(wanted) != found and keyframe_fingerprint(found) != wanted:
            pairs[f"fingerprint of backbone '{spec.backbone}'"] = (wanted, found)
    return "; ".join(
        f"{name} {has!r}, not {wants!r}" for name, (wants, has) in pairs.items() if has != wants
    )


def check_features(config: ModelConfig, spec: FeatureSpec) -> None:
    """Raise an `IndexMismatchError` that names what differs if a model does not take features."""
    if differences := feature_differences(config, spec):
        raise IndexMismatchError(
            f"these features do not fit the model ({differences}): extract them with "
            f"--backbone {config.backbone}"
        )


def with_fingerprint(config: ModelConfig, spec: FeatureSpec) -> ModelConfig:
    """Return a model's config with the fingerprint of the features it is trained on.

    Raises:
        IndexMismatchError: If they are not of the kind the model takes.
    """
    check_features(config, spec)
    if config.backbone_fingerprint or spec.fingerprint in UNKNOWN_FINGERPRINTS:
        return config
    return replace(config, backbone_fingerprint=spec.fingerprint)


def _name_in(config: Path) -> str:
    """Return the name of the backbone in a folder."""
    try:
        return str(parse_state(config.read_text(encoding="utf-8"))["backbone"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{config} names no backbone; write 'image:{config.parent}' for an image model"
        ) from error
