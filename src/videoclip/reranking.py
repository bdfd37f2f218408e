"""Looking twice: the cross-modal part re-orders what the towers found first.

One function for retrieval, questions and search, beside the `Embedder` that found it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclip.data.batch import pad_features, pad_tokens
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.model.reranker import rerank

__all__ = ["check_reranker", "rerank_similarities"]

PAIRS_AT_ONCE = 256


def check_reranker(embedder: Embedder) -> None:
    """Make sure that a model can look twice.

    Raises:
        ConfigError: If the model has no re-ranker.
    """
    if not embedder.config.num_cross_layers:
        raise ConfigError(
            "this model has no re-ranker: train one with model.num_cross_layers of at least 1"
        )


def rerank_similarities(
    embedder: Embedder,
    similarity: NDArray[np.float32],
    texts: Sequence[str],
    clips: Sequence[NDArray[np.floating]],
    top_k: int,
) -> NDArray[np.float32]:
    """Put the `top_k` best clips of each text into the re-ranker's order.

    Args:
        embedder: Its model has a re-ranker.
        similarity: (N, M) of the towers, texts by clips.
        texts: N of them.
        clips: M arrays (T, D) of features; of each the model's longest clip is looked at.
        top_k: Clips a text that are looked at again.

    Returns:
        (N, M), as `videoclip.model.reranker.rerank`.

    Raises:
        ConfigError: If the model has no re-ranker.
    """
    check_reranker(embedder)
    model, config = embedder.model, embedder.config
    token_ids = embedder.tokenizer.encode_batch(list(texts))
    token_ids = [ids[: config.max_text_tokens] for ids in token_ids]

    def score(rows: Tensor, columns: Tensor) -> Tensor:
        return torch.cat(
            [_score(r, c) for r, c in zip(rows.split(PAIRS_AT_ONCE), columns.split(PAIRS_AT_ONCE))]
        )

    def _score(rows: Tensor, columns: Tensor) -> Tensor:
        # Texts and clips come back in many pairs of a batch: each is encoded once.
        text_rows, text_of = rows.unique(return_inverse=True)
        clip_rows, clip_of = columns.unique(return_inverse=True)
        text, text_mask = pad_tokens([token_ids[i] for i in text_rows.tolist()], config.pad_id)
        video, video_mask = pad_features(
            [clips[i][: config.max_video_tokens] for i in clip_rows.tolist()]
        )
        device = embedder.device
        encoded_text = model.text_encoder(text.to(device), text_mask.to(device))
        encoded_video = model.video_encoder(video.to(device), video_mask.to(device))
        known = towers[rows, columns].to(device)
        scores: Tensor = model.reranker(encoded_video[clip_of], encoded_text[text_of], known)
        return scores.float().cpu()

    towers = torch.from_numpy(np.ascontiguousarray(similarity))
    with torch.inference_mode():
        return rerank(towers, score, top_k).numpy()
