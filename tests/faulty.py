"""Commands with a fault in them: killed, out of disk, or cut from power at one of their writes.

A command runs in a process forked from a server that has imported everything, so that a trial takes
no start. The events that count are what changes the disk: a file opened to be written, a rename, a
deletion, a new folder, an fsync. The fault comes at one of them, chosen by a seed.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.features.toy_backbones import MeanColour
from tests.fork_server import SERVER
from tests.library.colours import ColourEmbedder
from videoclip.__main__ import run
from videoclip.embedding import Embedder
from videoclip.features import backbones, contained

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        kind: Name of a signal; "disk": no file may exceed `at` bytes; "power": what was not synced
            is lost; "": nothing, and the events are counted.
        at: Number of the event, from 1.
    """

    kind: str = ""
    at: int = 0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: Exit status, negative for a signal.
        out: Its stdout.
        err: Its stderr.
        seconds: From the fault to the end.
        num_events: Events counted.
    """

    status: int
    out: str
    err: str
    seconds: float
    num_events: int


def run_command(arguments, folder: Path, fault: Fault = Fault()) -> Ended:
    """Run a command in a folder, with a fault."""
    notes = folder.parent / f"{folder.name}.notes"
    notes.mkdir(exist_ok=True)
    (notes / "events.json").unlink(missing_ok=True)
    process = SERVER.Process(target=_child, args=(list(map(str, arguments)), folder, notes, fault))
    process.start()
    process.join(60)
    ended = time.monotonic()
    assert process.exitcode is not None, "no end within 60 seconds"
    known = notes / "events.json"
    events = json.loads(known.read_text()) if known.exists() else {"at": ended, "count": 0}
    out, err = ((notes / name).read_text() for name in ("out", "err"))
    return Ended(process.exitcode, out, err, ended - events["at"], events["count"])


def _child(arguments, folder, notes, fault):
    os.setpgid(0, 0)
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(notes / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    if arguments[0] == "index":
        Embedder.from_pretrained = lambda model, device="auto": ColourEmbedder()
    backbones.load_backbone = lambda *_: MeanColour()
    contained.read_here()  # so that the events of reading and writing are of one process
    count, synced = 0, {}

    def note():
        handle = os.open(notes / "events.json", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.write(handle, json.dumps({"at": time.monotonic(), "count": count}).encode())
        os.close(handle)

    busy = False

    def event():
        nonlocal count, busy
        if busy:
            return
        count += 1
        if count == fault.at and fault.kind not in ("disk", ""):
            busy = True
            note()
            if fault.kind == "power":
                _cut_power(folder, synced, fault.at)
            else:
                os.kill(os.getpid(), signal.Signals[fault.kind])

    def audit(name, args):
        is_write = name == "open" and bool(args[2] and args[2] & WRITES)
        if (is_write or name in CHANGES) and _is_inside(args[0], folder):
            event()

    def fsync(handle):
        event()
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_file():
            synced[os.fstat(handle).st_ino] = path.read_bytes()

    os.fsync = fsync
    sys.addaudithook(audit)
    if fault.kind == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.at, resource.RLIM_INFINITY))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in jobs
    sys.argv = ["videoclip", *arguments]
    status = 1
    try:
        run()
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter itself prints it
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    if not fault.kind:
        note()
    os._exit(status)


def _is_inside(path, folder):
    return isinstance(path, (str, os.PathLike)) and Path(folder, path).is_relative_to(folder)


def _cut_power(folder, synced, seed):
    """Drop what was written and not synced, of half the files, and die.

    Names of files survive here, as on file systems that write them before the content. What SQLite
    writes is left alone: its own fsync is not seen.
    """
    chance = random.Random(seed)
    for path in sorted(folder.rglob("*")):
        is_lost = path.is_file() and not path.name.startswith("catalog.sqlite")
        if is_lost and chance.random() < 0.5:
            path.write_bytes(synced.get(path.stat().st_ino, b""))
    os.kill(os.getpid(), signal.SIGKILL)
