"""Wrong usage in one line: what is wrong, and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from videoclip.errors import ConfigError

if TYPE_CHECKING:
    from tyro._arguments import ArgumentDefinition
    from tyro._errors import ParseErrorEvent

SYNONYMS = {
    "--top-k": ("--limit", "--max", "--num", "--number", "-n"),
    "--out": ("-o", "--output"),
    "--library": ("--db", "--index", "-l", "--in"),
    "--model": ("-m",),
    "--where": ("--filter", "--video"),
    "--json": ("--format",),
    "--min-confidence": ("--threshold", "--min-score", "--min-similarity", "--score"),
    "--device": ("--gpu", "--cuda"),
    "--workers": ("--threads", "--jobs", "-j"),
    "--like": ("--image", "--picture"),
    "--end": ("--to", "-e"),
    "--start": ("--from", "-s", "-ss", "--ss"),
    "--features": ("--store",),
    "--optim.lr": ("--lr", "--learning-rate", "--optim.learning-rate"),
    "--data": ("-d", "--videos", "--dataset"),
    "--epochs": ("--epoch",),
    "--html": ("--report", "--page"),
    "--step": ("--label",),
    "--label": ("--step",),
    "--steps": ("--labels",),
    "--labels": ("--steps",),
    "--plan.videos-per-batch": ("--batch-size",),
}
"""Our options, and what other programs call each."""
NEEDS_NO_OPTION = {
    "--query": "write the words without an option",
    "--text": "write the words without an option",
    "-q": "write the words without an option",
    "--question": "write the question after the video, without an option",
    "--recursive": "folders are read with their subfolders",
    "-r": "folders are read with their subfolders",
    "--download": "a model is downloaded when --model names it",
    "--ordered": "steps are in order unless --any-order is given",
    "--duration": "give the end of the span with --end",
}
"""Options of other programs that stand for something we do otherwise."""
FILES = {
    "csv|json|txt": "results go to standard output; write > in front of it",
    "html?": "write it after --html",
    "mp4|mkv|mov|avi|webm": "to search one video, --where \"path like '%NAME'\"",
}
"""Files that people name among the words of a query, and how to name them."""
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?|\.\d+)(?:s|sec|seconds)?")


def seconds(text: str) -> float:
    """Return a time such as 8.5, 8s, 0:08, 1:02:03.5 or 00:00:08,500 as seconds.

    Raises:
        ValueError: If it is none.
    """
    minus, time = re.fullmatch(r"(-?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if (match := _TIME.fullmatch(time)) is None:
        raise ValueError(f"expected a time such as 8.5, 0:08 or 1:02:03, got '{text}'")
    hours, minutes, rest = (float((part or "0").replace(",", ".")) for part in match.groups())
    if (match[2] and rest >= 60) or (match[1] and minutes >= 60):
        raise ValueError(f"minutes and seconds end at 59: '{text}'")
    return (3600 * hours + 60 * minutes + rest) * (-1 if minus else 1)


def check_words(words: Sequence[str]) -> None:
    """Check the words of a query that was not quoted.

    Raises:
        ConfigError: If one is the name of a file.
    """
    if len(words) > 1:  # one word in quotes is what was meant
        for word, (names, advice) in product(words, FILES.items()):
            if re.fullmatch(rf".+\.({names})", word, re.IGNORECASE):
                raise ConfigError(f"'{word}' is the name of a file, not a word: {advice}")


@contextmanager
def errors_in_one_line(flags: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Make what tyro rejects a `ConfigError` of one line; its own message is a box of ten.

    A version of tyro without hooks for errors prints that box.

    Args:
        flags: Returns the options of the command.
    """
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        yield
        return

    def refuse(event: ParseErrorEvent) -> None:
        if message := _message(event, flags):
            raise ConfigError(message)

    with on_parse_error(refuse):
        yield


def unknown_arguments(
    words: Sequence[str], flags: Sequence[str], stray: str = "", *, takes_file: bool = False
) -> str:
    """Return the message for arguments that a command does not take.

    Args:
        words: The arguments.
        flags: Options of the command.
        stray: What to do with words that belong to no option.
        takes_file: Whether the command takes a file without an option.
    """
    option = next((word for word in words if word.startswith("-")), None)
    if option is not None:
        if advice := NEEDS_NO_OPTION.get(option.partition("=")[0]):
            return f"unknown option '{option}'; {advice}"
        near = nearest_flag(option, flags)
        return f"unknown option '{option}'" + (f"; perhaps you meant '{near}'" if near else "")
    option = f"--{words[0]}"
    advice = f"perhaps you meant '{option}'" if option in flags else stray
    if Path(words[0]).exists() and (takes_file or not stray):
        advice = "name one file at a time"
    elif re.search(r"\w\.\w{2,5}$", words[0]):
        advice = "put names with spaces in quotes"
    return f"unexpected '{words[0]}'; {advice or 'put several words in quotes'}"


def nearest_flag(option: str, flags: Sequence[str]) -> str | None:
    """Return the option that was probably meant."""
    option = option.partition("=")[0].replace("_", "-")
    for ours, theirs in SYNONYMS.items():
        if option in theirs and ours in flags:
            return ours
    begins = [flag for flag in flags if len(option) > 2 and flag.startswith(option)]
    return next(iter(begins or difflib.get_close_matches(option, flags, n=1, cutoff=0.75)), None)


def _message(event: ParseErrorEvent, flags: Callable[[], Sequence[str]]) -> str:
    """Return what is wrong in one line; empty if tyro has to say it."""
    from tyro import _errors as tyro_errors

    match event:
        case tyro_errors.MissingArgs():
            wrong = [word for word in event.unrecognized_tokens if word.startswith("-")]
            missing = " and ".join(_usage(one.arg) for one in event.missing_arguments)
            stray = [word for word in event.unrecognized_tokens if word not in wrong]
            behind = f"; '{stray[0]}' belongs to no option" if stray and not wrong else ""
            return (unknown_arguments(wrong, flags()) + "; and " if wrong else "") + (
                f"{missing} must be given{behind}"
            )
        case tyro_errors.InvalidChoice():
            near = difflib.get_close_matches(event.value.lower(), event.choices, n=1)
            known = (
                f"perhaps you meant '{near[0]}'" if near else "one of " + ", ".join(event.choices)
            )
            return f"{_name(event.argument)}: no such choice '{event.value}'; {known}"
        case tyro_errors.BadValue():
            return f"{_usage(event.argument)}: its value is missing"
        case tyro_errors.InstantiationFailure() if event.argument is not None:
            reason = event.message
            if own := re.search(r"PrimitiveConstructorSpec\(.*\]: (.*)", reason, re.DOTALL):
                reason = own[1]  # of a type of ours
            kind = "a whole number" if re.search(r"\bint\(\)|\bINT\b", reason) else "a number"
            if value := re.search(
                r"(?:base 10|to float|instantiated from):? \[?(.*?)\]?\.?$", reason
            ):
                reason = f"expected {kind}, got {value[1]}"
            return f"{_name(event.argument)}: {' '.join(reason.split())}"
    return ""


def _name(argument: ArgumentDefinition) -> str:
    """Return the longest name of an option, or what a positional argument is called."""
    if argument.is_positional():
        return str(argument.lowered.metavar)
    return max(argument.lowered.name_or_flags, key=len)


def _usage(argument: ArgumentDefinition) -> str:
    """Return the name of an option with that of its value."""
    is_option = not argument.is_positional() and argument.lowered.metavar
    return f"{_name(argument)} {argument.lowered.metavar}" if is_option else _name(argument)
