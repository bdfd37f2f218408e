"""Losses that judge every second of a video: the steps of CrossTask, the labels of COIN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from videoclip.distributed import World
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.forward import Forward
from videoclip.training.speed import step_flops, trained_towers

__all__ = [
    "ClassLoss",
    "LabelTextLoss",
    "PerSecondLoss",
    "PerSecondObjective",
    "StepLoss",
    "WindowBatch",
]


@dataclass(frozen=True)
class WindowBatch:
    """The windows of one video, what its seconds are compared with, and what is right.

    Attributes:
        video: (W, T, D) float32 features, zero where padded.
        video_mask: (W, T), True where real.
        text: (K, L) word-piece ids of K steps or labels; K is 0 where a head knows them.
        text_mask: (K, L), True where real.
        targets: (W, T, K) float, 1 where a step happens; or (W, T) int64 classes.
    """

    video: Tensor
    video_mask: Tensor
    text: Tensor
    text_mask: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Number of windows W."""
        return len(self.video)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> WindowBatch:
        """Return the batch on a device."""
        return WindowBatch(*(t.to(device, non_blocking=non_blocking) for t in self.tensors()))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the five, as a loss takes them."""
        return self.video, self.video_mask, self.text, self.text_mask, self.targets


class PerSecondLoss(Protocol):
    """Builds a module from the tensors of a `WindowBatch` to a scalar loss.

    Attributes:
        rereads_texts: Whether texts are embedded in every step even if their tower is frozen.
    """

    rereads_texts: bool

    def __call__(self, model: VideoCLIP) -> nn.Module:
        """Build the module around a model."""
        ...


class StepLoss(nn.Module):
    """Binary cross-entropy of every second with every step, each its own question.

    Source: released CrossTask fine-tuning: mean over seconds and steps, [CLS] hidden.
    """

    rereads_texts = True

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, video: Tensor, video_mask: Tensor, text: Tensor, text_mask: Tensor, targets: Tensor
    ) -> Tensor:
        """Return the loss of the tensors of a `WindowBatch`."""
        seconds = self.model.video_tokens(video, video_mask, attend_cls=False)[video_mask]
        steps = self.model.encode_text(text, text_mask)
        logits = seconds.float() @ steps.float().T / self.model.temperature  # (N, K)
        return F.binary_cross_entropy_with_logits(logits, targets[video_mask])


class LabelTextLoss(nn.Module):
    """Cross-entropy of every second over the label texts, the first of which is background.

    The texts are the same in every batch: where their tower is frozen they are embedded once.
    """

    rereads_texts = False

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.model = model
        self._frozen: Tensor | None = None

    def forward(
        self, video: Tensor, video_mask: Tensor, text: Tensor, text_mask: Tensor, targets: Tensor
    ) -> Tensor:
        """Return the loss of the tensors of a `WindowBatch`."""
        seconds = self.model.video_tokens(video, video_mask, attend_cls=False)[video_mask]
        logits = seconds.float() @ self._labels(text, text_mask).T / self.model.temperature
        return F.cross_entropy(logits, targets[video_mask])

    def _labels(self, text: Tensor, text_mask: Tensor) -> Tensor:
        if trained_towers(self.model)[1]:
            return self.model.encode_text(text, text_mask).float()
        if self._frozen is None:
            with torch.no_grad():
                self._frozen = self.model.encode_text(text, text_mask).float()
        return self._frozen


class ClassLoss(nn.Module):
    """Cross-entropy of every second over the classes of the model's head.

    Source: released COIN fine-tuning: 779 classes, [CLS] hidden.
    """

    rereads_texts = False

    def __init__(self, model: VideoCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, video: Tensor, video_mask: Tensor, text: Tensor, text_mask: Tensor, targets: Tensor
    ) -> Tensor:
        """Return the loss of the tensors of a `WindowBatch`."""
        logits = self.model.classify(video, video_mask)[video_mask]  # (N, K)
        return F.cross_entropy(logits.float(), targets[video_mask])


class PerSecondObjective:
    """Computes a loss over the windows of a video and adds its gradients to the model's.

    Args:
        loss: Which.
        model: In training mode already, on the world's device, its frozen parameters frozen.
        world: The processes, whose gradients are averaged.
        precision: `fp32`, or `bf16` for autocast.
        seed: With the batch's number it decides all dropout.
    """

    def __init__(
        self, loss: PerSecondLoss, model: VideoCLIP, world: World, precision: str, seed: int
    ) -> None:
        # No loss here uses the whole model: a head leaves the text tower and temperature alone.
        self._forward = Forward(loss(model), world, precision, seed, uses_all=False)
        self._model, self._rereads_texts = model, loss.rereads_texts

    def backward(self, batch: WindowBatch, number: int, *, synced: bool = True) -> Tensor:
        """Add the gradients of a batch and return the loss, detached; see `Objective`."""
        self._forward.reseed(number)
        with self._forward.syncing(synced):
            loss: Tensor = self._forward(*batch.tensors())
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def loss(self, batch: WindowBatch) -> Tensor:
        """Return the loss of a batch without gradients or other processes."""
        loss: Tensor = self._forward.without_gradient(*batch.tensors())
        return loss

    def flops(self, batch: WindowBatch) -> int:
        """Return the floating-point operations of a step, see `step_flops`."""
        video, text = trained_towers(self._model)
        passes = 3 if video else 1, 3 if text else int(self._rereads_texts)
        return step_flops(self._model.config, batch, passes)
