"""A library written by an earlier version: it must open and give the same answers."""

import json
import os
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.library.colours import ColourEmbedder
from videoclip.library.catalog import Catalog
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
        assert library._catalog.facts()["unrelated"] == "background-0.npz"  # as it is read now
    for moments, expected in zip(answers, stored["expected"], strict=True):
        assert len(moments) == len(expected)
        for moment, row in zip(moments, expected, strict=True):
            found = {name: moment.as_dict()[name] for name in row}
            for name in ("similarity", "strength"):  # sums may be rounded otherwise elsewhere
                assert found.pop(name) == pytest.approx(row.pop(name), abs=1e-4)
            assert found == row


def test_a_library_of_an_earlier_version_embeds_its_narration_at_the_next_update(
    library, videos, monkeypatch
):
    library.update(videos)
    path, expected = library.folder / "catalog.sqlite", library._snapshot().passages
    assert len(expected.videos)
    library.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE passages")
        db.execute("PRAGMA user_version = 3")
    catalog = Catalog(path)  # whose checksums are those of the version before
    for video in catalog.videos():
        catalog._seal(video.id)
    catalog.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE passages")
        db.execute("PRAGMA user_version = 3")

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with VideoLibrary(library.folder, ColourEmbedder()) as read_only:
            assert not len(read_only._snapshot().passages.videos)
            assert read_only.search("red")
    with VideoLibrary(library.folder, ColourEmbedder()) as updated:
        assert updated.search("red")
        assert updated.update(videos).narrated
        for found, wanted in zip(updated._snapshot().passages, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
        assert not updated.update(videos).narrated
