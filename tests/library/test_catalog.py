"""The catalogue by itself: what it returns, in which order, compared with plain Python."""

import math
import re
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from videoclip.data.captions import Cue
from videoclip.errors import DISK_ADVICE, DataError, IndexMismatchError
from videoclip.library.catalog import (
    PASSAGE_SECONDS,
    PRIOR_CUES,
    SCHEMA_VERSION,
    Catalog,
    IndexedVideo,
    Passage,
    search_terms,
)
from videoclip.library.filters import Condition

WORDS = ["zeb", "kap", "tof", "mur", "gil"]
VIDEO = IndexedVideo(
    path="/v/0.mp4",
    size=1,
    mtime_ns=2,
    content_hash="c0",
    duration=60.0,
    width=64,
    height=48,
    frame_rate=10.0,
    num_features=60,
    first_row=0,
    num_windows=3,
    narration_path=None,
    narration_mtime_ns=None,
    added="2024-01-01",
)


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite")
    yield catalog
    catalog.close()


def add(catalog, number, cues=(), passages=(), **values):
    video = replace(
        VIDEO, path=f"/v/{number}.mp4", content_hash=f"c{number}", first_row=3 * number, **values
    )
    with catalog.writing():
        return catalog.add(video, cues, passages)


def test_videos_are_listed_by_first_row_path_and_content(catalog):
    keys = [add(catalog, number) for number in (2, 0, 1)]
    assert keys == [1, 2, 3]
    assert [video.path for video in catalog.videos()] == ["/v/0.mp4", "/v/1.mp4", "/v/2.mp4"]
    with catalog.writing():
        for key in (1, 2):
            catalog.change(key, content_hash="same")
    assert [video.path for video in catalog.with_content("same")] == ["/v/0.mp4", "/v/2.mp4"]
    assert catalog.with_content("c0") == [] and catalog.find("/v/3.mp4") is None
    assert catalog.find("/v/2.mp4").id == 1
    late = Condition("first_row >= ?", (3,))
    assert catalog.keys(late) == {1, 3}
    assert [video.id for video in catalog.videos(late)] == [3, 1]


def test_a_video_that_is_added_again_keeps_its_key_and_loses_its_narration(catalog):
    passages = [Passage(1.0, 2.0, np.ones(2, np.float16))]
    key = add(catalog, 0, [Cue(1, 2, "zeb kap tof")], passages)
    other = add(catalog, 1, [Cue(1, 2, "zeb mur mur")], passages)
    with catalog.writing():
        catalog.set_metadata(key, {"b": 1.5, "a": "x"})
        catalog.set_metadata(other, {"c": None})
    assert catalog.metadata_keys() == ["a", "b", "c"]
    assert add(catalog, 0, [Cue(3, 4, "gil gil gil")], duration=61.0) == key
    assert catalog.find("/v/0.mp4").duration == 61.0
    assert catalog.cues(key) == [Cue(3, 4, "gil gil gil")] and catalog.num_cues() == 2
    assert [hit.video for hit in catalog.spoken("zeb", 9)] == [other]
    assert [hit.video for hit in catalog.spoken("gil", 9)] == [key]
    assert catalog.passages(2, key).spans.shape == (0, 2)
    assert catalog.metadata(key) == {"b": 1.5, "a": "x"}
    with catalog.writing():
        catalog.set_metadata(key, {"d": 2.0})
        catalog.remove([other])
    assert catalog.metadata_keys() == ["d"] and catalog.num_cues() == 1
    assert catalog.spoken("zeb", 9) == [] and len(catalog.passages(2).videos) == 0
    catalog.check_records([key])


def test_narration_is_in_order_of_time(catalog):
    late, early = Cue(5, 9, "late"), Cue(1, 6, "early")
    vectors = np.arange(8, dtype=np.float16).reshape(4, 2)
    first = add(catalog, 0, [late, early], [Passage(5, 9, vectors[0]), Passage(1, 6, vectors[1])])
    second = add(catalog, 1, [Cue(2, 3, "other")], [Passage(2, 4, vectors[2])])
    with catalog.writing():
        catalog.set_narration(second, [Cue(2, 3, "new")], [Passage(2, 3, vectors[3])])
    assert catalog.cues(first) == [early, late]
    found = catalog.passages(2)
    assert found.videos.tolist() == [first, first, second]
    assert found.spans.tolist() == [[1, 6], [5, 9], [2, 3]]
    assert found.vectors.tolist() == vectors[[1, 0, 3]].tolist()
    assert catalog.passages(2, second).vectors.tolist() == vectors[[3]].tolist()
    spans = [(0, 1), (0, 1.5), (4, 5), (4, 5.5), (6, 7), (5.9, 20), (9, 10), (0, 20)]
    words = ["", "early", "early", "early late", "late", "early late", "", "early late"]
    assert [catalog.words(first, *span) for span in spans] == words


