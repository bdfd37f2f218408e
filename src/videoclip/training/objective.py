"""From clip pairs to gradients: both towers, the loss, and batches larger than memory.

The loss reads nothing but what `Towers` returns: gradient caching cuts there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.config import LossConfig
from videoclip.data.batch import Batch
from videoclip.distributed import World
from videoclip.features.frame_encoder import FrameEncoder
from videoclip.model.encoders import Encoded
from videoclip.model.losses import PairEmbeddings, load_loss
from videoclip.model.reranker import hard_candidates, reranking_loss
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.forward import Forward
from videoclip.training.speed import step_flops, trained_towers

__all__ = ["Outputs", "PairObjective", "Towers", "pair_loss", "pair_objective", "split"]


class Outputs(NamedTuple):
    """Everything the loss needs from a model.

    Attributes:
        video: (B, E) float32 embeddings.
        text: (C * B, E) float32 embeddings, C candidates a video with MIL-NCE, else one.
        temperature: Scalar.
        bias: Scalar added to the logits, read by the sigmoid loss.
        reranking: Scalar, the re-ranker's loss among the pairs of this pass; 0 without one.
    """

    video: Tensor
    text: Tensor
    temperature: Tensor
    bias: Tensor
    reranking: Tensor


class Towers(nn.Module):
    """Both towers, the learned scalars and the re-ranker in one forward pass."""

    def __init__(self, model: VideoCLIP, config: LossConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(
        self,
        video: Tensor,
        video_mask: Tensor,
        text: Tensor,
        text_mask: Tensor,
        rerank: bool = True,
    ) -> Outputs:
        """Embed the four tensors of a `Batch`; `rerank=False` leaves the re-ranker alone."""
        model, reranking = self.model, torch.zeros((), device=video.device)
        encoded = model.video_states(video, video_mask), model.text_states(text, text_mask)
        videos, texts = map(model.pool, encoded)
        if model.config.num_cross_layers and rerank:
            reranking = self._reranking_loss(*encoded, videos, texts)
        bias = model.logit_bias if model.config.learn_logit_bias else 0.0
        return Outputs(
            videos.float(),
            texts.float(),
            torch.as_tensor(model.temperature, device=video.device),
            torch.as_tensor(bias, device=video.device),
            reranking,
        )

    def _reranking_loss(
        self, video: Encoded, text: Encoded, videos: Tensor, texts: Tensor
    ) -> Tensor:
        """The re-ranker's loss among the pairs the towers find hard."""
        directions, similarity = F.normalize(videos, dim=-1), self.model.similarity(texts, videos)
        candidates = hard_candidates(
            similarity,
            directions @ directions.T,
            self.config.num_hard_negatives,
            self.config.hard_similarity,
        )
        return reranking_loss(
            self.model.reranker,
            video,
            text,
            similarity,
            candidates,
            self.config.reranking_temperature,
        )


def pair_loss(outputs: Outputs, config: LossConfig, world: World) -> Tensor:
    """Return this process's share of the loss; its mean over processes is the loss of the step.

    Args:
        outputs: Of the own batch.
        config: Which loss, and whether the other processes' rows are negatives too.
        world: The processes.
    """
    video, text, temperature, bias, reranking = outputs
    all_video, all_text, first_row, num_processes = video, text, 0, 1
    if config.negatives == "global" and world.size > 1:
        all_video, all_text = world.gather_with_gradient(video), world.gather_with_gradient(text)
        first_row, num_processes = world.own_rows(len(video)).start, world.size
    pairs = PairEmbeddings(
        video, text, all_video, all_text, first_row, num_processes, temperature, bias
    )
    return load_loss(config.kind)(pairs, config) + reranking


