"""The optional cross-modal part: it looks at a text and a video together and scores the pair.

The towers compare everything with everything by one dot product; the re-ranker compares few
candidates with care. Video positions attend to words and words to video positions in a small
number of layers; a linear head gives one number a pair. The number is added to the towers'
similarity, so that an untrained re-ranker changes no order.

Letters: P pairs, B clip pairs of a batch, K candidates a text, H width.
Source: the cross-modal attention variant (docs/paper-to-code.md); the residual form is ours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import ModelConfig
from videoclip.model.encoders import Encoded

__all__ = ["Reranker", "hard_candidates", "rerank", "reranking_loss"]


class CrossAttention(nn.Module):
    """One modality reads the other: attention, then a feed-forward network, both residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.attention = nn.MultiheadAttention(
            width, config.num_heads, dropout=config.dropout, batch_first=True
        )
        self.attention_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, config.intermediate_size)
        self.feed_out = nn.Linear(config.intermediate_size, width)
        self.feed_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def start_by_likeness(self) -> None:
        """Let a position read those that are like it, as the states of the towers come.

        The contrastive loss has put what belongs together into like directions; random projections
        would have to find that again, and do not within thousands of updates.
        """
        attention, width = self.attention, self.attention.embed_dim
        with torch.no_grad():
            attention.in_proj_weight.copy_(torch.eye(width).repeat(3, 1))
            attention.in_proj_bias.zero_()
            attention.out_proj.weight.copy_(torch.eye(width))

    def forward(self, reader: Encoded, read: Encoded) -> Encoded:
        """(P, n, H) reads (P, m, H) and keeps its own shape."""
        attended, _ = self.attention(
            reader.hidden, read.hidden, read.hidden, ~read.mask, need_weights=False
        )
        hidden = self.attention_norm(reader.hidden + self.dropout(attended))
        fed = self.feed_out(F.gelu(self.feed_in(hidden)))
        return Encoded(self.feed_norm(hidden + self.dropout(fed)), reader.mask)


class Reranker(nn.Module):
    """Scores pairs of encoded videos and texts.

    Args:
        config: Widths, and `num_cross_layers`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers = range(config.num_cross_layers)
        self.video_reads_text = nn.ModuleList(CrossAttention(config) for _ in layers)
        self.text_reads_video = nn.ModuleList(CrossAttention(config) for _ in layers)
        self.head = nn.Linear(2 * config.hidden_size, 1)

    def start_neutral(self) -> None:
        """Zero the head, so that the towers' order stands until training moves it."""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        for layer in (*self.video_reads_text, *self.text_reads_video):
            layer.start_by_likeness()

    def forward(self, video: Encoded, text: Encoded, similarity: Tensor) -> Tensor:
        """Score P pairs.

        Args:
            video: (P, T + 2, H) states of the video tower.
            text: (P, L + 2, H) states of the text tower.
            similarity: (P,) what the towers say.

        Returns:
            (P,) similarities, corrected.
        """
        for read_text, read_video in zip(self.video_reads_text, self.text_reads_video, strict=True):
            video, text = read_text(video, text), read_video(text, video)
        pooled = torch.cat([_mean(video), _mean(text)], dim=-1)  # (P, 2H)
        correction: Tensor = self.head(pooled).squeeze(-1)
        return similarity + correction


def reranking_loss(
    reranker: Reranker,
    video: Encoded,
    text: Encoded,
    similarity: Tensor,
    candidates: Tensor,
    temperature: float | Tensor = 0.07,
) -> Tensor:
    """In-batch softmax over each text's own video and its hard negatives.

    Args:
        reranker: What is trained; the towers' states may carry gradients too.
        video: (B, T + 2, H) states of the batch's videos.
        text: (B, L + 2, H) states of its texts.
        similarity: (B, B) texts by videos.
        candidates: (B, K) videos to compare for each text, its own first; -1 where none is.
        temperature: Scores are divided by it.

    Returns:
        The loss, a scalar.
    """
    real = candidates >= 0
    texts, columns = real.nonzero(as_tuple=True)
    videos = candidates[texts, columns]
    scores = reranker(video[videos], text[texts], similarity[texts, videos])
    logits = scores.new_full(candidates.shape, -torch.inf).index_put((texts, columns), scores)
    own = torch.zeros(len(candidates), dtype=torch.long, device=logits.device)
    return F.cross_entropy(logits.float() / temperature, own)


def hard_candidates(
    similarity: Tensor, video_similarity: Tensor, num_negatives: int, threshold: float
) -> Tensor:
    """Pick what each text is compared with: its own video, then hard negatives.

    A negative is hard if its video is like the text's own (`video_similarity` of at least
    `threshold`); of those the towers' best-matching come first. A text without any keeps its one
    best-matching negative, so that every row teaches something.

    Args:
        similarity: (B, B) texts by videos.
        video_similarity: (B, B) cosines of the videos among themselves.
        num_negatives: Most negatives a text.
        threshold: From when a negative counts as hard.

    Returns:
        (B, 1 + n) int64 videos, -1 where there is none; n is at most `num_negatives`.
    """
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    number = min(num_negatives, len(similarity) - 1)
    match = similarity.detach().masked_fill(own, -torch.inf)
    hard = (video_similarity.detach() >= threshold) & ~own
    # Hard ones first, each group by how well it matches; the own video has the lowest rank.
    rank = match.argsort(dim=1).argsort(dim=1)  # (B, B)
    negatives = (rank + len(match) * hard).topk(number, dim=1).indices  # (B, n)
    keep = hard.gather(1, negatives)
    if number:
        keep[:, 0] = True
    positives = torch.arange(len(similarity), device=similarity.device)[:, None]
    return torch.cat([positives, negatives.masked_fill(~keep, -1)], dim=1)


def rerank(similarity: Tensor, score: Callable[[Tensor, Tensor], Tensor], top_k: int) -> Tensor:
    """Put the `top_k` best candidates of each query into the re-ranker's order.

    Args:
        similarity: (N, M) queries by candidates, from the towers.
        score: Given P query rows and P candidate columns, their (P,) scores.
        top_k: Candidates a query that are looked at again.

    Returns:
        (N, M): each row's best `top_k` similarities dealt out again in the new order, all others
        as they were, so that nothing outside the top moves.
    """
    top_k = min(top_k, similarity.shape[1])
    best = similarity.topk(top_k, dim=1)  # values sorted from the best
    rows = torch.arange(len(similarity), device=similarity.device)[:, None].expand(-1, top_k)
    scores = score(rows.reshape(-1), best.indices.reshape(-1)).view(-1, top_k)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return similarity.scatter(1, best.indices.gather(1, order), best.values)


def _mean(encoded: Encoded) -> Tensor:
    """Mean over real positions: (P, n, H) -> (P, H)."""
    weights = encoded.mask.to(encoded.hidden.dtype)[..., None]
    return (encoded.hidden * weights).sum(dim=1) / weights.sum(dim=1)