def test_a_sample_of_cues_is_the_start_of_a_larger_one(catalog):
    texts = [" ".join(WORDS[: 1 + number % 4]) for number in range(40)]
    keys = [add(catalog, part, [Cue(i, i + 1, t) for i, t in enumerate(texts)]) for part in (0, 1)]
    sample = catalog.sample_cues(1000)
    long = [text for text in texts if len(text.split()) >= 3]
    assert sorted(sample) == sorted((key, text) for key in keys for text in long)
    for number in (0, 1, 5, 17):
        assert catalog.sample_cues(number) == sample[:number]
    assert {key for key, _ in sample[:10]} == set(keys)  # not in order of the videos


def naive_hits(cues, query, of_videos=None):
    """Return what `spoken` returns, as tuples; cues are (video, start, end, text)."""
    terms = set(query.split())
    rarity = {
        term: math.log(
            (len(cues) + PRIOR_CUES) / (sum(term in cue[3].split() for cue in cues) + 0.5)
        )
        for term in terms
    }
    cues = [cue for cue in cues if of_videos is None or cue[0] in of_videos]
    cues = [(*cue[:3], terms & set(cue[3].split())) for cue in cues]
    cues = [cue for cue in cues if cue[3]]
    passages = []
    for cue in cues:
        spoken, start, end = cue[3], cue[1], cue[2]
        for other in sorted(cues, key=lambda other: abs(other[1] - cue[1])):
            gap = max(cue[1] - other[2], other[1] - cue[2])
            if other[0] == cue[0] and gap <= PASSAGE_SECONDS and other[3] - spoken:
                spoken = spoken | other[3]
                start, end = min(start, other[1]), max(end, other[2])
        strength = sum(r if term in spoken else -r for term, r in rarity.items())
        passages.append((strength, cue[0], start, end, spoken == terms))
    hits = []
    for strength, video, start, end, is_complete in sorted(
        passages, key=lambda one: (-one[0], one[3] - one[2])
    ):
        if all(hit[0] != video or hit[2] <= start or end <= hit[1] for hit in hits):
            alike = {one[1] for one in passages if math.isclose(one[0], strength)}
            hits.append((video, start, end, is_complete, strength - math.log(len(alike))))
    return sorted(hits, key=lambda hit: -hit[4])


@pytest.mark.parametrize("seed", range(6))
def test_what_is_spoken_is_found_as_by_plain_python(catalog, seed):
    rng = np.random.default_rng(seed)
    cues = []
    for number in range(4):
        rows, start = [], 0.0
        for _ in range(10):
            start += rng.uniform(0.5, 14)
            words = rng.choice(WORDS, rng.integers(1, 4), p=[0.4, 0.3, 0.15, 0.1, 0.05])
            rows.append(Cue(start, start + rng.uniform(1, 5), " ".join(words)))
        key = add(catalog, number, rows)
        cues += [(key, cue.start, cue.end, cue.text) for cue in rows]
    for query in ("zeb", "gil zeb", "tof mur kap"):
        for of_videos in (None, {1, 3}):
            condition = None if of_videos is None else Condition("id IN (?, ?)", (1, 3))
            found = catalog.spoken(query, 1000, condition)
            wanted = naive_hits(cues, query, of_videos)
            assert [hit[:4] for hit in found] == [hit[:4] for hit in wanted]
            np.testing.assert_allclose([hit[4] for hit in found], [hit[4] for hit in wanted])


def test_of_many_cues_those_with_rare_words_are_considered(catalog):
    add(catalog, 0, [Cue(20 * i, 20 * i + 1, "zeb kap") for i in range(30)])
    rare = add(catalog, 1, [Cue(5, 6, "gil kap")])
    for limit in (1, 2, 10):
        hits = catalog.spoken("zeb gil", limit)
        assert hits[0].video == rare and len(hits) == limit
    assert len(catalog.spoken("zeb gil", 100)) == 31


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("The onions and THE Garlic", ["onions", "garlic"]),
        ("what is it", ["what", "is", "it"]),
        ("red, red! Red?", ["red"]),
        ("", []),
        ("Straße 12", ["strasse", "12"]),
    ],
)
def test_words_that_are_searched_for(query, terms):
    assert search_terms(query) == terms


def test_the_version_changes_with_every_commit_and_only_then(catalog):
    seen = [catalog.version]
    key = add(catalog, 0)
    seen.append(catalog.version)
    with pytest.raises(ZeroDivisionError), catalog.writing():
        catalog.change(key, duration=1.0)
        raise ZeroDivisionError
    assert catalog.find("/v/0.mp4").duration == 60.0
    other = Catalog(catalog.path)
    assert catalog.version[0] == seen[-1][0]
    with other.writing():
        other.change(key, duration=2.0)
    other.close()
    assert catalog.version[0] != seen[-1][0] and seen[0] != seen[1]
    assert catalog.find("/v/0.mp4").duration == 2.0


