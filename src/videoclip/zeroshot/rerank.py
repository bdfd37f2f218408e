"""Re-ranking: the cross-modal part of a model orders the best candidates of its towers again.

Retrieval, multiple choice and search use the same scorer.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from videoclip.data.tokenizer import pad_tokens
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.model.videoclip import pad_features
from videoclip.types import FloatArray, RealArray

PAIRS_AT_ONCE = 256


class PairScorer:
    """Computes the re-ranker's similarities of pairs of texts and clips.

    Args:
        embedder: Its model has a re-ranker.
        texts: N texts, cut to the model's longest text.
        clips: M arrays (T, D) of features, cut to the model's longest clip.

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
        self._model, self._device, self._pad_id = embedder.model, embedder.device, config.pad_id
        token_ids = embedder.tokenizer.encode_batch(list(texts))
        self._token_ids = [ids[: config.max_text_tokens] for ids in token_ids]
        self._clips = [clip[: config.max_video_tokens] for clip in clips]

    def __call__(self, text_of: Tensor, clip_of: Tensor, similarity: Tensor) -> Tensor:
        """Return the corrected similarities of P pairs.

        Args:
            text_of: (P,) index of the text.
            clip_of: (P,) index of the clip.
            similarity: (P,) of the towers.

        Returns:
            (P,) float32.
        """
        batches = zip(*(torch.split(x, PAIRS_AT_ONCE) for x in (text_of, clip_of, similarity)))
        with torch.inference_mode():
            return torch.cat([self._score(*batch) for batch in batches])

    def _score(self, text_of: Tensor, clip_of: Tensor, similarity: Tensor) -> Tensor:
        # A text or clip may occur in many pairs of a batch: each is encoded once.
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
