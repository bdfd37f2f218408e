"""The library as the page and the API see it, without a server and without a real library."""

import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.library.test_catalog import VIDEO
from tests.web.conftest import TOKEN, serving
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.confidence import LEVELS
from videoclip.zeroshot.moments import Moment

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
from starlette.exceptions import HTTPException

from videoclip.web import media
from videoclip.web import served as module
from videoclip.web.safety import ServeSettings
from videoclip.web.schemas import ExportedSpan, SearchQuery, Span
from videoclip.web.served import NamedMoment, ServedLibrary, cursor_of, offset_of

VIDEOS = [
    replace(VIDEO, path=path, narration_path=narration)
    for path, narration in (
        ("/v/a.mp4", None),
        ("/v/more/b.mp4", "/v/more/b.srt"),
        ("/w/c.mp4", None),
    )
]
FOUND = [
    Moment(Path("/v/a.mp4"), i, i + 1, best=i + 0.25, confidence=LEVELS[3 - i // 8])
    for i in range(32)
]


class Library:
    """A library with three videos; every search finds the same, and is remembered."""

    def __init__(self, folder):
        self.folder, self.address, self.version = folder, str(folder), 1
        self.asked, self.listed = [], []

    def videos(self, where=None):
        self.listed.append(where)
        return VIDEOS[1:] if where else list(VIDEOS)

    def _search(self, *asked, where):
        *_, options = asked
        self.asked.append((*asked[:-1], replace(options, top_k=1, offset=0), where))
        return FOUND[options.offset :][: options.top_k]

    search_like = search_span = _search

    def search_many(self, queries, options, *, where):
        return [self._search(query, options, where=where) for query in queries]


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library")


@pytest.fixture
def served(library):
    served = ServedLibrary(library, ServeSettings(sources=(Path("/v"),)))
    yield served
    served.close()


def test_ids_name_a_video_of_one_library(served, tmp_path):
    ids = [served.id_of(video.path) for video in VIDEOS]
    assert len(set(ids)) == 3 and all(len(id) == 24 and "/" not in id for id in ids)
    assert [served.find(id) for id in ids] == VIDEOS
    with pytest.raises(HTTPException) as refused:
        served.find("0" * 24)
    assert refused.value.status_code == 404
    other = ServedLibrary(Library(tmp_path / "other"), ServeSettings())
    assert not {other.id_of(video.path) for video in VIDEOS} & set(ids)
    other.close()


def test_videos_are_read_again_when_the_library_has_changed(served, library):
    for _ in range(3):
        served.list_videos("", "", 2)
    assert library.listed == [None]
    library.version = 2
    served.find(served.id_of("/v/a.mp4"))
    served.list_videos("", "", 2)
    assert library.listed == [None, None]


def test_lists_go_on_at_their_cursor(served, library):
    pages, cursor = [], ""
    while True:
        videos, cursor = served.list_videos("", cursor, 2)
        pages.append(videos)
        if not cursor:
            break
    assert pages == [VIDEOS[:2], VIDEOS[2:]]
    assert served.list_videos("", "", 3) == (VIDEOS, "")
    assert served.list_videos("width > 3", "", 1) == (VIDEOS[1:2], cursor_of(1))
    assert served.list_videos("width > 3", cursor_of(1), 1) == (VIDEOS[2:], "")
    assert library.listed[-1] == "width > 3"
    assert [offset_of(cursor_of(offset)) for offset in (1, 9, 10, 255, 4096)] == [
        1,
        9,
        10,
        255,
        4096,
    ]
    assert offset_of("") == 0
    for wrong in ("5", "o", "o-1", "oG", "o 1", "o123456789", "oo1"):
        with pytest.raises(HTTPException) as refused:
            offset_of(wrong)
        assert refused.value.status_code == 422


@pytest.mark.parametrize(("strictness", "kept"), [("none", 32), ("low", 24), ("medium", 16)])
@pytest.mark.parametrize("limit", [7, 8, 16])
def test_pages_of_a_search_are_parts_of_one_list(served, strictness, kept, limit):
    found, cursor = [], ""
    while True:
        query = SearchQuery(q="red", strictness=strictness, limit=limit, cursor=cursor)
        moments, cursor = served.search(query)
        assert len(moments) == limit or not cursor
        found += moments
        if not cursor:
            break
    assert found == FOUND[:kept]


def test_what_a_search_asks_the_library_for(served, library, monkeypatch):
    options = SearchOptions(top_k=1, offset=0, vision=0.5, speech=0.25)
    weights = {"vision": 0.5, "speech": 0.25, "where": "width > 3"}
    picture = served.media.add_picture(b"\x89PNG\r\n\x1a\n rest")
    like = served.id_of("/w/c.mp4")
    served.search(SearchQuery(q="red", **weights))
    served.search(SearchQuery(like=like, start=3.0, end=5.0, **weights))
    served.search(SearchQuery(like=like, start=3.0, **weights))
    served.search(SearchQuery(picture=picture, **weights))
    served.search(SearchQuery(q="blue"))
    path, kind = served.media.picture(picture)
    assert kind == "image/png" and path.read_bytes()[:4] == b"\x89PNG"
    assert library.asked == [
        ("red", options, "width > 3"),
        ("/w/c.mp4", 3.0, 5.0, options, "width > 3"),
        ("/w/c.mp4", 3.0, 3.1, options, "width > 3"),
        (path, options, "width > 3"),
        ("blue", SearchOptions(top_k=1), None),
    ]
    monkeypatch.setattr(module, "MAX_FOUND", 20)
    assert served.search(SearchQuery(q="red", limit=10))[1] == cursor_of(10)
    last, cursor = served.search(SearchQuery(q="red", limit=10, cursor=cursor_of(10)))
    assert last == FOUND[10:20] and cursor == ""
    with pytest.raises(HTTPException, match="a search reaches 20 moments"):
        served.search(SearchQuery(q="red", limit=10, cursor=cursor_of(11)))


def test_only_so_many_compute_and_wait_at_once(library, monkeypatch):
    monkeypatch.setattr(module.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(module, "MAX_QUEUE", 0)
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.01)
    served = ServedLibrary(library, ServeSettings())
    for _ in range(5):  # places are given back, also after an error
        with pytest.raises(ZeroDivisionError), served.computing():
            raise ZeroDivisionError
    with served.computing(), served.computing(), served.computing():
        for _ in range(2):
            with pytest.raises(HTTPException) as refused, served.computing():
                pass
            assert refused.value.status_code == 503
    monkeypatch.setattr(module, "MAX_QUEUE", 1)
    served.close()
    served = ServedLibrary(library, ServeSettings())
    with served.computing(), served.computing(), served.computing():
        for _ in range(3):  # one may wait, but not for long, and its place is free again
            with pytest.raises(HTTPException, match="too much to do at once"), served.computing():
                pass
    served.close()


def test_spans_are_kept_by_video(served, library):
    library.folder.mkdir()
    ids = [served.id_of(video.path) for video in VIDEOS]
    spans = [Span(start=1.0, end=2.5, label="cut"), Span(start=4.0, end=5.0)]
    assert served.spans(ids[0]) == []
    served.save_spans(ids[0], spans)
    served.save_spans(ids[1], spans[1:])
    assert [served.spans(id) for id in ids] == [spans, spans[1:], []]
    served.save_spans(ids[0], [])
    assert served.spans(ids[0]) == []
    for function in (served.spans, lambda id: served.save_spans(id, [])):
        with pytest.raises(HTTPException):
            function("0" * 24)


def test_messages_hold_names_instead_of_paths(served, library):
    message = f"/v/more/b.mp4, /v/a.mp4, /w/c.mp4 in /w, {library.folder}/lock, {library.folder}"
    assert served.without_paths(message) == "b.mp4, a.mp4, c.mp4 in w, lock, library"
    media = served.media.folder
    assert (
        served.without_paths(f"{media}/1.mp4: no\x1b[2J") == "1.mp4: no\N{REPLACEMENT CHARACTER}[2J"
    )


def test_names_in_a_zip_file_have_no_control_characters(served, monkeypatch):
    names = [f"a{character}b.mkv" for character in "\x1b\n\u202e\udcff"]
    ids = {f"{i:024x}": name for i, name in enumerate(names)}
    monkeypatch.setattr(served, "find", lambda id: replace(VIDEO, path=f"/v/{ids[id]}"))
    monkeypatch.setattr(module, "existing", lambda video: Path(video.path))
    monkeypatch.setattr(module, "cut_clip", lambda source, start, end, out: out.touch())
    job = served.cut([ExportedSpan(video=id, start=0, end=1) for id in ids])
    while not job.is_over:
        time.sleep(0.005)
    with zipfile.ZipFile(job.result) as archive:
        written = archive.namelist()
    assert written == [f"{i:03d}-a\N{REPLACEMENT CHARACTER}b.mp4" for i in range(1, 5)]


def test_exported_moments_are_named_beyond_this_machine(served, library):
    span = ExportedSpan(
        video=served.id_of("/v/more/b.mp4"), start=1.0, end=2.0, label="cut", confidence="low"
    )
    [moment] = served.to_moments([span])
    values = {"label": "cut", "confidence": "low", "duration": 60.0, "frame_rate": 10.0}
    assert moment == Moment(Path("/v/more/b.mp4"), 1.0, 2.0, **values)
    remote = ServedLibrary(library, ServeSettings(host="0.0.0.0", token=TOKEN))
    [named] = remote.to_moments([span])
    assert named == NamedMoment(Path("b.mp4"), 1.0, 2.0, **values) and not named.is_deleted
    remote.close()


def test_what_is_told_of_a_video_and_a_moment(served):
    id = served.id_of("/v/more/b.mp4")
    assert served.describe(VIDEOS[1]) == {
        "id": id,
        "name": "b.mp4",
        "duration": 60.0,
        "width": 64,
        "height": 48,
        "frame_rate": 10.0,
        "added": "2024-01-01",
        "has_narration": True,
    }
    assert not served.describe(VIDEOS[0])["has_narration"]
    parts = (Moment(Path("/v/more/b.mp4"), 1.0, 2.0, "cut", confidence="low"),)
    moment = Moment(
        Path("/v/more/b.mp4"), 1.0, 9.0, "cut, then fry", 2.06, 0.5, 3.0, "high", parts=parts
    )
    row = served.describe_moment(moment)
    assert "/v/" not in str(row).replace("/api/v1/", "")
    assert row.items() >= {"video": id, "name": "b.mp4", "start": 1.0, "end": 9.0}.items()
    assert row["thumbnail"] == f"/api/v1/videos/{id}/thumbnail?t=2.1"
    assert row["parts"] == [{"label": "cut", "start": 1.0, "end": 2.0, "confidence": "low"}]


@pytest.fixture
def cache(monkeypatch):
    monkeypatch.setattr(media, "MAX_CACHE", 35)
    cache = media.MediaCache()
    yield cache
    cache.close()
    assert not cache.folder.exists()


def test_of_too_many_files_those_used_longest_ago_are_dropped(cache):
    made = []

    def request(key, size=10):
        def make(path):
            made.append(key)
            path.write_bytes(b"x" * size)

        time.sleep(0.02)  # file systems count time in steps
        return cache._made(key, ".mp4", make)

    first, second, third = map(request, "abc")
    assert len({first, second, third}) == 3 and request("a") == first and made == list("abc")
    fourth = request("d")
    assert [path.exists() for path in (first, second, third, fourth)] == [True, False, True, True]
    assert request("b").exists() and made == list("abcdb")
    assert not third.exists() and first.exists()
    assert request("big", 99).exists()  # the newest stays, whatever its size
    assert len(list(cache.folder.iterdir())) == 1


def test_a_file_that_cannot_be_made_is_tried_again_and_made_once(cache):
    def fail(path):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache._made("a", ".mp4", fail)
    made, begin = [], threading.Barrier(3)

    def make(path):
        made.append(path)
        time.sleep(0.01)
        path.write_bytes(b"x")

    def request():
        begin.wait()
        cache._made("a", ".mp4", make)

    threads = [threading.Thread(target=request) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_whole_video_is_sent_as_it_is_remuxed_or_not_at_all(cache, tmp_path, monkeypatch):
    path = tmp_path / "a.mkv"
    path.write_bytes(b"whole")
    video, cuts = replace(VIDEO, path=str(path)), []

    def cut(source, start, end, out, **how):
        cuts.append((source, start, end, how))
        out.write_bytes(b"cut")

    monkeypatch.setattr(media, "cut_clip", cut)
    for playback, suffix, kind in (
        ("direct", ".webm", "video/webm"),
        ("remux", ".mp4", "video/mp4"),
    ):
        monkeypatch.setattr(media, "playback_of", lambda path, both=(playback, suffix): both)
        media._playback.cache_clear()
        for _ in range(2):
            answer = cache.whole(video)
            assert answer.media_type == kind
            content = Path(answer.path).read_bytes()
            assert content == (b"whole" if playback == "direct" else b"cut")
    assert cuts == [(path, 0.0, 60.0, {"fast": True})]
    monkeypatch.setattr(media, "playback_of", lambda path: ("transcode", ".mp4"))
    media._playback.cache_clear()
    with pytest.raises(HTTPException) as refused:
        cache.whole(video)
    assert refused.value.status_code == 415
    for span in ((0.0, 60.0), (1.25, 2.0)):
        assert Path(cache.clip(video, *span).path).read_bytes() == b"cut"
    assert cuts[1:] == [(path, 0.0, 60.0, {}), (path, 1.25, 2.0, {})]
    for wrong in ((2.0, 2.0), (-1.0, 2.0), (0.0, media.MAX_CLIP_SECONDS + 0.1)):
        with pytest.raises(HTTPException) as refused:
            cache.clip(video, *wrong)
        assert refused.value.status_code == 422
    path.unlink()
    for ask in (lambda: cache.whole(video), lambda: cache.clip(video, 0.0, 1.0)):
        with pytest.raises(HTTPException) as refused:
            ask()
        assert refused.value.status_code == 410
    media._playback.cache_clear()


def test_a_server_that_ends_cancels_its_jobs_and_removes_its_files(library):
    with serving(library) as client:
        client.get("/healthz")
        served = client.app.state.served
        folder = served.media.folder
        assert folder.exists()
        job = served.jobs.start("index", lambda job, on_progress: None)
    assert not folder.exists() and job.is_over
    with pytest.raises(RuntimeError):  # nothing is begun any more
        served.jobs.start("index", lambda job, on_progress: None)
