"""The index of a feature store: for each video where its rows are, append-only and checked.

`index.bin` has a record of 32 bytes per video, `names.bin` the ids the records point into. Each
record carries a checksum of itself and its name, and begins where the one before ends.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from videoclip.errors import DataError

__all__ = ["REMEDY", "Entry", "FeatureIndex", "write_at"]

REMEDY = "restore the folder from a copy, or delete it and extract again"

RECORD = struct.Struct("<QIIQI")
"""First row, number of rows, crc32 of the rows; first byte of the name, number of bytes."""

CHECKSUM = struct.Struct("<I")
"""crc32 of the record and the name."""

RECORD_BYTES = RECORD.size + CHECKSUM.size


class Entry(NamedTuple):
    """Where the features of one video are.

    Attributes:
        first: Their first row in the file.
        length: Number of rows.
        checksum: crc32 of the rows.
    """

    first: int
    length: int
    checksum: int


class FeatureIndex:
    """Entries by video id, in the order in which they were appended.

    Attributes:
        folder: Where the two files are.
        num_rows: Rows of all videos together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_rows = 0
        self.positions: dict[str, int] = {}
        self._firsts = array("Q")  # a million videos in 24 MB, where objects would take 200
        self._lengths = array("Q")
        self._checksums = array("Q")
        self._name_bytes = 0
        self.refresh()

    @staticmethod
    def create(folder: Path) -> None:
        """Make the two files, empty, where they are not there yet."""
        for name in ("names.bin", "index.bin"):
            (folder / name).touch()

    def __len__(self) -> int:
        return len(self.positions)

    def find(self, video_id: str) -> Entry:
        """Return the entry of a video.

        Raises:
            DataError: If there is none.
        """
        position = self.positions.get(video_id)
        if position is None:
            raise DataError(f"there is no video '{video_id}' in the store", self.folder)
        return Entry(self._firsts[position], self._lengths[position], self._checksums[position])

    def refresh(self) -> None:
        """Take in what was appended since, by this or another process.

        Raises:
            DataError: If a record is damaged. An unfinished one at the end is ignored: that is
                what a crash leaves behind, and the next append writes over it.
        """
        records = _read_from(self.folder / "index.bin", len(self) * RECORD_BYTES)
        num_whole = len(records) // RECORD_BYTES
        if not num_whole:
            return
        base = self._name_bytes
        names = _read_from(self.folder / "names.bin", base)
        for number in range(num_whole):
            record = records[number * RECORD_BYTES : (number + 1) * RECORD_BYTES]
            if number == num_whole - 1 and not any(record):
                return  # after a power cut: room was made for a record that never came
            first, length, checksum, start, num_bytes = RECORD.unpack_from(record)
            name = names[start - base : start - base + num_bytes]
            (own,) = CHECKSUM.unpack_from(record, RECORD.size)
            if own != zlib.crc32(record[: RECORD.size] + name) or first != self.num_rows:
                raise DataError(
                    f"record {len(self)} is damaged; {REMEDY}", self.folder / "index.bin"
                )
            self._add(name, Entry(first, length, checksum))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process append; what others have appended is taken in first."""
        handle = os.open(self.folder / "index.bin", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self.refresh()
            yield
        finally:
            os.close(handle)  # which gives the lock back

    def append(self, video_id: str, length: int, checksum: int) -> None:
        """Add an entry for rows that are on the disk already; call it within `locked`."""
        name = _encoded(video_id)
        entry = Entry(self.num_rows, length, checksum)
        record = RECORD.pack(entry.first, length, checksum, self._name_bytes, len(name))
        write_at(self.folder / "names.bin", name, self._name_bytes)
        own = CHECKSUM.pack(zlib.crc32(record + name))
        write_at(self.folder / "index.bin", record + own, len(self) * RECORD_BYTES)
        self._add(name, entry)

    def _add(self, name: bytes, entry: Entry) -> None:
        self.positions[name.decode("utf-8", "surrogateescape")] = len(self.positions)
        self._firsts.append(entry.first)
        self._lengths.append(entry.length)
        self._checksums.append(entry.checksum)
        self._name_bytes += len(name)
        self.num_rows += entry.length


def write_at(path: Path, data: bytes | memoryview, offset: int) -> None:
    """Write into a file and wait until the disk has it."""
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        rest = memoryview(data).cast("B")
        while rest:
            written = os.pwrite(handle, rest, offset)
            rest, offset = rest[written:], offset + written
        os.fsync(handle)
    finally:
        os.close(handle)


def _encoded(video_id: str) -> bytes:
    """File names that are not UTF-8 keep their bytes, as Python's own file functions do."""
    return video_id.encode("utf-8", "surrogateescape")


def _read_from(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()
