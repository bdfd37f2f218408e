"""Files that are no plain files: members of tar archives, and objects in object storage.

A member is named as if its archive were a folder (`shards/000.tar/kitchen.mp4`), an object by its
address (`s3://bucket/kitchen.mp4`); an archive may be an object, too. Wherever videos, subtitles
and features are read, such a path is opened here; nothing is unpacked or downloaded as a whole.

Archives are those of WebDataset: plain tar files. Python's own reader suffices: it lists an archive
by seeking from header to header, and reads a member at random, which WebDataset's does not.
Object storage is read through `fsspec`, whose packages for each kind (s3fs, gcsfs) are extras.
"""

import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from videoclip.errors import DataError, MissingExtraError, one_line
from videoclip.files import atomic_file

ARCHIVE_SUFFIX = ".tar"
BLOCK_BYTES = 2**18
"""Bytes of one request to object storage while a file is read in small steps."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=[^/])")


@dataclass(frozen=True)
class FileStatus:
    """Size in bytes, and time of the last change in nanoseconds (0 where it is not known)."""

    st_size: int
    st_mtime_ns: int


def address_of(path: Path | str) -> str:
    """Return the address of a path in object storage, such as s3://bucket/key; "" for others.

    A `Path` made of an address has lost one of its slashes, or two of file:///folder.
    """
    if (match := _SCHEME.match(str(path))) is None:
        return ""
    root = "/" if match[1] == "file" else ""
    return f"{match[1]}://{root}{str(path)[match.end() :]}"


def archive_of(path: Path | str) -> Path | None:
    """Return the tar archive that a path is or lies in, if any."""
    path = Path(path)
    for part in (path, *path.parents):
        if part.suffix.lower() == ARCHIVE_SUFFIX and (address_of(part) or part.is_file()):
            return part
    return None


def is_plain(path: Path | str) -> bool:
    """Return whether a path is on the disk, and not in an archive."""
    return not address_of(path) and archive_of(path) is None


def list_files(path: Path | str) -> Iterator[Path]:
    """Yield what is below a folder or address, the files in its archives included.

    Raises:
        DataError: If it cannot be listed.
    """
    path = Path(path)
    if (archive := archive_of(path)) is not None:
        yield from (archive / name for name in _members(archive))
        return
    if address := address_of(path):
        with _storage(address) as (system, root):
            found = map(system.unstrip_protocol, system.find(root))
            files: Iterable[Path] = map(Path, found)
    else:
        files = path.rglob("*")
    for file in files:
        if archive_of(file) is not None:
            yield from list_files(file)
        else:
            yield file


def status_of(path: Path) -> os.stat_result | FileStatus:
    """Return size and time of a file on the disk, in an archive or in object storage.

    Raises:
        OSError: If a file on the disk cannot be read.
        DataError: If another cannot.
    """
    if (archive := archive_of(path)) is not None and archive != path:
        member = _member(archive, path)
        return FileStatus(member.size, int(member.mtime) * 1_000_000_000)
    if address := address_of(path):
        with _storage(address) as (system, name):
            return FileStatus(int(system.size(name)), 0)
    return path.stat()


def open_binary(path: Path) -> IO[bytes]:
    """Open a file on the disk, in an archive or in object storage, to read it at random.

    Raises:
        OSError: If a file on the disk cannot be read.
        DataError: If another cannot.
    """
    if (archive := archive_of(path)) is not None and archive != path:
        member = _member(archive, path)
        return io.BufferedReader(_Part(open_binary(archive), member.offset_data, member.size))
    if address := address_of(path):
        with _storage(address) as (system, name):
            opened: IO[bytes] = system.open(name, "rb", block_size=BLOCK_BYTES)
            return opened
    return path.open("rb")


def read_bytes(path: Path) -> bytes:
    """Return the content of a file on the disk, in an archive or in object storage.

    Raises:
        OSError: If a file on the disk cannot be read.
        DataError: If another cannot.
    """
    with open_binary(path) as file:
        return file.read()


def read_range(path: Path, start: int, stop: int | None = None) -> bytes:
    """Return bytes [start, stop) of an object, by one request.

    Raises:
        DataError: If it cannot be read.
    """
    with _storage(address_of(path)) as (system, name):
        if stop is None and start >= system.size(name):
            return b""
        content: bytes = system.cat_file(name, start=start, end=stop)
        return content


def read_ranges(path: Path, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
    """Return bytes [start, stop) of an object for each range, by requests at the same time.

    Raises:
        DataError: If it cannot be read.
    """
    starts, stops = map(list, zip(*ranges, strict=True))
    with _storage(address_of(path)) as (system, name):
        found: list[bytes] = system.cat_ranges(
            [name] * len(starts), starts, stops, on_error="raise"
        )
        return found


def write_archive(path: Path, files: Mapping[str, Path | bytes]) -> None:
    """Write files into a new tar archive, atomically, in the order given.

    WebDataset takes files that follow each other and differ only in their suffix for one sample.

    Args:
        path: The archive; one that exists is replaced.
        files: Content, or the file that has it, by name in the archive.
    """
    with atomic_file(path) as partial, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.size = content.stat().st_size
                with content.open("rb") as file:
                    tar.addfile(member, file)


class _Part(io.RawIOBase):
    """A part of a file as a file, which is closed with it."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        content = self._file.read(wanted)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _member(archive: Path, path: Path) -> tarfile.TarInfo:
    name = path.relative_to(archive).as_posix()
    members = _members(archive)
    if name not in members:
        raise DataError(f"has no file {name}", archive)
    return members[name]


def _members(archive: Path) -> Mapping[str, tarfile.TarInfo]:
    """Return the files in an archive by name; listed once while it does not change."""
    try:
        status = status_of(archive)
        return _listed(archive, status.st_size, status.st_mtime_ns)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"not a tar archive, or damaged ({one_line(error)})", archive) from error


@lru_cache(maxsize=64)
def _listed(archive: Path, size: int, mtime_ns: int) -> Mapping[str, tarfile.TarInfo]:
    with open_binary(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        members = {m.name.removeprefix("./"): m for m in tar if m.isfile() and not m.issparse()}
    return MappingProxyType(members)


@contextmanager
def _storage(address: str) -> Iterator[tuple[Any, str]]:
    """Yield the file system of an address, which fsspec keeps for each process, and the path.

    Whatever a storage raises in the block becomes a DataError: each has errors of its own.
    """
    import fsspec

    try:
        yield fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(f"{address}: object storage", "s3") from error
    except Exception as error:
        raise DataError(f"cannot be read ({one_line(error)})", address) from error
