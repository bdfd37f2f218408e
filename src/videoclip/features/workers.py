"""Worker processes that compute features, one video at a time each.

A pool of our own because of one need: a decoder that crashes or is killed must cost
the video in its hands and nothing else, and which video that was must be known.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from videoclip.errors import ConfigError, VideoCLIPError
from videoclip.features.backbones import Backbone
from videoclip.features.buffer import FeatureBuffer

__all__ = [
    "Computed",
    "Event",
    "Failed",
    "Stepped",
    "compute_features",
    "compute_in_workers",
    "num_cores",
]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stepped:
    """Some more features of a video were computed."""

    path: Path
    num_features: int


@dataclass(frozen=True)
class Computed:
    """All features of a video, (T, D)."""

    path: Path
    features: FloatArray


@dataclass(frozen=True)
class Failed:
    """A video whose features cannot be had, and why."""

    path: Path
    reason: str


Event: TypeAlias = Stepped | Computed | Failed


def compute_features(backbone: Backbone, path: Path) -> Iterator[Event]:
    """Compute one video's features here: yield `Stepped` for each chunk, then how it ended."""
    buffer = FeatureBuffer(backbone.spec.dim)
    try:
        for chunk in backbone.features_for(path):
            buffer.append(chunk)
            yield Stepped(path, len(chunk))
    except VideoCLIPError as error:
        yield Failed(path, str(error).removeprefix(f"{path}: "))
    else:
        yield Computed(path, buffer.features())


def compute_in_workers(
    backbone: Backbone, paths: Sequence[Path], num_workers: int, num_threads: int = 1
) -> Iterator[Event]:
    """Compute the features of videos in processes; events come as they happen.

    Each computes on one core, unless there are more: `num_threads`.

    The processes are spawned, so a script that gets here must guard its entry point with
    `if __name__ == "__main__"`.

    Raises:
        ConfigError: If the processes cannot start.
    """
    remaining = list(reversed(paths))
    num_workers = min(num_workers, len(paths))
    setup = (pickle.dumps(backbone), num_threads)
    workers = [_Worker(*setup) for _ in range(num_workers)]
    try:
        while True:
            for worker in workers:
                if worker.path is None and remaining:
                    worker.start(remaining.pop())
            busy = {worker.connection: worker for worker in workers if worker.path is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                event = worker.receive()
                yield event
                if not worker.alive:
                    worker.stop()
                    workers.remove(worker)
                    if remaining:
                        workers.append(_Worker(*setup))
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One process, and the video it has in its hands."""

    def __init__(self, backbone: bytes, num_threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.path: Path | None = None
        self.alive = True
        self._ready = False
        self._process = context.Process(
            target=_work, args=(theirs, backbone, num_threads), daemon=True
        )
        self._process.start()
        theirs.close()

    def start(self, path: Path) -> None:
        self.path = path
        with suppress(ConnectionError):  # a dead process is met, and named, in `receive`
            self.connection.send(path)

    def receive(self) -> Event:
        """Return the next event; one of `Failed` if the process has died."""
        assert self.path is not None
        try:
            if not self._ready:
                self._ready = bool(self.connection.recv())
            event: Event = self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            self.alive = False
            if not self._ready:
                raise ConfigError(
                    "worker processes cannot start: call this under `if __name__ == "
                    '"__main__":`, or with num_workers=0'
                ) from None
            event = Failed(self.path, f"its worker process died ({_cause(self._process.exitcode)})")
        if not isinstance(event, Stepped):
            self.path = None
        return event

    def stop(self) -> None:
        self.connection.close()
        self._process.terminate()
        self._process.join()


def _work(connection: Connection, backbone: bytes, num_threads: int) -> None:
    """Compute features of the paths that come in, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    network: Backbone = pickle.loads(backbone)
    if torch := sys.modules.get("torch"):  # more threads than cores only get in each other's way
        torch.set_num_threads(num_threads)
    try:
        connection.send(True)
        while True:
            for event in compute_features(network, connection.recv()):
                connection.send(event)
    except (EOFError, ConnectionError):
        return


def num_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"{name}; out of memory?" if name == "SIGKILL" else name
    return f"exit status {exit_code}; its last words are above"
