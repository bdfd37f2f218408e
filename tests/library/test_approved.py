"""Complete results of a library on small inputs, compared with what was approved.

What an update reports, stores, writes and asks the database; what a search finds with each option;
every message of an error.
"""

import os
import re
import shutil
import sqlite3
import time
import zlib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
from filelock import FileLock, Timeout

from tests import approved
from tests.library.colours import ColourBackbone, ColourEmbedder, write_video
from videoclip.data.captions import Cue
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import WindowConfig
from videoclip.errors import CheckpointError, DataError, DecodeError, IndexMismatchError
from videoclip.features.extract import extract_features
from videoclip.library import (
    approximate,
    catalog,
    exact,
    filters,
    indexer,
    labels,
    metadata,
    search,
    sequences,
    storage,
    vectors,
)
from videoclip.library import library as library_module
from videoclip.library.catalog import Catalog, IndexedVideo, Passage
from videoclip.library.labels import LabelledQuery
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions, split_query
from videoclip.zeroshot.confidence import Thresholds
from videoclip.zeroshot.moments import Moment

SPOKEN = """1
00:00:01,000 --> 00:00:03,000
Today we paint the old wooden fence.

2
00:00:03,500 --> 00:00:06,000
Première: the brush, and a bucket of red paint.

3
00:00:20,000 --> 00:00:23,000
...

4
00:00:25,000 --> 00:00:29,000
The fence is dry now; we paint it again.

5
00:00:31,000 --> 00:00:50,000
Goodbye, and greetings from beyond the end.
"""
TABLE = "video,camera,take\na.mp4,left,1\nsub/c d,right,2.5\nnobody,x,3\n"


@pytest.fixture
def narrated(videos):
    """Three videos, two of them narrated, a file that is none, and a table about them."""
    for link in [path for path in videos.rglob("*.*") if path.is_file()]:
        copy = shutil.copy2(link, link.with_name("copy"))
        copy.replace(link)
    (videos / "a.srt").write_text(SPOKEN)
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos.parent / "table.csv").write_text(TABLE)
    (videos.parent / "empty").mkdir()
    return videos


class Statements(set):
    """The different statements that a connection runs, without their values."""

    def __init__(self, connection):
        connection.set_trace_callback(self._add)

    def _add(self, sql):
        if sql.startswith("--"):  # of a virtual table
            return
        sql = " ".join(sql.split())
        values = r"'(?:[^']|'')*'|\bX'[0-9A-F]*'|(?<![\w-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?\b|\bNULL\b"
        fixed = sql.startswith(("CREATE", "PRAGMA", "ALTER"))
        sql = sql if fixed else re.sub(rf"(?:{values})(?:, (?:{values}))*", "?", sql)
        self.add(sql if len(sql) < 200 else f"{sql[:100]} ... {zlib.crc32(sql.encode())}")


def rows_of(library):
    """What the catalogue holds of each video; times and bytes are those of the day."""
    left_out = ("size", "mtime_ns", "content_hash", "added", "checksum", "record_checksum")
    rows = []
    for video in library.videos():
        row = {k: v for k, v in vars(video).items() if k not in left_out}
        row["narration_mtime_ns"] = row["narration_mtime_ns"] is not None
        row["cues"] = [[cue.start, cue.end, cue.text] for cue in library.narration(video.path)]
        row["metadata"] = library.metadata(video.path)
        found = library._catalog.passages(16, video.id)
        row["passages"] = [*found.spans.tolist(), str(found.vectors.dtype), *found.vectors.shape]
        rows.append(row)
    return rows


def report_of(report):
    return [str(report), {k: v for k, v in vars(report).items() if v}]


def test_updates(narrated, tmp_path, embedder):
    """A walk through what may happen to a folder of videos."""
    steps, last, decoded = {}, {}, embedder.backbone.decoded
    library = VideoLibrary(tmp_path / "library", embedder, model="colours")
    statements = Statements(library._catalog._db)

    def update(name, *paths, **options):
        progress, before = [], len(decoded)
        report = library.update(
            list(paths) or narrated, on_progress=lambda *state: progress.append(state), **options
        )
        snapshot = library._snapshot()
        state = {
            "report": report_of(report),
            "progress": progress,
            "decoded": [path.name for path in decoded[before:]],
            "rows": [[v.path, v.id, v.first_row, v.num_windows] for v in library.videos()],
            "live": [snapshot.num_live, snapshot.num_rows, library._catalog.vectors().num_rows],
            "is different": report.changed_library,
        }
        steps[name] = {key: value for key, value in state.items() if value != last.get(key)}
        last.update(state)

    table = tmp_path / "table.csv"
    update("first", narrated, tmp_path / "empty", tmp_path / "nowhere", metadata=table)
    first_rows = rows_of(library)
    facts = {k: v for k, v in library._catalog.facts().items() if k not in ("spoken", "expected")}
    levels = library._snapshot().calibration
    update("again")
    os.utime(narrated / "a.mp4", (1, 1))
    (narrated / "b.mp4").rename(narrated / "moved.mp4")
    (narrated / "b.en.vtt").rename(narrated / "moved.en.vtt")
    update("touched and moved", whole_hash=False)
    (narrated / "sub/c d.mp4").unlink()
    write_video(narrated / "sub/c d.mp4", ["white", "blue", "white"])
    (narrated / "a.srt").write_text(SPOKEN.replace("fence", "door"))
    os.utime(narrated / "a.srt", (5, 5))
    update("changed and narrated")
    (narrated / "moved.en.vtt").write_bytes(b"\xff\xfe\x00")
    (narrated / "moved.mp4").rename(tmp_path / "away.mp4")
    update("gone")
    update("gone and pruned", prune=True)
    shutil.copy(narrated / "a.mp4", narrated / "copy.mp4")
    update("copied", narrated / "copy.mp4", narrated / "a.mp4")
    update("whole", tmp_path / "away.mp4", whole_hash=True)
    with FeatureStore.create(tmp_path / "store", embedder.backbone.spec) as store:
        write_video(narrated / "given.mp4", ["green", "red"])
        extract_features([narrated / "given.mp4"], store, embedder.backbone, num_workers=0)
        del decoded[:]
        update("given", narrated / "given.mp4", features=store)
    write_video(narrated / "fast.mp4", ["red", "blue"] * 2, keyframe_every=2)
    update("fast", narrated / "fast.mp4", fast=True)
    (tmp_path / "more.csv").write_text("video,camera\na.mp4,top\ncopy.mp4,top\n")
    update("described", narrated / "a.mp4", metadata=tmp_path / "more.csv")
    described = [library.metadata(narrated / name) for name in ("a.mp4", "copy.mp4")]
    library.compact()
    update("compacted")
    files = sorted(
        re.sub("features-[^/]*", "features-F", p.relative_to(library.folder).as_posix())
        for p in library.folder.rglob("*")
        if "locks/" not in str(p)
    )
    damage(library)
    update("damaged")
    update("repaired", repair=True)
    shown = repr(library)
    library.close()
    with VideoLibrary(tmp_path / "void", embedder) as void:
        void.update(tmp_path / "empty")
    approved.check(
        "library-updates",
        {
            "steps": steps,
            "rows": first_rows,
            "facts": {
                name: value
                for name, value in facts.items()
                if name not in ("checksum", "calibrated")
            },
            "levels": [levels.frames, levels.narration, levels.owners, levels.has_biases],
            "files": files,
            "repr": shown,
            "metadata of one": described,
            "a void library is left": (tmp_path / "void").exists(),
            "is different": {
                name: indexer.UpdateReport(**{name: ["a"]}).changed_library
                for name in ("added", "changed", "moved", "narrated", "removed", "missing")
            },
        },
        TMP=tmp_path,
    )
    approved.check("library-sql", "\n".join(sorted(statements)) + "\n")


