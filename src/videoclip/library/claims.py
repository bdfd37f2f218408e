"""Which process works on which video: locks that the system lets go of when a process dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType

__all__ = ["Claims"]


class Claims:
    """Claims of this process on names, kept as locks on single bytes of one empty file.

    A name's byte is found by hashing, and may lie far beyond the end of the file. Locks belong to
    the process: they neither outlive it nor keep its own threads apart.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self, name: str, wait: bool = False) -> bool:
        """Claim a name and return whether it is ours; `wait` until another process lets go."""
        try:
            flags = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
            fcntl.lockf(self._handle, flags, 1, _byte(name))
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._handle)  # and with it, of all names


def _byte(name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 2  # a file offset is signed, and its successor one too
