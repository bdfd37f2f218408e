"""What a library answers about one of its videos."""

import numpy as np
import pytest
import torch

from tests.library.colours import write_video
from videoclip.errors import DataError
from videoclip.library import search
from videoclip.output.clip import cut_clip


@pytest.fixture
def indexed(library, videos):
    library.update([videos])
    return library


def test_the_score_curve_is_the_strength_of_each_second(indexed, embedder, videos):
    curve = indexed.score_curve("yellow", videos / "b.mp4")
    assert curve.shape == (35, 3)
    assert curve[:, 0].tolist() == list(range(35))
    assert set(np.flatnonzero(curve[:, 2] > curve[:, 2].mean())) == set(range(20, 25))
    (best,) = indexed.search("yellow", 1, speech=0)
    assert curve[:, 2].max() >= best.visual_strength  # which is less by the fall to several seconds
    snapshot = indexed._snapshot()
    video = next(v for v in snapshot.videos if v.path.endswith("b.mp4"))
    for second in (3, 22):  # the same, one by one
        row = snapshot.vectors.read(video.first_row + second, 1)[0]
        query = embedder.embed_text("yellow")
        score = float(row @ snapshot.calibration.prepare(query)[0])
        levels = snapshot.calibration.frames
        (expected,) = levels.expected(snapshot.calibration.traits_of(query))
        strength = (score - expected) / levels.scale
        assert curve[second, 2] == pytest.approx(strength, rel=1e-5)


def test_a_span_finds_itself_and_nothing_is_decoded(indexed, embedder, videos):
    decoded = list(embedder.backbone.decoded)
    first = indexed.search_span(videos / "a.mp4", 10, 22)[0]
    assert (first.path.name, first.start, first.end) == ("a.mp4", 10.0, 22.0)
    embedded = indexed.embedded(videos / "a.mp4")
    assert embedder.backbone.decoded == decoded
    np.testing.assert_array_equal(embedded.tokens, embedder.embed_video(videos / "a.mp4").tokens)
    with pytest.raises(DataError, match="not in the library"):
        indexed.search_span("none.mp4", 0, 1)


def test_a_video_outside_the_library_is_decoded(library, embedder, videos):
    assert len(library.embedded(videos / "a.mp4").tokens) == 32
    assert library.narration(videos / "a.mp4") == []


def test_the_narration_comes_in_order_of_time(indexed, videos):
    assert [cue.start for cue in indexed.narration(videos / "b.mp4")] == [2.0, 21.0]


def test_the_best_time_of_a_video_shorter_than_a_second_is_within_it(library, tmp_path):
    video = tmp_path / "cut" / "a.mp4"
    video.parent.mkdir()
    cut_clip(write_video(tmp_path / "whole.mp4", ["yellow"]), 0, 0.25, video)
    library.update([video])
    (moment,) = library.search("yellow", 1, speech=0)
    assert (moment.start, moment.end, moment.best) == (0.0, 0.25, 0.25)


def test_a_common_word_that_is_spoken_adds_nothing_to_what_is_seen(library, videos, monkeypatch):
    monkeypatch.setattr(search, "MIN_ALIKE", np.inf)  # by words alone, not by their meaning
    cues = "".join(f"\n00:{s:02}.000 --> 00:{s + 1:02}.000\nyellow\n" for s in range(0, 30, 2))
    for name in ("a", "b.en"):
        (videos / f"{name}.vtt").unlink(missing_ok=True)  # it is a link
        (videos / f"{name}.vtt").write_text(f"WEBVTT\n{cues}")
    library.update([videos])
    hits = library._catalog.spoken("yellow zebra", 20)
    assert hits and max(hit.strength for hit in hits) < 0

    def found(**weights):
        moments = library.search("yellow zebra", 5, **weights)
        return [(moment.path, moment.start, moment.strength) for moment in moments]

    assert found() == found(speech=0)


def test_threads_share_the_videos(indexed, monkeypatch):
    queries = ["yellow", "red", "white"]
    options = search.SearchOptions(top_k=5, speech=0)
    alone = indexed.search_many(queries, options)
    monkeypatch.setattr(search, "VIDEOS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert indexed.search_many(queries, options) == alone
    assert {moment.path.name for moments in alone for moment in moments} == {
        "a.mp4",
        "b.mp4",
        "c d.mp4",
    }