def damage(library):
    """Change what is stored about each of three videos, without their checksums."""
    record, rows, *_, other = library.videos()
    for video in (record, other):
        library._catalog._db.execute("UPDATE videos SET duration = 7 WHERE id = ?", (video.id,))
    path = library._catalog.vectors().path
    content = bytearray(path.read_bytes())
    content[rows.first_row * 34 + 1] ^= 0x10
    path.write_bytes(content)
    library._stores.clear()


def found(moments):
    return [
        [
            moment.path.name,
            moment.times,
            moment.best,
            moment.similarity,
            moment.strength,
            moment.confidence,
            moment.visual_strength,
            moment.narration_strength,
            moment.has_all_words,
            moment.words,
            *([found(moment.parts)] if moment.parts else []),
        ]
        for moment in moments
    ]


@pytest.fixture(scope="module")
def searched(made_videos, tmp_path_factory):
    """A library of narrated videos, which no test changes."""
    folder = tmp_path_factory.mktemp("searched")
    shutil.copytree(made_videos, folder / "videos")
    (folder / "videos/a.srt").write_text(SPOKEN)
    write_video(folder / "videos/d.mp4", ["red", "green", "blue", "red", "yellow"] * 4)
    (folder / "table.csv").write_text(TABLE)
    with VideoLibrary(folder / "library", ColourEmbedder(), model="colours") as library:
        library.update([folder / "videos"], metadata=folder / "table.csv")
        yield library


OPTIONS = {
    "red": {},
    "yellow": {"top_k": 3, "offset": 1},
    "green": {"top_k": 2, "where": "duration > 25 and camera is null"},
    "blue": {"where": "camera = 'left' or take in (2.5, 7)"},
    "white": {"speech": 0.0, "top_k": 2},
    "paint the fence": {"vision": 0.0},
    "chop an onion": {"speech": 2.0, "vision": 0.5, "top_k": 3},
    "PREMIERE bucket": {"vision": 0.2, "top_k": 2},
    "the": {"vision": 0.0, "top_k": 2},
    "goodbye greetings": {"top_k": 2},
    "red, then green": {"top_k": 4},
    "red, THEN blue , then green": {"top_k": 3, "offset": 1},
    "blue, then red": {"where": "path like '%a.mp4'"},
}


def test_searches(searched, tmp_path, monkeypatch):
    library, videos = searched, searched.folder.parent / "videos"
    monkeypatch.chdir(videos)
    shown = write_video(tmp_path / "shown.mp4", ["green", "green", "yellow"])
    span = {"top_k": 2, "speech": 0.0}
    few = SearchOptions(top_k=3)
    approved.check(
        "library-searches",
        {
            "searches": {
                query: found(library.search(query, **options)) for query, options in OPTIONS.items()
            },
            "many": [
                [moment.label for moment in moments]
                for moments in library.search_many(
                    ["red", "blue, then green", "white"], SearchOptions(top_k=2, exact=True)
                )
            ],
            "like": found(library.search_like(shown, few)),
            "like where": found(library.search_like(shown, few, where="path like '%b.mp4'")),
            "span": found(library.search_span(videos / "d.mp4", 3.5, 5.0, SearchOptions(**span))),
            "span where": found(
                library.search_span(videos / "a.mp4", 22.0, 32.0, few, where="width < 99")
            ),
            "curve": library.score_curve("yellow", videos / "d.mp4")[:6],
            "curve of an ordered query": library.score_curve(
                "red, then white", videos / "sub/c d.mp4"
            ),
            "nothing passes": found(library.search("red", where="duration > 1e9")),
            "parts": [
                split_query(q) for q in ("a, then b,then c", "a , THEN !", " x ", "a then b")
            ],
            "videos": [v.video_id for v in library.videos("duration > 20 and not camera = 'x'")],
            "size": [len(library), repr(library), library.address, library.thresholds],
            "narration": [library.narration(videos / n) for n in ("a.mp4", "d.mp4", "no.mp4")],
            "metadata": [library.metadata(n) for n in ("a.mp4", "./d.mp4", "no.mp4")],
            "embedded": repr(library.embedded(videos / "sub/c d.mp4")),
            "nearest": [
                library._snapshot().nearest_window(library.videos()[0], start, end)
                for start, end in ((0.0, 0.5), (3.0, 9.0), (31.5, 99.0), (0.0, 32.0))
            ],
            "words": [
                library._catalog.words(library.videos()[0].id, *span)
                for span in ((0, 1), (2.9, 3.5), (3.0, 3.6), (24, 99))
            ],
        },
        TMP=searched.folder.parent,
    )


class TwoASecond(ColourBackbone):
    frames_per_second = 2.0
    spec = replace(ColourBackbone.spec, features_per_second=2.0, fingerprint="colours-2")


def test_two_features_a_second(tmp_path, embedder):
    embedder.backbone = TwoASecond()
    embedder.config = replace(embedder.config, features_per_second=2.0)
    video = write_video(tmp_path / "a.mp4", ["white", "red", "red", "blue", "green"] * 3)
    with VideoLibrary(tmp_path / "library", embedder) as library:
        library.update(video)
        folders = [re.sub("-[0-9a-z]{9,}", "-F", p.name) for p in library.folder.glob("fea*")]
        snapshot = library._snapshot()
        approved.check(
            "library-two-a-second",
            {
                "moments": found(library.search("red", 3)),
                "curve": library.score_curve("blue", video)[-4:],
                "span": found(library.search_span(video, 3.0, 4.0, SearchOptions(top_k=2))),
                "windows": [
                    snapshot.num_seconds(snapshot.videos[0]),
                    len(snapshot.videos),
                    folders,
                ],
            },
        )


def test_a_library_is_made_under_its_lock(tmp_path):
    class Watched(ColourEmbedder):
        def embed_text(self, texts):
            with pytest.raises(Timeout):
                FileLock(tmp_path / "library/lock", blocking=False).acquire()
            return super().embed_text(texts)

    VideoLibrary(tmp_path / "library", Watched()).close()


