"""Which files a browser plays as they are, and copies of the others that it plays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from videoclip.features.contained import call
from videoclip.features.video_file import open_container, reading

Playback: TypeAlias = Literal["direct", "remux", "transcode"]
"""As it is; with its streams copied into another container; or encoded again."""

MP4 = ({"h264", "av1"}, {"aac", "mp3", ""})
WEBM = ({"vp8", "vp9", "av1"}, {"opus", "vorbis", ""})
"""Video and audio codecs that every current browser plays in a container; "" is no sound."""
PIXELS = {"yuv420p", "yuvj420p"}


def playback_of(path: Path | str) -> tuple[Playback, str]:
    """Return how a browser can play a video, and the extension of the file it then plays.

    Raises:
        DecodeError: If it cannot be read.
    """
    path = Path(path)
    video, pixels, audio = call(path, _read_codecs, path)
    suffix = path.suffix.lower()
    for (videos, sounds), target, suffixes in (
        (MP4, ".mp4", {".mp4", ".m4v", ".mov"}),
        (WEBM, ".webm", {".webm"}),
    ):
        if video in videos and pixels in PIXELS and audio in sounds:
            return ("direct", suffix) if suffix in suffixes else ("remux", target)
    return "transcode", ".mp4"


def _read_codecs(path: Path) -> tuple[str, str, str]:
    """Return the codec and pixel format of the video, and the codec of the sound or ""."""
    with reading(path), open_container(path) as container:
        video, audio = container.streams.best("video"), container.streams.best("audio")
        context = video.codec_context
        # PyAV names the decoder, such as libdav1d of an AV1 stream.
        sound = audio.codec_context.codec.canonical_name if audio is not None else ""
        return context.codec.canonical_name, context.pix_fmt or "", sound
