"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def worker_pool(num_workers: int | None) -> ProcessPoolExecutor:
    """Return a pool of processes, by default one per core.

    They are spawned, since forking a process that holds threads can hang, and they end even if
    this process is killed.
    """
    return ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), initializer=end_with_parent
    )


def map_in_processes(
    function: Callable[[T], R], items: Iterable[T], num_workers: int | None
) -> Iterator[R]:
    """Yield the result for each item in order; None: one process per core; 0: only this one."""
    if num_workers == 0:
        yield from map(function, items)
        return
    with worker_pool(num_workers) as pool:
        yield from pool.map(function, items)


def end_with_parent() -> None:
    """End this process as soon as the one that started it is dead, whatever it is doing."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
