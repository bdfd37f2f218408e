"""The command line: one module a command, loaded when it is called.

Results go to stdout, progress and messages to stderr. Exit status: 0 fine, 1 an error of ours in
one line, 2 wrong usage, 130 interrupted; a traceback only for bugs, or with `--debug`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from videoclip import __version__
from videoclip.errors import VideoCLIPError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": "the whole story in minutes: learn from narrated videos, then find moments",
    "synth": "write a synthetic narrated world with annotations",
    "prepare": "pair videos with subtitles, clean captions, report their quality",
    "extract": "frozen features of videos, into a store; resumes",
    "pretrain": "pre-train on narrated videos; resumes",
    "finetune": "teach a model the training part of a benchmark; resumes",
    "evaluate": "numbers on a benchmark, with trivial baselines beside them",
    "ablate": "the method against itself with one thing changed, on a synthetic world",
    "index": "add new and changed videos to a library",
    "search": "find moments in a library from words",
    "segment": "label every second of a video, zero-shot",
    "localize": "find where the steps of a task happen in a video",
    "ask": "answer a multiple-choice question about a video",
    "cut": "cut moments out of their videos",
    "export": "moments as CSV, JSON, EDL, FCPXML or WebVTT",
    "convert": "released weights and features into our folders",
    "info": "say what a folder is",
    "doctor": "what works on this machine, and what to do about what does not",
}
"""Commands by name, in the order a newcomer meets them, each with its one line of help."""

USAGE = "usage: videoclip [--version] [--debug] COMMAND ..."


class Command(Protocol):
    """What a command module's dataclass offers, made from the arguments by tyro."""

    def run(self) -> int:
        """Do it and return the exit status."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        status = _run([a for a in arguments if a != "--debug"])
        sys.stdout.flush()  # here, where a closed pipe is caught
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
        # The reader (`| head`) has seen enough; keep Python from complaining while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: Sequence[str]) -> int:
    """Answer what needs no command, or run one."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"videoclip {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"perhaps you meant '{near[0]}'" if near else "see videoclip --help"
        print(f"videoclip: unknown command '{name}'; {hint}", file=sys.stderr)
        return 2
    return _parse(name, rest).run()


def _parse(name: str, arguments: Sequence[str]) -> Command:
    """Make a command from its arguments; wrong ones end the process with status 2.

    A module whose options depend on its arguments has its own `parse`.
    """
    module = importlib.import_module(f"videoclip.cli.{name}")
    if hasattr(module, "parse"):
        command: Command = module.parse(arguments)
    else:
        import tyro

        command = tyro.cli(
            getattr(module, name.capitalize()), args=arguments, prog=f"videoclip {name}"
        )
    return command


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return "\n".join(
        [
            USAGE,
            "",
            "Learns what happens in videos from their own narration; then finds, localises,",
            "segments and answers, zero-shot.",
            "",
            *lines,
            "",
            "`videoclip COMMAND --help` says more. First steps: videoclip demo",
        ]
    )
