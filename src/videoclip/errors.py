"""The exceptions a user can meet.

VideoCLIPError            anything reported on purpose, in one line: what, where, what to do
├── ConfigError           a setting that makes no sense, or two that contradict each other
├── DataError             an annotation, subtitle or feature file that cannot be used (path, line)
├── DecodeError           a video that cannot be read
├── CheckpointError       weights that are missing, broken or of another shape
├── IndexMismatchError    a store or library that was made by another model or backbone
└── MissingExtraError     an optional dependency that is not installed
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DecodeError",
    "IndexMismatchError",
    "MissingExtraError",
    "VideoCLIPError",
]


class VideoCLIPError(Exception):
    """Anything this package reports on purpose; `str()` is one line a user can act on."""


class ConfigError(VideoCLIPError):
    """A setting that makes no sense, or two that contradict each other."""


class DataError(VideoCLIPError):
    """An annotation, subtitle or feature file that cannot be used.

    Attributes:
        path: The file, where there is one.
        line: The line or row in it, from 1, where it is known.
    """

    def __init__(
        self, message: str, path: Path | str | None = None, line: int | None = None
    ) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(where + message)


class DecodeError(VideoCLIPError):
    """A video that cannot be read.

    Attributes:
        path: The video file.
    """

    def __init__(self, message: str, path: Path | str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {message}")


class CheckpointError(VideoCLIPError):
    """Weights that are missing, broken or of another shape."""


class IndexMismatchError(VideoCLIPError):
    """A store or library that was made by another model or backbone."""


class MissingExtraError(VideoCLIPError):
    """An optional dependency that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'videoclip[{extra}]'")
