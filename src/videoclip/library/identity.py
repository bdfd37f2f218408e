"""Which files a library is about, and when one is still the same file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from videoclip.errors import DecodeError
from videoclip.features.extract import VIDEO_SUFFIXES

__all__ = ["NO_VIDEOS", "FoundFile", "content_hash", "find_videos"]

NO_VIDEOS = "no videos in this folder"

SAMPLED_BYTES = 1 << 20
"""Read at each end of a file for its quick content hash."""


@dataclass(frozen=True)
class FoundFile:
    """A file as the file system knows it; equal size and time mean an unchanged file.

    Attributes:
        path: Absolute path.
        size: Bytes.
        mtime_ns: Time of its last change.
    """

    path: str
    size: int
    mtime_ns: int


def find_videos(paths: Iterable[Path | str]) -> tuple[list[FoundFile], dict[str, str]]:
    """Look for video files, folders searched to the bottom, hidden ones left out.

    Unlike the search of `features.extract` this keeps what tells changed files from known ones,
    and says what could not be looked into.

    Links to files are followed, links to folders are not, so that nothing is found for ever.

    Args:
        paths: Files and folders.

    Returns:
        The files in order of path, and for each path that cannot be read the reason.
    """
    found: dict[str, FoundFile] = {}
    failed: dict[str, str] = {}
    for given in paths:
        path = os.path.abspath(given)  # noqa: PTH100 - Path.resolve would follow links
        if Path(path).is_dir():
            before = len(found) + len(failed)
            _walk(path, found, failed)
            if len(found) + len(failed) == before:
                failed[path] = NO_VIDEOS
        else:
            _look(path, found, failed)
    return sorted(found.values(), key=lambda file: file.path), failed


def _walk(folder: str, found: dict[str, FoundFile], failed: dict[str, str]) -> None:
    folders = [folder]
    while folders:
        current = folders.pop()
        try:
            with os.scandir(current) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            failed[current] = _reason(error)
            continue
        for entry in visible:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in VIDEO_SUFFIXES:  # noqa: PTH122 - speed
                _look(entry.path, found, failed)


def _look(path: str, found: dict[str, FoundFile], failed: dict[str, str]) -> None:
    try:
        path.encode()
        status = os.stat(path)  # noqa: PTH116 - ten thousand of them
    except OSError as error:
        failed[path] = _reason(error)
    except UnicodeEncodeError:
        readable = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
        failed[readable] = "its name is not valid UTF-8; rename it"
    else:
        found[path] = FoundFile(path, status.st_size, status.st_mtime_ns)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        path = Path(str(error.filename))
        return "a link to a file that is gone" if path.is_symlink() else "no such file"
    return (error.strerror or str(error)).lower()


def content_hash(path: Path | str, whole: bool = False) -> str:
    """Digest of a file's content, by which a moved file is known again.

    By default the size and a mebibyte at each end are hashed: a container keeps its index at one
    of them, so videos that agree there have in practice never differed. `whole` reads everything.

    Raises:
        DecodeError: If the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{size} {'whole' if whole else 'ends'} ".encode())
            if whole or size <= 2 * SAMPLED_BYTES:
                while block := file.read(SAMPLED_BYTES):
                    digest.update(block)
            else:
                digest.update(file.read(SAMPLED_BYTES))
                file.seek(-SAMPLED_BYTES, os.SEEK_END)
                digest.update(file.read(SAMPLED_BYTES))
    except OSError as error:
        raise DecodeError(_reason(error), path) from error
    return digest.hexdigest()
