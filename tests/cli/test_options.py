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
        if re.match(r"  --?\w", line):
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
        entries = re.split(r"^  (?=\S)", box[1], flags=re.MULTILINE)[1:] if box else []
        for entry in entries:
            assert len(re.split(r"\s{2,}", entry.strip())) >= 2, (name, entry)


OTHER_MEANING = {
    "--csv": "search prints CSV; segment and localize write a file beside what they print",
    "--fast": "index decodes keyframes only; cut copies without encoding",
    "--format": "prepare writes captions, export moments",
    "--out": "each command writes something else",
    "--seed": "what is drawn at random differs",
    "--backbone": "extract computes features; convert imports those of another program, often S3D",
    "--clip-seconds": "one scores clips, the other trains on them",
    "--workers": "pretrain prepares batches in them, and needs none for small data",
    "--rerank-top": "evaluate scores texts and questions, search moments",
    "--name": "a recipe's name and a world's",
}
"""Flags that mean something else in some commands, with the reason."""

OTHER_DEFAULT = {
    "--model": "a library keeps its model, so index and search have no default",
    "--num-videos": "a world to look at is small, one to compare training on is not",
    "--features": "some commands need it, index and pretrain can compute features",
}
"""Flags that have another default in some commands, with the reason."""

SETTINGS = re.compile(r"--(optim|model|plan|clips|loss|evaluate)\.|--(epochs|validation-)")
"""Settings of recipes; their defaults are what recipes differ in."""


def uses(options, flag):
    return {name: page[flag] for name, page in options.items() if flag in page}


def test_one_flag_means_the_same_in_every_command(options):
    """One flag has one metavar, help text and default, except those listed above."""
    drifted = {}
    for flag in sorted({flag for page in options.values() for flag in page} - OTHER_MEANING.keys()):
        found = uses(options, flag)
        if flag in OTHER_DEFAULT or SETTINGS.match(flag):
            seen = {option[:2] for option in found.values()}
        else:
            seen = set(found.values())
        if len(seen) > 1:
            drifted[flag] = found
    assert drifted == {}


def test_no_exception_is_superfluous(options):
    for flag in {**OTHER_MEANING, **OTHER_DEFAULT}:
        assert len(set(uses(options, flag).values())) > 1, flag
