"""A checkpoint's content: a model folder, and beside it what the trainer needs to go on.

Tensors are in safetensors and the rest in JSON: nothing is pickled. There is no state of random
generators because all randomness follows from the seed and the position in the run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import save_model_folder
from videoclip.errors import CheckpointError
from videoclip.model import hub
from videoclip.model.videoclip import VideoCLIP

__all__ = ["Position", "read_checkpoint", "write_checkpoint", "write_model_folder"]

MOMENTS_FILE = "optimizer.safetensors"
TRAINER_FILE = "trainer.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        update: Updates done since the beginning.
        epoch: Epoch, from 1.
        batch: Batches done in this epoch, by each process.
    """

    update: int = 0
    epoch: int = 1
    batch: int = 0


def write_model_folder(folder: Path, model: VideoCLIP, tokenizer: Tokenizer) -> None:
    """Write weights, config and vocabulary, for `VideoCLIP.from_pretrained` and `Embedder`."""
    save_model_folder(folder, model, tokenizer)


def write_checkpoint(
    folder: Path,
    model: VideoCLIP,
    tokenizer: Tokenizer,
    optimizer: torch.optim.Optimizer,
    position: Position,
) -> None:
    """Write everything a run continues from into a folder."""
    write_model_folder(folder / "model", model, tokenizer)
    state = optimizer.state_dict()
    moments = {f"{i}.{name}": t for i, entry in state["state"].items() for name, t in entry.items()}
    safetensors.torch.save_file(moments, folder / MOMENTS_FILE)
    trainer = {"position": asdict(position), "param_groups": state["param_groups"]}
    (folder / TRAINER_FILE).write_text(json.dumps(trainer, indent=2) + "\n", encoding="utf-8")


def read_checkpoint(folder: Path, model: VideoCLIP, optimizer: torch.optim.Optimizer) -> Position:
    """Fill a model and its optimiser from a checkpoint and return where the run stood.

    Raises:
        CheckpointError: If a file is damaged or belongs to another model.
    """
    try:
        hub.load_weights(model, folder / "model")
        trainer = json.loads((folder / TRAINER_FILE).read_text(encoding="utf-8"))
        position = Position(**trainer["position"])
        moments = safetensors.torch.load_file(folder / MOMENTS_FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, CheckpointError) as error:
        raise CheckpointError(
            f"{folder} is damaged ({error}): remove it, and the run continues from the one before"
        ) from None
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in moments.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    for group in trainer["param_groups"]:
        group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": state, "param_groups": trainer["param_groups"]})
    return position
