"""`videoclip pretrain`: learn from narrated videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from videoclip.cli.options import OptionalFeatures, Vocabulary
from videoclip.cli.recipe import RunCommand, parse_recipe
from videoclip.config import PretrainConfig
from videoclip.recipes import RECIPES

if TYPE_CHECKING:
    from videoclip.training.run import RunResult


USAGE = (
    "videoclip pretrain RECIPE --data FOLDER --out RUN [options], or without RECIPE "
    "--init-from MODEL"
)


@dataclass(frozen=True, kw_only=True)
class Pretrain(RunCommand):
    """Pre-train a model on narrated videos. The same command continues an interrupted run.

    Every setting of the recipe can be changed by its name. On many GPUs:
    `torchrun --nproc-per-node 8 -m videoclip pretrain ...` (docs/distributed.md).

    RUN/index.html shows losses, speed, and what the model finds before and after.

    Without --features the features are computed into RUN/features; with --train-backbone it is a
    store of frames, by default RUN/frames.
    """

    data: Annotated[Path, arg(metavar="PATH")]
    """Folder of videos with subtitles beside them, or of released HowTo100M shards; with --features
    also a caption file in the form of HowTo100M (raw_caption.json, `videoclip prepare`)."""
    features: OptionalFeatures = None
    init_from: Annotated[str | None, arg(metavar="MODEL")] = None
    """Model to start from: a model folder, hub id, "starter" or any dual encoder (then RECIPE may
    be left out); by default random weights."""
    vocabulary: Vocabulary = None
    config: Annotated[PretrainConfig, arg(name="")]
    """The recipe."""

    def train(self, **shared: Any) -> RunResult:
        """Pre-train."""
        from videoclip.training.pretrain import pretrain

        return pretrain(
            self.config,
            self.data,
            self.out,
            features=self.features,
            tokenizer=self.vocabulary,
            init_from=self.init_from,
            page=True,
            **shared,
        )


def parse(arguments: Sequence[str]) -> Pretrain:
    """Return the command; the recipe of a model to start from may be left out: "starter"."""
    starts = any(argument.split("=")[0] == "--init-from" for argument in arguments)
    if starts and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--config"):
        arguments = ["starter", *arguments]
    return parse_recipe(Pretrain, RECIPES, USAGE, arguments)