def test_narration_added_to_moments(searched):
    """Passages at the borders of moments, of the video and of another one; some said twice."""
    library = searched._snapshot()
    (a,) = (video for video in library.videos if video.video_id == "a")
    query = library.calibration.prepare(searched.embedder.embed_text("red"))[0]
    candidates = [
        search._Candidate(video, *span, start, 0.5, 1.0)
        for video, start, span in (
            (library.videos[1], 0.0, (0.0, 35.0)),
            (a, 2.0, (2.0, 8.0)),
            (a, 8.0, (8.0, 20.0)),
        )
    ]
    passages = [  # start, end, whether all words, strength
        (1.0, 2.0, True, 0.1),
        (1.0, 3.0, True, 3.0),
        (2.0, 4.0, False, 2.0),
        (6.0, 10.0, False, 2.5),
        (19.0, 22.0, False, 0.5),
        (31.0, 50.0, True, 0.7),
        (31.0, 31.5, False, 0.9),
    ]
    for start, end, has_all_words, strength in passages:
        hit = catalog.NarrationHit(a.id, start, end, has_all_words, strength)
        search._add_narration(library, query, 0.25, hit, candidates)
    fields = ("start", "end", "best", "similarity", "visual_strength", "narration_strength")
    plain = replace(library, calibration=replace(library.calibration, has_biases=False))
    alone = replace(library, videos=[library.videos[1]])  # the others came after it was read
    options = SearchOptions(top_k=9, vision=0.0)
    vectors = searched.embedder.embed_text("paint the fence")
    approved.check(
        "library-narration",
        {
            "candidates": [
                [one.video.video_id, *(getattr(one, name) for name in fields), one.has_all_words]
                for one in candidates
            ],
            "biases": [some.biases(np.full((2, 17), 0.5, np.float32)) for some in (library, plain)],
            "in videos that are known": [
                found(moments)
                for moments in search.find_moments(alone, vectors, ["paint the fence"], options)
            ],
        },
    )


def test_what_is_spoken_is_found_page_by_page(tmp_path, embedder):
    """More pages than passages that a single page asks for."""
    video = write_video(tmp_path / "talk.mp4", ["red"] * 130, frame_rate=1)
    cues = [
        f"{i}\n00:{i // 6:02}:{i % 6}0,000 --> 00:{i // 6:02}:{i % 6}1,000\npaint it {i}\n"
        for i in range(1, 13)
    ]
    (tmp_path / "talk.srt").write_text("\n".join(cues))
    with VideoLibrary(tmp_path / "library", embedder) as library:
        library.update(video)
        every = library.search("paint", 12, vision=0.0)
        assert [library.search("paint", 1, offset=i, vision=0.0)[0] for i in range(12)] == every
    assert len({moment.start for moment in every}) == 12


def test_features_of_moments(tmp_path):
    """The frozen features that a re-ranker reads: at least one, and none beyond the video."""
    video = replace(video_of(1), num_features=20)

    class Store:
        spec = SimpleNamespace(features_per_second=2.0)
        read = staticmethod(lambda name, first, last: [name, first, last])
        __contains__ = staticmethod(lambda name: name == video.content_hash)

    known = SimpleNamespace(find=lambda path: video)
    spans = (
        (0.0, 0.1),
        (1.2, 3.7),
        (1.5, 3.5),
        (4.0, 4.0),
        (9.9, 11.0),
        (10.0, 10.5),
        (30.0, 31.0),
    )
    approved.check(
        "library-features-of-moments",
        {
            str(span): library_module.moment_features(moment_at("a", *span, 1.0), [Store()], known)
            for span in spans
        },
    )


def open_files(folder):
    """Catalogues and features in a folder that this process has open."""
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [
        link.removeprefix(f"{folder}/")
        for link in links
        if link.startswith(f"{folder}/") and re.search(r"/catalog|/features", link)
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_nothing_is_left_open_or_made_by_what_fails(tmp_path, videos, embedder):
    class Broken(ColourEmbedder):
        def embed_text(self, texts):
            raise DataError("broken")

    folder = tmp_path / "library"
    with VideoLibrary(folder, embedder) as library:
        library.update(videos)
        assert {Path(name).parts[0][:8] for name in open_files(folder)} == {"catalog.", "features"}
    with pytest.raises(IndexMismatchError) as other_model:
        VideoLibrary(folder, ColourEmbedder("other"))
    with pytest.raises(DataError) as broken:
        VideoLibrary(tmp_path / "new", Broken())
    texts = tmp_path / "texts/catalog.sqlite"
    texts.parent.mkdir()
    texts.write_text("no database " * 99)
    with pytest.raises(DataError) as no_database:
        Catalog(texts)
    with closing(sqlite3.connect(folder / "catalog.sqlite", isolation_level=None)) as table:
        table.execute("PRAGMA user_version = 99")
    with pytest.raises(IndexMismatchError) as newer:
        Catalog(folder / "catalog.sqlite")
    assert not open_files(tmp_path), (other_model, broken, no_database, newer)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs a system with time zones")
def test_videos_are_added_at_a_time_in_utc(tmp_path, embedder, monkeypatch):
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "Etc/GMT+5")
            time.tzset()
            with VideoLibrary(tmp_path / "library", embedder) as library:
                library.update(write_video(tmp_path / "a.mp4", ["red"]))
                added = datetime.fromisoformat(library.videos()[0].added)
    finally:
        time.tzset()  # of the system again
    assert abs((datetime.now(UTC) - added.replace(tzinfo=UTC)).total_seconds()) < 3600


def test_an_emptied_library_is_kept_and_so_are_features(tmp_path, embedder, monkeypatch):
    video = write_video(tmp_path / "videos/a.mp4", ["red"])

    def fails(*_):
        raise DataError("no memory")

    with monkeypatch.context() as patch, VideoLibrary(tmp_path / "failed", embedder) as library:
        patch.setattr(embedder, "embed_windows", fails)
        library.update(video)
    assert list((tmp_path / "failed").glob("features-*/index.bin"))
    with VideoLibrary(tmp_path / "emptied", embedder) as library:
        library.update(video)
        video.unlink()
        library.update(video.parent, prune=True)
        assert not len(library)
    assert (tmp_path / "emptied/catalog.sqlite").exists()
    video = write_video(tmp_path / "others/b.mp4", ["red"])
    with VideoLibrary(tmp_path / "of files", embedder) as library:
        library.update(video)
        video.unlink()
        assert library.update(video, prune=True).removed == [str(video)]  # named by itself


