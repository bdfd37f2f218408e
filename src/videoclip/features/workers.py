"""Worker processes, or threads around one GPU, that compute features, one video at a time each.

The pool of processes is our own because a decoder that crashes or is killed must cost only the
video it was reading, and that video must be known.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import Queue
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from videoclip.errors import ConfigError, show_warning
from videoclip.features.contained import STUCK, exit_cause, read_here
from videoclip.features.decode import VideoInfo
from videoclip.features.video_file import MAX_SILENCE
from videoclip.processes import end_with_parent, without_main_module


@dataclass(frozen=True)
class Computed:
    """The features of a video, (T, D) in half precision as they are kept, and facts about it."""

    path: Path
    features: NDArray[np.float16]
    info: VideoInfo


@dataclass(frozen=True)
class Failed:
    """A video whose features cannot be computed, and the reason in one line."""

    path: Path
    reason: str


Result: TypeAlias = Computed | Failed
Work: TypeAlias = Callable[[Path, Callable[[int], None]], Result]


def run_in_workers(
    work: Work,
    paths: Iterator[Path],
    num_workers: int,
    num_threads: int,
    on_features: Callable[[int], None],
) -> Iterator[Result]:
    """Work on each video in processes and yield the results as they come.

    The processes are spawned: a script that defines what they compute with, such as a backbone of
    its own, guards its entry point with `if __name__ == "__main__"`.

    Args:
        work: Computes the result of one video and reports the number of features of each chunk;
            pickled once for each process.
        paths: The videos; each is taken when a process is free for it.
        num_workers: Processes.
        num_threads: Threads of torch in each process.
        on_features: Called in this process with what `work` reports.

    Raises:
        ConfigError: If the processes cannot start.
    """
    setup = (pickle.dumps(work), num_threads)
    workers = [_Worker(*setup) for _ in range(num_workers)]
    try:
        while True:
            for i, worker in enumerate(workers):
                if worker.path is None and (path := next(paths, None)):
                    if not worker.alive:
                        worker.stop()
                        workers[i] = worker = _Worker(*setup)
                    worker.start(path)
            busy = [worker for worker in workers if worker.path is not None]
            if not busy:
                return
            ready = wait([worker.connection for worker in busy], MAX_SILENCE / 10)
            for worker in busy:
                worker.end_if_stuck(worker.connection in ready)
                if worker.connection in ready:
                    message = worker.receive()
                    if isinstance(message, int):
                        on_features(message)
                    else:
                        yield message
    finally:
        for worker in workers:
            worker.stop()


def run_in_threads(
    work: Work, paths: Iterator[Path], num_threads: int, on_features: Callable[[int], None]
) -> Iterator[Result]:
    """Work on each video in threads of this process and yield the results as they come.

    For a network on a GPU: processes would each start the GPU's libraries and hold the network in
    its memory. Each thread reads videos in a helper process of its own (`features.contained`).

    Args:
        work: Computes the result of one video and reports the number of features of each chunk.
        paths: The videos; each is taken, in the calling thread, when a thread is free for it.
        num_threads: Threads.
        on_features: Called in the calling thread with what `work` reports.
    """
    messages: Queue[int | Result | BaseException] = Queue()
    is_stopped = threading.Event()

    def report(num_features: int) -> None:
        if is_stopped.is_set():
            raise _Stopped
        messages.put(num_features)

    def compute(path: Path) -> None:
        try:
            messages.put(work(path, report))
        except BaseException as error:  # noqa: BLE001 - raised again by the calling thread
            messages.put(error)

    def start(path: Path) -> None:
        # A daemon does not keep a process that is interrupted from ending.
        threading.Thread(target=compute, args=(path,), daemon=True).start()

    num_busy = 0
    try:
        while True:
            for path in islice(paths, num_threads - num_busy):
                start(path)
                num_busy += 1
            if not num_busy:
                return
            message = messages.get()
            if isinstance(message, int):
                on_features(message)
            elif isinstance(message, BaseException):
                raise message
            else:
                yield message
                num_busy -= 1
    finally:
        is_stopped.set()


class _Stopped(Exception):
    """The results of the threads are no longer wanted."""


class _Worker:
    """One process and the video it is working on."""

    def __init__(self, work: bytes, num_threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.path: Path | None = None
        self.alive = True
        self._ready = False
        self._heard = 0.0  # when it last made progress; infinity: it was ended for lack of it
        self._process = context.Process(
            target=_serve, args=(theirs, work, num_threads), daemon=True
        )
        needs_main = b"__main__" in work  # it names what the script of this process defines
        with nullcontext() if needs_main else without_main_module():
            self._process.start()
        theirs.close()

    def start(self, path: Path) -> None:
        self.path, self._heard = path, time.monotonic()
        with suppress(ConnectionError):  # `receive` reports a dead process
            self.connection.send(path)

    def receive(self) -> int | Result:
        """Return the number of new features, or the result; `Failed` if the process has died."""
        assert self.path is not None
        message: int | Result
        try:
            if not self._ready:
                self._ready = bool(self.connection.recv())
            message = self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            self.alive = False
            if not self._ready:
                raise ConfigError(
                    "worker processes cannot start: call this under `if __name__ == "
                    '"__main__":`, or with num_workers=0'
                ) from None
            cause = exit_cause(self._process.exitcode)
            if self._process.exitcode is not None and self._process.exitcode > 0:
                cause += "; its last output is above"
            reason = STUCK if self._heard == math.inf else f"its worker process died ({cause})"
            message = Failed(self.path, reason)
        if not isinstance(message, int):
            self.path = None
        return message

    def end_if_stuck(self, is_heard: bool) -> None:
        """End the process if it has made no progress for too long; `receive` then reports it."""
        if is_heard and self._heard < math.inf:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > MAX_SILENCE:
            self._heard = math.inf
            self._process.kill()

    def stop(self) -> None:
        self.connection.close()
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection, pickled: bytes, num_threads: int) -> None:
    """Work on each path that is received, until the other side closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    end_with_parent()
    work = load_work(pickled, num_threads)
    try:
        connection.send(True)
        while True:
            connection.send(work(connection.recv(), connection.send))
    except (EOFError, ConnectionError):
        return


def load_work(pickled: bytes, num_threads: int) -> Work:
    """Unpickle what a worker process does, and give torch that many threads."""
    read_here()
    work: Work = pickle.loads(pickled)
    warnings.showwarning = show_warning
    if torch := sys.modules.get("torch"):  # more threads than cores are slower
        torch.set_num_threads(num_threads)
    return work


def num_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
