"""Re-ranking: the cross-modal part of a model orders the best candidates of its towers again.

Retrieval, multiple choice, search and the choice of the re-ranker's weight use the same functions.
"""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from videoclip.data.tokenizer import pad_tokens
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.model.reranker import concatenate, take
from videoclip.model.videoclip import VideoCLIP, pad_features
from videoclip.types import FloatArray, RealArray

PAIRS_AT_ONCE = 256
SEQUENCES_AT_ONCE = 256
TEXTS_AT_ONCE = 32
"""Texts that are compared with all clips at a time, to bound memory."""


class PairScorer:
    """Computes the similarities of pairs of texts and clips with the re-ranker's correction.

    Args:
        embedder: Its model has a re-ranker.
        texts: N texts, cut to the model's longest text.
        clips: M arrays (T, D) of features; clips longer than the model's longest are encoded in
            pieces.

    Raises:
        ConfigError: If the model has no re-ranker.
    """

    def __init__(
        self, embedder: Embedder, texts: Sequence[str], clips: Sequence[RealArray]
    ) -> None:
        config = embedder.config
        if not config.num_cross_layers:
            raise ConfigError(
                "this model has no re-ranker: train one with --model.num-cross-layers 1"
            )
        self._model, self._clips = embedder.model, clips
        token_ids = embedder.tokenizer.encode_literal(list(texts))
        self._token_ids = [ids[: config.max_text_tokens] for ids in token_ids]

    def __call__(self, text_of: Tensor, clip_of: Tensor, similarity: Tensor) -> Tensor:
        """Return the corrected similarities of P pairs.

        Args:
            text_of: (P,) index of the text.
            clip_of: (P,) index of the clip.
            similarity: (P,) of the towers.

        Returns:
            (P,) float32.
        """
        return similarity + corrections(self._model, self._token_ids, self._clips, text_of, clip_of)


@torch.inference_mode()
def corrections(
    model: VideoCLIP,
    token_ids: Sequence[ArrayLike],
    clips: Sequence[RealArray],
    text_of: Tensor,
    clip_of: Tensor,
) -> Tensor:
    """Return what a model's re-ranker adds to the towers' similarities of P pairs.

    Its logits are brought to the towers' temperature, so that both count alike at weight 1. Clips
    longer than the model's longest are encoded in pieces. At weight 0 nothing is computed.

    Args:
        model: It has a re-ranker.
        token_ids: Word pieces of N texts.
        clips: M arrays (T, D) of features, or of frames if there is a frame encoder.
        text_of: (P,) index of the text.
        clip_of: (P,) index of the clip.

    Returns:
        (P,) float32, on the CPU.
    """
    reranker, config = model.reranker, model.config
    if not reranker.weight:
        return torch.zeros(len(text_of))
    device = reranker.weight.device
    # A text or clip may occur in many pairs: each is encoded once.
    (texts, rows), (videos, columns) = (
        torch.unique(x, return_inverse=True) for x in (text_of, clip_of)
    )
    text_parts, clip_parts = [], []
    for some in torch.split(texts, SEQUENCES_AT_ONCE):
        text = pad_tokens([token_ids[i] for i in some.tolist()], config.pad_id)
        text_parts.append(reranker.encode_text(*(x.to(device) for x in text)))
    for some in torch.split(videos, SEQUENCES_AT_ONCE):
        pieces = [
            np.array_split(clips[i], -(-len(clips[i]) // config.max_video_tokens))
            for i in some.tolist()
        ]
        features, mask = (x.to(device) for x in pad_features(list(chain(*pieces))))
        encoded = reranker.encode_video(model.features(features, mask), mask)
        clip_parts.append(encoded.join([len(each) for each in pieces]))
    if not text_parts:
        return torch.zeros(0)
    encoded_texts, encoded_clips = concatenate(text_parts), concatenate(clip_parts)
    if len(text_of) == len(texts) * len(videos):  # all pairs, at less cost than one by one
        every = torch.split(torch.arange(len(texts), device=device), TEXTS_AT_ONCE)
        matrix = [reranker.score_all(take(encoded_texts, some), encoded_clips) for some in every]
        logits = torch.cat(matrix).cpu()[rows, columns]
    else:
        chosen = zip(
            *(torch.split(x.to(device), PAIRS_AT_ONCE) for x in (rows, columns)), strict=True
        )
        logits = torch.cat(
            [
                reranker.score_pairs(take(encoded_texts, some), take(encoded_clips, others)).cpu()
                for some, others in chosen
            ]
        )
    return logits.float() * float(reranker.weight) * float(model.temperature)


def rerank_clips(
    score: Callable[[Tensor, Tensor, Tensor], Tensor], similarity: FloatArray, top_k: int
) -> FloatArray:
    """Put the `top_k` best clips of each text into the order of the re-ranker.

    Args:
        score: A `PairScorer` of the N texts and M clips.
        similarity: (N, M) of the towers.
        top_k: Clips of each text to order again.

    Returns:
        (N, M): the `top_k` best similarities of each row, reassigned in the new order; all others
        unchanged.
    """
    towers = torch.from_numpy(similarity)
    top_k = min(top_k, towers.shape[1])
    best = towers.topk(top_k, dim=1)  # values sorted from the best
    texts, clips = torch.arange(len(towers)).repeat_interleave(top_k), best.indices.flatten()
    scores = score(texts, clips, towers[texts, clips]).view(-1, top_k)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return towers.scatter(1, best.indices.gather(1, order), best.values).numpy()
