"""Which files a browser plays as they are, by the container and the codecs in it."""

import numpy as np
import pytest

from tests.make_video import write_video
from videoclip.output.playback import playback_of


@pytest.mark.parametrize(
    "suffix, settings, expected",
    [
        (".mp4", {}, ("direct", ".mp4")),
        (".MOV", {}, ("direct", ".mov")),
        (".mkv", {}, ("remux", ".mp4")),
        (".mp4", {"sound_seconds": 1.0}, ("direct", ".mp4")),
        (".mp4", {"pix_fmt": "yuvj420p"}, ("direct", ".mp4")),
        (".mp4", {"pix_fmt": "yuv444p"}, ("transcode", ".mp4")),
        (".mp4", {"pix_fmt": "yuv420p10le"}, ("transcode", ".mp4")),
        (".webm", {"codec": "libvpx"}, ("direct", ".webm")),
        (".mkv", {"codec": "libvpx"}, ("remux", ".webm")),
        (".avi", {"codec": "mpeg4"}, ("transcode", ".mp4")),
        (".mkv", {"codec": "ffv1"}, ("transcode", ".mp4")),
    ],
)
def test_a_browser_plays_known_codecs_and_pixels_in_known_containers(
    tmp_path, suffix, settings, expected
):
    picture = np.full((32, 32, 3), 99, np.uint8)
    path = write_video(tmp_path / f"x{suffix}", [picture] * 3, **settings)
    assert playback_of(path) == expected
