"""The optional re-ranker: a second opinion on the best candidates of the towers.

The re-ranker has two small encoders of its own. Like the towers, it compares one vector of a clip
with one of a text; unlike them, also every word with every second: cross-modal attention in which
each word takes the second that resembles it most, and each second its word, and linear heads weigh
words and seconds. It reads features and word pieces, not the towers' states, so that it errs
elsewhere than they do, and it sends them no gradient, so that it cannot harm them. Its score is
added to theirs at half their weight if held-out narration shows after training that it helps.

Letters: N texts, M clips, P pairs, L positions of a text, T of a clip, H width.
Source: the cross-modal attention variant (docs/paper-to-code.md); the largest similarity of each
word as in ColBERT (arXiv 2004.12832) and FILIP (arXiv 2111.07783); the rest is ours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from videoclip.config import ModelConfig
from videoclip.model.encoders import Encoded, TextEncoder, VideoEncoder
from videoclip.model.losses import seconds_loss
from videoclip.model.transformer import BertEncoder

INITIAL_TEMPERATURE = 0.07
TEXTS_AT_ONCE = 128
"""Texts that are compared with all clips at a time, to bound memory."""


class Tokens(NamedTuple):
    """The positions of texts or of clips.

    Attributes:
        hidden: (B, n, H) of unit length; any values where masked.
        importance: (B, n) logits of how much each position counts; -inf where masked.
    """

    hidden: Tensor
    importance: Tensor

    def rows(self, rows: Tensor | slice) -> Self:
        """Return some of the sequences."""
        return type(self)(self.hidden[rows], self.importance[rows])

    def vectors(self) -> Tensor:
        """Return (B, H), the directions of the mean of each sequence's real positions."""
        real = self.importance > -torch.inf
        return F.normalize((self.hidden * real[..., None]).sum(dim=1), dim=-1)

    def join(self, counts: list[int]) -> Self:
        """Join the pieces of long sequences: the first `counts[0]` rows to one, and so on."""
        real = self.importance > -torch.inf
        hidden, importance = (
            [x[rows][real[rows]] for rows in torch.split(torch.arange(len(x)), counts)]
            for x in (self.hidden, self.importance)
        )
        return type(self)(
            pad_sequence(hidden, batch_first=True),
            pad_sequence(importance, batch_first=True, padding_value=-torch.inf),
        )


def concatenate(parts: Sequence[Tokens]) -> Tokens:
    """Return the rows of all parts, padded to the longest."""
    longest = max(part.hidden.shape[1] for part in parts)
    lacking = [longest - part.hidden.shape[1] for part in parts]
    hidden = [F.pad(part.hidden, (0, 0, 0, n)) for part, n in zip(parts, lacking, strict=True)]
    importance = [
        F.pad(part.importance, (0, n), value=-torch.inf)
        for part, n in zip(parts, lacking, strict=True)
    ]
    return Tokens(torch.cat(hidden), torch.cat(importance))


