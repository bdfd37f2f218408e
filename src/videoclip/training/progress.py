"""What a person sees while training: a live line on a terminal, a plain one now and then else."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["ProgressLine"]

PLAIN_SECONDS = 30.0
"""Between two plain lines."""


class ProgressLine:
    """Progress of a run on stderr; a context manager.

    Args:
        total: Updates of the whole run.
        done: Updates done already.
        shown: False keeps silent, as on all processes but the main one.
    """

    def __init__(self, total: int, done: int, shown: bool = True) -> None:
        self._console = Console(file=sys.stderr, quiet=not shown)
        self._total, self._started_at = total, done
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=total, completed=done)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, sentence: str) -> None:
        """Write a line that stays."""
        self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def show(self, entry: Mapping[str, Any]) -> None:
        """Show an update as it is logged."""
        words = (
            f"epoch {entry['epoch']}  loss {entry['loss']:.3f}  "
            f"{entry['pairs_per_second']:.0f} pairs/s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=entry["update"], description=words)
        elif time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"update {entry['update']}/{self._total}  {words}  {self._left(entry)}")

    def _left(self, entry: Mapping[str, Any]) -> str:
        done = entry["update"] - self._started_at
        seconds = (time.monotonic() - self._started) / done * (self._total - entry["update"])
        return f"about {seconds / 60:.0f} min left"
