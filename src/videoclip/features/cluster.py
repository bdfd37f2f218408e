"""Workers on a Ray cluster that compute features, one video at a time each.

Only paths and features travel: every machine reads the videos itself, under the same paths, with
the `videoclip` that is installed there. A video whose worker or machine dies is tried again, one
whose worker makes no progress is not.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from videoclip.errors import ConfigError, MissingExtraError
from videoclip.features.contained import STUCK
from videoclip.features.video_file import MAX_SILENCE
from videoclip.features.workers import Failed, Result, Work, load_work

LOCAL = "local"
"""The address that starts a Ray on this machine and stops it at the end."""
MAX_TRIES = 3
"""How often a video is tried whose workers die."""
RESERVED_CPUS = 1
"""CPUs of a cluster without a worker: this process embeds, writes and hands out videos."""
OBJECT_STORE_BYTES = 1 << 29
"""Memory of a local Ray for results on their way; those of an hour of video take 20 MB."""


def run_on_cluster(
    work: Work,
    paths: Iterator[Path],
    num_videos: int,
    address: str,
    num_workers: int | None,
    uses_gpu: bool,
    on_features: Callable[[int], None],
) -> Iterator[Result]:
    """Work on each video in the actors of a Ray cluster and yield the results as they come.

    If this process is connected to Ray already, that connection is used, whatever the address.

    Args:
        work: Computes the result of one video; pickled once for each worker.
        paths: The videos; the next is taken when a worker is free for it.
        num_videos: How many there are; more workers are not started.
        address: "local", "auto" (the cluster that this machine belongs to) or HOST:PORT.
        num_workers: Workers, of one CPU each; None or 0: one per CPU except `RESERVED_CPUS`.
        uses_gpu: Whether workers need a GPU; they share the cluster's GPUs equally.
        on_features: Called in this process with the number of features of each result.

    Raises:
        ConfigError: If the cluster cannot be reached, or workers cannot start there.
        MissingExtraError: If Ray is not installed.
    """
    again: list[Path] = []
    tries: Counter[Path] = Counter()
    num_failed_starts = 0
    with _connection(address, num_workers) as ray:
        resources = ray.cluster_resources()
        num_workers = num_workers or max(1, int(resources.get("CPU", 0)) - RESERVED_CPUS)
        num_workers = min(num_workers, num_videos)
        num_gpus = _gpu_share(resources, num_workers) if uses_gpu else 0
        # While one thread of a worker computes, another one answers how far it is.
        actor = ray.remote(num_cpus=1, num_gpus=num_gpus, max_concurrency=2)(_Worker)
        watch = _Watch(ray)
        pickled = ray.put(pickle.dumps(work))
        busy: dict[Any, tuple[Any, Path | None]] = {}  # worker and its video, by future result

        def start_worker() -> None:
            worker = actor.remote()
            busy[worker.load.remote(pickled)] = worker, None

        for _ in range(num_workers):
            start_worker()
        while busy:
            finished, _ = ray.wait(list(busy), timeout=MAX_SILENCE / 10)
            watch.end_stuck([(worker, path) for worker, path in busy.values() if path])
            if not finished:
                continue
            [future] = finished
            worker, path = busy.pop(future)
            result: Result | None = None
            try:
                result = ray.get(future)
                num_failed_starts = 0
            except ray.exceptions.RayError as error:
                reason, is_alive = _cause(ray, error)
                if path is None:
                    num_failed_starts += 1
                    if num_failed_starts == MAX_TRIES * num_workers:
                        raise ConfigError(f"Ray's workers cannot start: {reason}") from None
                elif path in watch.ended:
                    result = Failed(path, STUCK)
                else:
                    tries[path] += 1
                    if tries[path] < MAX_TRIES:
                        again.append(path)
                    else:
                        result = Failed(path, f"{reason}, in each of {MAX_TRIES} tries")
                if path is None or not is_alive:
                    ray.kill(worker)
                    worker = None
            if result is not None:
                on_features(0 if isinstance(result, Failed) else len(result.features))
                yield result
            path = again.pop() if again else next(paths, None)
            if path is None:
                continue  # and Ray ends the worker
            if worker is None:
                again.append(path)
                start_worker()
            else:
                busy[worker.compute.remote(path)] = worker, path


class _Worker:
    """The actor: one process somewhere in the cluster."""

    def load(self, pickled: bytes) -> None:
        self._num_features = 0
        self._work = load_work(pickled, num_threads=1)

    def compute(self, path: Path) -> Result:
        return self._work(path, self._count)

    def _count(self, num: int) -> None:
        self._num_features += num

    def progress(self) -> int:
        """Return the number of features that were computed so far."""
        return self._num_features


class _Watch:
    """Ends the workers that make no progress for `MAX_SILENCE`.

    Attributes:
        ended: The videos of these workers.
    """

    def __init__(self, ray: Any) -> None:
        self.ended: set[Path] = set()
        self._ray = ray
        self._seen: dict[Path, tuple[int | None, float]] = {}  # progress and when it was made
        self._checked = time.monotonic()

    def end_stuck(self, busy: list[tuple[Any, Path]]) -> None:
        """Ask each worker how far it is with its video, ten times within `MAX_SILENCE`."""
        now = time.monotonic()
        if now - self._checked < MAX_SILENCE / 10 or not busy:
            return
        self._checked = now
        asked = [worker.progress.remote() for worker, _ in busy]
        answered, _ = self._ray.wait(asked, num_returns=len(asked), timeout=MAX_SILENCE / 30)
        before, self._seen = self._seen, {}
        for future, (worker, path) in zip(asked, busy, strict=True):
            progress, since = before.get(path, (None, now))
            with suppress(self._ray.exceptions.RayError):  # the video's own result reports it
                if future in answered and (latest := self._ray.get(future)) != progress:
                    progress, since = latest, now
            self._seen[path] = progress, since
            if now - since > MAX_SILENCE:
                self.ended.add(path)
                self._ray.kill(worker)


@contextmanager
def _connection(address: str, num_workers: int | None) -> Iterator[Any]:
    """Connect to a cluster, or start Ray here; yield the module `ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--cluster", "cluster") from None
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        options["num_cpus"] = num_workers + RESERVED_CPUS if num_workers else None
    try:
        host, colon, port = address.rpartition(":")
        if colon:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition(". ")[0].partition("\n")[0]
        raise ConfigError(f"cannot connect to Ray at '{address}': {reason}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _gpu_share(resources: dict[str, float], num_workers: int) -> float:
    """Return the part of a GPU that each worker gets; Ray counts four decimals."""
    if not resources.get("GPU"):
        raise ConfigError("no machine of the Ray cluster has a GPU; use --device cpu")
    return min(1, int(resources["GPU"] / num_workers * 10_000) / 10_000)


def _cause(ray: Any, error: Exception) -> tuple[str, bool]:
    """Return in one line why a worker returned no result, and whether it still works."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return str(error).strip().splitlines()[-1], True  # the last line of a traceback
    return "its worker process or machine died (out of memory?)", False
