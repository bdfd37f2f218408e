"""The exceptions that this package raises for users.

VideoCLIPError            base class; `str()` is one line: what happened, where, what to do
├── ConfigError           a setting is invalid, or two settings contradict each other
├── DataError             a data file cannot be used (path, line)
├── DecodeError           a video cannot be read (path)
├── CheckpointError       weights are missing, damaged or of another shape
├── IndexMismatchError    a feature store or library comes from another model or backbone
└── MissingExtraError     an optional dependency is not installed
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, which takes longer to import than the rest of --help
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any


DISK_ADVICE = "check the path, its permissions and the free space, then run the command again"


class VideoCLIPError(Exception):
    """Base class of all errors that this package raises for users; `str()` is one line."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without calling `__init__` again, which takes more than the message."""
        return _restore, (type(self), str(self)), self.__dict__


class ConfigError(VideoCLIPError):
    """A setting is invalid, or two settings contradict each other."""


class DataError(VideoCLIPError):
    """An annotation, subtitle, feature or other data file cannot be used.

    Attributes:
        path: The file, if there is one.
        line: Line or row in the file, from 1, if known.
    """

    def __init__(
        self, message: str, path: Path | str | None = None, line: int | None = None
    ) -> None:
        self.path = None if path is None else _as_path(path)
        self.line = line
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(where + message)


class DecodeError(VideoCLIPError):
    """A video cannot be read.

    Attributes:
        path: The video file.
    """

    def __init__(self, message: str, path: Path | str) -> None:
        self.path = _as_path(path)
        super().__init__(f"{path}: {message}")


class CheckpointError(VideoCLIPError):
    """Weights are missing, damaged or of another shape."""


class IndexMismatchError(VideoCLIPError):
    """A feature store or library comes from another model or backbone."""


class MissingExtraError(VideoCLIPError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'videoclip[{extra}]'")


def _restore(kind: type[VideoCLIPError], message: str) -> VideoCLIPError:
    return kind.__new__(kind, message)


def unknown(kind: str, name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the message that there is no such name: with the nearest known one, else with all.

    Args:
        kind: What the name was taken for, such as "recipe".
        name: The unknown name.
        known: All known names.
        prefix: Put before names in the message, such as "optim." of settings.
    """
    import difflib  # here, since `videoclip --help` imports this module

    known = list(known)
    small = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), small, n=1)
    hint = f"perhaps you meant '{prefix}{small[near[0]]}'" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} '{prefix}{name}'; {hint}"


def printable(text: object) -> str:
    """Return a text as valid Unicode without control characters; names of files may hold any."""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text)
    )


def one_line(error: BaseException) -> str:
    """Return the message of any exception as one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def show_warning(message: Any, *details: Any, **more: Any) -> None:
    """Print a warning as one line on stderr; what `warnings.showwarning` does in our processes."""
    sys.stderr.write(f"videoclip: warning: {message}\n")


def _as_path(path: Path | str) -> Path:
    from pathlib import Path  # here, since `videoclip --help` imports this module

    return Path(path)
