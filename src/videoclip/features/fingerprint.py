"""What tells two backbones apart: their weights and what is done to frames before them."""

from __future__ import annotations

import hashlib

from torch import nn

__all__ = ["fingerprint"]


def fingerprint(network: nn.Module, preprocessing: object) -> str:
    """Return a short hex digest of a network's tensors and its preprocessing.

    Args:
        network: Every parameter and buffer counts, by name and value.
        preprocessing: Anything whose `repr` says all that is done to frames.
    """
    digest = hashlib.blake2b(repr(preprocessing).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