class PairObjective:
    """Computes the loss of a batch of clip pairs and adds its gradients to the model's.

    Args:
        model: In training mode already, on the world's device, its frozen parameters frozen.
        config: The loss.
        world: The processes, whose gradients are averaged.
        chunk_pairs: Pairs whose activations are held at once; 0: the whole batch. The gradients
            are those of the whole batch whatever it is.
        precision: `fp32`, or `bf16` for autocast.
        seed: With the batch's number it decides all dropout: no generator has to be saved.
    """

    def __init__(
        self,
        model: VideoCLIP,
        config: LossConfig,
        world: World,
        *,
        chunk_pairs: int = 0,
        precision: str = "fp32",
        seed: int = 0,
    ) -> None:
        self._forward = Forward(Towers(model, config), world, precision, seed)
        self.model, self._config, self._world = model, config, world
        self._chunk_pairs = chunk_pairs

    def embed(self, batch: Batch) -> Outputs:
        """Return what the towers say of a batch on the own device, without gradients."""
        outputs: Outputs = self._forward.without_gradient(*batch.tensors(), rerank=False)
        return outputs

    @torch.no_grad()
    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch on the own device, without gradients or other processes."""
        outputs: Outputs = self._forward.without_gradient(*batch.tensors())
        return pair_loss(outputs, self._config, World())

    def backward(self, batch: Batch, number: int, *, synced: bool = True) -> Tensor:
        """Add the gradients of a batch and return this process's loss, detached; see `Objective`.

        With chunks: embed all of them without keeping activations; differentiate the loss with
        respect to the embeddings; embed each chunk again, with the same dropout, and send its
        rows of that gradient back. Source: gradient caching (arXiv 2101.06983).
        """
        if not 0 < self._chunk_pairs < len(batch):
            self._forward.reseed(number)
            with self._forward.syncing(synced):
                loss = pair_loss(self._forward(*batch.tensors()), self._config, self._world)
                loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        chunks = list(split(batch, self._chunk_pairs))
        parts = []
        for i, chunk in enumerate(chunks):
            self._forward.reseed(number, i)
            parts.append(self.embed(chunk))
        whole = Outputs(
            torch.cat([part.video for part in parts]),
            torch.cat([part.text for part in parts]),
            *parts[0][2:],
        )
        leaves = Outputs(*(x.detach().requires_grad_() for x in whole))
        loss = pair_loss(leaves, self._config, self._world)
        loss.backward()  # type: ignore[no-untyped-call]

        gradients = [x.grad for x in leaves]
        assert gradients[0] is not None and gradients[1] is not None
        videos = torch.split(gradients[0], [len(part.video) for part in parts])
        texts = torch.split(gradients[1], [len(part.text) for part in parts])
        for i, (chunk, video, text) in enumerate(zip(chunks, videos, texts, strict=True)):
            last = i == len(chunks) - 1
            # The scalars are the same in every chunk: theirs go back once.
            rows = [video, text, *(gradients[2:] if last else ())]
            self._forward.reseed(number, i)
            with self._forward.syncing(synced and last):
                again = zip(self._forward(*chunk.tensors()), rows, strict=False)
                wanted = [(x, g) for x, g in again if x.requires_grad and g is not None]
                torch.autograd.backward([x for x, _ in wanted], [g for _, g in wanted])
        return loss.detach()

    def flops(self, batch: Batch) -> int:
        """Return the floating-point operations of a step, see `step_flops`."""
        again = int(0 < self._chunk_pairs < len(batch))
        video, text = (3 + again if on else 1 + again for on in trained_towers(self.model))
        flops = step_flops(self.model.config, batch, (video, text))
        if isinstance(frames := self.model.frame_encoder, FrameEncoder):
            flops += frames.flops_per_frame * int(batch.video_mask.sum()) * (4 + again)
        return flops


def pair_objective(
    config: LossConfig, *, chunk_pairs: int = 0, seed: int = 0
) -> Callable[[VideoCLIP, World, str], PairObjective]:
    """Return what a `Trainer` builds its objective of clip pairs with."""

    def build(model: VideoCLIP, world: World, precision: str) -> PairObjective:
        return PairObjective(
            model, config, world, chunk_pairs=chunk_pairs, precision=precision, seed=seed
        )

    return build


def split(batch: Batch, num_pairs: int) -> Iterator[Batch]:
    """Cut a batch into batches of at most `num_pairs` pairs, each with its candidate texts."""
    candidates = len(batch.text) // len(batch)
    yield from map(
        Batch,
        torch.split(batch.video, num_pairs),
        torch.split(batch.video_mask, num_pairs),
        torch.split(batch.text, num_pairs * candidates),
        torch.split(batch.text_mask, num_pairs * candidates),
    )
