"""What a run reports: progress on stderr, and its log in an experiment tracker."""

import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from videoclip.errors import MissingExtraError

OnLog: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Called with every entry of a run's log.jsonl."""
TrackerName: TypeAlias = Literal["tensorboard", "wandb", "trackio"]
SECONDS_BETWEEN_LINES = 30.0


class ProgressLine(Progress):
    """Progress of a run on stderr: a live bar on a terminal, else a line now and then.

    Args:
        total: Updates of the whole run.
        done: Updates done already.
        visible: False prints nothing, as on all processes but the main one.
    """

    def __init__(self, total: int, done: int, visible: bool = True) -> None:
        console = Console(file=sys.stderr, quiet=not visible)
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._total, self._started_at = total, done
        self._started = self._last_line = time.monotonic()
        self._task = self.add_task("starting", total=total, completed=done)

    def print_line(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show_update(self, entry: Mapping[str, Any]) -> None:
        """Show the log entry of an update."""
        words = (
            f"epoch {entry['epoch']}  loss {entry['loss']:.3f}  "
            f"{entry['pairs_per_second']:.0f} pairs/s"
        )
        if not self.disable:
            self.update(self._task, completed=entry["update"], description=words)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            done = entry["update"] - self._started_at
            left = (time.monotonic() - self._started) / done * (self._total - entry["update"])
            self.print_line(
                f"update {entry['update']}/{self._total}  {words}  about {left / 60:.0f} min left"
            )


def print_line(text: str, visible: bool = True) -> None:
    """Print a line to stderr, outside a `ProgressLine`."""
    ProgressLine(0, 0, visible).print_line(text)


@contextmanager
def tracker(
    name: TrackerName | None, out: Path, config: Mapping[str, Any]
) -> Iterator[OnLog | None]:
    """Yield a function that sends log entries to an experiment tracker, and close it at the end.

    TensorBoard writes to OUT/tensorboard; Weights & Biases and trackio get a run named after OUT in
    the project "videoclip", and store it where they are configured to.

    Args:
        name: Which; None for none.
        out: Run folder.
        config: Settings shown with the run.

    Raises:
        MissingExtraError: If the tracker is not installed.
    """
    if name is None:
        yield None
        return
    try:
        module = importlib.import_module(
            "torch.utils.tensorboard" if name == "tensorboard" else name
        )
    except ImportError:
        raise MissingExtraError(f"the tracker {name}", name) from None
    run: Any = None

    def on_log(entry: Mapping[str, Any]) -> None:
        nonlocal run
        update = entry["update"]
        numbers = {**entry, **entry.get("evaluation", {})}
        numbers = {n: x for n, x in numbers.items() if n not in ("update", "epoch", "evaluation")}
        if name == "tensorboard":
            if run is None:  # not earlier: a run that is refused leaves no folder
                run = module.SummaryWriter(str(out / "tensorboard"), purge_step=update)
            for metric, value in numbers.items():
                run.add_scalar(metric, value, update)
            run.flush()
        else:
            with redirect_stdout(sys.stderr):  # trackio prints where to look
                run = run or module.init(project="videoclip", name=out.name, config=dict(config))
                run.log(numbers, step=update)

    try:
        yield on_log
    finally:
        if run is not None:
            with redirect_stdout(sys.stderr):
                run.close() if name == "tensorboard" else module.finish()
