"""A model for sentence-transformers: texts and videos in one space (extra `sentence-transformers`).

`sentence_transformer("starter").encode([{"video": "park.mp4"}])` embeds a video. What it saves is
loaded by `SentenceTransformer(folder, trust_remote_code=True)`, where videoclip is installed.
Embeddings carry no gradients: train with `videoclip pretrain` or `finetune`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from videoclip.embedding import Embedder, VideoEmbedding
from videoclip.errors import CheckpointError, DataError, MissingExtraError

try:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import InputModule
except ImportError as error:
    raise MissingExtraError("sentence-transformers", "sentence-transformers") from error


def sentence_transformer(model: Embedder | Path | str, device: str = "auto") -> SentenceTransformer:
    """Return a model of sentence-transformers that embeds texts and videos.

    Args:
        model: An embedder; or a model folder, hub id or "starter".
        device: Torch device to compute on; "auto" is the GPU where there is one.
    """
    embedder = model if isinstance(model, Embedder) else Embedder.from_pretrained(model, device)
    similarity = "cosine" if embedder.config.normalize else "dot"
    return SentenceTransformer(
        modules=[VideoCLIPModule(embedder)],
        device=str(embedder.device),
        similarity_fn_name=similarity,
    )


class VideoCLIPModule(InputModule):  # type: ignore[misc]
    """Embeds texts, and videos given as a path, `{"video": path}` or frames with their rate.

    Frames are `{"array": (T, H, W, 3) or (T, 3, H, W) uint8, "video_metadata": {"fps": rate}}`.
    """

    save_in_root = False

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.model = embedder.model  # registered, so that the library moves it to its device
        self._embedder = embedder

    @property
    def modalities(self) -> list[str]:
        """What the model takes."""
        return ["text", "video"]

    def get_embedding_dimension(self) -> int:
        """Return the width E of an embedding."""
        return self._embedder.config.hidden_size

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the inputs as they are; a prompt is put before texts."""
        texts = [text for text in inputs if isinstance(text, str) and not _is_video(text)]
        if len(texts) == len(inputs):
            return {"texts": [(prompt or "") + text for text in texts]}
        return {"videos": list(inputs)}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add the embeddings of the inputs, (N, E)."""
        embedder = self._embedder
        embedder.device = next(self.model.parameters()).device
        if "texts" in features:
            embeddings = embedder.embed_text(features["texts"])
        else:
            embeddings = np.stack([self._embed(video).pooled for video in features["videos"]])
        features["sentence_embedding"] = torch.from_numpy(embeddings).to(embedder.device)
        return features

    def _embed(self, video: Any) -> VideoEmbedding:
        if isinstance(video, Mapping) and "video" in video:
            video = video["video"]
        if isinstance(video, (str, Path)):
            return self._embedder.embed_video(video)
        metadata = video.get("video_metadata") if isinstance(video, Mapping) else None
        if not metadata or not metadata.get("fps"):
            raise DataError(
                "frames without their rate: give a path, or frames as {'array': frames, "
                "'video_metadata': {'fps': rate}}"
            )
        frames = np.asarray(video["array"])
        if frames.ndim == 4 and frames.shape[-1] != 3 == frames.shape[1]:
            frames = frames.transpose(0, 2, 3, 1)
        return self._embedder.embed_frames(frames, metadata["fps"])

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the model folder."""
        self._embedder.save_pretrained(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> Self:
        """Load the model folder, local or on the hub."""
        known = {"token", "cache_folder", "revision", "local_files_only"}
        options = {name: value for name, value in options.items() if name in known}
        folder = cls.load_dir_path(model_name_or_path, subfolder, **options)
        if folder is None:
            raise CheckpointError(f"{model_name_or_path} has no folder {subfolder}: save it again")
        return cls(Embedder.from_pretrained(folder))


def _is_video(text: str) -> bool:
    from sentence_transformers.base.modality import is_video_url_or_path

    return bool(is_video_url_or_path(text))