def test_searches_of_many_videos(searched, monkeypatch):
    """What larger libraries do in several steps, with small limits instead of many videos."""
    from videoclip.zeroshot import moments

    monkeypatch.setattr(search, "EXACT_ROWS", 0)
    monkeypatch.setattr(search, "CANDIDATES_PER_MOMENT", 1)
    monkeypatch.setattr(search, "HITS_PER_MOMENT", (5, 9))
    monkeypatch.setattr(search, "VIDEOS_PER_THREAD", 1)
    monkeypatch.setattr(search, "PASSAGES_PER_BLOCK", 1)
    monkeypatch.setattr(exact, "ROWS_PER_BLOCK", 32)
    monkeypatch.setattr(exact, "ROWS_PER_CHUNK", 16)
    monkeypatch.setattr(exact, "ROWS_PER_GROUP", 2)
    monkeypatch.setattr(sequences, "MAX_MOMENTS", 4)
    monkeypatch.setattr(sequences, "MOMENTS_PER_SEQUENCE", 1)
    monkeypatch.setattr(moments, "MOMENTS_AT_ONCE", 1)
    monkeypatch.setattr(moments, "MAX_REACH", 2)
    queries = ["red", "yellow", "green", "white", "blue", "paint the fence", "red, then green"]
    with VideoLibrary(searched.folder, ColourEmbedder()) as library:
        results = {
            f"{query}, {top_k}": [
                [m.path.name, m.start, m.end, m.strength]
                for m in library.search(query, top_k, offset=top_k - 1)
            ]
            for query in queries
            for top_k in (1, 3)
        }
    approved.check("library-many", results)


def test_features_that_a_library_keeps(videos, tmp_path, embedder, monkeypatch):
    """Which features are read again, and what is copied when most of them are of no video."""
    folder, found = tmp_path / "library", {}
    names = ("a.mp4", "sub/c d.mp4", "x.mp4")
    indexed_rows = found["rows to index"] = []
    monkeypatch.setattr(library_module, "COMPACT_FROM", 1)
    monkeypatch.setattr(
        vectors.MatrixStore, "refresh_index", lambda store, queries, num: indexed_rows.append(num)
    )

    def state(library):
        calls = []
        with monkeypatch.context() as patch:
            patch.setattr(
                library.embedder, "embed_video", lambda path: calls.append(Path(path).name)
            )
            known = [repr(library.embedded(videos / name)) for name in names]
        return {
            "embedded": known,
            "from files": calls,
            "rows": [library._snapshot().num_rows, library._snapshot().num_live, repr(library)],
            "files": sorted(re.sub("[0-9a-f]{8,}", "X", p.name) for p in folder.iterdir()),
            "first": [m.path.name for m in library.search("yellow", 2)],
        }

    with VideoLibrary(folder, embedder, model="m") as library:
        library.update(videos, fast=True)
        found["fast"] = state(library)
        library.update(videos)
        found["exact"] = state(library)
    with VideoLibrary(folder, embedder, model="m", rebuild=True) as library:
        library.update(videos)
        found["rebuilt"] = state(library)
        (videos / "a.mp4").rename(tmp_path / "a.mp4")
        library.update(videos, prune=True)  # fewer rows than half are of no video, so they stay
        found["little pruned"] = state(library)["rows"]
        (tmp_path / "a.mp4").rename(videos / "a.mp4")
        library.update(videos)
        (videos / "b.mp4").unlink()
        library.update(videos, prune=True)
        found["pruned"] = state(library)
        (videos / "a.mp4").unlink()
        library.update(videos, prune=True)
        found["compacted"] = state(library)
        library.compact()
        found["again"] = state(library)
    found["closed"] = approved.outcome(library.videos)
    approved.check("library-kept-features", found, TMP=tmp_path)


def test_what_fails_while_videos_are_indexed(tmp_path, embedder, monkeypatch):
    """What one video alone costs, and what ends the update."""

    def of_the_disk():
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise DataError("cannot be written") from error

    def of_the_catalogue():
        try:
            raise sqlite3.OperationalError("database or disk is full")
        except sqlite3.OperationalError as error:
            raise DataError("cannot be stored") from error

    def of_a_video():
        raise DataError("is odd")

    def of_reading():
        raise DecodeError("cannot be read", "b.mp4")

    def of_the_code():
        raise ValueError("a bug")

    for name, colour in {"a": "red", "b": "blue", "c": "green"}.items():
        write_video(tmp_path / f"videos/{name}.mp4", [colour])
    for name in "ac":
        (tmp_path / f"videos/{name}.srt").write_text(SPOKEN)
    places = [
        (FeatureStore, "append", of_the_disk),
        (FeatureStore, "append", of_the_code),
        (ColourEmbedder, "embed_windows", of_a_video),
        (vectors.MatrixStore, "append", of_the_catalogue),
        (indexer, "read_subtitles", of_a_video),
        (indexer, "content_hash", of_reading),
    ]
    found = {}
    for owner, name, fail in places:
        calls, real = [], getattr(owner, name)

        def sometimes(*args, fail=fail, calls=calls, real=real, **options):
            calls.append(args)
            if len(calls) == 2:
                fail()
            return real(*args, **options)

        def update(library):
            progress = []
            report = library.update(
                tmp_path / "videos", on_progress=lambda *state: progress.append(state)
            )
            return [*report_of(report)[1:], progress[-1]]

        folder = tmp_path / f"{name}, an error {fail.__name__}".replace("_", " ")
        with VideoLibrary(folder, embedder, model="m") as library:
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, sometimes)
                first = approved.outcome(partial(update, library))
            found[folder.name] = [first, update(library)]
    approved.check("library-failures", found, TMP=tmp_path)


def video_of(number, **values):
    given = {"path": f"/v/{number}.mp4", "content_hash": f"c{number}", "first_row": 3 * number}
    facts = {"size": 1, "mtime_ns": 2, "duration": 60.0, "width": 64, "height": 48}
    more = {"frame_rate": 10.0, "num_features": 60, "num_windows": 3, "narration_path": None}
    return IndexedVideo(
        **given, **facts, **more, narration_mtime_ns=None, added="2024-01-01", **values
    )


CUES = {
    0: ["whisk the eggs", "the eggs are warm", "add sugar and flour", "flour everywhere"],
    1: ["whisk quickly", "nothing here", "sugar", "whisk the sugar"],
    2: ["we whisked eggs with sugar", "and then flour"],
}


