"""A stand-in for the module `ray`: its workers live in this process, and die if a test wants it."""

from types import SimpleNamespace


class Death(BaseException):
    """Raised in a worker: its process died."""


class RayError(Exception):
    pass


class RayTaskError(RayError):
    """An exception in a worker, which lives on."""


class Future:
    def __init__(self, worker, call):
        self.worker, self.call = worker, call


class Worker:
    """A worker process; `worker.method.remote(...)` is computed when its result is asked for."""

    def __init__(self, target, options):
        self._target, self.options = target, options

    def __getattr__(self, name):
        method = getattr(self._target, name)
        return SimpleNamespace(remote=lambda *args: Future(self, lambda: method(*args)))


class RayInProcess:
    """What `videoclip.features.cluster` uses of Ray.

    Attributes:
        started: The workers, in order.
        killed: Those that were ended.
        calls: What was called to connect and to disconnect.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, **resources):
        self.resources = resources
        self.on_wait = lambda timeout: False  # whether nothing is done after so long
        self.takes_turns = False
        self.started, self.killed, self.calls, self.timeouts = [], [], [], []
        self.is_connected = False

    def is_initialized(self):
        return self.is_connected

    def init(self, address, **options):
        self.calls.append(("init", address, options))

    def shutdown(self):
        self.calls.append("shutdown")

    def cluster_resources(self):
        return self.resources

    def remote(self, **options):
        def start(kind):
            self.started.append(Worker(kind(), options))
            return self.started[-1]

        return lambda kind: SimpleNamespace(remote=lambda: start(kind))

    def put(self, value):
        return value

    def kill(self, worker):
        if worker not in self.killed:
            self.killed.append(worker)

    def wait(self, futures, num_returns=1, timeout=None):
        """The result that was asked for last comes first, unless workers take turns."""
        self.timeouts.append(timeout)
        if self.on_wait(timeout):
            return [], futures
        if self.takes_turns:
            return futures[:num_returns], futures[num_returns:]
        return futures[-num_returns:], futures[:-num_returns]

    def get(self, future):
        if future.worker in self.killed:
            raise RayError("the worker is gone")
        try:
            return future.call()
        except Death:
            raise RayError("the worker died") from None
        except Exception as error:
            raise RayTaskError(
                f"Traceback:\n  somewhere\n{type(error).__name__}: {error}"
            ) from error