def damage(path, *statements):
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("PRAGMA application_id=7", DataError, "not a library's catalogue (another program's)"),
        (
            f"PRAGMA user_version={SCHEMA_VERSION + 1}",
            IndexMismatchError,
            f"library of schema {SCHEMA_VERSION + 1}, but this videoclip reads up to "
            f"{SCHEMA_VERSION}: upgrade it with `pip install -U videoclip`",
        ),
        (
            "UPDATE facts SET value = 'b' WHERE key = 'a'",
            DataError,
            "the catalogue's facts are damaged: ",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, statement, error, message):
    path = tmp_path / "catalog.sqlite"
    catalog = Catalog(path)
    with catalog.writing():
        catalog.set_facts({"a": "1", "dim": "2"})
        catalog.set_facts({"a": "2"})
    assert catalog.facts().items() >= {"a": "2", "dim": "2"}.items()
    catalog.close()
    Catalog(path).close()
    damage(path, statement)
    with pytest.raises(error, match=re.escape(f"{path}: {message}")):
        Catalog(path)
    damage(path, "PRAGMA application_id=7")  # nothing holds the file any more


def test_a_table_of_another_program_is_not_taken_for_a_new_file(tmp_path):
    damage(tmp_path / "catalog.sqlite", "CREATE TABLE other (x)")
    with pytest.raises(DataError, match="another program's"):
        Catalog(tmp_path / "catalog.sqlite")
    (tmp_path / "text").write_text("no database" * 99)
    with pytest.raises(DataError, match=r"text: not a library's catalogue \(file is not a data"):
        Catalog(tmp_path / "text")


def test_errors_of_the_file_are_one_line_and_those_of_the_code_are_not(catalog):
    with pytest.raises(
        DataError, match=re.escape(f"{catalog.path}: no such table: x; {DISK_ADVICE}")
    ):
        catalog._rows("SELECT * FROM x")
    for number in range(2):
        add(catalog, number)
    damaged = re.escape("the catalogue is damaged (UNIQUE constraint failed")
    with pytest.raises(DataError, match=damaged), catalog.writing():
        catalog.change(1, size=9)
        catalog._db.execute("UPDATE videos SET path = '/v/0.mp4' WHERE id = 2")
    assert [(video.path, video.size) for video in catalog.videos()] == [
        ("/v/0.mp4", 1),
        ("/v/1.mp4", 1),
    ]
    catalog.close()
    with pytest.raises(sqlite3.ProgrammingError):
        catalog.videos()


def test_records_are_read_again_when_they_change(catalog):
    keys = [add(catalog, number, [Cue(1, 2, "zeb")]) for number in range(2)]
    with catalog.writing():
        catalog.set_metadata(keys[0], {"a": 1.0})
    assert catalog.damaged_records(keys) == []
    damage(catalog.path, "UPDATE videos SET duration = 1 WHERE id = 1")
    assert catalog.damaged_records(keys) == []  # each is compared once
    other = Catalog(catalog.path)
    assert other.damaged_records([*keys, 99]) == [keys[0]]
    with pytest.raises(DataError, match=r"holds about 1 videos is damaged, such as '/v/0\.mp4'"):
        other.check_records(keys)
    with pytest.raises(DataError, match=r"such as '/v/0\.mp4'"), other.writing():
        other.change(keys[0], size=5)
    with pytest.raises(DataError, match=r"such as '/v/0\.mp4'"), other.writing():
        other.set_metadata(keys[0], {})
    other.check_records(keys[1:])
    with other.writing():
        other.set_narration(keys[0], [], [])  # as a video that is indexed again
    assert other.damaged_records(keys) == []
    other.close()
    for statement in (
        "UPDATE cues SET text = 'y' WHERE video = 2",
        "UPDATE cues SET start = 0 WHERE video = 2",
        "INSERT INTO passages VALUES (2, 0, 1, x'00')",
        "INSERT INTO metadata VALUES (2, 'k', 1)",
        "UPDATE videos SET added = 'x' WHERE id = 2",
    ):
        damage(catalog.path, statement)
        other = Catalog(catalog.path)
        assert other.damaged_records(keys) == [2]
        with other.writing():
            other._seal(2)
        assert other.damaged_records(keys) == []
        other.close()


def test_deleting_a_catalogue_leaves_features_and_files_of_the_user(catalog):
    folder = catalog.folder
    for store, size in ("features-a", 0), ("features-b", 8):
        (folder / store).mkdir()
        (folder / store / "index.bin").write_bytes(b"x" * size)
        (folder / store / "features.f16").write_bytes(b"")
    (folder / "locks").mkdir()
    kept = ["notes.txt", "features-b/features.f16", "features-b/index.bin"]
    (folder / kept[0]).write_text("mine")
    for name in ("vectors-0.f16", "background-0.npz", "lock", "locks/0001.lock"):
        (folder / name).write_bytes(b"")
    other = Catalog(catalog.path)
    other.facts()
    catalog.delete()  # it is open elsewhere
    assert other.facts() == {} and (folder / "vectors-0.f16").exists()
    catalog.close()
    other.delete()
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(kept) and not (folder / "locks").exists()
