"""Files for the browser: stills, videos that it can play, and moments encoded for it."""

import hashlib
import io
import os
import re
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from videoclip.features.contained import grab_frame
from videoclip.features.decode import Fit
from videoclip.files import write_bytes
from videoclip.library.catalog import IndexedVideo
from videoclip.output.clip import THUMBNAIL_PIXELS, cut_clip
from videoclip.output.playback import Playback, playback_of

MAX_CLIP_SECONDS = 300.0
"""Longest moment that is encoded for a request."""
MAX_CACHE = 4 << 30
"""Bytes of copies and clips that are kept."""
TYPES = {".webm": "video/webm", ".mov": "video/mp4", ".mp4": "video/mp4", ".m4v": "video/mp4"}
"""Browsers play QuickTime files of H.264 and AAC if they are called MP4."""

PICTURES = {
    ".jpg": (rb"\xff\xd8\xff", "image/jpeg"),
    ".png": (rb"\x89PNG\r\n", "image/png"),
    ".webp": (rb"RIFF....WEBP", "image/webp"),
}
"""How a picture begins that may be searched by, and its media type."""


class MediaCache:
    """Copies and clips that browsers can play, in a temporary folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="videoclip-serve-")
        self.folder = Path(self._folder.name)
        self._mutex = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def whole(self, video: IndexedVideo) -> FileResponse:
        """Return a video as it is, or its streams in a container that browsers play.

        Raises:
            HTTPException: 410 if its file is gone, 415 if only moments of it can be played.
        """
        playback, suffix = playback_kind(video)
        path = existing(video)
        if playback == "remux":
            path = self._made(
                f"{video.content_hash} whole{suffix}",
                suffix,
                lambda out: cut_clip(path, 0.0, video.duration, out, fast=True),
            )
        elif playback == "transcode":
            raise HTTPException(415, "browsers cannot play this file: request clips of it")
        return _file(path, suffix)

    def clip(self, video: IndexedVideo, start: float, end: float) -> FileResponse:
        """Return exactly the frames of a span as MP4.

        Raises:
            HTTPException: 410 if the file is gone, 422 if the span is too long or empty.
        """
        if not 0 <= start < end <= start + MAX_CLIP_SECONDS:
            raise HTTPException(422, f"a clip must be up to {MAX_CLIP_SECONDS:g} seconds long")
        path, key = existing(video), f"{video.content_hash} {start:.3f} {end:.3f}"
        return _file(self._made(key, ".mp4", lambda out: cut_clip(path, start, end, out)), ".mp4")

    def add_picture(self, image: bytes) -> str:
        """Keep a picture to search by, and return its id.

        Raises:
            HTTPException: 422 if it is not a JPEG, PNG or WebP file.
        """
        suffix = next(
            (s for s, (mark, _) in PICTURES.items() if re.match(mark, image, re.DOTALL)), None
        )
        if suffix is None:
            raise HTTPException(422, "not a JPEG, PNG or WebP picture")
        key = hashlib.sha256(image).hexdigest()[:24]
        self._made(f"picture {key}", suffix, lambda out: write_bytes(out, image))
        return key

    def picture(self, id: str) -> tuple[Path, str]:
        """Return the file of a picture and its media type.

        Raises:
            HTTPException: 404 if there is none, or too much came after it.
        """
        for suffix, (_, kind) in PICTURES.items():
            path = self._path(f"picture {id}", suffix)
            if path.exists():
                return path, kind
        raise HTTPException(404, "this picture is no longer here: choose it again")

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix}"

    def _made(self, key: str, suffix: str, make: Callable[[Path], object]) -> Path:
        """Return the file of a key; the first request creates it."""
        path = self._path(key, suffix)
        with self._mutex:
            lock = self._locks.setdefault(path.name, threading.Lock())
        with lock:
            if not path.exists():
                make(path)
                self._drop_oldest(path)
            os.utime(path)  # used last
        return path

    def _drop_oldest(self, newest: Path) -> None:
        with self._mutex:
            files = sorted(self.folder.glob("*.*"), key=lambda path: path.stat().st_mtime_ns)
            total = sum(path.stat().st_size for path in files)
            for path in files:
                if total > MAX_CACHE and path != newest:
                    total -= path.stat().st_size
                    path.unlink()


def _file(path: Path, suffix: str) -> FileResponse:
    headers = {"Cache-Control": "private, max-age=3600"}
    return FileResponse(path, media_type=TYPES.get(suffix, "video/mp4"), headers=headers)


def existing(video: IndexedVideo) -> Path:
    """Return the path of a video.

    Raises:
        HTTPException: 410 if its file is gone.
    """
    path = Path(video.path)
    if not path.is_file():
        raise HTTPException(410, "the file of this video is gone")
    return path


def playback_kind(video: IndexedVideo) -> tuple[Playback, str]:
    """Return how a browser plays a video, as `playback_of` does; cached."""
    return _playback(existing(video), video.mtime_ns)


@lru_cache(1000)
def _playback(path: Path, mtime_ns: int) -> tuple[Playback, str]:
    return playback_of(path)


def thumbnail(video: IndexedVideo, time: float) -> bytes:
    """Return the frame at a time as JPEG; cached.

    Raises:
        HTTPException: 410 if the file is gone.
    """
    last = max(0.0, video.duration - 0.1)
    return _thumbnail(existing(video), video.mtime_ns, round(min(max(time, 0.0), last), 1))


@lru_cache(2000)
def _thumbnail(path: Path, mtime_ns: int, time: float) -> bytes:
    image = io.BytesIO()
    frame = grab_frame(path, time, Fit(THUMBNAIL_PIXELS))
    Image.fromarray(frame).save(image, "jpeg", quality=80)
    return image.getvalue()
