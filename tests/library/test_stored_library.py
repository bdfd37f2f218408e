"""A library written by an earlier version: it must open and give the same answers."""

import json
import zipfile
from pathlib import Path

import pytest

from tests.library.colours import ColourEmbedder
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions

ARCHIVE = Path(__file__).with_name("library_of_schema_1.zip")
"""Three videos of colours, one with subtitles; added in two updates, pruned and compacted.

The expected answers are those of the version that wrote it, but for the borders of the moments and
the narration between them, which are placed by least squares since, and for the order, the strength
and the confidence, which are measured otherwise since. Its vectors have no biases.
"""


def test_a_library_of_an_earlier_version_gives_the_same_answers(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    stored = json.loads((tmp_path / "expected.json").read_text())
    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as library:
        answers = library.search_many(stored["queries"], SearchOptions(top_k=4))
    for moments, expected in zip(answers, stored["expected"], strict=True):
        assert len(moments) == len(expected)
        for moment, row in zip(moments, expected, strict=True):
            found = {name: moment.as_dict()[name] for name in row}
            for name in ("similarity", "strength"):  # sums may be rounded otherwise elsewhere
                assert found.pop(name) == pytest.approx(row.pop(name), abs=1e-4)
            assert found == row
