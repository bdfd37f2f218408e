"""What `pretrain` and `finetune` share: a named recipe whose settings are options, and one run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import tyro
from tyro.conf import arg

from videoclip.cli.options import AUTO, Device, Json, parse
from videoclip.config import RUN_CONFIG_VERSION, RunConfig, load_run_config, to_dict
from videoclip.errors import ConfigError
from videoclip.recipes import named_recipe

if TYPE_CHECKING:
    from videoclip.benchmarks.examples import Baseline
    from videoclip.training.run import RunResult


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """A command that trains in a run folder."""

    kept: ClassVar[str] = ""  # what the summary says of a result that validation chose

    out: Annotated[Path, arg(metavar="RUN")]
    """Run folder: log, checkpoints, and at the end the model in RUN/model."""
    extend: bool = False
    """Train a finished run for more --epochs; the learning rate follows the longer schedule."""
    device: Device = AUTO
    tracker: Literal["tensorboard", "wandb", "trackio"] | None = None
    """Send the log to an experiment tracker, too; TensorBoard writes to RUN/tensorboard."""
    json: Json = False
    print_config: bool = False
    """Print all settings as JSON and exit."""
    config: RunConfig

    def run(self) -> int:
        """Train, and print the result."""
        from videoclip.distributed import joined
        from videoclip.training.logging import tracker

        with joined(self.device) as world:
            name = self.tracker if world.on_main else None
            with tracker(name, self.out, to_dict(self.config)) as on_log:
                result = self.train(on_log=on_log, world=world, extend=self.extend)
            if world.on_main:
                text = json.dumps(asdict(result), default=str) if self.json else None
                print(text or self.summary(result))
        return 0

    def train(self, **shared: Any) -> RunResult:
        """Train, with the keyword arguments that `pretrain` and `finetune` share."""
        raise NotImplementedError

    def published(self) -> Baseline | None:
        """Return the published measures, where the result has the like."""
        return None

    def summary(self, result: RunResult) -> str:
        """Return the result as text: its measures before, after and, where known, as published."""
        from videoclip.evaluation.outcome import align_columns

        text = (
            f"{result.model_folder}: {result.num_updates} updates in {result.seconds:.0f} s, "
            f"loss {result.loss:.3f}{'' if result.validation_loss is None else self.kept}"
        )
        text += f"\n{result.kept}" if result.kept else ""
        if not result.before:
            return text
        rows = [["", "before", "after"], *result.measures()]
        note = ""
        if published := self.published():
            known = {name: f"{value:.3f}" for name, value in published.values.items()}
            rows = [[*rows[0], "published"], *([*row, known.get(row[0], "")] for row in rows[1:])]
            note = f"\npublished: fine-tuned, {published.note}"
        return f"{text}\n\n{align_columns(rows)}{note}"


CommandT = TypeVar("CommandT", bound=RunCommand)


def parse_recipe(
    command: type[CommandT],
    recipes: Mapping[str, Callable[[], RunConfig]],
    usage: str,
    arguments: Sequence[str],
) -> CommandT:
    """Return a command made from its arguments, with the values of a recipe as defaults.

    The first argument is the name of a recipe, or the first two are `--config FILE` with the config
    of a run. Wrong ones end the process with status 2, `--print-config` ends it with status 0.

    Raises:
        ConfigError: If the config of a run cannot be read.
    """
    prog = f"videoclip {command.__name__.lower()}"
    name, *options = arguments or [""]
    if name in ("-h", "--help", ""):
        print(_overview(prog, recipes, usage), file=sys.stdout if name else sys.stderr)
        raise SystemExit(0 if name else 2)
    if name.startswith("-") and name != "--config":
        known = ", ".join(recipes)
        first = next((word for word in options if word in recipes), "RECIPE")
        print(
            f"{prog}: the recipe comes first: {prog} {first} {name} ... ({known})", file=sys.stderr
        )
        raise SystemExit(2)
    if "--config" in options:
        print(f"{prog}: --config FILE replaces the recipe, and comes first", file=sys.stderr)
        raise SystemExit(2)
    if name == "--config" and options:
        path, *options = options
        config, name = load_run_config(type(next(iter(recipes.values()))()), path), f"{name} {path}"
    else:
        try:
            config = named_recipe(name, recipes)
        except ConfigError as error:
            print(f"{prog}: {error}", file=sys.stderr)
            raise SystemExit(2) from None
    # Printing the config needs none of the other options.
    missing: Any = Path() if "--print-config" in options else tyro.MISSING
    required = {f.name: missing for f in fields(command) if f.default is MISSING}
    default = command(**{**required, "config": config})
    made = parse(command, options, f"{prog} {name}", default)
    if made.print_config:
        print(json.dumps({"version": RUN_CONFIG_VERSION, **to_dict(made.config)}, indent=2))
        raise SystemExit(0)
    return made


def _overview(prog: str, recipes: Mapping[str, Callable[[], Any]], usage: str) -> str:
    lines = [f"usage: {usage}", "", "recipes:"]
    for name, recipe in recipes.items():
        summary = (recipe.__doc__ or "").splitlines()[0].removeprefix("Return ")
        lines.append(f"  {name:<11} {summary}")
    return "\n".join(lines) + (
        f"\n\n`{prog} RECIPE --help` lists every setting with its value.\n"
        f"`{prog} --config RUN/config.json ...` takes the settings of an earlier run."
    )
