"""Contrastive losses over a batch of clip pairs: embeddings in, one scalar out.

Every module of this package is a loss and has a function `loss(pairs, config)`; adding one is
adding a file (docs/adding.md). The module's name is what the setting `loss.kind` takes.

Row i of the video embeddings and row i of the text embeddings belong together; every other pair is
a negative. Each loss has a naive twin, written with loops, in tests/model/test_losses.py.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from videoclip.config import LossConfig
from videoclip.errors import ConfigError


class PairEmbeddings(NamedTuple):
    """What a loss compares.

    Attributes:
        video: (B, E) embeddings of this process's video clips.
        text: (B, E) embeddings of its text clips; (C * B, E) with C candidates a `mil_nce` clip.
        all_video: (M, E) rows of all processes, gathered with gradient, where `loss.negatives` is
            "global"; else `video` itself.
        all_text: Likewise for `text`.
        first_row: Row of `video[0]` in `all_video`.
        num_processes: How many processes' rows `all_video` has.
        temperature: Scalar that similarities are divided by.
        bias: Scalar that may be added to the logits; 0 unless the model learns it.
    """

    video: Tensor
    text: Tensor
    all_video: Tensor
    all_text: Tensor
    first_row: int
    num_processes: int
    temperature: Tensor
    bias: Tensor


Loss = Callable[[PairEmbeddings, LossConfig], Tensor]
"""Returns this process's loss, a scalar; the mean over processes is the loss of the step."""


def load_loss(kind: str) -> Loss:
    """Return the loss that `loss.kind` names; only its own module is imported."""
    loss: Loss = importlib.import_module(f"{__name__}.{kind}").loss
    return loss


def check_pairs(video: Tensor, text: Tensor) -> None:
    """Raise a ConfigError unless both are (B, E)."""
    if video.ndim != 2 or video.shape != text.shape:
        raise ConfigError(
            f"the loss needs two (B, E) arrays of one shape, got {shapes_of(video, text)}"
        )


def shapes_of(*arrays: Tensor) -> str:
    """Return the shapes of arrays for a message."""
    return " and ".join(str(tuple(a.shape)) for a in arrays)
