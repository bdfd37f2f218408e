"""Every option of every command, as its help page shows it."""

import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from videoclip.cli import COMMANDS, main
from videoclip.cli.index import Index
from videoclip.cli.options import parse
from videoclip.cli.usage import seconds

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
    "--frames-per-second": "synth writes videos, extract and index sample their frames",
}
"""Flags that mean something else in some commands, with the reason."""

OTHER_DEFAULT = {
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


BAD_NUMBERS = {
    "search onion --top-k 0": "top_k must be positive",
    "search onion -k 0": "top_k must be positive",
    "search onion --top-k 99999999999999999999": "top_k must be a number below 2**53",
    "search onion --offset -1": "offset must not be negative",
    "search onion --rerank-top -1": "rerank_top must not be negative",
    "search onion --vision nan": "vision must be a number below 2**53",
    "search onion --vision 0 --speech 0": "vision and speech are weights: not both 0",
    "index a.mp4 --workers -1": "workers must not be negative",
    "extract a.mp4 --features f --backbone motion --workers -2": "workers must not be negative",
    "synth out --num-videos 0": "num_videos must be positive",
    "synth out --seed -1": "world.seed must not be negative",
    "synth out --test-share 2": "world.test_share must be in [0, 1]",
    "ablate out --seeds 1 -1": "seeds must not be negative",
    "ablate out --world.lead-sd-seconds -1": "world.lead_sd_seconds must not be negative",
    "ablate out --num-videos -3": "num_videos must be positive",
    "localize a.mp4 --step cut --threshold inf": "threshold must be a number below 2**53",
    "segment a.mp4 --label cut --switch-cost -1": "switch_cost must not be negative",
    "cut a.mp4 --start -1 --end 3": "start must not be negative",
    "cut a.mp4 --start 3 --end 3": "--start must be before --end",
    "cut a.mp4 --start 3": "give both --start and --end",
    "cut a.mp4 --start 1 --end 3 --padding nan": "padding must be a number below 2**53",
    "export a.json --rate 0": "rate must be positive",
    "evaluate csv --features f --annotations a --num-resamples 0": "num_resamples must be positive",
    "evaluate csv --features f --annotations a --seed -1": "seed must not be negative",
    "pretrain tiny --data d --out o --optim.lr -1": "optim.lr must be positive",
    "finetune youcook2 --features f --annotations a --out o --epochs 0": "epochs must be positive",
}
"""Command lines with the reason why each is refused."""


@pytest.mark.parametrize("line", BAD_NUMBERS)
def test_a_bad_number_is_a_usage_error(line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    words = line.split()[: 2 if line.split()[0] in RECIPES else 1]
    prog = " ".join(["videoclip", *words])
    assert err == f"{prog}: error: {BAD_NUMBERS[line]}; see {prog} --help\n"
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "cluster"),
    [
        (["v.mp4"], None),
        (["v.mp4", "--cluster"], "local"),
        (["--cluster", "v.mp4"], "local"),
        (["--cluster", "--json", "v.mp4"], "local"),
        (["--cluster", "auto", "v.mp4"], "auto"),
        (["v.mp4", "--cluster", "10.0.0.1:6379"], "10.0.0.1:6379"),
        (["--cluster=node-1:6379", "v.mp4"], "node-1:6379"),
    ],
)
def test_the_address_of_a_cluster_may_be_left_out(arguments, cluster):
    command = parse(Index, arguments, "videoclip index")
    assert command.cluster == cluster and command.videos == (Path("v.mp4"),)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("8", 8),
        ("8.5s", 8.5),
        ("75", 75),
        ("0:08", 8),
        ("0:59.9", 59.9),
        ("1:00", 60),
        ("59:59", 3599),
        ("75:00", 4500),
        ("1:59:59.5", 7199.5),
        ("-0:02", -2),
        ("0:60", None),
        ("0:60.0", None),
        ("1:60:00", None),
        ("1:00:60", None),
        ("1:2:3:4", None),
        ("", None),
        ("one", None),
    ],
)
def test_times_are_read_as_clocks_show_them(text, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"expected a time|end at 59"):
            seconds(text)
    else:
        assert seconds(text) == pytest.approx(expected)
