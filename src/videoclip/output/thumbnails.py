"""Pictures of moments, for lists and reports."""

from __future__ import annotations

from pathlib import Path

from videoclip.features.decode import Fit, grab_frame
from videoclip.output.drawing import jpeg
from videoclip.zeroshot.results import Moment

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
    path.write_bytes(jpeg(pixels))
    return path
