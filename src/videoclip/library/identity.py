"""When a video file is still the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from videoclip.errors import DecodeError
from videoclip.features.extract import os_reason

__all__ = ["content_hash"]

SAMPLED_BYTES = 1 << 20
"""Read at each end of a file for its quick content hash."""


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
        raise DecodeError(os_reason(error), path) from error
    return digest.hexdigest()
