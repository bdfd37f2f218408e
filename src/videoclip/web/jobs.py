"""Work that takes longer than a request: one after the other, with progress and cancel."""

import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, Literal, TypeAlias

from starlette.exceptions import HTTPException

from videoclip.errors import VideoCLIPError, one_line
from videoclip.types import OnProgress

JobState: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]
LOG = logging.getLogger(__name__)
MAX_WAITING = 20
"""Jobs that may wait at once."""
MAX_KEPT = 100
"""Jobs that are remembered."""


class _CancelledError(BaseException):
    """Ends a job from its progress callback; no `except` of an error catches it."""


@dataclass
class Job:
    """One piece of work.

    Attributes:
        kind: What it does, as "index".
        state: How far it is.
        done: Pieces done.
        total: Pieces in all; 0 while unknown.
        message: What came of it.
        failed: Reason for each file that failed.
        result: File to download.
        began: Time at which it started, in seconds since 1970.
        id: By which it is asked for.
    """

    kind: str
    state: JobState = "waiting"
    done: int = 0
    total: int = 0
    message: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    result: Path | None = None
    began: float | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    _cancel: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest will take at the pace so far; None while unknown."""
        if self.state != "running" or not self.done or self.began is None:
            return None
        return (time() - self.began) / self.done * (self.total - self.done)

    def on_progress(self, done: int, total: int) -> None:
        """Note the progress; ends the job if it was cancelled."""
        self.done, self.total = done, total
        if self._cancel.is_set():
            raise _CancelledError

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: getattr(self, name) for name in ("id", "kind", "state", "done", "total")}
        left = self.seconds_left
        values |= {"message": self.message, "failed": self.failed.copy(), "seconds_left": left}
        return {**values, "has_result": self.result is not None}


Work: TypeAlias = Callable[[Job, OnProgress], None]
"""What a job does: it sets `message`, `failed` and `result`."""


class Jobs:
    """A queue of jobs, of which one runs at a time.

    Args:
        to_public: Makes an error's message fit for users.
    """

    def __init__(self, to_public: Callable[[str], str] = str) -> None:
        self._to_public = to_public
        self._jobs: dict[str, Job] = {}
        self._starting = threading.Lock()  # requests are answered in several threads
        self._pool = ThreadPoolExecutor(1, "videoclip-job")

    def start(self, kind: str, work: Work) -> Job:
        """Add a job to the queue.

        Raises:
            HTTPException: 503 if too many wait.
        """
        with self._starting:
            if sum(not job.is_over for job in self._jobs.values()) >= MAX_WAITING:
                message = "too many jobs are waiting: try again"
                raise HTTPException(503, message, {"Retry-After": "30"})
            job = Job(kind)
            self._jobs[job.id] = job
            for old in [one for one in self._jobs.values() if one.is_over][:-MAX_KEPT]:
                self._forget(old)
            self._pool.submit(self._run, job, work)
        return job

    def _forget(self, job: Job) -> None:
        del self._jobs[job.id]
        if job.result is not None:
            job.result.unlink(missing_ok=True)

    def _run(self, job: Job, work: Work) -> None:
        try:
            job.began, job.state = time(), "running"
            job.on_progress(0, 0)
            work(job, job.on_progress)
            job.state = "done"
        except _CancelledError:
            job.message, job.state = "what was done is kept", "cancelled"
        except VideoCLIPError as error:
            job.message, job.state = self._to_public(str(error)), "failed"
        except Exception as error:
            LOG.exception("a job of videoclip serve failed")
            job.message, job.state = self._to_public(one_line(error)), "failed"

    def list(self) -> list[Job]:
        """The jobs, newest first."""
        return [*self._jobs.values()][::-1]

    def find(self, id: str) -> Job:
        """Return a job.

        Raises:
            HTTPException: 404 if there is none.
        """
        if id not in self._jobs:
            raise HTTPException(404, "no such job")
        return self._jobs[id]

    def cancel(self, job: Job) -> None:
        """Ask a job to end; it does after the video in hand."""
        job._cancel.set()

    def close(self) -> None:
        """Cancel all jobs and wait for the one that runs."""
        for job in self.list():
            self.cancel(job)
        self._pool.shutdown(cancel_futures=True)
