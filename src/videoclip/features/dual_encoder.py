"""The frame side of a dual encoder of `transformers`: its backbone and features."""

from pathlib import Path

from videoclip.data.feature_store import FeatureSpec
from videoclip.features.backbones.image import VIDEO_MODELS, ImageBackbone, fingerprint_of
from videoclip.features.backbones.video import sampling
from videoclip.pretrained.loading import model_folder, transformers_library


def frames_spec(
    folder_or_hub_id: Path | str, dim: int, frames_per_second: float | None = None
) -> FeatureSpec:
    """Return what the features of a dual encoder are, without loading their weights.

    Args:
        folder_or_hub_id: The model.
        dim: Width of its embeddings, as its text side has it.
        frames_per_second: Rate at which frames are sampled; by default the model's own.

    Raises:
        CheckpointError: If it has no usable image side.
    """
    name, folder = str(folder_or_hub_id), model_folder(folder_or_hub_id)
    source = str(folder.absolute()) if Path(name).is_dir() else name
    config = transformers_library(f"model '{name}'").AutoConfig.from_pretrained(folder)
    kind, usual, frames_per_feature = "image", ImageBackbone.frames_per_second, 1
    if config.model_type in VIDEO_MODELS:
        kind, (_, usual, frames_per_feature) = "video", sampling(config)
    rate = (frames_per_second or usual) / frames_per_feature
    return FeatureSpec(
        dim=dim,
        features_per_second=rate,
        backbone=f"{kind}:{source}",
        normalized=True,
        fingerprint=fingerprint_of(folder, name),
    )
