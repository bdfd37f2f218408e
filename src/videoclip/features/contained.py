"""Read videos in a helper process, so that a file that crashes FFmpeg fails alone and by name.

`probe`, `grab_frame` and `sample_frames` are those of `videoclip.features.decode`. The helper is a
plain Python process that imports no torch. It is started when the first video is read, serves all
that follow, and ends with this process. Worker processes of `extract` and `index`, whose death
costs one video only, read videos within the same limits but without a helper (`read_here`).
"""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from videoclip.errors import ConfigError, DecodeError
from videoclip.features import decode
from videoclip.features.decode import Frame, Mode, Pixels, Resize, VideoInfo
from videoclip.features.video_file import MAX_CPU, MAX_MEMORY, MAX_SILENCE

P = ParamSpec("P")
T = TypeVar("T")

STUCK = f"ended after {MAX_SILENCE:g} s without progress; it is damaged, or needs fewer --workers"
HELPER = "import sys; from videoclip.features.contained import serve; serve(int(sys.argv[1]))"

_reads_here = os.name == "nt"  # where a socket cannot be handed to another process
_idle: list[_Helper] = []


def probe(path: str | Path) -> VideoInfo:
    """Return what `decode.probe` returns, from a helper process."""
    return call(Path(path), decode.probe, Path(path))


def grab_frame(path: str | Path, time: float, resize: Resize | None = None) -> Pixels:
    """Return what `decode.grab_frame` returns, from a helper process."""
    return call(Path(path), decode.grab_frame, Path(path), time, resize)


def sample_frames(path: str | Path, per_second: float, *, mode: Mode = "exact") -> Iterator[Frame]:
    """Yield what `decode.sample_frames` yields, from a helper process.

    A frame can be converted until the next one is asked for.
    """
    if _reads_here:
        yield from _within_limits(decode.sample_frames(path, per_second, mode=mode))
        return
    with closing(stream(Path(path), _send_frames, Path(path), per_second, mode)) as replies:
        frame: _SentFrame | None = None
        for sent in replies:
            if sent is not None:
                size, rotation, arrays = sent
                frame = _SentFrame(size, rotation, arrays, replies)
            assert frame is not None
            yield frame
            frame.is_latest = False


class _SentFrame(Frame):
    """A frame in the helper process, which sends its arrays when they are asked for."""

    def __init__(
        self,
        size: tuple[int, int],
        rotation: int,
        arrays: dict[Resize | None, Pixels],
        replies: Generator[Any, Any, Any],
    ) -> None:
        self._size = size
        self.rotation = rotation
        self._arrays = arrays
        self._replies = replies
        self.is_latest = True

    @property
    def display_size(self) -> tuple[int, int]:
        return self._size

    def rgb(self, resize: Resize | None = None) -> Pixels:
        if resize not in self._arrays:
            if not self.is_latest:
                raise RuntimeError("convert a frame before you ask for the next one")
            self._arrays[resize] = self._replies.send((resize,))
        return self._arrays[resize]


def _send_frames(path: Path, per_second: float, mode: Mode) -> Generator[Any, Any, None]:
    """Yield size, rotation and arrays of each frame, None if it is the one before.

    An answer (rule,) asks for the frame by that resize rule; later frames are sent with it at once.
    """
    rules: tuple[Resize | None, ...] = ()
    previous: Frame | None = None
    for frame in decode.sample_frames(path, per_second, mode=mode):
        reply = None
        if frame is not previous:
            reply = frame.display_size, frame.rotation, {rule: frame.rgb(rule) for rule in rules}
        asked = yield reply
        while asked is not None:
            rules = asked
            asked = yield frame.rgb(*rules)
        previous = frame


