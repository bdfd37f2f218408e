"""Locks by which processes on any machines that share a folder divide the videos among them."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

NUM_LOCKS = 4096
"""Lock files in a folder; two videos rarely share one, and then only wait for each other."""


class VideoLocks(ExitStack):
    """Locks on videos, by which processes that write to one folder share the work.

    Paths are hashed to a fixed number of lock files. The system releases the locks of a process
    that dies.

    Args:
        folder: Of the lock files; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._locks: dict[int, FileLock] = {}

    def _lock_of(self, path: Path) -> FileLock:
        digest = hashlib.blake2b(str(path).encode(), digest_size=8).digest()
        number = int.from_bytes(digest) % NUM_LOCKS
        if number not in self._locks:
            self._locks[number] = FileLock(self._folder / f"{number:04d}.lock")
            self.callback(self._locks[number].release, force=True)
        return self._locks[number]

    def acquire(self, path: Path, wait: bool = False) -> bool:
        """Lock a video and return whether that succeeded; `wait` for other processes."""
        try:
            self._lock_of(path).acquire(blocking=wait)  # counts, where two videos share a file
        except Timeout:
            return False
        return True

    def release(self, path: Path) -> None:
        """Unlock a video."""
        self._lock_of(path).release()
