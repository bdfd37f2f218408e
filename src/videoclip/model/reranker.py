"""The optional re-ranker: a second opinion on the best candidates of the towers.

It has two small encoders of its own, and compares their outputs in two ways that the towers cannot:

- as a whole: one vector of a text with one of a clip, to which cross-modal attention adds the
  seconds that the text attends to;
- word by word: each word takes the second that resembles it most, and a linear head weighs the
  words.

It reads features and word pieces, not the towers' states, so that it errs elsewhere than they do,
and it sends them no gradient, so that it cannot harm them. In training the towers' logits are added
to its own, so that it learns what they do not know, and pairs of low probability by the towers
count less. Its score is added to theirs if held-out narration shows after training that it helps.

Letters: N texts, M clips, P pairs, L positions of a text, T of a clip, H width, K a narrower one.
Source: the cross-modal attention variant (docs/paper-to-code.md); clips pooled by attention from
the text as in X-Pool (arXiv 2203.15086); the largest similarity of each word as in ColBERT
(arXiv 2004.12832); hard negatives by the towers' softmax as in ALBEF (arXiv 2107.07651), here as a
sum of logits; the rest is ours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from videoclip.config import ModelConfig
from videoclip.model.encoders import Encoded, TextEncoder, VideoEncoder, pool
from videoclip.model.losses import seconds_loss, softmax_loss
from videoclip.model.transformer import BertEncoder

INITIAL_TEMPERATURE = 0.07
TOWERS_SHARE = 0.5
"""Weight of the towers' logits beside the re-ranker's own in its training."""
WORD_KEY_SHARE = 4
"""How much narrower than its states the vectors are by which words find seconds."""
TEXTS_AT_ONCE = 128
"""Texts that are compared with all clips at a time, to bound memory."""


class Texts(NamedTuple):
    """Encoded texts.

    Attributes:
        vectors: (B, H) of unit length.
        queries: (B, H), by which a text attends to seconds.
        words: (B, L, K) of unit length, by which each word finds a second.
        shares: (B, L), how much each word counts; 0 where masked, 1 together.
    """

    vectors: Tensor
    queries: Tensor
    words: Tensor
    shares: Tensor


class Clips(NamedTuple):
    """Encoded clips.

    Attributes:
        vectors: (B, H) of unit length.
        states: (B, T, H) of the seconds; any values where masked.
        keys: (B, T, H), by which texts attend to them.
        values: (B, T, H), what attention adds to the vector.
        seconds: (B, T, K) of unit length, by which words find them.
        mask: (B, T), True where real.
    """

    vectors: Tensor
    states: Tensor
    keys: Tensor
    values: Tensor
    seconds: Tensor
    mask: Tensor

    def join(self, counts: list[int]) -> Self:
        """Join the pieces of long clips: the first `counts[0]` rows to one, and so on."""
        pieces = torch.split(torch.arange(len(self.mask), device=self.mask.device), counts)
        lengths = self.mask.sum(dim=1, keepdim=True)
        sums = [(self.vectors[rows] * lengths[rows]).sum(dim=0) for rows in pieces]
        others = (
            pad_sequence([x[rows][self.mask[rows]] for rows in pieces], batch_first=True)
            for x in self[1:]
        )
        return type(self)(F.normalize(torch.stack(sums), dim=-1), *others)


EncodedT = TypeVar("EncodedT", Texts, Clips)


def take(encoded: EncodedT, rows: Tensor) -> EncodedT:
    """Return some of the texts or clips."""
    return type(encoded)(*(x[rows] for x in encoded))


def concatenate(parts: Sequence[EncodedT]) -> EncodedT:
    """Return the texts or clips of all parts, padded to the longest."""
    fields = []
    for tensors in zip(*parts, strict=True):
        longest = max(x.shape[1] for x in tensors)
        padded = [F.pad(x, (0, 0) * (x.ndim - 2) + (0, longest - x.shape[1])) for x in tensors]
        fields.append(torch.cat(padded))
    return type(parts[0])(*fields)


class Reranker(nn.Module):
    """Scores pairs of clips and texts.

    Args:
        config: Sizes, those of the towers, but with `num_cross_layers` layers.

    Attributes:
        weight: Of its scores beside those of the towers; 0: the towers' order is kept.
    """

    weight: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers, width = config.num_cross_layers, config.hidden_size
        self.video_encoder = VideoEncoder(config, BertEncoder(config, 2, layers), 0, 1)
        self.text_encoder = TextEncoder(config, BertEncoder(config, config.vocab_size, layers))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.word_key = nn.Linear(width, -(-width // WORD_KEY_SHARE))
        self.second_key = nn.Linear(width, -(-width // WORD_KEY_SHARE))
        self.word_head = nn.Linear(width, 1)
        self.gate = nn.Parameter(torch.ones(()))
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def initialise(self) -> None:
        """Let attention add nothing and all words count alike at first, and set the weight to 0."""
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        for layer in (self.value, self.word_head):
            nn.init.zeros_(layer.weight)
        self.gate.fill_(1.0)
        self.log_temperature.fill_(math.log(INITIAL_TEMPERATURE))
        self.weight.zero_()

    def encode_video(self, video: Tensor, video_mask: Tensor) -> Clips:
        """Encode clips: (B, T, D) features and their (B, T) mask."""
        encoded = self.video_encoder(video, video_mask)
        return self.clips(_unit(encoded), encoded.hidden[:, 1:-1].float(), video_mask)

    def encode_text(self, text: Tensor, text_mask: Tensor) -> Texts:
        """Encode texts: (B, L) word pieces and their (B, L) mask; [SEP] counts as a word."""
        encoded = self.text_encoder(text, text_mask)
        return self.texts(_unit(encoded), encoded.hidden[:, 1:].float(), encoded.mask[:, 1:])

    def clips(self, vectors: Tensor, states: Tensor, mask: Tensor) -> Clips:
        """Return clips from their vectors (B, H) and the states (B, T, H) of their seconds."""
        keys, values = self.key(states).float(), self.value(states).float()
        seconds = F.normalize(self.second_key(states).float(), dim=-1)
        return Clips(vectors, states, keys, values, seconds, mask)

    def texts(self, vectors: Tensor, states: Tensor, mask: Tensor) -> Texts:
        """Return texts from their vectors (B, H) and the states (B, L, H) of their words."""
        importance = self.word_head(states).float().squeeze(-1).masked_fill(~mask, -torch.inf)
        words = F.normalize(self.word_key(states).float(), dim=-1)
        queries = self.query(vectors).float() / math.sqrt(self.query.out_features)
        return Texts(vectors, queries, words, importance.softmax(dim=-1))

    def score_all(self, texts: Texts, clips: Clips) -> Tensor:
        """Compare N texts with M clips: (N, M) logits of a softmax over either."""
        parts = list(zip(*(torch.split(x, TEXTS_AT_ONCE) for x in texts), strict=True))
        if len(parts) == 1:
            return self._compare_all(*texts, *clips)
        # each is compared again for the gradient
        return torch.cat(
            [checkpoint(self._compare_all, *part, *clips, use_reentrant=False) for part in parts]
        )

    def score_pairs(self, texts: Texts, clips: Clips) -> Tensor:
        """Compare P texts with a clip each: (P,) logits."""
        shares = _attention(texts.queries[:, None] @ clips.keys.mT, clips.mask[:, None])
        added = (shares @ clips.values).squeeze(1)
        whole = F.cosine_similarity(texts.vectors, clips.vectors + added, dim=-1)
        similarity = texts.words @ clips.seconds.mT  # (P, L, T)
        found = similarity.masked_fill(~clips.mask[:, None], -1).amax(dim=-1)
        return self._logits(whole, (found * texts.shares).sum(dim=-1))

    def _compare_all(self, *encoded: Tensor) -> Tensor:
        """Compare as `score_pairs` does, without a vector (N, M, H) for each pair."""
        number = len(Texts._fields)
        texts, clips = Texts(*encoded[:number]), Clips(*encoded[number:])
        values = clips.values
        shares = _attention(texts.queries @ clips.keys.mT, clips.mask[:, None])  # (M, N, T)
        of_values = (shares * (texts.vectors @ values.mT)).sum(dim=-1)
        dots = clips.vectors @ texts.vectors.T + of_values  # (M, N)
        # |v + sum_t s_t u_t|^2 = |v|^2 + 2 sum_t s_t v u_t + sum_tr s_t s_r u_t u_r
        along = (shares @ (values @ clips.vectors[..., None])).squeeze(-1)
        added = (shares @ (values @ values.mT) * shares).sum(dim=-1)
        whole = (dots / (1 + 2 * along + added).clamp(min=1e-8).sqrt()).T
        similarity = torch.einsum("nlk,mtk->nlmt", texts.words, clips.seconds)
        found = similarity.masked_fill(~clips.mask, -1).max(dim=-1).values  # (N, L, M)
        return self._logits(whole, torch.einsum("nlm,nl->nm", found, texts.shares))

    def _logits(self, whole: Tensor, of_words: Tensor) -> Tensor:
        """Add up cosines of whole sequences and of words, at the same temperature."""
        sum_: Tensor = (whole + self.gate * of_words) * (-self.log_temperature).exp()
        return sum_


def _unit(encoded: Encoded) -> Tensor:
    """Return the directions (B, H) of the mean states."""
    return F.normalize(pool(encoded, "mean").float(), dim=-1)


def _attention(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def reranking_loss(
    reranker: Reranker, texts: Texts, clips: Clips, towers: Tensor, seconds_weight: float
) -> Tensor:
    """Return the softmax loss over the clips of a batch for each text, plus that over its texts.

    The towers' logits are added to the re-ranker's, at `TOWERS_SHARE` of their weight: it learns
    most from what they confuse. Pairs of low probability by the towers count less (`belief`).

    Args:
        reranker: The re-ranker to train.
        texts: Of the batch.
        clips: Their clips.
        towers: (B, B) logits of the towers, without gradient; -inf where a text and a clip are not
            compared.
        seconds_weight: Weight of the loss in which the best seconds of a clip stand for it, as the
            towers have it; see `seconds_loss`.

    Returns:
        The loss, a scalar: the two directions are summed, each a mean over the batch.
    """
    ignored, weights = towers == -torch.inf, belief(towers)
    logits = reranker.score_all(texts, clips) + TOWERS_SHARE * towers
    loss = softmax_loss(logits, ignored=ignored, weights=weights)
    if seconds_weight:
        seconds, temperature = F.normalize(clips.states, dim=-1), reranker.log_temperature.exp()
        loss = loss + seconds_weight * seconds_loss(
            texts.vectors, seconds, clips.mask, temperature, ignored, weights
        )
    return loss


def belief(logits: Tensor) -> Tensor:
    """Return weights of the pairs of a batch by the towers' confidence in each: (B,), mean 1.

    A weight is proportional to the root of the pair's probability in a softmax over the batch, the
    geometric mean of both directions. It is small for words about nothing shown: such pairs teach
    little.

    Args:
        logits: (B, B) of the towers.
    """
    shares = (logits.log_softmax(dim=0) + logits.log_softmax(dim=1)).diagonal() / 2
    return (shares / 2).softmax(dim=0) * len(shares)  # stable: the mean of the roots may underflow


def hard_candidates(video_similarity: Tensor, threshold: float) -> Tensor:
    """Return which pairs of a batch the re-ranker is trained on: (B, B), True for each own pair.

    A negative is hard if its video is similar to the own one, by `threshold` or more. The most
    similar video is always one, so that no row is without.

    Args:
        video_similarity: (B, B) cosines of the videos among themselves.
        threshold: Lowest similarity of a hard negative; -1: all are.
    """
    own = torch.eye(len(video_similarity), dtype=torch.bool, device=video_similarity.device)
    others = video_similarity.detach().masked_fill(own, -torch.inf)
    nearest = others >= others.amax(dim=1, keepdim=True)
    return (others >= threshold) | nearest | nearest.T | own
