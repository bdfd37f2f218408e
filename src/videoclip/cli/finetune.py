"""`videoclip finetune`: train a model on the training split of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import arg

from videoclip.benchmarks import load_benchmarks
from videoclip.benchmarks.examples import FINE_TUNED, Baseline
from videoclip.cli.options import Annotations, Features, Model, model_of_features
from videoclip.cli.recipe import RunCommand, parse_recipe
from videoclip.config import FinetuneConfig
from videoclip.recipes import FINETUNING

if TYPE_CHECKING:
    from videoclip.training.run import RunResult


USAGE = (
    "videoclip finetune BENCHMARK --model MODEL --features STORE --annotations DIR --out RUN "
    "[options]"
)


@dataclass(frozen=True, kw_only=True)
class Finetune(RunCommand):
    """Fine-tune a model on a benchmark; score its test split before and after.

    Videos held out of the training split choose the epoch that is kept; the test split never does.
    The same command continues an interrupted run. Every setting can be changed by its name.
    """

    kept: ClassVar[str] = "; epoch with the lowest validation loss"

    features: Features
    annotations: Annotations
    model: Model = None
    training_annotations: Annotated[Path | None, arg(metavar="PATH")] = None
    """Annotation files of the training split, if they are elsewhere: a folder or a file."""
    config: Annotated[FinetuneConfig, arg(name="")]
    """The recipe."""

    def train(self, **shared: Any) -> RunResult:
        """Fine-tune."""
        from videoclip.training.finetune import finetune

        return finetune(
            self.config,
            model_of_features(self.model, self.features),
            self.features,
            self.annotations,
            self.out,
            training_annotations=self.training_annotations,
            **shared,
        )

    def published(self) -> Baseline | None:
        """Return what was published of the fine-tuned model."""
        rows = load_benchmarks()[self.config.benchmark].published
        return next((row for row in rows if row.name == FINE_TUNED), None)


parse = partial(parse_recipe, Finetune, FINETUNING, USAGE)
