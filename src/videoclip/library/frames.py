"""Pictures of moments, for lists and reports."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from videoclip.features.decode import grab_frame
from videoclip.features.resize import Fit
from videoclip.library.results import Moment

__all__ = ["thumbnail_name", "write_thumbnail"]

THUMBNAIL_PIXELS = 320
"""Longer side."""


def thumbnail_name(moment: Moment) -> str:
    """A file name that is the same whenever the same second of the same video is shown."""
    return f"{moment.video_id:.80}-{round(moment.best * 1000):09d}.jpg"


def write_thumbnail(moment: Moment, folder: Path) -> Path:
    """Write the best second of a moment as a JPEG and return its path.

    Raises:
        DecodeError: If the video cannot be read any more.
    """
    path = folder / thumbnail_name(moment)
    pixels = grab_frame(moment.path, moment.best, Fit(THUMBNAIL_PIXELS))
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuvj420p")
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuvj420p"
    codec.time_base = Fraction(1, 25)
    data = b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
    path.write_bytes(data)
    return path
