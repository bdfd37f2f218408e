"""One contract for both kinds of storage; they give the same results."""

import importlib.util
import uuid

import numpy as np
import pytest

from tests.library.colours import NAMES, ColourEmbedder, write_video
from tests.s3_server import S3
from tests.s3_server import bucket as bucket
from videoclip.errors import ConfigError, DataError, IndexMismatchError, MissingExtraError
from videoclip.library import storage as storage_module
from videoclip.library.library import VideoLibrary, stored_facts
from videoclip.library.search import SearchOptions
from videoclip.library.storage import kind_of, open_catalog

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(boto|moto|werkzeug|flask).*")
LANCE = pytest.mark.skipif(
    importlib.util.find_spec("lancedb") is None,
    reason="needs the extra `lance`; `make test-all` installs it",
)


@pytest.fixture(
    params=["sqlite", pytest.param("lance", marks=LANCE), pytest.param("s3", marks=[LANCE, S3])]
)
def opened(request, tmp_path, monkeypatch):
    """Open one and the same library, again and again, as on another machine each time."""
    kind = None if request.param == "s3" else request.param
    address = tmp_path / "library"
    if request.param == "s3":
        address = f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"
    machines = iter(range(100))
    libraries = []

    def open_one(embedder=None, **options):
        if request.param == "s3":
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine-{next(machines)}"))
        embedder = embedder or ColourEmbedder()
        libraries.append(VideoLibrary(address, embedder, model="colours", store=kind, **options))
        return libraries[-1]

    open_one.address = address
    yield open_one
    for library in libraries:
        library.close()


def test_everything_a_library_does(opened, videos, tmp_path):
    assert not kind_of(opened.address)
    with pytest.raises(DataError, match="make one with"):
        stored_facts(opened.address)
    library = opened()
    table = tmp_path / "cameras.csv"
    table.write_text("video,camera\na,left\nb,right\n")
    assert len(library.update(videos, metadata=table).added) == 3
    assert kind_of(opened.address) and stored_facts(opened.address)["model"] == "colours"

    other = opened()  # on another machine
    assert len(other) == 3 and other.search("yellow", 1)[0].video_id == "b"
    assert other.search("chop onions", 1, vision=0.0)[0].words.startswith("Now we are chopping")
    assert {m.video_id for m in other.search("red", 9, where="camera = 'left'")} == {"a"}
    assert other.metadata(videos / "b.mp4") == {"camera": "right"}

    write_video(videos / "new.mp4", ["yellow"] * 6)
    (videos / "a.mp4").rename(videos / "moved.mp4")
    (videos / "sub" / "c d.mp4").unlink()
    report = library.update(videos, prune=True)
    assert [len(report.added), len(report.moved), len(report.removed)] == [1, 1, 1]
    assert not report.failed
    assert {video.video_id for video in other.videos()} == {"moved", "b", "new"}
    assert {m.video_id for m in other.search("yellow", 2)} == {"b", "new"}
    assert other.update(videos).unchanged == 3  # and what it commits is seen by the first
    (videos / "b.en.vtt").unlink()
    other.update(videos)
    assert library.search("chop onions", 1, vision=0.0) == []

    library.compact()
    for one in (library, other, opened()):
        assert one.search("red", 1)[0].video_id == "moved"
        assert one.search("white", 9) and all(m.video_id != "c d" for m in one.search("white", 9))


def test_both_rank_alike(opened, videos, tmp_path):
    library, reference = opened(), VideoLibrary(tmp_path / "reference", ColourEmbedder())
    for one in (library, reference):
        one.update(videos)
    options = SearchOptions(top_k=20)
    for where in (None, "duration > 20"):
        pairs = zip(
            library.search_many(NAMES, options, where=where),
            reference.search_many(NAMES, options, where=where),
            strict=True,
        )
        for ours, theirs in pairs:
            assert [(m.path, m.start, m.end) for m in ours] == [
                (m.path, m.start, m.end) for m in theirs
            ]
    passages = opened()._snapshot().passages.vectors, reference._snapshot().passages.vectors
    assert len(passages[0]) and np.array_equal(*passages)
    reference.close()


