"""Commands that begin with the name of a recipe, whose settings are their options."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import tyro

__all__ = ["parse_recipe"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


CommandT = TypeVar("CommandT")
ConfigT = TypeVar("ConfigT", bound=_Named)


def parse_recipe(
    command: type[CommandT],
    make: Callable[[ConfigT], CommandT],
    recipes: Mapping[str, Callable[[], ConfigT]],
    arguments: Sequence[str],
    usage: str,
) -> CommandT:
    """Make a command from its arguments, with the named recipe's values as defaults.

    Args:
        command: The command's dataclass, whose name in lower case is what one types.
        make: From a recipe's settings to the command, the other options still to be given.
        recipes: By name.
        arguments: The recipe's name, then options; wrong ones end the process with status 2.
        usage: One line.
    """
    prog = f"videoclip {command.__name__.lower()}"
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", ""):
        print(_overview(prog, recipes, usage), file=sys.stdout if name else sys.stderr)
        raise SystemExit(0 if name else 2)
    if name not in recipes:
        near = difflib.get_close_matches(name, recipes, n=1)
        hint = f"perhaps you meant '{near[0]}'" if near else f"there are {', '.join(recipes)}"
        print(f"{prog}: unknown recipe '{name}'; {hint}", file=sys.stderr)
        raise SystemExit(2)
    default = make(recipes[name]())
    return tyro.cli(command, args=arguments[1:], prog=f"{prog} {name}", default=default)


def _overview(prog: str, recipes: Mapping[str, Callable[[], ConfigT]], usage: str) -> str:
    lines = [f"usage: {usage}", "", "recipes:"]
    for name, recipe in recipes.items():
        summary = (recipe.__doc__ or "").splitlines()[0].removeprefix("Return ")
        lines.append(f"  {name:<11} {summary}")
    lines += ["", f"`{prog} RECIPE --help` lists every setting with its value."]
    return "\n".join(lines)
