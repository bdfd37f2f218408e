"""Run commands of the command line as child processes, within limits of memory and time."""

import os
import pty
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SILENCE = 60.0
"""Seconds without progress on stderr after which a command counts as hanging."""
MEMORY = 3 << 30
"""Bytes of address space that a command may add to that of its parent."""


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        command: Its arguments.
        status: Exit status; negative: the signal that ended it.
        out: Its standard output.
        err: Its messages and progress.
        hung: Whether it was ended after a time without progress.
        peak: Bytes of memory of all its processes at once, at most.
        seconds: Processor time of all its processes.
    """

    command: tuple[str, ...]
    status: int
    out: str
    err: str
    hung: bool
    peak: int
    seconds: float

    @property
    def crash(self) -> bool:
        """Whether it ended with a traceback or by a signal."""
        return not self.hung and (self.status < 0 or "Traceback (most recent" in self.err)

    @property
    def wrong_status(self) -> bool:
        """Whether the status contradicts the messages, or a message is no line of ours."""
        lines = [line for line in self.err.replace("\r", "\n").split("\n") if line.strip()]
        failed = any(line.startswith("videoclip: ") for line in lines)
        return not (self.hung or self.crash) and not (
            self.status == 0 or (self.status == 1 and failed)
        )


def run(arguments: Sequence[str], folder: Path, silence: float = SILENCE) -> Outcome:
    """Run `videoclip ARGUMENTS` in a fork of this process, which has imported the package.

    Args:
        arguments: Command and options.
        folder: Working folder, where its output is kept in files.
        silence: Seconds without progress after which it is ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    master, slave = pty.openpty()  # progress is printed on terminals only
    child = os.fork()
    if not child:
        _be_the_command(arguments, folder, slave)
    os.close(slave)
    err, peak, hung, latest = bytearray(), 0, False, time.monotonic()
    status: int | None = None
    while status is None:
        if select.select([master], [], [], 0.1)[0]:
            try:
                if piece := os.read(master, 1 << 16):
                    err += piece
                    latest = time.monotonic()
            except OSError:  # all of its processes have ended
                time.sleep(0.05)
        peak = max(peak, _memory(child))
        if time.monotonic() - latest > silence and not hung:
            hung = True
            os.killpg(child, signal.SIGKILL)
        ended, code, usage = os.wait4(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
    while select.select([master], [], [], 0)[0]:
        try:
            err += os.read(master, 1 << 16)
        except OSError:
            break
    os.close(master)
    return Outcome(
        command=tuple(arguments),
        status=status,
        out=(folder / "stdout").read_text(errors="replace"),
        err=err.decode(errors="replace").replace("\r\n", "\n"),
        hung=hung,
        peak=max(peak, usage.ru_maxrss * 1024),
        seconds=usage.ru_utime + usage.ru_stime,
    )


def _be_the_command(arguments: Sequence[str], folder: Path, terminal: int) -> None:
    os.setsid()
    status = 1
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        out = os.open(folder / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(terminal, 2)
        os.chdir(folder)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - descriptors
        sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
        from videoclip.cli import main

        status = main(arguments)
        sys.stdout.flush()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - what an interpreter does at its end
        traceback.print_exc()
    finally:
        os._exit(status)


def _memory(session: int) -> int:
    """Return the bytes that all processes of a session hold; what they share counts once."""
    total = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                    held = (process / "smaps_rollup").read_text()
                    total += 1024 * int(held.partition("\nPss:")[2].split()[0])
            except (OSError, IndexError):  # it has just ended
                continue
    return total
