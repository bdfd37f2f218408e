"""The frame side of a dual encoder of `transformers`: its backbone and features."""

from pathlib import Path

from videoclip.data.feature_store import FeatureSpec
from videoclip.features.backbones import image
from videoclip.weights.pretrained import model_folder


def frames_spec(folder_or_hub_id: Path | str, dim: int) -> FeatureSpec:
    """Return what the features of a dual encoder are, without loading their weights.

    Args:
        folder_or_hub_id: The model.
        dim: Width of its embeddings, as its text side has it.

    Raises:
        CheckpointError: If it has no usable image side.
    """
    name, folder = str(folder_or_hub_id), model_folder(folder_or_hub_id)
    source = str(folder.absolute()) if Path(name).is_dir() else name
    return FeatureSpec(
        dim=dim,
        features_per_second=image.ImageBackbone.frames_per_second,
        backbone=f"image:{source}",
        normalized=True,
        fingerprint=image.fingerprint_of(folder, name),
    )
