"""The log of a run as TensorBoard curves, for those who want them (extra `tensorboard`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from videoclip.errors import MissingExtraError

__all__ = ["tensorboard_curves"]


def tensorboard_curves(folder: Path) -> Callable[[Mapping[str, Any]], None]:
    """Return what `pretrain` can tell its log entries: a writer of curves into `folder`.

    The folder is made with the first entry. What was drawn from there on is drawn anew: a run that
    was killed goes on from its last checkpoint.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("writing TensorBoard curves", "tensorboard") from None
    writer: SummaryWriter | None = None

    def watch(entry: Mapping[str, Any]) -> None:
        nonlocal writer
        if writer is None:
            writer = SummaryWriter(str(folder), purge_step=entry["update"])
        numbers = {**entry, **entry.get("evaluation", {})}
        for name, value in numbers.items():
            if name not in ("update", "epoch", "evaluation"):
                writer.add_scalar(name, value, entry["update"])
        writer.flush()

    return watch
