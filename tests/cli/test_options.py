"""Every option of every command, as its help page shows it."""

import contextlib
import io
import re
from typing import NamedTuple

import pytest

from videoclip.cli import COMMANDS, main

RECIPES = {"pretrain": "small", "finetune": "youcook2"}
"""Commands that begin with the name of a recipe."""

SPLIT = re.compile(r"^(?:-\w(?: \S+)?, )?(?P<flag>--[\w.-]+)(?P<rest>.*?)(?:  +(?P<help>.*))?$")
DEFAULT = re.compile(r" ?\((default: .*|required|repeatable)\)$")


class Option(NamedTuple):
    metavar: str
    help: str
    default: str


def help_page(name):
    text = io.StringIO()
    arguments = [name, *filter(None, [RECIPES.get(name)]), "--help"]
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)
    return text.getvalue()


def options_of(page):
    """The options on a help page by their flag."""
    entries = []
    for line in page.splitlines():
        if line.startswith("  -"):
            entries.append(line.strip())
        elif line.startswith("   ") and line.strip() and entries:
            entries[-1] += (" " if "  " in entries[-1] else "  ") + line.strip()
    found = {}
    for entry in entries:
        option = SPLIT.match(entry)
        text = option["help"] or ""
        default = DEFAULT.search(text)
        found[option["flag"]] = Option(
            metavar=option["rest"].strip(),
            help=text[: default.start()] if default else text,
            default=default[1] if default else "",
        )
    found.pop("--help", None)
    return found


@pytest.fixture(scope="module")
def pages():
    """The help page of each command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        return {name: help_page(name) for name in COMMANDS}


@pytest.fixture(scope="module")
def options(pages):
    return {name: options_of(page) for name, page in pages.items()}


def test_no_help_page_speaks_of_none(pages):
    for name, page in pages.items():
        assert "{None}" not in page and "None" not in page, name
        assert "tyro" not in page, name


def test_every_option_has_a_help_text(options):
    without = [
        f"{name} {flag}"
        for name, found in options.items()
        for flag, option in found.items()
        if not option.help
    ]
    assert without == []


def test_every_positional_argument_has_a_help_text(pages):
    for name, page in pages.items():
        box = re.search(r"positional arguments.*\n -+ *\n((?:.*\n)*?) +\n", page)
        for line in box[1].splitlines() if box else []:
            assert len(re.split(r"  +", line.strip())) == 2, (name, line)


DIFFERENT = {
    "--csv": "search prints CSV; segment and localize write a file beside what they print",
}
"""Flags that do not mean the same in every command, with the reason."""

OTHER_DEFAULT = {}


def test_one_flag_means_the_same_in_every_command(options):
    """One flag has one metavar, one help text and one default, except those listed above."""
    drifted = {}
    for flag in sorted({flag for found in options.values() for flag in found} - DIFFERENT.keys()):
        uses = {name: found[flag] for name, found in options.items() if flag in found}
        if len(set(uses.values())) > 1:
            drifted[flag] = uses
    for flag, uses in drifted.items():
        print(flag)
        for name, option in uses.items():
            print("   ", name, option)
    assert not drifted


def test_an_exception_is_needed(options):
    for flag in DIFFERENT:
        assert len({found[flag] for found in options.values() if flag in found}) > 1, flag
