"""The two towers: from features or word pieces to states of every position and a pooled vector.

Both put [CLS] before and [SEP] after the real positions, so that a tower sees
[CLS] x1 .. xn [SEP], whatever n is; the caller never handles special tokens.

Source: paper, section 3.1; positions, masks and pooling as released (docs/paper-to-code.md).

A model that starts from a dual encoder has residual towers: the frozen embeddings of frames and
texts, plus what training adds, which starts at zero. It acts only near the data it was trained on,
so that all else is embedded as before.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import ModelConfig
from videoclip.model.transformer import BertEncoder, Packing, positions_of

BRIDGE_TEMPERATURE = 2.0
"""Temperature of the bridge's softmax over class logits: 1 as classifiers are trained; 2 gives less
likely classes more weight."""
PROFILE_TEMPERATURE = 0.05
"""Temperature of the softmax over the sentences of all classes that a text is compared with."""
PROFILE_WEIGHT = 0.25
"""Weight of the class profile in the similarity of a text and a frame, beside the sentence."""
NUM_EXAMPLES = 1024
"""Training frames, or texts, whose embeddings a residual stores."""
GATE_COVERAGE = 0.8
"""Share of frames, or texts, of other training videos to which a residual is added in full."""
LEAST_RADIUS = 0.01
SHARPNESS = 16.0
"""How fast the gate closes: to exp(-4) where the squared distance is a quarter above the radius."""


@dataclass(frozen=True)
class Encoded:
    """Output of a tower for a batch.

    Attributes:
        hidden: (B, n + 2, H) last-layer states; zero where masked.
        mask: (B, n + 2), True where real. Column 0 is [CLS]; every sequence ends in [SEP].
        drift: (B,) mean squared length of what a residual tower added to its dual encoder.
    """

    hidden: Tensor
    mask: Tensor
    drift: Tensor | None = None


class VideoEncoder(nn.Module):
    """Video tower: an MLP over frozen features, then BERT layers.

    Args:
        config: Sizes.
        bert: The encoder, whose word table has at least [CLS] and [SEP].
        cls_id: Row of [CLS] in that table.
        sep_id: Row of [SEP].
    """

    def __init__(self, config: ModelConfig, bert: BertEncoder, cls_id: int, sep_id: int) -> None:
        super().__init__()
        width = config.hidden_size
        # (..., D) -> (..., H). Source: as released; the paper describes a single layer.
        self.mlp = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(config.feature_dim, width),
                gelu=nn.GELU(),
                norm=nn.LayerNorm(width),
                linear2=nn.Linear(width, width),
            )
        )
        self.bert = bert
        self.special_ids = (cls_id, sep_id)
        self.sep_position = config.max_video_tokens + 1

    def forward(self, video: Tensor, video_mask: Tensor, *, attend_cls: bool = True) -> Encoded:
        """Encode a batch of video clips.

        Args:
            video: (B, T, D) features; masked ones are never read.
            video_mask: (B, T), True where real, a prefix of each row.
            attend_cls: False leaves out [CLS], as the released step localisation does.

        Returns:
            States of [CLS], the T slots and [SEP]: (B, T + 2, H).
        """
        one = video_mask.new_ones(video_mask.shape[0], 1)
        mask = torch.cat([one & attend_cls, video_mask, one], dim=1)  # (B, T + 2)
        positions = positions_of(mask).clone()
        # [SEP] has the position it has in a full clip, however short the clip is.
        positions[:, -1] = self.sep_position

        packing = Packing(mask)
        ids = torch.full_like(positions, self.special_ids[0])
        ids[:, -1] = self.special_ids[1]
        tokens = self.bert.word_embeddings(packing.pack(ids))  # (N, H)
        slots = packing.pack(torch.cat([~one, video_mask, ~one], dim=1))  # (N,)
        video_tokens = self.mlp(video[video_mask]).to(tokens.dtype)
        tokens = tokens.masked_scatter(slots[:, None], video_tokens)

        positions = packing.pack(positions)
        hidden = self.bert(tokens, positions, torch.zeros_like(positions), packing)
        return Encoded(packing.unpack(hidden), mask)


class TextEncoder(nn.Module):
    """Text tower: BERT over word pieces.

    Args:
        config: Sizes and special ids.
        bert: The encoder, with the whole vocabulary.
        first_position: Position of the first word piece; [CLS] is always at 0.
        word_type: Token type of everything behind [CLS].
    """

    def __init__(
        self, config: ModelConfig, bert: BertEncoder, first_position: int = 1, word_type: int = 0
    ) -> None:
        super().__init__()
        self.bert = bert
        self.special_ids = (config.cls_id, config.sep_id, config.pad_id)
        self.first_position = first_position
        self.word_type = word_type

    def forward(self, text: Tensor, text_mask: Tensor) -> Encoded:
        """Encode a batch of texts.

        Args:
            text: (B, L) word-piece ids without special tokens.
            text_mask: (B, L), True where real, a prefix of each row.

        Returns:
            States of [CLS], the word pieces and [SEP], which follows the last word piece:
            (B, L + 2, H).
        """
        cls_id, sep_id, pad_id = self.special_ids
        lengths = text_mask.sum(dim=1, keepdim=True)  # (B, 1)
        ids = F.pad(text.masked_fill(~text_mask, pad_id), (1, 1), value=pad_id)
        ids[:, 0] = cls_id
        ids.scatter_(1, lengths + 1, sep_id)
        columns = positions_of(ids)
        mask = columns <= lengths + 1  # (B, L + 2)
        behind_cls = columns > 0
        positions = (columns + self.first_position - 1) * behind_cls

        packing = Packing(mask)
        tokens = self.bert.word_embeddings(packing.pack(ids))  # (N, H)
        types = packing.pack(behind_cls.long() * self.word_type)
        hidden = self.bert(tokens, packing.pack(positions), types, packing)
        return Encoded(packing.unpack(hidden), mask)


def pool(encoded: Encoded, pooling: Literal["mean", "cls", "plain_mean"]) -> Tensor:
    """Pool each sequence to one vector: (B, n + 2, H) -> (B, H).

    `mean` averages the real positions and [SEP] without [CLS], so that an empty text still has a
    vector; `plain_mean` counts [CLS] too; `cls` takes [CLS] alone. Source: paper, section 3.1
    (equation 3), and table 7.
    """
    if pooling == "cls":
        return encoded.hidden[:, 0]
    weights = encoded.mask.to(encoded.hidden.dtype)
    if pooling == "mean":
        weights = F.pad(weights[:, 1:], (1, 0))
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.bmm(weights[:, None], encoded.hidden).squeeze(1)


class Frozen(nn.Module):
    """A module that is used and moved with its owner, but neither trained nor saved with it.

    Args:
        module: Put into eval mode for good.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = [module.eval().requires_grad_(False)]  # a list hides it from torch

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._module[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def forward(self, *args: Any) -> Tensor:
        """Return what the module returns."""
        output: Tensor = self._module[0](*args)
        return output


class Residual(nn.Module):
    """What training adds to the frozen embedding of a frame or a text: zero at first.

    It is added in full near the training data, and not at all far from it, so that everything else
    is embedded as before.

    Args:
        num_inputs: Width D of what it is computed from.
        config: Width E of the embedding, of the hidden layer, and dropout.

    Attributes:
        scale: (E,) factors, zero at first.
        examples: (P, E) frozen embeddings of training data.
        radius: Squared distance from the nearest example up to which the residual is added in full;
            infinite until `fit_gate`.
    """

    examples: Tensor
    radius: Tensor

    def __init__(self, num_inputs: int, config: ModelConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.linear1 = nn.Linear(num_inputs, config.intermediate_size)
        self.linear2 = nn.Linear(config.intermediate_size, width)
        self.dropout = nn.Dropout(config.dropout)
        self.scale = nn.Parameter(torch.zeros(width))
        self.register_buffer("examples", torch.zeros(NUM_EXAMPLES, width))
        self.register_buffer("radius", torch.tensor(torch.inf))

    def forward(self, start: Tensor, inputs: Tensor) -> Tensor:
        """Return the residual of frozen embeddings (N, E) with inputs (N, D): (N, E)."""
        learned = self.linear2(self.dropout(F.gelu(self.linear1(inputs))))
        residual: Tensor = self.gate(start) * self.scale * learned
        return residual

    def initialise(self) -> None:
        """Draw weights so that states are about as large as the inputs; the scale stays zero."""
        for layer in (self.linear1, self.linear2):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    def gate(self, start: Tensor) -> Tensor:
        """Return the factor of the residual, in [0, 1], of frozen embeddings: (N, E) -> (N, 1)."""
        excess = _nearest(start, self.examples) / self.radius - 1
        return torch.exp(-SHARPNESS * excess.clamp(min=0)).unsqueeze(-1)

    @torch.no_grad()
    def fit_gate(self, start: Tensor) -> None:
        """Open the gate for embeddings like `start` (N, E), and keep it open where it was before.

        The radius is such that most of the second half of the rows are within it of the first half.
        Rows of one video must follow each other, so that the halves are of different videos.
        """
        half = (len(start) + 1) // 2
        radius = _nearest(start[-half:], _spaced(start[:half])).quantile(GATE_COVERAGE)
        radius = radius.clamp(min=LEAST_RADIUS)
        if self.radius.isfinite():
            start = torch.cat([_spaced(start)[::2], self.examples[::2]])
            radius = radius.maximum(self.radius)
        self.examples.copy_(_spaced(start))
        self.radius.copy_(radius)


def residuals_of(model: nn.Module) -> list[Residual]:
    """Return the residuals of the video and the text tower; none unless it has a dual encoder."""
    return [module for module in model.modules() if isinstance(module, Residual)]


def _nearest(start: Tensor, examples: Tensor) -> Tensor:
    """Squared distance of each row (N, E) from the nearest example, all of unit length: (N,)."""
    return 2 - 2 * (start @ examples.T).amax(dim=-1)


def _spaced(rows: Tensor) -> Tensor:
    """Return evenly spaced rows: (N, E) -> (P, E)."""
    return rows[torch.arange(NUM_EXAMPLES, device=rows.device) * len(rows) // NUM_EXAMPLES]


class ResidualVideoEncoder(nn.Module):
    """Video tower whose slots are frozen frame embeddings plus a learned residual.

    Args:
        config: Sizes.
        frames: Frozen: features (N, D) to embeddings (N, E) of unit length.
    """

    def __init__(self, config: ModelConfig, frames: nn.Module) -> None:
        super().__init__()
        self.start, self.residual = Frozen(frames), Residual(config.feature_dim, config)

    def forward(self, video: Tensor, video_mask: Tensor, *, attend_cls: bool = True) -> Encoded:
        """Encode a batch of video clips; special positions are masked.

        Args:
            video: (B, T, D) features; masked ones are never read.
            video_mask: (B, T), True where real.
            attend_cls: Of no effect: a slot depends on its own feature alone.

        Returns:
            States of [CLS], the T slots and [SEP]: (B, T + 2, E).
        """
        features = video[video_mask]  # (N, D)
        start = self.start(features)
        residual = self.residual(start, features)
        padded = residual.new_zeros(*video_mask.shape, start.shape[1])
        hidden = padded.masked_scatter(video_mask[..., None], start + residual)  # (B, T, E)
        squares = padded.masked_scatter(video_mask[..., None], residual).square()
        drift = squares.sum(dim=(1, 2)) / video_mask.sum(dim=1)
        return Encoded(F.pad(hidden, (0, 0, 1, 1)), F.pad(video_mask, (1, 1)), drift)


class ResidualTextEncoder(nn.Module):
    """Text tower whose one state is a frozen embedding plus a learned residual.

    Args:
        config: Sizes.
        texts: Frozen: ids and mask (B, L) to embeddings (B, E) of unit length.
    """

    def __init__(self, config: ModelConfig, texts: nn.Module) -> None:
        super().__init__()
        self.start, self.residual = Frozen(texts), Residual(config.hidden_size, config)

    def forward(self, text: Tensor, text_mask: Tensor) -> Encoded:
        """Encode a batch of texts: (B, L) -> (B, 1, E)."""
        start = self.start(text, text_mask)
        residual = self.residual(start, start)
        mask, drift = text_mask.new_ones(len(text), 1), residual.square().sum(dim=-1)
        return Encoded((start + residual)[:, None], mask, drift)


class ClassBridge(nn.Module):
    """Features to embeddings that texts find: a sentence and a class profile, side by side.

    Text finds frames through an image classifier that never saw text. The sentence is the mean of
    the classes' sentence embeddings, weighted by the softened class distribution of a frame, plus
    attributes. Source: ConSE (arXiv 1312.5650); softening, centring and attributes are ours. That
    mean blurs which classes it came from, so the class profile keeps the logits themselves, in
    their main directions.

    Args:
        weight: (K, C) of the linear classifier that the first C values of a feature come from.
        bias: (K,) likewise.
        class_embeddings: (K, S) of sentences about each class, minus their mean.
        attribute_embeddings: (D - C, S) that are added in proportion to the other values.
        class_directions: (K, P) main directions of logits; each sums to 0.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        class_embeddings: Tensor,
        attribute_embeddings: Tensor,
        class_directions: Tensor,
    ) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.class_embeddings = nn.Parameter(class_embeddings)
        self.attribute_embeddings = nn.Parameter(attribute_embeddings)
        self.class_directions = nn.Parameter(class_directions)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., S + P) of unit length."""
        seen, attributes = features.tensor_split([self.weight.shape[1]], dim=-1)
        logits = F.linear(seen, self.weight, self.bias)
        shares = (logits / BRIDGE_TEMPERATURE).softmax(dim=-1)  # (..., K)
        things = F.normalize(shares @ self.class_embeddings, dim=-1)
        sentences = F.normalize(things + attributes @ self.attribute_embeddings, dim=-1)
        profiles = F.normalize(logits @ self.class_directions, dim=-1)
        return F.normalize(torch.cat([sentences, profiles], dim=-1), dim=-1)


class SentenceTower(nn.Module):
    """Word pieces to embeddings as `ClassBridge` makes them of frames.

    The sentence embedding of a text is centred and projected as those of the classes were: all
    share a large component that carries no information. Its class profile is how much each class
    is meant by the text: a softmax over the sentences of all classes, of which few are near.

    Args:
        text_encoder: Of a sentence model.
        offset: (E,) mean of the class embeddings before they were centred.
        projection: (E, S) orthonormal columns.
        class_sentences: (K, N, S) each sentence about each class, of unit length.
        class_directions: (K, P) as for the bridge.
    """

    def __init__(
        self,
        text_encoder: nn.Module,
        offset: Tensor,
        projection: Tensor,
        class_sentences: Tensor,
        class_directions: Tensor,
    ) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.offset, self.projection = nn.Parameter(offset), nn.Parameter(projection)
        self.class_sentences = nn.Parameter(class_sentences)
        self.class_directions = nn.Parameter(class_directions)

    def forward(self, text: Tensor, text_mask: Tensor) -> Tensor:
        """(B, L) ids and mask -> (B, S + P) of unit length."""
        pooled = pool(self.text_encoder(text, text_mask), "plain_mean")
        centred = F.normalize(pooled, dim=-1) - self.offset
        sentences = F.normalize(centred @ self.projection, dim=-1)
        nearness = torch.einsum("bs,kns->bkn", sentences, self.class_sentences)
        shares = (nearness / PROFILE_TEMPERATURE).flatten(1).softmax(dim=1)
        meant = shares.view_as(nearness).sum(dim=2)  # (B, K)
        profiles = F.normalize(meant @ self.class_directions, dim=-1)
        return F.normalize(torch.cat([sentences, PROFILE_WEIGHT * profiles], dim=-1), dim=-1)