def call(path: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a module-level function that reads the video `path`, in a helper process.

    Raises:
        DecodeError: If the helper crashes or exceeds a limit; else what the function raises.
    """
    if _reads_here:
        with _limits(MAX_MEMORY):
            return function(*args, **kwargs)
    with closing(stream(path, _as_generator, function, args, kwargs)) as results:
        result: T = next(results)
    return result


def _as_generator(function: Callable[..., T], args: Any, kwargs: Any) -> Iterator[T]:
    yield function(*args, **kwargs)


def stream(
    path: Path, function: Callable[..., Iterator[Any]], *args: Any, memory: int = MAX_MEMORY
) -> Generator[Any, Any, Any]:
    """Run a module-level generator function that reads a video, in a helper process.

    The limits of time and processor time apply to each item by itself.

    Args:
        path: The video.
        function: Pickled by name; what it yields, is sent and returns is pickled too.
        args: Of the function.
        memory: Bytes that it may allocate beyond what the process holds already.

    Raises:
        DecodeError: If the helper crashes or exceeds a limit; else what the function raises.
    """
    if _reads_here:
        return (yield from _within_limits(function(*args), memory))
    helper = _take_helper()
    try:
        is_over, item = helper.ask(path, (Path.cwd(), function, args, memory))
        while not is_over:
            is_over, item = helper.ask(path, ((yield item),))
        return item
    finally:
        helper.rest()


def _take_helper() -> _Helper:
    """Return an idle helper that is alive, or a new one."""
    with suppress(IndexError):  # another thread may take the last one
        while True:
            helper = _idle.pop()
            if helper.process.poll() is None:
                return helper
            helper.stop()
    return _Helper()


class _Helper:
    """A process that reads one video at a time."""

    def __init__(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._is_ready = self._is_busy = False
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", HELPER, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()

    def ask(self, path: Path, message: tuple[Any, ...]) -> tuple[bool, Any]:
        """Return whether the running function has ended, and its next item or its result.

        Args:
            path: The video that it reads.
            message: Folder to be in, function, arguments and bytes of memory to start one; (value,)
                to go on.
        """
        is_stuck = False
        try:
            self._connection.send(message)
            if not self._is_ready:
                self._is_ready = bool(self._connection.recv())
            if is_stuck := not self._connection.poll(MAX_SILENCE):
                self.process.kill()
            self._is_busy, item, error, warned = self._connection.recv()
        except (EOFError, ConnectionError):
            self.stop()
            cause = exit_cause(self.process.returncode)
            if not self._is_ready:
                raise ConfigError(f"the process that reads videos cannot start ({cause})") from None
            cause = f"the process that read it died ({cause}); copy or download it again"
            raise DecodeError(STUCK if is_stuck else cause, path) from None
        except BaseException:  # Ctrl-C, perhaps in the middle of a message
            self.stop()
            raise
        for text in warned:
            warnings.warn(text, stacklevel=2)
        if error is not None:
            raise error
        return not self._is_busy, item

    def rest(self) -> None:
        """Let the process close its video, and keep it for the next one."""
        if self._connection.closed:
            return
        if self._is_busy:
            self._is_busy = False
            with suppress(ConnectionError):  # `ask` reports a dead process
                self._connection.send(())
        _idle.append(self)

    def stop(self) -> None:
        """End the process."""
        self._connection.close()
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """In a forked process: close the connection, and leave the helper to the parent."""
        self._connection.close()
        self.process.returncode = 0


@atexit.register
def stop_helpers() -> None:
    """End the idle helper processes."""
    while _idle:
        _idle.pop().stop()


def _forget_helpers() -> None:
    while _idle:
        _idle.pop().forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


def exit_cause(exit_code: int | None) -> str:
    """Describe in a few words how a process ended that was to go on."""
    if exit_code is None or exit_code >= 0:
        return f"exit status {exit_code}"
    name = signal.Signals(-exit_code).name
    hints = {"SIGKILL": "; out of memory?", "SIGXCPU": f"; no progress in {MAX_CPU:g} s of work"}
    return name + hints.get(name, "")


# --- in a process that may die -----------------------------------------------------------------


def read_here() -> None:
    """Read videos in this process from now on, since its death costs one video only."""
    global _reads_here
    _reads_here = True


def serve(handle: int) -> None:
    """Run functions for the process at the other end of a socket, until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    connection = Connection(handle)
    threading.Thread(target=_end_with_parent, args=(handle,), daemon=True).start()
    read_here()
    warned: list[str] = []
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *details, **more: warned.append(str(message))
    connection.send(True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the C library prints of a crash
    running: Generator[Any, Any, Any] | None = None
    while True:
        item, error = None, None
        try:
            message = connection.recv()
            if not message:
                running = None  # which closes it
                continue
            if running is None:
                folder, function, args, memory = message
                os.chdir(folder)  # paths may be relative to where the parent is now
                running, message = _within_limits(function(*args), memory), (None,)
            item = running.send(*message)
        except StopIteration as end:
            running, item = None, end.value
        except (EOFError, ConnectionError):
            return
        except Exception as failure:  # noqa: BLE001 - the other process raises it
            failure.add_note(traceback.format_exc())
            running, error = None, failure
        connection.send((running is not None, item, error, warned))
        warned.clear()


def _end_with_parent(handle: int) -> None:
    """End this process as soon as the other end of a socket is closed, whatever it is doing."""
    poll = select.poll()
    poll.register(handle, 0)  # only errors and hang-ups, which are always reported
    poll.poll()
    os._exit(1)


def _within_limits(items: Iterator[T], memory: int = MAX_MEMORY) -> Generator[T, Any, Any]:
    """Yield the items of a generator; the limits apply to each by itself."""
    assert isinstance(items, Generator)
    value = None
    while True:
        try:
            with _limits(memory):
                item = items.send(value)
        except StopIteration as end:
            return end.value
        value = yield item


@contextmanager
def _limits(memory: int) -> Iterator[None]:
    """Limit the memory and the processor time that the block takes.

    Beyond the memory, allocations fail; beyond the time, the system ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    wanted = {
        resource.RLIMIT_DATA: used + memory,
        resource.RLIMIT_CPU: math.ceil(time.process_time() + MAX_CPU),
        resource.RLIMIT_CORE: 0,
    }
    given = {limit: resource.getrlimit(limit) for limit in wanted}
    for limit, (soft, hard) in given.items():
        lowest = min(value for value in (wanted[limit], soft) if value != resource.RLIM_INFINITY)
        resource.setrlimit(limit, (lowest, hard))
    try:
        yield
    finally:
        for limit, values in given.items():
            resource.setrlimit(limit, values)
