import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.library.colours import NAMES, ColourEmbedder, write_video
from videoclip.errors import ConfigError, DecodeError
from videoclip.library.catalog import search_terms
from videoclip.library.indexer import UpdateReport, content_hash
from videoclip.library.library import VideoLibrary
from videoclip.library.search import MIN_ALIKE, SearchOptions
from videoclip.output.clip import write_thumbnail
from videoclip.zeroshot.moments import Moment, clock


@pytest.fixture
def filled(library, videos):
    library.update(videos)
    return library


def test_moments_have_their_borders_words_and_confidence(filled):
    moment = filled.search("yellow", 1)[0]
    assert moment.video_id == "b" and moment.confidence == "high"
    assert 18 <= moment.start <= 20 and 25 <= moment.end <= 27 and 20 <= moment.best <= 25
    assert moment.words == "Now we are chopping the onions finely."
    assert moment.duration == pytest.approx(35.0) and moment.frame_rate == pytest.approx(8.0)
    text = repr(moment)
    assert text.startswith("Moment('b', 0:") and "high, 'Now we are" in text and "\n" not in text
    json.dumps(moment.as_dict())


def test_what_is_said_and_what_is_seen_are_fused(filled):
    heard = filled.search("chopping onions")[0]
    assert heard.video_id == "b" and heard.has_all_words and heard.start <= 22 < heard.end
    assert heard.confidence != "none"
    assert not any(moment.has_all_words for moment in filled.search("chopping onions", speech=0.0))
    assert [m.video_id for m in filled.search("chop onion", vision=0.0)] == ["b"]
    assert [m.start for m in filled.search("kitchen", vision=0.0)] == [1.0]
    both = filled.search("yellow onions")[0]
    assert both.video_id == "b" and both.start <= 22 < both.end


def test_half_of_the_words_is_better_than_nothing(filled):
    assert filled.search("zebra onions", vision=0.0)[0].video_id == "b"
    assert not filled.search("zebra onions", vision=0.0)[0].has_all_words
    assert filled.search("zebra crossing", vision=0.0) == []
    assert filled.search("?! *", vision=0.0) == []


class Synonyms(ColourEmbedder):
    """Knows two names of a colour."""

    def _text(self, text):
        return super()._text(text.replace("crimson", "red"))


def test_what_is_said_in_other_words_is_found(tmp_path, videos):
    (videos / "b.en.vtt").unlink()  # which is a link
    (videos / "b.en.vtt").write_text("WEBVTT\n\n00:04.000 --> 00:06.000\nsomething crimson\n")
    with VideoLibrary(tmp_path / "library", Synonyms()) as library:
        library.update(videos)
        (moment, *_) = library.search("red", vision=0.0)
        assert (moment.path.name, moment.has_all_words) == ("b.mp4", False)
        assert moment.start <= 5 <= moment.end and moment.narration_strength >= MIN_ALIKE
        found = {(m.path.name, m.narration_strength) for m in library.search("red")}
        assert ("b.mp4", moment.narration_strength) in found and ("a.mp4", None) in found
        assert library.search("red", vision=0.0, where="path like '%a.mp4'") == []
        assert library.search("green", vision=0.0) == []

        (videos / "b.en.vtt").unlink()
        library.update(videos)
        assert library.search("red", vision=0.0) == []


def test_a_narration_without_words_is_no_obstacle(library, videos):
    (videos / "b.en.vtt").unlink()  # which is a link
    (videos / "b.en.vtt").write_text("WEBVTT\n\n00:04.000 --> 00:06.000\n- ?! -\n")
    assert not library.update(videos).failed
    assert library.search("red", vision=0.0) == []


def test_words_found_in_part_rank_below_what_is_seen_and_all_of_them_above(filled):
    assert filled.search("red onions", 1)[0].video_id == "a"  # no cue says "red"
    assert filled.search("chopping onions", 1)[0].video_id == "b"


