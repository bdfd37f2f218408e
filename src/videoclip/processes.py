"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_main_is_hidden = threading.Lock()


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


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start processes in the block that do not run the script of this process.

    A spawned process first imports the main module of its parent: a script without
    `if __name__ == "__main__"` would run again in each process. Only what is defined in that module
    needs it there.
    """
    with _main_is_hidden:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def end_with_parent() -> None:
    """End this process as soon as the one that started it is dead, whatever it is doing."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
