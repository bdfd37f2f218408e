"""`videoclip pretrain`: learn from narrated videos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from videoclip.cli.options import OptionalFeatures, Vocabulary
from videoclip.cli.recipe import RunCommand, parse_recipe
from videoclip.config import PretrainConfig
from videoclip.recipes import RECIPES

if TYPE_CHECKING:
    from videoclip.training.run import RunResult


USAGE = "videoclip pretrain RECIPE --data FOLDER --out RUN [options]"


@dataclass(frozen=True, kw_only=True)
class Pretrain(RunCommand):
    """Pre-train a model on narrated videos. The same command continues an interrupted run.

    Every setting of the recipe can be changed by its name. On many GPUs:
    `torchrun --nproc-per-node 8 -m videoclip pretrain ...` (docs/distributed.md).

    Without --features the features are computed into RUN/features; with --train-backbone it is a
    store of frames, by default RUN/frames.
    """

    data: Annotated[Path, arg(metavar="PATH")]
    """Folder of videos with subtitles beside them, or of released HowTo100M shards; with --features
    also a caption file in the form of HowTo100M (raw_caption.json, `videoclip prepare`)."""
    features: OptionalFeatures = None
    init_from: Annotated[str | None, arg(metavar="MODEL")] = None
    """Model to start from: a model folder, hub id or "starter"; by default random weights."""
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
            **shared,
        )


parse = partial(parse_recipe, Pretrain, RECIPES, USAGE)