def test_the_first_moment_of_a_video_has_the_strength_of_its_best_seconds(filled, embedder):
    library = filled._snapshot()
    calibration = library.calibration
    for query in NAMES:
        (vector,) = embedder.embed_text(query)
        with_things = calibration.things @ vector
        traits = np.array([np.sort(with_things)[-3:].mean(), with_things.std()])
        expected = calibration.frames.median + calibration.frames.slopes @ traits
        firsts = {m.path: m for m in reversed(filled.search(query, 50, speech=0.0))}
        assert len(firsts) == 3
        for video in library.videos:
            rows = library.vectors.read(video.first_row, video.num_windows)
            seconds = rows[: video.num_features]  # windows of a second come first
            scores = np.sort([row[:-1] @ vector - row[-1] / 8 for row in seconds])[::-1]
            score = scores[: min(8, -(-len(scores) // 3))].mean()
            wanted = (score - expected) / calibration.frames.scale
            moment = firsts[Path(video.path)]
            assert moment.strength == moment.visual_strength == pytest.approx(wanted, abs=1e-3)


def test_a_common_word_lifts_no_moment_and_rare_ones_do(filled, videos):
    cues = [f"the man says number {i} to the man" for i in range(60)] + ["xylophone quartets"]
    lines = [f"00:00.{10 * i:03d} --> 00:00.{10 * i + 9:03d}\n{cue}" for i, cue in enumerate(cues)]
    (videos / "a.vtt").write_text("WEBVTT\n\n" + "\n\n".join(lines) + "\n")
    filled.update(videos)
    seen = filled.search("a man in yellow", 20, speech=0.0)
    assert [
        replace(m, narration_strength=None) for m in filled.search("a man in yellow", 20)
    ] == seen
    quoted = filled.search("the xylophone quartets")[0]
    assert quoted.video_id == "a" and quoted.has_all_words and quoted.confidence == "high"


def test_moments_are_in_the_order_of_their_strength_and_confidence(filled):
    levels = ["none", "low", "medium", "high"]
    for query in (*NAMES, "chopping onions", "yellow onions", "a zebra"):
        moments = filled.search(query, 50)
        strengths = [moment.strength for moment in moments]
        assert strengths == sorted(strengths, reverse=True)
        ranks = [levels.index(moment.confidence) for moment in moments]
        assert ranks == sorted(ranks, reverse=True)


def test_a_moment_heard_at_either_end_stays_within_its_video(filled, videos):
    cues = "00:00.200 --> 00:00.800\nwelcome\n\n00:34.200 --> 00:34.400\ngoodbye\n"
    (videos / "b.vtt").write_text(f"WEBVTT\n\n{cues}")
    filled.update(videos)
    (first,), (last,) = (filled.search(word, vision=0.0) for word in ("welcome", "goodbye"))
    assert (first.start, first.end) == (0.0, 4.0) and first.best == pytest.approx(0.5)
    assert (last.start, last.end) == (pytest.approx(32.3), 35.0)


def test_many_queries_give_what_each_gives_alone(filled):
    alone = [filled.search(query, 5) for query in NAMES]
    together = filled.search_many(NAMES, SearchOptions(top_k=5))
    assert [[m.path for m in moments] for moments in together] == [
        [m.path for m in moments] for moments in alone
    ]


def test_more_windows_are_asked_for_where_moments_used_up_the_first(filled, monkeypatch):
    options = SearchOptions(top_k=4, speech=0.0)
    usual = filled.search_many(["red", "yellow"], options)
    store, asked = filled._catalog.vectors(), []
    search = store.search

    def spied(queries, k, *arguments, **keywords):
        asked.append((len(queries), k))
        return search(queries, k, *arguments, **keywords)

    monkeypatch.setattr(store, "search", spied)
    monkeypatch.setattr("videoclip.library.search.HITS_PER_MOMENT", (1, 100))
    assert filled.search_many(["red", "yellow"], options) == usual
    assert asked == [(2, 4), (2, 400)]


def test_pages_follow_each_other(filled):
    everything = filled.search("blue", 6)
    pages = [filled.search("blue", 2, offset=offset) for offset in (0, 2, 4)]
    assert [m for page in pages for m in page] == everything


def test_filters_on_videos_and_metadata(filled, videos, tmp_path):
    table = tmp_path / "cameras.csv"
    table.write_text("video,camera,take\na,left,1\nb.mp4,right,2\n")
    filled.update(videos, metadata=table)
    assert filled.metadata(videos / "a.mp4") == {"camera": "left", "take": 1.0}
    assert filled.metadata(videos / "unknown.mp4") == {}
    for where, expected in [
        ("camera = 'right'", {"b"}),
        ("duration > 20 and take < 2", {"a"}),
        ("width = 32", {"a", "b", "c d"}),
        ("narration is not null", {"b"}),
        ("duration > 1000", set()),
    ]:
        assert {video.video_id for video in filled.videos(where)} == expected
        assert {m.video_id for m in filled.search("red onions", 50, where=where)} == expected
    with pytest.raises(ConfigError, match="known: added, camera, duration"):
        filled.search("red", where="zzz = 1")


def test_a_clip_or_picture_is_a_query_too(filled, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", ["yellow"] * 3)
    assert filled.search_like(clip, SearchOptions(top_k=1))[0].video_id == "b"
    with pytest.raises(DecodeError):
        filled.search_like(tmp_path / "absent.mp4")


def test_threads_may_search_while_another_library_object_updates(filled, videos, tmp_path):
    found, errors = [], []

    def search():
        try:
            found.extend(filled.search("yellow", 1)[0].video_id for _ in range(10))
        except Exception as error:  # noqa: BLE001 - carried to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    with VideoLibrary(tmp_path / "library", ColourEmbedder()) as writer:
        writer.update(write_video(tmp_path / "more.mp4", ["red"] * 5))
        writer.compact()
    for thread in threads:
        thread.join()
    assert not errors and set(found) == {"b"} and len(found) == 40


def test_threads_may_search_while_the_same_library_object_updates(library, videos):
    errors = []

    def search():
        try:
            while not done.is_set():
                library.search("yellow", 1)
                library._known = None  # as after every commit
        except Exception as error:  # noqa: BLE001 - carried to the test's own thread
            errors.append(error)

    done = threading.Event()
    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    report = library.update(videos)
    done.set()
    for thread in threads:
        thread.join()
    assert not errors and len(report.added) == 3 and not report.failed


def test_an_empty_library_answers_nothing(library):
    assert library.search("red") == [] and len(library) == 0
    assert library.thresholds.low < library.thresholds.high


def test_a_thumbnail_shows_the_best_second(filled, tmp_path):
    import av

    path = write_thumbnail(filled.search("yellow", 1)[0], tmp_path)
    with av.open(str(path)) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert pixels[..., 0].mean() > 150 and pixels[..., 2].mean() < 100


def test_options_are_checked():
    with pytest.raises(ConfigError, match="at least 1"):
        SearchOptions(top_k=0)
    with pytest.raises(ConfigError, match="weights"):
        SearchOptions(vision=-1.0)


def test_words_without_stop_words_and_repeats():
    assert search_terms("The man who CHOPS the chops!") == ["man", "chops"]
    assert search_terms("to be with you") == ["to", "be", "with", "you"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (125.25, "2:05.2"), (3723.4, "1:02:03.4"), (-1, "0:00.0")],
)
def test_times_as_people_write_them(seconds, text):
    assert clock(seconds) == text


def test_an_update_that_did_nothing_says_so():
    assert str(UpdateReport()) == "nothing to do"
    assert str(UpdateReport(added=["a"], failed={"b": "c"})) == "1 added, 1 failed"


def test_content_is_told_apart_by_its_ends_and_samples_or_as_a_whole(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    data = bytearray(np.random.default_rng(0).bytes(8 << 20))
    first.write_bytes(data)
    middle = len(data) // 2
    data[middle] ^= 1
    second.write_bytes(data)
    assert content_hash(first) == content_hash(second)
    assert content_hash(first, whole=True) != content_hash(second, whole=True)
    for start in range(1 << 20, 7 << 20, 1 << 18):  # as of a download of which a part is missing
        part = slice(start, start + (1 << 17))
        second.write_bytes(data[: part.start] + bytes(1 << 17) + data[part.stop :])
        assert content_hash(first) != content_hash(second)
    data[middle] ^= 1
    second.write_bytes(data)
    assert content_hash(first) == content_hash(second)
    data[5] ^= 1
    second.write_bytes(data)
    assert content_hash(first) != content_hash(second)
    with pytest.raises(DecodeError, match="no such file"):
        content_hash(tmp_path / "absent")


def test_a_moment_without_words_is_short():
    moment = Moment(Path("v.mp4"), 1, 2, "", 1.5, 0.5, 1.0, "low", duration=10.0)
    assert repr(moment) == "Moment('v', 0:01.0-0:02.0, best 0:01.5, similarity 0.500, low)"
    for words, shown in (("a" * 40, "a" * 40), ("b" * 38 + " c", "b" * 38 + " c")):
        assert repr(Moment(Path("v.mp4"), 1, 2, words=words)).endswith(f", '{shown}')")
    long = Moment(Path("v.mp4"), 1, 2, words="b" * 38 + " cd")
    assert repr(long).endswith(f", '{'b' * 38}…')")


def test_a_moment_ends_with_its_video_though_the_last_feature_lasts_longer(library, videos):
    library.update(videos)
    snapshot = library._snapshot()
    video = replace(snapshot.videos[0], duration=4.5)
    seconds = snapshot.seconds(video, np.array([[0, 4], [3, 5], [5, 6]]))
    assert seconds.tolist() == [[0.0, 4.0], [3.0, 4.5], [5.0, 5.001]]