def test_catalogue(tmp_path):
    with closing(Catalog(tmp_path / "catalog.sqlite")) as stored:
        statements = Statements(stored._db)
        with stored.writing():
            for number, texts in CUES.items():
                cues = [Cue(6.0 * i, 6.0 * i + 4, text) for i, text in enumerate(texts)]
                cues = cues[:: 1 - 2 * (number == 2)]  # those of the last one in another order
                passages = [Passage(3.0 - number, 4.0, np.full(2, number, np.float16))]
                stored.add(video_of(number), cues, passages if number else [])
            stored.set_metadata(1, {"take": 2.0, "camera": "left", "note": None})
            stored.set_metadata(3, {"camera": "right"})
            stored.set_facts({"a": "1", "checksum": "wrong"})
        pragmas = ["user_version", "application_id", "journal_mode", "synchronous", "foreign_keys"]
        left = filters.parse_filter("camera = 'left'", stored.metadata_keys())
        queries = ("whisk", "whisk eggs", "sugar flour eggs", "the of", "WHISKING", "zebra", "!")
        approved.check(
            "library-catalogue",
            {
                "spoken": {query: stored.spoken(query, 20) for query in queries},
                "few": stored.spoken("whisk sugar", 2),
                "joined": [
                    catalog._join_cues(
                        [(1, 7, 10.0, 12.0), (2, 7, *span), (3, 8, 20.0, 21.0)],
                        {1: {0}, 2: {1}, 3: {1}},
                        [2.0, 1.5],
                    )
                    for span in (
                        (20.0, 22.0),
                        (20.1, 22.0),
                        (0.0, 2.0),
                        (0.0, 1.9),
                        (12.0, 13.0),
                        (11.0, 13.0),
                    )
                ],
                "side by side": catalog._join_cues(
                    [(1, 7, 10.0, 12.0), (2, 7, 12.0, 13.0), (3, 7, 8.0, 10.0)],
                    {1: {0}, 2: {0}, 3: {0}},
                    [2.0, 1.5],
                ),
                "filtered": stored.spoken("whisk sugar", 9, left),
                "terms": {
                    q: catalog.search_terms(q) for q in ("The Cat, the cat!", "to be", "", "Ünß")
                },
                "samples": stored.sample_cues(3),
                "cues": [stored.num_cues(), stored.cues(3)],
                "words": stored.words(1, 4.0, 6.5),
                "passages": [stored.passages(2), stored.passages(2, 2)],
                "keys": [stored.metadata_keys(), stored.keys(left), stored.metadata(1)],
                "videos": [v.path for v in stored.videos(filters.parse_filter("width > 1"))],
                "found": [stored.find("/v/1.mp4").id, stored.find("/v/9.mp4")],
                "checksums": [v.record_checksum for v in stored.videos()],
                "facts": stored.facts(),
                "vectors": video_of(1).checksum_of(np.ones((2, 3), np.float16)),
                "pragmas": [stored._rows(f"PRAGMA {name}")[0][0] for name in pragmas],
            },
        )
        approved.check("library-catalogue-sql", "\n".join(sorted(statements)) + "\n")


def test_upgrades(tmp_path):
    """A library of the first schema gets the present one."""
    with ZipFile(Path(__file__).with_name("library_of_schema_1.zip")) as archive:
        archive.extractall(tmp_path)
    (path,) = tmp_path.rglob("catalog.sqlite")
    with closing(Catalog(path)) as stored:
        columns = [row[1] for row in stored._rows("PRAGMA table_info(videos)")]
        tables = stored._rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        rows = [
            [v.narration_path is not None, v.narration_mtime_ns, v.checksum, v.record_checksum]
            for v in stored.videos()
        ]
        approved.check(
            "library-upgrade", [columns, tables, rows, stored._rows("PRAGMA user_version")]
        )


def test_an_upgrade_does_not_hide_damage(tmp_path, monkeypatch):
    path = tmp_path / "catalog.sqlite"
    with closing(Catalog(path)) as stored, stored.writing():
        for number in range(2):
            stored.add(replace(video_of(number), narration_path="/v/a.srt"), [])
    with closing(sqlite3.connect(path, isolation_level=None)) as table:
        table.execute("DROP TABLE passages")
        table.execute("PRAGMA user_version = 3")
        table.execute("UPDATE videos SET duration = 7 WHERE id = 1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with closing(Catalog(path)) as read_only:
            assert [v.narration_mtime_ns for v in read_only.videos()] == [None, None]
            assert [file.name for file in tmp_path.iterdir()] == ["catalog.sqlite"]
    with closing(Catalog(path)) as stored:
        assert [v.narration_mtime_ns for v in stored.videos()] == [None, 0]
        assert stored.damaged_records([1, 2]) == [1]


METADATA = "(SELECT value FROM metadata WHERE video = videos.id AND key = ?)"
FILTERS = [
    "duration > 60",
    "DURATION > 60",
    "duration>60 and(width<=100 or not height!=9)",
    "camera = 'o''clock' or take == 1e3",
    'path LIKE "%a""b" and narration is not null',
    "added >= '2024' and modified < '2025' and size <> -.5",
    "camera not in ('a', 2, 'c') and take in (1)",
    "not not camera not like 'x%'",
    "camera is null or narration is null",
    "",
    "duration",
    "duration >",
    "duration > camera",
    "duration = left",
    "duration > 60s",
    "duration > 60 width",
    "(duration > 60",
    "duration > 60)",
    "durations > 60",
    "x.y-z = 1",
    "> 5",
    "not",
    "camera not = 1",
    "camera in 1",
    "camera in (1",
    "camera in (1 2)",
    "camera is 1",
    "camera is not 1",
    "camera = 'open",
    "duration > 1; drop table",
    "duration > 5 and",
    "(" * 51 + "width = 1",
    "not " * 51 + "width = 1",
    " and ".join(["width = 1"] * 202),
    "width = " + "1" * 12_001,
    "path = '" + "x" * 300 + "' y",
    5,
    "(" * 51 + "width = 1" + ")" * 51,
    "not " * 51 + "width = 1",
    "width = 1" + " or width = 1" * 201,
    "path = '" + "x" * 11_992 + "'",
    "duration in ('5')",
    "path in ('a', 5)",
    "duration like '5%'",
    "camra = 1",
]
AT_LIMITS = (
    "(" * 50 + "width = 1" + ")" * 50,
    "not " * 50 + "width = 1",
    "width = 1" + " or width = 1" * 200,
    "width = 1" + " and width = 1" * 200,
    "path = '" + "x" * 11_991 + "'",
)


def test_filters():
    keys = ["camera", "take", "x.y-z"]
    found = []
    for text in FILTERS:
        parsed = approved.outcome(partial(filters.parse_filter, text, keys))
        if isinstance(parsed, str):
            found.append(parsed if len(parsed) < 160 else f"{parsed[:40]} ... {parsed[-60:]}")
        else:
            sql = parsed.sql.replace(METADATA, "M")
            found.append([sql, *parsed.values])
    found.append([len(filters.parse_filter(text).sql) for text in AT_LIMITS])
    wild = [filters.lacks_wildcard(t) for t in ("a LIKE 'x'", "a like '%x'", 'a like "x"', "a = 1")]
    own = filters.parse_filter("size = 'big' and path = 5 and width > 1", ["size", "path"])
    relative = {
        text: filters.names_relative_path(text)
        for text in (
            "path = 'a.mp4'",
            'PATH == "a.mp4"',
            "path in ('a.mp4', '/b.mp4')",
            "path = '/a.mp4'",
            "path = 's3://bucket/a.mp4'",
            "path like 'a%'",
            "path != 'a.mp4'",
        )
    }
    approved.check(
        "library-filters", [*found, wild, [own.sql.replace(METADATA, "M"), *own.values], relative]
    )


def test_vectors(tmp_path, disk_calls):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(700, 8)).astype(np.float32)
    rows[100:300] = rows[100]  # equal ones
    store = vectors.MatrixStore(tmp_path / "v.f16", 8)
    before = [store.num_rows, store.search(rows[:2], 3, 0), store._open()]
    firsts = [store.append(rows[:650]), store.append(rows[650:])]
    calls = [[kind, name] for kind, name, _ in disk_calls]
    allowed = np.arange(700) % 3 == 0
    queries = np.concatenate((rows[100:101], rng.normal(size=(9, 8)).astype(np.float32)))
    queries[7] = 0
    searches = {
        "first": store.search(queries[:2], 4, 700),
        "few allowed": store.search(queries[:2], 4, 700, np.arange(700) < 40),
        "one allowed": store.search(queries[:2], 4, 700, np.arange(700) == 5),
        "allowed": store.search(queries[:3], 4, 700, allowed),
        "fewer rows": store.search(queries[:2], 4, 651, exact=True),
        "many": store.search(queries, 2, 700),
        "no queries": store.search(queries[:0], 2, 700),
    }
    block = store._exact._blocks[0]
    copy = store.rewrite(tmp_path / "w.f16", [(10, 2), (698, 2)])
    approved.check(
        "library-vectors",
        {
            "before": [*before[:2], before[2] is None],
            "first rows": firsts,
            "calls": calls,
            "searches": searches,
            "block": [len(block.rows), block.last_row, block.steps[::9], block.error, block.radius],
            "centre": store._exact._centre,
            "some rows": store._read_rows(np.array([3, 4, 7, 699]))[:, 0],
            "copy": [copy.num_rows, copy.read(1, 2)[:, 0], copy.read_half(0, 1).dtype],
            "biases": vectors.with_biases(rows[:3], rows[5:12]),
            "highest": exact.highest(np.array([1, 3, 3, 2, 3], "f4"), np.array([9, 8, 2, 5, 4]), 2),
            "blocks": [f"{b.start}-{b.stop}" for b in exact._blocks_of(40_000)],
            "errors": [
                approved.outcome(partial(store.read, 699, 2)),
                approved.outcome(partial(store.append, np.full((1, 8), 1e6, np.float32))),
                approved.outcome(
                    partial(vectors.to_half, np.full((1, 8), np.nan, np.float32), "X")
                ),
            ],
        },
        TMP=tmp_path,
    )


