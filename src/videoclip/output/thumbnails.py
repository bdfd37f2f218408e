"""Thumbnails of moments, for lists and reports."""

from pathlib import Path

from PIL import Image

from videoclip.features.decode import Fit, grab_frame
from videoclip.files import atomic_file
from videoclip.zeroshot.moments import Moment

THUMBNAIL_PIXELS = 320
"""Longer side."""


def write_thumbnail(moment: Moment, folder: Path) -> Path:
    """Write the frame at the best second of a moment as a JPEG and return its path.

    Its name depends only on the video and that second.

    Raises:
        DecodeError: If the video cannot be read any more.
    """
    path = folder / f"{moment.video_id:.80}-{round(moment.best * 1000):09d}.jpg"
    frame = grab_frame(moment.path, moment.best, Fit(THUMBNAIL_PIXELS))
    with atomic_file(path) as partial:
        Image.fromarray(frame).save(partial, quality=85)
    return path