def test_vectors_are_read_and_found_as_by_plain_numpy(opened, videos, tmp_path):
    library, reference = opened(), VideoLibrary(tmp_path / "reference", ColourEmbedder())
    parts = []
    for one in (library, reference):
        one.update(videos)
        vectors, known = one._catalog.vectors(), sorted(one._catalog.videos(), key=lambda v: v.path)
        parts.append([vectors.map_half(v.first_row, v.num_windows) for v in known])
    reference.close()
    for ours, theirs in zip(*parts, strict=True):
        assert ours.dtype == np.float16 and np.array_equal(ours, theirs)
    vectors, known = library._catalog.vectors(), library._catalog.videos()
    num_rows = library._snapshot().num_rows
    matrix = np.full((num_rows, vectors.dim), np.nan, np.float32)
    for video in known:
        matrix[video.first_row :][: video.num_windows] = vectors.read(
            video.first_row, video.num_windows
        )
    queries = np.random.default_rng(0).normal(size=(3, vectors.dim)).astype(np.float32)
    similarities = np.where(np.isnan(matrix[:, 0]), -np.inf, queries @ matrix.T)
    one_video = np.zeros(num_rows, dtype=bool)
    one_video[known[1].first_row :][: known[1].num_windows] = True
    for allowed in (None, one_video, ~one_video, np.zeros(num_rows, dtype=bool)):
        some = similarities if allowed is None else np.where(allowed, similarities, -np.inf)
        for k in (1, 4, 10 * num_rows):
            num_found = min(k, int(np.isfinite(some[0]).sum()))
            values, rows = vectors.search(queries, k, num_rows, allowed)
            assert rows.shape == values.shape == (3, num_found)
            best = -np.sort(-some, axis=1)[:, :num_found]
            np.testing.assert_allclose(values, best, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(
                np.take_along_axis(some, rows, axis=1), values, rtol=1e-3, atol=1e-3
            )
        none = vectors.search(queries[:0], 3, num_rows, allowed)
        assert [len(part) for part in none] == [0, 0]
        assert [part.dtype for part in none] == [np.float32, np.int64]


@LANCE
def test_windows_are_read_in_their_order_however_they_are_stored(tmp_path, videos):
    with VideoLibrary(tmp_path / "l", ColourEmbedder(), model="colours", store="lance") as library:
        library.update(videos)
        vectors, video = library._catalog.vectors(), library._catalog.videos()[0]
        before = vectors.map_half(video.first_row, video.num_windows)
        table, key = vectors._table, vectors._keys.key[video.first_row]
        rows = table.search().where(f"key = '{key}'").limit(video.num_windows).to_arrow()
        table.delete(f"key = '{key}'")
        table.add(rows.take(np.arange(len(rows))[::-1]))
        found = vectors.map_half(video.first_row, video.num_windows)
        assert np.array_equal(found, before) and len(before) > 1
        with pytest.raises(DataError, match=f"holds {len(rows)} of the {len(rows) + 1} vectors"):
            vectors.map_half(video.first_row, video.num_windows + 1)


def test_another_model_is_refused_until_it_is_rebuilt(opened, videos):
    opened().update(videos)
    other = ColourEmbedder("other")
    with pytest.raises(IndexMismatchError, match="--rebuild"):
        opened(other)
    rebuilt = opened(other, rebuild=True)
    assert len(rebuilt) == 0
    rebuilt.update(videos)
    assert opened(other).search("yellow", 1)[0].video_id == "b"


def test_vectors_without_a_commit_belong_to_nobody(opened, videos):
    library = opened()
    library.update(videos)
    vectors = library._catalog.vectors()
    stray = np.zeros((5, vectors.dim), dtype=np.float32)
    stray[:, 0] = 9.0  # closer to "red" than anything else
    vectors.append(stray)
    before = library.search("red", 5)
    assert opened().search("red", 5) == before
    with library._lock:
        library._catalog.compact()
    assert [m.path for m in opened().search("red", 5)] == [m.path for m in before]
    num_rows = library._snapshot().num_rows
    nearest = library._catalog.vectors().search(stray[:1], 1, num_rows)[0]
    assert nearest[0, 0] < 10  # the strays would be at 81


def test_a_new_library_without_videos_leaves_nothing(opened, tmp_path):
    library = opened()
    assert kind_of(opened.address) and library.update(tmp_path / "absent.mp4").failed
    library.close()
    assert not kind_of(opened.address)
    assert not (tmp_path / "library").exists()


@LANCE
def test_two_machines_add_videos_at_once(opened, videos):
    first, second = opened(), opened()
    first.update(videos / "a.mp4")
    second.update(videos / "b.mp4")
    first.update(videos / "sub")
    for one in (first, second, opened()):
        assert {video.video_id for video in one.videos()} == {"a", "b", "c d"}
        assert one.search("white", 1)[0].video_id == "c d"


@LANCE
def test_a_library_of_the_other_kind_is_reported(tmp_path):
    VideoLibrary(tmp_path, ColourEmbedder()).close()
    with pytest.raises(ConfigError, match="is stored in sqlite"):
        open_catalog(tmp_path, "lance")


@LANCE
def test_object_storage_that_cannot_be_reached_is_a_clear_error(monkeypatch):
    import lancedb

    def fail(address):
        raise RuntimeError("S3 error: no such bucket, /home/x/.cargo/lance/io.rs:319:13")

    monkeypatch.setattr(lancedb, "connect", fail)
    with pytest.raises(
        DataError, match=r"failed \(S3 error: no such bucket\): check the disk, the"
    ):
        VideoLibrary.open("s3://bucket/library", must_exist=True)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(storage_module.importlib.util, "find_spec", lambda name: None)
    for address, kind in (("s3://bucket/library", None), (tmp_path, "lance")):
        with pytest.raises(MissingExtraError, match=r"videoclip\[lance\]"):
            open_catalog(address, kind)