def test_approximate_index(tmp_path, monkeypatch):
    rows = np.random.default_rng(1).normal(size=(3000, 8)).astype(np.float16)
    queries = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
    path = tmp_path / "v.ivf"
    best = np.sort(queries @ rows.T.astype(np.float32), axis=1)[:, :-11:-1]
    file = approximate.IndexFile(path)
    absent = file.open()
    approximate.build_index(rows[:2000], path, queries, best)
    small = file.open()
    first = [small.ntotal, small.nlist, small.by_residual, small.cp.max_points_per_centroid]
    approximate.build_index(rows, path, queries, best)
    grown = []
    for number in (700, 900):
        other = approximate.IndexFile(tmp_path / f"{number}.ivf")
        for matrix in (rows[:number], rows):
            approximate.build_index(matrix, other.path, queries, best)
            grown.append([other.open().ntotal, other.open().nlist])
    found = SimpleNamespace(search=lambda *_: [None, np.array([[0, 1, 2, 3], [8, 9, -1, -1]])])
    alike = np.repeat(np.eye(2, 8), 5, axis=0).astype(np.float16)
    ties = approximate._recall(
        found, alike, np.eye(2, 8, dtype="f4")[[0, 0]], np.ones((2, 2), "f4")
    )
    index = file.open()
    allowed = np.arange(3000) < 1500
    candidates = [
        approximate.find_candidates(index, queries, k, a)
        for k, a in ((3, None), (3, allowed), (400, None))
    ]
    built = []
    for num_rows, least in ((2999, 3000), (3000, 3000), (3046, 3000), (3047, 3000)):
        monkeypatch.setattr(approximate, "MIN_ROWS", least)
        file.refresh(num_rows, lambda n=num_rows: built.append(n))
    footer = approximate.FOOTER.unpack(path.read_bytes()[-8:])[0]
    damaged = tmp_path / "d.ivf"
    damaged.write_bytes(b"x" + path.read_bytes()[1:])
    old = tmp_path / "o.ivf"
    old.write_bytes(b"no index")
    monkeypatch.setattr(approximate, "_is_installed", lambda: False)
    approved.check(
        "library-approximate",
        {
            "absent": absent,
            "first": first,
            "index": [index.ntotal, index.nlist, type(index).__name__, index.d],
            "is tuned": approximate._recall(index, rows, queries, best) >= 0.97 > 1 / index.nprobe,
            "grown": grown,
            "recall of equal rows": ties,
            "candidates": [[c.shape, int((c < 0).any())] for c in candidates],
            "built": built,
            "footer": footer,
            "not installed": file.open(),
            "errors": [
                approved.outcome(approximate.IndexFile(damaged).verify),
                approved.outcome(approximate.IndexFile(old).verify),
            ],
        },
        TMP=tmp_path,
    )
    monkeypatch.undo()
    approved.check(
        "library-approximate-error", approved.outcome(approximate.IndexFile(old).open), TMP=tmp_path
    )


def moment_at(name, start, end, strength, words="", **more):
    return Moment(Path(name), start, end, "part", strength=strength, words=words, **more)


