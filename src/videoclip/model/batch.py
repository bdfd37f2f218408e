"""`Batch`: clips and texts of different lengths, padded, as both towers take them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from videoclip.data.tokenizer import pad_tokens
from videoclip.model.videoclip import VideoCLIP, pad_features


@dataclass(frozen=True)
class Batch:
    """Clip pairs: row i of `video` belongs to row i of `text`, every other row is a negative.

    With MIL-NCE clips `text` has C * B rows instead: the C candidates of pair i are the rows
    [C * i, C * (i + 1)).

    Attributes:
        video: (B, T, D) float32, frozen features, or (B, T, height, width, 3) uint8, frames for a
            backbone that is trained; zero where padded.
        video_mask: (B, T) bool, True where real; a prefix of each row.
        text: (B, L) int64, word-piece ids without [CLS] and [SEP], `pad_id` where padded.
        text_mask: (B, L) bool, True where real; a prefix of each row.
    """

    video: Tensor
    video_mask: Tensor
    text: Tensor
    text_mask: Tensor

    def __len__(self) -> int:
        """Number of clip pairs B."""
        return len(self.video)

    @property
    def num_tokens(self) -> int:
        """Number of real positions in both towers, [CLS] and [SEP] included."""
        return sum(int(mask.sum()) + 2 * len(mask) for mask in (self.video_mask, self.text_mask))

    def first(self, number: int) -> Self:
        """Return the first pairs; each has one text."""
        return type(self)(*(t[:number] for t in self.tensors()))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return the batch on a device; with `non_blocking` from pinned memory, without waiting."""
        return type(self)(*(t.to(device, non_blocking=non_blocking) for t in self.tensors()))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory; a `DataLoader(pin_memory=True)` calls this."""
        return type(self)(*(t.pin_memory() for t in self.tensors()))

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors, in the order of the constructor's arguments."""
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class PlacedBatch(Batch):
    """Clip pairs with their places in their videos.

    Attributes:
        spans: (B, 5) float32: number of the video within the batch, first and last second of the
            text clip, first and last second of the video clip.
    """

    spans: Tensor


def collate(pairs: Sequence[tuple[np.ndarray, ArrayLike]], pad_id: int) -> Batch:
    """Pad clip pairs to the longest of the batch.

    Args:
        pairs: For each pair its features (rows, D) of any float type and its 1-D word-piece ids.
        pad_id: Id that fills up short texts.
    """
    features, token_ids = zip(*pairs, strict=True)
    return Batch(*pad_features(features), *pad_tokens(token_ids, pad_id))


@torch.no_grad()
def embed_batch(model: VideoCLIP, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the (B, E) video and (C * B, E) text embeddings, float32, on the model's device."""
    batch = batch.to(next(model.parameters()).device)
    video = model.encode_video(batch.video, batch.video_mask)
    text = model.encode_text(batch.text, batch.text_mask)
    return video.float(), text.float()
