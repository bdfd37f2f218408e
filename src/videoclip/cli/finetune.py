"""`videoclip finetune`: teach a model the training part of a benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from videoclip.cli.recipe import parse_recipe
from videoclip.config import FinetuneConfig
from videoclip.recipes import FINETUNING

if TYPE_CHECKING:
    from videoclip.training.train import RunResult

__all__ = ["Finetune", "parse"]

USAGE = (
    "videoclip finetune BENCHMARK --model MODEL --features STORE --annotations DIR --out RUN "
    "[options]"
)


@dataclass(frozen=True)
class Finetune:
    """Fine-tune a model on a benchmark; score its test before and after.

    Videos held out of the training part choose the epoch that is kept; the test never does. The
    same command continues an interrupted run. Every setting can be changed by its name.
    """

    features: Path
    """Feature store with the benchmark's training and test videos."""
    annotations: Path
    """Folder with the benchmark's own annotation files, or the file of its test."""
    out: Path
    """Run folder: log, checkpoints, and at the end the model in OUT/model."""
    model: str = "starter"
    """Model to start from: a folder, a hub id or "starter"."""
    training_annotations: Path | None = None
    """Folder or file of the training part, where it is another."""
    device: str | None = None
    """Torch device; by default the process's own GPU, or the CPU."""
    tensorboard: bool = False
    """Write the log as TensorBoard curves into OUT/tensorboard, too."""
    json: bool = False
    """Print the result as JSON."""
    config: Annotated[FinetuneConfig, tyro.conf.arg(name="")] = field(
        default_factory=FinetuneConfig
    )
    """The recipe."""

    def run(self) -> int:
        """Train, and print what has become of it."""
        from videoclip.distributed import joined
        from videoclip.training.finetune import finetune
        from videoclip.training.tensorboard import tensorboard_curves

        with joined(self.device) as world:
            watch = None
            if self.tensorboard and world.on_main:
                watch = tensorboard_curves(self.out / "tensorboard")
            result = finetune(
                self.config,
                self.model,
                self.features,
                self.annotations,
                self.out,
                training_annotations=self.training_annotations,
                watch=watch,
                world=world,
            )
            if world.on_main:
                answer = json.dumps(asdict(result), default=str) if self.json else None
                print(answer or _table(result, self.config.benchmark))
        return 0


def parse(arguments: Sequence[str]) -> Finetune:
    """Make the command from its arguments, with the named recipe's values as defaults."""
    return parse_recipe(
        Finetune,
        lambda config: Finetune(tyro.MISSING, tyro.MISSING, tyro.MISSING, config=config),
        FINETUNING,
        arguments,
        USAGE,
    )


def _table(result: RunResult, benchmark: str) -> str:
    """Return what the run did, and the test's measures before, after and as published."""
    from videoclip.evaluation.published import FINE_TUNED, PUBLISHED

    published = {c.name: c for c in PUBLISHED.get(benchmark, ())}.get(FINE_TUNED)
    chosen = "" if result.validation_loss is None else "; the best epoch on what was held out"
    rows = [("", "before", "after", "published" if published else "")]
    for name, before in result.before.items():
        theirs = published.values.get(name) if published else None
        shown = "" if theirs is None else f"{theirs:.3f}"
        rows.append((name, f"{before:.3f}", f"{result.after[name]:.3f}", shown))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    head = (
        f"{result.model_folder}: {result.num_updates} updates in {result.seconds:.0f} s, "
        f"loss {result.loss:.3f}{chosen}"
    )
    source = [f"published: fine-tuned, {published.note}"] if published else []
    return "\n".join([head, "", *lines, *source])
