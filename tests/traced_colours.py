"""Colours a second that leave a trace of the process that computes them; workers import it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.library.colours import ColourBackbone


class TracedColours(ColourBackbone):
    """Touches a file named after its process for each video; a "killed" video kills the process.

    Args:
        folder: Of the traces.
        num_processes: Processes that wait for each other before they compute.
    """

    def __init__(self, folder: Path, num_processes: int = 1) -> None:
        super().__init__()
        self.folder = folder
        self.num_processes = num_processes

    def __reduce__(self) -> tuple[object, ...]:
        return TracedColours, (self.folder, self.num_processes)

    def features_for(self, path: Path) -> Iterator[np.ndarray]:
        (self.folder / f"{path.stem} {os.getpid()} {time.monotonic_ns()}").touch()
        if "killed" in path.stem:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bug" in path.stem:
            raise ZeroDivisionError("no such colour")
        while len(pids(self.folder)) < self.num_processes:
            time.sleep(0.05)
        time.sleep(0.02)
        yield from super().features_for(path)


def pids(folder: Path) -> set[int]:
    """The processes that have left a trace."""
    return {int(path.name.split()[-2]) for path in folder.iterdir()}
