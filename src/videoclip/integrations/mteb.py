"""A model for MTEB, the benchmark of embeddings: texts and videos (extra `mteb`).

`mteb.evaluate(MtebEncoder("starter"), mteb.get_tasks(["MSRVTTT2V"]))` scores a model.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from videoclip.embedding import Embedder, VideoEmbedding
from videoclip.errors import DataError, MissingExtraError
from videoclip.types import FloatArray

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
except ImportError as error:
    raise MissingExtraError("MTEB", "mteb") from error


class MtebEncoder(AbsEncoder):  # type: ignore[misc]
    """Embeds the texts and videos of MTEB's tasks.

    An input of both a text and a video is the mean of the two embeddings. Nothing else of MTEB's
    protocol is changed: no instructions, and no prompts.

    Args:
        model: An embedder; or a model folder, hub id or "starter".
        revision: Only for MTEB's loader: the revision of the results, by default the fingerprint.
        device: Torch device to compute on; "auto" is the GPU where there is one.
    """

    def __init__(
        self,
        model: Embedder | Path | str,
        revision: str | None = None,
        device: str | None = None,
    ) -> None:
        if not isinstance(model, Embedder):
            model = Embedder.from_pretrained(model, device or "auto")
        self.embedder = model
        self.mteb_model_meta = model_meta(model, revision)

    def encode(self, inputs: Any, **kwargs: Any) -> FloatArray:
        """Return (N, E) embeddings of the N inputs of a data loader.

        Raises:
            DataError: If they have neither texts nor videos, or a text has no words.
            DecodeError: If a video cannot be read.
        """
        rows, columns = _undecoded(inputs.dataset), inputs.dataset.features
        parts = []
        if "text" in columns:
            parts.append(self.embedder.embed_text([row["text"] for row in rows]))
        if "video" in columns:
            parts.append(np.stack([self._embed(row["video"]).pooled for row in rows]))
        if not parts:
            raise DataError(f"MTEB gave {', '.join(columns)}, but the model takes text and video")
        return np.asarray(np.mean(parts, axis=0), dtype=np.float32)

    def _embed(self, video: Any) -> VideoEmbedding:
        """Embed a video as `datasets` gives it: its bytes or path, or a decoder of torchcodec."""
        if not isinstance(video, dict):
            frames = video.get_frames_in_range(0, len(video)).data  # (T, C, H, W) uint8
            rate = video.metadata.average_fps
            return self.embedder.embed_frames(frames.permute(0, 2, 3, 1).cpu().numpy(), rate)
        if video["bytes"] is None:
            return self.embedder.embed_video(video["path"])
        with tempfile.NamedTemporaryFile(suffix=Path(video["path"] or "video.mp4").suffix) as file:
            file.write(video["bytes"])
            file.flush()
            return self.embedder.embed_video(file.name)


def model_meta(embedder: Embedder, revision: str | None = None) -> ModelMeta:
    """Return what MTEB stores beside the results of a model.

    Args:
        embedder: The model.
        revision: By default its fingerprint.
    """
    config, model = embedder.config, embedder.model
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    name = Path(embedder.source or "model").name
    return ModelMeta(
        loader=partial(_load, embedder.source),
        name=f"videoclip/{name}",
        revision=revision or embedder.fingerprint,
        release_date=None,
        languages=None,
        n_parameters=num_parameters,
        memory_usage_mb=round(num_parameters * 4 / 2**20),
        max_tokens=config.max_text_tokens,
        embed_dim=config.hidden_size,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name=ScoringFunction.COSINE
        if config.normalize
        else ScoringFunction.DOT_PRODUCT,
        use_instructions=False,
        training_datasets=None,
        modalities=["text", "video"],
    )


def _load(source: str, name: str, revision: str | None = None, **options: Any) -> MtebEncoder:
    """Load a model as MTEB does by its metadata."""
    return MtebEncoder(source, revision, options.get("device"))


def _undecoded(dataset: Any) -> Any:
    """Return a dataset with its videos as bytes or paths, where it can be: we decode ourselves."""
    if "video" in dataset.features and hasattr(dataset, "cast_column"):
        from datasets import Video

        return dataset.cast_column("video", Video(decode=False))
    return dataset
