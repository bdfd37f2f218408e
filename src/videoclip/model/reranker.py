"""The optional cross-modal re-ranker: it scores a text and a video jointly.

The towers compare all pairs by a dot product; the re-ranker scores only the best candidates. Video
positions attend to word pieces and word pieces to video positions in a few layers, and a linear
head returns one number for each pair. It is added to the towers' similarity, so that an untrained
re-ranker changes no order.

Letters: P pairs, B clip pairs of a batch, K candidates a text, H width.
Source: the cross-modal attention variant (docs/paper-to-code.md); the residual form is ours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import ModelConfig
from videoclip.model.encoders import Encoded, pool


class CrossAttention(nn.Module):
    """Attention from one modality to the other, then a feed-forward network, both residual."""

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

    def start_as_identity(self) -> None:
        """Set the projections to the identity, so that positions attend to similar ones.

        The contrastive loss has made states of matching text and video similar. With random
        projections the re-ranker did not learn this again within thousands of updates.
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
        """Zero the head, so that the towers' order is kept until training changes it."""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        for layer in (*self.video_reads_text, *self.text_reads_video):
            layer.start_as_identity()

    def forward(self, video: Encoded, text: Encoded, similarity: Tensor) -> Tensor:
        """Score P pairs.

        Args:
            video: (P, T + 2, H) states of the video tower.
            text: (P, L + 2, H) states of the text tower.
            similarity: (P,) similarities of the towers.

        Returns:
            (P,) corrected similarities.
        """
        for read_text, read_video in zip(self.video_reads_text, self.text_reads_video, strict=True):
            video, text = read_text(video, text), read_video(text, video)
        pooled = torch.cat([pool(x, "plain_mean") for x in (video, text)], dim=-1)  # (P, 2H)
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
        reranker: The re-ranker to train; the towers' states may carry gradients too.
        video: (B, T + 2, H) states of the batch's videos.
        text: (B, L + 2, H) states of its texts.
        similarity: (B, B) texts by videos.
        candidates: (B, K) videos to compare with each text, its own first; -1 pads.
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
    """Return the candidates of each text: its own video, then hard negatives.

    A negative is hard if its video is similar to the text's own (`video_similarity` of at least
    `threshold`); those with the highest similarity to the text come first. A text without hard
    negatives keeps the negative most similar to it, so that no row is without one.

    Args:
        similarity: (B, B) texts by videos.
        video_similarity: (B, B) cosines of the videos among themselves.
        num_negatives: Largest number of negatives of a text.
        threshold: Lowest similarity of a hard negative.

    Returns:
        (B, 1 + n) int64 videos, padded with -1; n is at most `num_negatives`.
    """
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    number = min(num_negatives, len(similarity) - 1)
    match = similarity.detach().masked_fill(own, -torch.inf)
    hard = (video_similarity.detach() >= threshold) & ~own
    # Hard ones first, each group in order of similarity; the text's own video has the lowest rank.
    rank = match.argsort(dim=1).argsort(dim=1)  # (B, B)
    negatives = (rank + len(match) * hard).topk(number, dim=1).indices  # (B, n)
    keep = hard.gather(1, negatives)
    if number:
        keep[:, 0] = True
    positives = torch.arange(len(similarity), device=similarity.device)[:, None]
    return torch.cat([positives, negatives.masked_fill(~keep, -1)], dim=1)
