"""The loss on clip pairs: both towers, negatives, the re-ranker, and batches larger than memory."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from videoclip.config import LossConfig
from videoclip.distributed import World
from videoclip.model.batch import Batch, PlacedBatch
from videoclip.model.losses import PairEmbeddings, load_loss, overlapping, places, seconds_loss
from videoclip.model.reranker import hard_candidates, reranking_loss
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.trainer import Loss


class Outputs(NamedTuple):
    """Everything the loss needs from a model.

    Attributes:
        video: (B, E) float32 embeddings.
        text: (C * B, E) float32 embeddings, C candidates per video with MIL-NCE, else one.
        drift: (B,) what both towers added to a dual encoder, mean squared lengths; 0 without one.
        seconds: (B, T, E) float32 embeddings of the seconds of each clip; T is 0 unless their loss
            has a weight.
        temperature: Scalar.
        bias: Scalar added to the logits of the sigmoid loss.
        reranking: Scalar, the re-ranker's loss among these pairs; 0 without a re-ranker.
    """

    video: Tensor
    text: Tensor
    drift: Tensor
    seconds: Tensor
    temperature: Tensor
    bias: Tensor
    reranking: Tensor


NUM_ROW_FIELDS = 4
"""The first fields of `Outputs` have a row for each pair, or text; the others are scalars."""


class ContrastiveLoss(Loss[Batch]):
    """The contrastive loss of a batch of clip pairs.

    Args:
        model: Both towers, and the re-ranker where there is one.
        config: Which loss, and which negatives.
    """

    def __init__(self, model: VideoCLIP, config: LossConfig) -> None:
        super().__init__(model)
        self.config = config

    def forward(
        self, batch: Batch, world: World, gradients: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Return this process's share of the loss; the mean over processes is the step's loss.

        Args:
            batch: The clip pairs.
            world: The processes whose clips are negatives too, with `negatives` "global".
            gradients: Those of a larger batch's loss by these `Outputs`. Their product is returned
                instead, which has the same gradient by the model's parameters.
        """
        outputs = self.embed(batch, rerank=gradients is None)
        # In full precision: cosine similarities over a small temperature.
        with torch.autocast(batch.video.device.type, enabled=False):
            if gradients is None:
                return pair_loss(outputs, batch, self.config, world)
            products = [
                (x * g).sum() for x, g in zip(outputs, gradients, strict=True) if g is not None
            ]
            return torch.stack(products).sum()

    def embed(self, batch: Batch, rerank: bool = False) -> Outputs:
        """Embed the clips and texts of a batch; `rerank` adds the re-ranker's loss."""
        model, reranking = self.model, torch.zeros((), device=batch.video.device)
        features = model.features(batch.video, batch.video_mask)
        video = model.video_encoder(features, batch.video_mask)
        text = model.text_states(batch.text, batch.text_mask)
        videos, texts = model.pool(video), model.pool(text)
        if model.config.num_cross_layers and rerank:
            rows = slice(math.ceil(self.config.reranker_share * len(batch)))
            inputs = features[rows].detach(), videos[rows].detach(), texts[rows].detach()
            reranking = self._reranking_loss(*inputs, batch.first(len(inputs[0])))
        bias = model.logit_bias if model.config.learn_logit_bias else 0.0
        drift = torch.zeros(len(videos), device=reranking.device)
        if video.drift is not None and text.drift is not None:
            drift = video.drift.float() + text.drift.float().view(len(videos), -1).mean(dim=1)
        seconds = videos.new_zeros(len(videos), 0, videos.shape[1])
        if self.config.seconds_weight:
            seconds = model.tokens(video)
        return Outputs(
            videos.float(),
            texts.float(),
            drift,
            seconds.float(),
            torch.as_tensor(model.temperature, device=reranking.device),
            torch.as_tensor(bias, device=reranking.device),
            reranking,
        )

    def split(self, batch: Batch, num_pairs: int) -> Sequence[Batch]:
        """Cut a batch into batches of `num_pairs` pairs, each with its candidate texts; 0: one."""
        if not 0 < num_pairs < len(batch):
            return [batch]
        num_texts = num_pairs * (len(batch.text) // len(batch))
        sizes = num_pairs, num_pairs, num_texts, num_texts
        return list(map(Batch, *map(torch.split, batch.tensors(), sizes)))

    def cached_gradients(
        self, batch: Batch, parts: Sequence[Outputs], world: World
    ) -> tuple[Tensor, list[tuple[Tensor | None, ...]]]:
        """Return the loss of all parts together, and its gradient by the `Outputs` of each."""
        number = NUM_ROW_FIELDS
        rows = (torch.cat(each) for each in zip(*(part[:number] for part in parts), strict=True))
        leaves = Outputs._make(x.detach().requires_grad_() for x in (*rows, *parts[0][number:]))
        loss = pair_loss(leaves, batch, self.config, world)
        loss.backward()  # type: ignore[no-untyped-call]
        of_rows = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves[:number]]
        of_scalars = [x.grad for x in leaves[number:]]
        of_parts = zip(
            *(
                torch.split(gradient, [len(part[i]) for part in parts])
                for i, gradient in enumerate(of_rows)
            ),
            strict=True,
        )
        # The scalars are the same in every part: the last one alone passes their gradient on.
        last = len(parts) - 1
        return loss.detach(), [
            (*part, *(of_scalars if i == last else [None] * len(of_scalars)))
            for i, part in enumerate(of_parts)
        ]

    def _reranking_loss(
        self, features: Tensor, videos: Tensor, texts: Tensor, batch: Batch
    ) -> Tensor:
        """Return the re-ranker's loss; only the re-ranker itself receives gradients."""
        model, reranker, config = self.model, self.model.reranker, self.config
        own = torch.eye(len(videos), dtype=torch.bool, device=videos.device)
        candidates = torch.ones_like(own)
        clips = reranker.encode_video(features, batch.video_mask)
        text = reranker.encode_text(batch.text, batch.text_mask)
        with torch.autocast(videos.device.type, enabled=False):
            if config.hard_similarity > -1:
                directions = F.normalize(videos.float(), dim=-1)
                candidates = hard_candidates(directions @ directions.T, config.hard_similarity)
            if config.ignore_overlapping and isinstance(batch, PlacedBatch):
                candidates = candidates & ~overlapping(batch.spans) | own
            towers = model.similarity(texts.float(), videos.float())
            towers = towers / torch.as_tensor(model.temperature).detach()
            towers = towers.masked_fill(~candidates, -torch.inf)
            return reranking_loss(reranker, text, clips, towers, config.seconds_weight)


def pair_loss(outputs: Outputs, batch: Batch, config: LossConfig, world: World) -> Tensor:
    """Return this process's share of the loss; see `ContrastiveLoss.forward`."""
    video, text, drift, seconds, temperature, bias, reranking = outputs
    all_video, all_text, first_row, num_processes = video, text, 0, 1
    if config.negatives == "global" and world.size > 1:
        all_video, all_text = world.gather_with_gradient(video), world.gather_with_gradient(text)
        first_row, num_processes = world.own_rows(len(video)).start, world.size
    spans = batch.spans if isinstance(batch, PlacedBatch) else None
    words = batch.text.masked_fill(~batch.text_mask, -1)
    pairs = PairEmbeddings(
        video, text, all_video, all_text, first_row, num_processes, temperature, bias, spans, words
    )
    loss = load_loss(config.kind)(pairs, config) + reranking + config.residual_weight * drift.mean()
    if config.seconds_weight:
        ignored = overlapping(places(pairs)) if config.ignore_overlapping else None
        of_seconds = seconds_loss(text, seconds, batch.video_mask, temperature, ignored)
        loss = loss + config.seconds_weight * of_seconds
    return loss
