"""The command line: one module a command, imported only when that command is called.

Results go to stdout; progress, warnings and errors go to stderr. The exit statuses are in
`EXIT_STATUSES`; a traceback is printed only for bugs, or with `--debug`.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from videoclip import __version__
from videoclip.errors import DISK_ADVICE, VideoCLIPError, show_warning, unknown

COMMANDS = {
    "demo": "learn from narrated videos and find moments, in minutes, on a CPU, offline",
    "synth": "write a synthetic world: narrated videos with known answers",
    "prepare": "find, clean and check the captions of videos",
    "extract": "compute the features of videos; resumes",
    "pretrain": "train a model on narrated videos; resumes",
    "finetune": "train a model on a benchmark; resumes",
    "evaluate": "score a model on a benchmark, with baselines",
    "compare": "compare runs and results: settings, losses, scores",
    "ablate": "train and compare variants of the method on a synthetic world",
    "models": "list the models to search with, and which are here",
    "index": "add new and changed videos to a library",
    "search": "find moments in a library by words, or by a clip or picture",
    "segment": "label every second of a video",
    "localize": "find when each step of a task happens in a video",
    "ask": "answer a multiple-choice question about a video",
    "serve": "serve a page and a REST API for a library",
    "cut": "cut moments out of videos as clips",
    "export": "write moments as CSV, JSON, EDL, FCPXML or WebVTT",
    "convert": "convert released weights, features and captions",
    "info": "describe a folder or file",
    "doctor": "check this machine and say how to fix what fails",
}
"""One line of help for each command, in the order in which a newcomer needs them."""

SYNONYMS = {
    "search": ("find", "query"),
    "index": ("add", "import", "scan", "update"),
    "pretrain": ("train", "learn"),
    "evaluate": ("eval", "test"),
    "info": ("list", "ls", "show"),
    "segment": ("label", "annotate", "timeline"),
    "localize": ("steps",),
    "ask": ("question",),
    "cut": ("clip", "trim"),
    "export": ("save",),
    "extract": ("embed", "features"),
    "doctor": ("check",),
    "compare": ("diff",),
    "models": ("download",),
    "prepare": ("captions", "subtitles"),
}
"""Our commands, and what other programs call each."""

EXIT_STATUSES = {
    0: "success",
    1: "an error, in one line on stderr; or some of the files failed, each with its reason",
    2: "wrong usage",
    3: "no match, with --require-match",
    130: "interrupted (Ctrl-C or SIGTERM)",
}
"""What the exit status of every command means."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    warnings.showwarning = show_warning
    if isinstance(sys.stdout, TextIOWrapper):  # names of files are printed as they are
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        status = _run([argument for argument in arguments if argument != "--debug"])
        sys.stdout.flush()  # so that a closed pipe is noticed here
        return status
    except VideoCLIPError as error:
        if debug:
            raise
        print(f"videoclip: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("videoclip: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has stopped; Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug or not error.strerror:
            raise
        where = f"{error.filename}: " if error.filename else ""
        is_file = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = "is a file, where a folder is needed" if is_file else error.strerror
        print(f"videoclip: error: {where}{reason}; {DISK_ADVICE}", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str]) -> int:
    """Print the overview or the version, or run a command."""
    name, *rest = arguments or [""]
    if name in ("help", "-h", "--help") and rest:  # `help search` is `search --help`
        name, *rest = rest[0], "--help"
    if name in ("", "-h", "--help", "help"):
        print(_overview())
        return 0 if name else 2
    if name in ("-V", "--version", "version"):
        print(f"videoclip {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"videoclip: {_unknown_command(name)}", file=sys.stderr)
        return 2
    import importlib

    module = importlib.import_module(f"videoclip.cli.{name}")
    if hasattr(module, "parse"):  # its options depend on its arguments
        command = module.parse(rest)
    else:
        from videoclip.cli.options import parse

        command = parse(getattr(module, name.capitalize()), rest, f"videoclip {name}")
    status: int = command.run()
    return status


def _unknown_command(name: str) -> str:
    """Return the message for a word that is no command."""
    if name.startswith("-"):
        return unknown("option", name, ("--version", "--help", "--debug"))
    for ours, theirs in SYNONYMS.items():
        if name.lower() in theirs:
            return f"unknown command '{name}'; perhaps you meant '{ours}'"
    if Path(name).exists():
        return f"a command comes first, before '{name}'; `videoclip --help` lists them"
    return unknown("command", name, COMMANDS)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: videoclip COMMAND [OPTIONS]",
            "",
            "Search videos by what happens in them, and train the model that finds it.",
            "",
            *(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()),
            "",
            "videoclip COMMAND --help   lists the options of a command",
            "videoclip --version        prints the version",
            "videoclip --debug COMMAND  prints a traceback with an error",
            "",
            "Exit status:",
            *(f"  {status:<{width}}  {meaning}" for status, meaning in EXIT_STATUSES.items()),
            "",
            "First steps: videoclip demo",
        ]
    )