def test_how_many_moments_a_sequence_needs(monkeypatch):
    """More are fetched until no sequence that is not complete could be better."""
    monkeypatch.setattr(sequences, "MOMENTS_PER_SEQUENCE", 1)
    monkeypatch.setattr(sequences, "MAX_MOMENTS", 17)
    firsts = [moment_at("ab"[i % 2], 3 * i, 3 * i + 2, 9.0 - i / 4) for i in range(20)]
    seconds = [moment_at("ab"[i // 12], 50 - i, 52 - i, 8.5 - i / 8) for i in range(20)]
    few = [moment_at("b", 90, 92, 7.0)]
    fetched = []

    def find(library, queries, texts, options, condition):
        fetched.append([options.top_k, options.offset, options.vision, condition])
        return [part[: options.top_k] for part in texts]

    monkeypatch.setattr(sequences, "find_moments", find)
    results = {}
    for name, parts in {"many": (firsts, seconds), "few": (firsts, few)}.items():
        for top_k, offset in ((1, 0), (2, 1), (1, 5)):
            options = SearchOptions(top_k=top_k, offset=offset, vision=0.5)
            found = sequences.find_sequences(None, None, parts, "whole", options, "where")
            moments = [[m.path.name, m.start, m.end, m.strength] for m in found]
            results[f"{name}, {top_k} from {offset}"] = [moments, fetched[:]]
            fetched.clear()
    approved.check("library-sequences-fetched", results)


def test_sequences():
    first = [moment_at("a", 0, 4, 3.0, "one"), moment_at("a", 6, 9, 1.0), moment_at("b", 5, 6, 9.0)]
    second = [
        moment_at("a", 2, 6, 2.0, "two", has_all_words=True),
        moment_at("a", 10, 11, 2.0, "one"),
        moment_at("b", 0, 3, 8.0),
        moment_at("c", 0, 3, 8.0),
    ]
    third = [moment_at("a", 12, 20, 2.5), moment_at("a", 3, 7, 2.0), moment_at("b", 9, 10, 1.0)]
    joined = {
        "pairs": sequences.sequences_of([first, second], "whole", 3),
        "one each": sequences.sequences_of([first, second]),
        "triples": sequences.sequences_of([first, second, third], "whole", 5),
        "none": sequences.sequences_of([first, []], "whole", 2),
        "equal": sequences.sequences_of(
            [
                [moment_at("x", 0, 2, 1.0), moment_at("y", 1, 2, 1.0)],
                [moment_at("x", 8, 9, 1.0), moment_at("y", 3, 4, 1.0)],
            ]
        ),
    }
    approved.check(
        "library-sequences",
        {
            name: [
                [str(m.path), m.start, m.end, m.best, m.label, m.strength, m.has_all_words, m.words]
                + [[part.start, part.end] for part in m.parts]
                for m in moments
            ]
            for name, moments in joined.items()
        },
    )


def test_labels(tmp_path, searched):
    path = tmp_path / "new" / "labels.csv"
    a, d = (searched.folder.parent / "videos" / name for name in ("a.mp4", "d.mp4"))
    given = [
        LabelledQuery("red", str(a), 0.0, 10.0),
        LabelledQuery("red", str(a), 9.5, 12.0, is_wrong=True),
        LabelledQuery("red", str(a), 12.0, 13.0),
        LabelledQuery("red", str(d), 0.0),
        LabelledQuery("a query, with a comma", "b"),
        LabelledQuery("green", ""),
        LabelledQuery("yellow", "b", 20.0, 22.0),
        LabelledQuery("green", str(d), is_wrong=True),  # where it is found several times
        LabelledQuery("paint the fence", "a"),
    ]
    numbers = [len(labels.add_label(path, label)) for label in given]
    accepted = [
        [LabelledQuery("", video, 2.0, 4.0).accepts(Moment(Path("/x/sub/c d.mp4"), *span))]
        for video in ("c d", "c d.mp4", "sub/c d.mp4", "/x/sub/c d.mp4", "d", "", "other/c d.mp4")
        for span in ((3.9, 5.0), (4.0, 5.0), (0.0, 2.0))
    ]
    report = labels.fit_library(searched, labels.read_labels(path))
    searched.thresholds = Thresholds()
    (tmp_path / "bad.csv").write_text("query,video,start\na,b,x\n")
    (tmp_path / "less.csv").write_text("query\na\n")
    (tmp_path / "untidy.csv").write_text("wrong,video,query,end\n YES ,a.mp4 ,red,2\nno,,blue,\n")
    approved.check(
        "library-labels",
        {
            "numbers": numbers,
            "file": path.read_text().splitlines(),
            "files": sorted(p.name for p in path.parent.iterdir()),
            "read": [labels.read_labels(path), labels.read_labels(tmp_path / "untidy.csv")],
            "accepted": accepted,
            "report": report,
            "text": str(report).splitlines(),
            "errors": [
                approved.outcome(partial(labels.read_labels, tmp_path / "bad.csv")),
                approved.outcome(partial(labels.read_labels, tmp_path / "less.csv")),
                approved.outcome(partial(labels.fit_library, searched, [])),
                approved.outcome(partial(labels.fit_library, searched, given[:1])),
            ],
        },
        TMP=tmp_path,
        VIDEOS=searched.folder.parent,
    )


def test_metadata(tmp_path):
    contents = {
        "a.csv": "path,x,y\nv/a.mp4, 1 ,\nb,inf,nan\n",
        "name.csv": "file,video,x\n,b.mp4,text \n",
        "none.csv": "camera\nleft\n",
        "many names.csv": "name,video_id,path,x\nn,5,p.mp4,1\nn,6,,2\nn,,,3\n",
        "a.json": '{"b": {"x": true, "y": null, "z": "2"}, "note": 5}',
        "list.json": '[{"video_id": 5, "x": 1.5}]',
        "bad.json": '[{"name": "b", "x": [1]}]',
        "text.json": '"b"',
        "no row.json": "[5]",
        "LARGE.JSON": '[{"name": "b"}]',
    }
    found = {}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        found[name] = approved.outcome(partial(metadata.read_metadata, tmp_path / name))
    table = {"b": {"n": 1.0}, "v/a.mp4": {"n": 2.0}, "a": {"n": 3.0}, "/v/c.mp4": {"n": 4.0}}
    table["a.mp4"] = {"n": 5.0}
    paths = ["/x/v/a.mp4", "/y/a.mp4", "/v/c.mp4", "/v/b", "/v/z.mp4"]
    approved.check("library-metadata", [found, metadata.metadata_of(table, paths)], TMP=tmp_path)


def test_errors(videos, tmp_path, embedder, monkeypatch):
    """Every message that a library can raise."""
    errors = {}

    def keep(name, call, *arguments, **options):
        errors[name] = approved.outcome(partial(call, *arguments, **options))

    for values in (
        {"top_k": 1.5},
        {"top_k": 0},
        {"offset": -1},
        {"rerank_top": -1},
        {"vision": -0.1},
        {"speech": -0.1},
        {"vision": 0, "speech": 0},
    ):
        keep(f"options {values}", SearchOptions, **values)
    folder = tmp_path / "library"
    keep("missing", library_module.stored_facts, folder)
    keep("must exist", VideoLibrary.open, folder, must_exist=True)
    keep("a name", VideoLibrary, folder, "starter")
    with VideoLibrary(folder, embedder, model=str(tmp_path / "model")) as library:
        library.update(videos)
        keep("no such video", library.search_span, videos / "x.mp4", 0.0, 1.0)
        keep("no curve", library.score_curve, "red", videos / "x.mp4")
        keep("reranked", library.search_many, ["red"], SearchOptions(rerank_top=2))
        keep("like reranked", library.search_like, videos / "a.mp4", SearchOptions(rerank_top=2))
        keep("ordered", library.search_many, ["red, then blue"], SearchOptions(rerank_top=1))
        keep("queries", library.search_many, "red")
        keep("filter", library.search, "red", where="nothing = 1")
        with FeatureStore.create(
            tmp_path / "other", replace(embedder.backbone.spec, dim=7)
        ) as store:
            keep("features", library.update, videos, features=store)
        keep("no table", library.update, videos, metadata=tmp_path / "no.csv")
        keep(
            "moment features",
            library_module.moment_features,
            Moment(Path("/x.mp4"), 0.0, 1.0),
            [],
            library._catalog,
        )
        keep("not a video", library.search_like, folder / "catalog.sqlite")
    keep("model gone", VideoLibrary.open, folder)
    keep("other model", VideoLibrary, folder, ColourEmbedder("other"), model="m")
    keep("other width", VideoLibrary, folder, ColourEmbedder(width=20))
    keep("other kind", VideoLibrary, folder, embedder, store="lance")
    with monkeypatch.context() as patch:
        patch.setattr(storage.importlib.util, "find_spec", lambda name: None)
        keep("no lance", VideoLibrary, "s3://bucket/library", embedder)
        keep("no lance in a folder", VideoLibrary, tmp_path / "l", embedder, store="lance")
        (tmp_path / "tables/lance").mkdir(parents=True)
        keep("tables in a folder", VideoLibrary, tmp_path / "tables", embedder)
        keep("kind", storage.kind_of, "s3://bucket")
    odd = tmp_path / "odd"
    (odd / "catalog.sqlite").mkdir(parents=True)
    (odd / "lance").write_text("")
    keep(
        "kinds",
        lambda: [
            storage.kind_of(folder),
            storage.kind_of(tmp_path),
            storage.kind_of(odd),
            storage.kind_of(odd.with_name("tables")),
            storage.is_address("a/b"),
            storage.is_address("s3://b"),
        ],
    )
    other = tmp_path / "others"
    other.mkdir()
    with closing(sqlite3.connect(other / "catalog.sqlite")) as table:
        table.execute("CREATE TABLE x (y)")
    keep("another program's", VideoLibrary, other, embedder)
    (tmp_path / "text").mkdir()
    (tmp_path / "text/catalog.sqlite").write_text("no database " * 99)
    keep("no database", VideoLibrary, tmp_path / "text", embedder)

    def changed(name, statements, call):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        with closing(sqlite3.connect(copy / "catalog.sqlite", isolation_level=None)) as table:
            for statement in statements.split("; "):
                table.execute(statement)
        with closing(Catalog(copy / "catalog.sqlite")) as stored:
            keep(name, call, stored)

    def opened(name, statement):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        with closing(sqlite3.connect(copy / "catalog.sqlite", isolation_level=None)) as table:
            table.execute(statement)
        keep(name, Catalog, copy / "catalog.sqlite")

    opened("newer", "PRAGMA user_version = 99")
    opened("facts", "UPDATE facts SET value = 'x' WHERE key = 'model'")
    changed(
        "record", "UPDATE videos SET duration = 1 WHERE id = 2", lambda c: c.check_records([1, 2])
    )
    changed(
        "changing a damaged record", "UPDATE videos SET width = 1", lambda c: c.change(1, width=5)
    )
    changed(
        "metadata of a damaged record",
        "UPDATE videos SET width = 1",
        lambda c: c.set_metadata(1, {}),
    )
    changed("vectors", "UPDATE videos SET checksum = 5 WHERE id > 1", lambda c: c.check(c.videos()))
    changed("verify", "UPDATE videos SET height = 5", lambda c: c.verify())
    changed("cues", "INSERT INTO cues_text(rowid, text) VALUES (77, 'x')", lambda c: c.verify())
    changed("gone table", "DROP TABLE passages", lambda c: c.passages(16))
    changed(
        "index",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
        "'CREATE INDEX videos_by_content ON videos(path)' WHERE name = 'videos_by_content'",
        lambda c: c.verify(),
    )

    def damaged(name, change):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        change(copy / "vectors-0.f16")
        with closing(Catalog(copy / "catalog.sqlite")) as stored:
            keep(name, stored.verify)
        with VideoLibrary(copy, embedder) as library:
            keep(f"{name} of an ordered query", library.search, "red, then blue", speech=0.0)

    damaged("bytes", lambda path: path.write_bytes(bytes(path.stat().st_size)))
    wrong_sum = approximate.FOOTER.pack(approximate.FOOTER_MARK, 1)
    damaged("approximate", lambda path: path.with_suffix(".ivf").write_bytes(b"x" + wrong_sum))
    vector_file = next(folder.glob("vectors-*.f16"))
    os.truncate(vector_file, 100)
    with VideoLibrary(folder, embedder) as library:
        keep("short", library.search, "red")
        keep("short and ordered", library.search, "red, then blue")
    next(folder.glob("background-*.npz")).write_bytes(b"")
    from videoclip.library.calibration import check_unrelated

    keep("scenes", check_unrelated, next(folder.glob("background-*.npz")))
    keep("hash", indexer.content_hash, tmp_path / "nowhere.mp4")
    keep("windows", WindowConfig, lengths=(2.0, 1.0))
    approved.check("library-errors", errors, TMP=tmp_path)


def test_opening(videos, tmp_path, embedder, monkeypatch):
    """Which model is loaded at which rate, and what is kept of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    taken, found = [], {}

    def from_pretrained(*names, **options):
        taken.append([*map(str, names), *options.items()])
        if names[0] in ("broken", str(tmp_path / "gone"), "own/er", str(tmp_path / "model/bad")):
            raise CheckpointError(f"{names[0]} cannot be loaded")
        return embedder

    monkeypatch.setattr("videoclip.embedding.Embedder.from_pretrained", from_pretrained)
    monkeypatch.setattr(library_module, "default_model", lambda: "best one")

    def keep(name, folder, *args, **options):
        def call():
            with VideoLibrary.open(tmp_path / folder, *args, **options) as library:
                facts = library._catalog.facts()
                library.update(videos)
                return {k: facts.get(k) for k in ("model", "frames_per_second", "windows")}

        found[name] = [approved.outcome(call), taken[:]]
        taken.clear()

    keep("new", "a")
    keep("again", "a", None, "cpu")
    keep("relative", "b", "model", frames_per_second=1.0)
    keep("its own rate", "b")
    keep("rebuilt", "b", rebuild=True)
    keep("alias", "c", "clip-base", frames_per_second=1)
    keep("absent", "d", must_exist=True)
    keep("broken", "e", "broken")
    for model in ("gone", "own/er", "model/bad"):
        with VideoLibrary(tmp_path / "f", embedder, model=model) as library:
            library.update(videos)
            path = model if model == "own/er" else str(tmp_path / model)
            with library._catalog.writing():
                library._catalog.set_facts({"model": path})
        keep(f"recorded {model}", "f")
        (tmp_path / "model/bad").mkdir(exist_ok=True)
        shutil.rmtree(tmp_path / "f")
    keep("another one instead", "a", "own/er")
    approved.check("library-opening", found, TMP=tmp_path)


def test_hashes_of_contents(tmp_path, monkeypatch):
    path = tmp_path / "x.mp4"
    found = []
    for size in (0, 5, 20, 21, 40):
        path.write_bytes(bytes(range(size)))
        for sampled in (1 << 20, 10):
            monkeypatch.setattr(indexer, "SAMPLED_BYTES", sampled)
            found.append([size, indexer.content_hash(path), indexer.content_hash(path, True)])
    approved.check("library-hashes", found)
