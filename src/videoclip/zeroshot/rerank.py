"""Looking twice: the cross-modal part re-orders what the towers found first.

One scorer for retrieval, questions and search, beside the `Embedder` whose similarities it
corrects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclip.data.batch import pad_features
from videoclip.data.tokenizer import pad_tokens
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.model.reranker import rerank

__all__ = ["PairScorer", "rerank_clips"]

PAIRS_AT_ONCE = 256
FloatArray = NDArray[np.float32]


class PairScorer:
    """Scores pairs of the texts and clips it was given.

    Args:
        embedder: Its model has a re-ranker.
        texts: N of them, cut as the embedder cuts them.
        clips: M arrays (T, D) of features; of each the model's longest clip is looked at.

    Raises:
        ConfigError: If the model has no re-ranker.
    """

    def __init__(
        self, embedder: Embedder, texts: Sequence[str], clips: Sequence[NDArray[np.floating]]
    ) -> None:
        config = embedder.config
        if not config.num_cross_layers:
            raise ConfigError(
                "this model has no re-ranker: train one with --model.num-cross-layers 1"
            )
        self._model, self._device, self._pad_id = embedder.model, embedder.device, config.pad_id
        token_ids = embedder.tokenizer.encode_batch(list(texts))
        self._token_ids = [ids[: config.max_text_tokens] for ids in token_ids]
        self._clips = [clip[: config.max_video_tokens] for clip in clips]

    def __call__(self, text_of: Tensor, clip_of: Tensor, similarity: Tensor) -> Tensor:
        """Score P pairs.

        Args:
            text_of: (P,) which text.
            clip_of: (P,) which clip.
            similarity: (P,) what the towers say.

        Returns:
            (P,) float32 similarities, corrected.
        """
        batches = zip(*(torch.split(x, PAIRS_AT_ONCE) for x in (text_of, clip_of, similarity)))
        with torch.inference_mode():
            return torch.cat([self._score(*batch) for batch in batches])

    def _score(self, text_of: Tensor, clip_of: Tensor, similarity: Tensor) -> Tensor:
        # A text or clip comes back in many pairs of a batch: each is encoded once.
        texts, text_of = torch.unique(text_of, return_inverse=True)
        clips, clip_of = torch.unique(clip_of, return_inverse=True)
        text = pad_tokens([self._token_ids[i] for i in texts.tolist()], self._pad_id)
        video = pad_features([self._clips[i] for i in clips.tolist()])
        encoded_text = self._model.text_states(*(x.to(self._device) for x in text))
        encoded_video = self._model.video_states(*(x.to(self._device) for x in video))
        scores: Tensor = self._model.reranker(
            encoded_video[clip_of.to(self._device)],
            encoded_text[text_of.to(self._device)],
            similarity.to(self._device),
        )
        return scores.float().cpu()


def rerank_clips(scorer: PairScorer, similarity: FloatArray, top_k: int) -> FloatArray:
    """Put the `top_k` best clips of each text into the scorer's order: (N, M) texts by clips."""
    towers = torch.from_numpy(similarity)
    return rerank(towers, lambda n, m: scorer(n, m, towers[n, m]), top_k).numpy()
