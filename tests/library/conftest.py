import pytest

from tests.library.colours import ColourEmbedder, write_video
from videoclip.library.videolibrary import VideoLibrary

ONIONS = """WEBVTT

00:00:02.000 --> 00:00:04.000
Hello and welcome to my kitchen.

00:00:21.000 --> 00:00:24.000
Now we are chopping the onions finely.
"""


@pytest.fixture(scope="session")
def made_videos(tmp_path_factory):
    """Three videos, one of them narrated; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    write_video(folder / "a.mp4", ["red"] * 10 + ["blue"] * 12 + ["green"] * 10)
    write_video(folder / "b.mp4", ["black"] * 20 + ["yellow"] * 5 + ["black"] * 10)
    write_video(folder / "sub" / "c d.mp4", ["white"] * 3)
    (folder / "b.en.vtt").write_text(ONIONS)
    return folder


@pytest.fixture
def videos(made_videos, tmp_path):
    """The same in a folder of the test's own, as hard links."""
    for path in sorted(made_videos.rglob("*.*")):
        link = tmp_path / "videos" / path.relative_to(made_videos)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(path)
    return tmp_path / "videos"


@pytest.fixture
def embedder():
    return ColourEmbedder()


@pytest.fixture
def library(tmp_path, embedder):
    with VideoLibrary(tmp_path / "library", embedder, model="colours") as library:
        yield library
