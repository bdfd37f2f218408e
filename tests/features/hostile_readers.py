"""What a video may do to the process that reads it; helper processes import it from here."""

import os
import signal
import time
import warnings
from pathlib import Path

from videoclip.errors import DecodeError
from videoclip.features import contained
from videoclip.features.decode import grab_frame
from videoclip.features.video_file import reading


def crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(path: Path) -> None:
    time.sleep(60)


def sleep_after_start(path: Path):
    yield os.getpid()
    time.sleep(60)


def work_for_long(path: Path):
    contained.MAX_CPU = 1.0  # from the next item on
    yield
    while True:
        pass


def take_memory(path: Path, num_bytes: int) -> int:
    with reading(path):
        return len(bytearray(num_bytes))


def read_pixels(path: Path):
    yield int(grab_frame(path, 0.0).max())


def refuse(path: Path) -> None:
    raise DecodeError("no", path)


def warn(path: Path) -> int:
    warnings.warn("beware", stacklevel=1)
    return os.getpid()


def warn_of_each(path: Path, fails: bool):
    for number in range(2):
        warnings.warn(f"item {number}", stacklevel=1)
        yield os.getpid()
    if fails:
        warnings.warn("at the end", stacklevel=1)
        raise DecodeError("no", path)


def count(path: Path, number: int):
    total = 0
    for _ in range(number):
        total += yield total
    return "done"
