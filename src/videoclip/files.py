"""Files and folders that appear whole or not at all, on any file system, whenever a process dies.

Everything this package keeps is written here: aside first, then synced, then renamed into place.
"""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videoclip.errors import DISK_ADVICE, CheckpointError, DataError

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Linux: paths are relative to the working directory; `renameat2` swaps them."""
CHECKSUMS_FILE = "checksums.json"
"""In a folder: SHA-256 of its files."""
SEAL = "crc32"
"""In a JSON object: checksum of the rest of it."""


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a path to write to; its file takes the name `path` when the block ends.

    Parent folders are made. An old file stays until that moment, and stays if the block raises.
    The temporary file is hidden, lies in the same folder and keeps the suffix.

    Raises:
        IsADirectoryError: If the path has no name, as that of the current folder.
    """
    path = Path(path)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder to fill; it takes the name `path`, replacing what was there.

    On Linux the old and the new folder change places in one step. Elsewhere a process that is
    killed between two renames leaves the old folder as `.NAME.old`, and the next call restores it.
    A killed process may also leave `.NAME.partial`; the next call removes it.
    """
    path = Path(path)
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old"))

    def clean_up() -> None:
        if old.exists() and not path.exists():
            old.rename(path)
        for left_over in (partial, old):
            shutil.rmtree(left_over, ignore_errors=True)

    clean_up()
    partial.mkdir(parents=True)
    try:
        yield partial
        for written in (*partial.rglob("*"), partial):
            sync(written)
        if not path.exists():
            partial.rename(path)
        elif not _exchange(partial, path):
            path.rename(old)
            partial.rename(path)
        sync(path.parent)
    finally:
        clean_up()


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders atomically; return False where the system or its disk cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and not rename(
        AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE
    )


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_file(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 file with Unix line ends atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, content: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_state(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a checksum that `read_json` compares."""
    write_json(path, seal(content))


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with a checksum of its content."""
    return {**content, SEAL: _checksum(content)}


def parse_state(text: str | bytes) -> Any:
    """Parse JSON, compare the checksum that `seal` added, if there is one, and remove it.

    Raises:
        ValueError: If it is no JSON, is nested too deeply, or has another checksum.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or not content:
            return content
        # An object whose checksum has a damaged name is not one without a checksum.
        name = SEAL if SEAL in content else next(reversed(content))
        rest = {key: value for key, value in content.items() if key != name}
        matches = type(content[name]) is int and content[name] == _checksum(rest)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if name != SEAL:
        if matches:
            raise ValueError(f"{name!r} should be {SEAL!r}")
        return content
    if not matches:
        raise ValueError(f"its checksum differs; if you edited it, remove {SEAL!r}")
    return rest


def _checksum(content: Mapping[str, Any]) -> int:
    """Return the crc32 of an object as it is read back."""
    as_read = json.loads(json.dumps(content))
    return zlib.crc32(json.dumps(as_read, sort_keys=True).encode())


def read_json(path: Path, advice: str = "restore the file or start anew") -> Any:
    """Return what `write_json` or `write_state` wrote, or an empty dict if there is no such file.

    Args:
        path: The file.
        advice: What to do if it is damaged.

    Raises:
        CheckpointError: If it is damaged.
    """
    try:
        return parse_state(read_regular(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {advice}") from None


def write_checksums(
    folder: Path, names: Iterable[str], known: Mapping[str, str] | None = None, **more: Any
) -> None:
    """Write the SHA-256 of files of a folder, and further entries, into its `CHECKSUMS_FILE`.

    Args:
        folder: The folder.
        names: The files, relative to it.
        known: Digests of some of them that need not be computed.
        more: Further entries of the file.
    """
    known = known or {}
    digests = {name: known.get(name) or sha256(folder / name) for name in names}
    write_state(folder / CHECKSUMS_FILE, {"sha256": digests, **more})


def verify_checksums(folder: Path, advice: str, only: str | None = None) -> list[str]:
    """Compare the files of a folder with its `CHECKSUMS_FILE`.

    Args:
        folder: The folder.
        advice: What to do if a file is damaged.
        only: Name of the one file to compare; None: all.

    Returns:
        Names of the verified files; empty for an older folder without checksums.

    Raises:
        CheckpointError: If a file is missing or differs; the message names it.
    """
    path = folder / CHECKSUMS_FILE
    content = read_json(path, advice)
    digests: Any = content.get("sha256", {}) if isinstance(content, dict) else None
    if not isinstance(digests, dict) or (path.is_file() and not digests):
        raise CheckpointError(f"{path} is damaged (no SHA-256): {advice}")
    if only is not None:
        digests = {name: digest for name, digest in digests.items() if name == only}
    for name, expected in digests.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing: {advice}")
        if sha256(folder / name) != expected:
            raise CheckpointError(
                f"{folder / name} was changed after it was saved (SHA-256 differs from "
                f"{CHECKSUMS_FILE}): {advice}"
            )
    return list(digests)


def write_output(path: Path | str, content: str | bytes) -> None:
    """Write a file that the user named, atomically.

    Raises:
        DataError: If it cannot be written.
    """
    with report_disk_errors(path):
        write_bytes(path, content.encode() if isinstance(content, str) else content)


@contextmanager
def report_disk_errors(path: Path | str) -> Iterator[None]:
    """Raise errors of the disk in the block as a `DataError` about `path`, with what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror}); {DISK_ADVICE}", path) from error


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: Path | str) -> int:
    """Return a descriptor to read a regular file, in whose place a pipe would be waited for.

    Raises:
        OSError: If it cannot be opened, or is a folder, pipe, socket or device.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read_regular(path: Path | str) -> bytes:
    """Return the content of a regular file; see `open_regular`."""
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read()


def sync(path: Path) -> None:
    """Wait until the content of a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