class Reranker(nn.Module):
    """Scores pairs of clips and texts, word by word and second by second.

    Args:
        config: Sizes, those of the towers, but with `num_cross_layers` layers.

    Attributes:
        weight: Of its scores beside those of the towers; 0: the towers' order is kept.
    """

    weight: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers = config.num_cross_layers
        self.video_encoder = VideoEncoder(config, BertEncoder(config, 2, layers), 0, 1)
        self.text_encoder = TextEncoder(config, BertEncoder(config, config.vocab_size, layers))
        self.second_head = nn.Linear(config.hidden_size, 1)
        self.word_head = nn.Linear(config.hidden_size, 1)
        self.log_temperature = nn.Parameter(torch.zeros(2))
        self.register_buffer("weight", torch.zeros(()))

    def initialise(self) -> None:
        """Give all positions equal importance, set temperatures to their start, the weight to 0."""
        for head in (self.second_head, self.word_head):
            nn.init.zeros_(head.weight)
        self.log_temperature.fill_(math.log(INITIAL_TEMPERATURE))
        self.weight.zero_()

    def encode_video(self, video: Tensor, video_mask: Tensor) -> Tokens:
        """Encode clips: (B, T, D) features and their (B, T) mask."""
        return _tokens(self.video_encoder(video, video_mask), self.second_head)

    def encode_text(self, text: Tensor, text_mask: Tensor) -> Tokens:
        """Encode texts: (B, L) word pieces and their (B, L) mask."""
        return _tokens(self.text_encoder(text, text_mask), self.word_head)

    def score_all(self, text: Tokens, video: Tokens) -> Tensor:
        """Compare N texts with M clips: (N, M) logits of a softmax over either."""
        parts = list(zip(*(torch.split(x, TEXTS_AT_ONCE) for x in text), strict=True))
        if len(parts) == 1:
            of_positions = _compare_all(*text, *video)
        else:  # each is compared again for the gradient
            compared = [
                checkpoint(_compare_all, *part, *video, use_reentrant=False) for part in parts
            ]
            of_positions = torch.cat(compared)
        return self._logits(text.vectors() @ video.vectors().T, of_positions)

    def score_pairs(self, text: Tokens, video: Tokens) -> Tensor:
        """Compare P texts with a clip each: (P,) logits."""
        similarity = text.hidden @ video.hidden.mT  # (P, L, T)
        of_positions = _interact(similarity, text.importance, video.importance)
        return self._logits((text.vectors() * video.vectors()).sum(dim=-1), of_positions)

    def _logits(self, of_vectors: Tensor, of_positions: Tensor) -> Tensor:
        """Add up cosines of whole sequences and of positions, each at its own temperature."""
        sharpness = (-self.log_temperature).exp()
        return of_vectors * sharpness[0] + of_positions * sharpness[1]


def _tokens(encoded: Encoded, head: nn.Linear) -> Tokens:
    """Prepare states for comparison; [SEP] takes part, [CLS] does not, as in pooling."""
    hidden, mask = encoded.hidden.float(), encoded.mask
    importance = head(hidden).squeeze(-1).float()
    mask = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:]], dim=1)
    return Tokens(F.normalize(hidden, dim=-1), importance.masked_fill(~mask, -torch.inf))


def _compare_all(words: Tensor, of_words: Tensor, seconds: Tensor, of_seconds: Tensor) -> Tensor:
    similarity = torch.einsum("nlh,mth->nmlt", words, seconds)
    return _interact(similarity, of_words[:, None], of_seconds[None])


def _interact(similarity: Tensor, words: Tensor, seconds: Tensor) -> Tensor:
    """Reduce similarities of words and seconds to one for each pair, from -1 to 1.

    Args:
        similarity: (..., L, T) cosines.
        words: (..., L) importance.
        seconds: (..., T) importance.

    Returns:
        (...), the mean of what the words find among the seconds and the seconds among the words.
    """
    for_words = similarity.masked_fill(seconds[..., None, :].isinf(), -1).amax(dim=-1)  # (..., L)
    for_seconds = similarity.masked_fill(words[..., None].isinf(), -1).amax(dim=-2)  # (..., T)
    of_words = (for_words * words.softmax(dim=-1)).sum(dim=-1)
    of_seconds = (for_seconds * seconds.softmax(dim=-1)).sum(dim=-1)
    return (of_words + of_seconds) / 2


def reranking_loss(
    reranker: Reranker, text: Tokens, video: Tokens, candidates: Tensor, seconds_weight: float
) -> Tensor:
    """Return the softmax loss over the clips of a batch for each text, plus that over its texts.

    Args:
        reranker: The re-ranker to train.
        text: Of the B texts.
        video: Of their clips.
        candidates: (B, B), True where a text and a clip are compared, as on the diagonal.
        seconds_weight: Weight of the loss in which the best seconds of a clip stand for it, as the
            towers have it; see `seconds_loss`.

    Returns:
        The loss, a scalar: the two directions are summed, each a mean over the batch.
    """
    logits = reranker.score_all(text, video).masked_fill(~candidates, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
    if seconds_weight:
        seconds, mask = video.hidden[:, 1:-1], video.importance[:, 1:-1] > -torch.inf
        temperature = reranker.log_temperature[0].exp()
        of_seconds = seconds_loss(text.vectors(), seconds, mask, temperature, ~candidates)
        loss = loss + seconds_weight * of_seconds
    return loss


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
