"""The approximate index against an exact search: what it may miss, and what it never may."""

import numpy as np
import pytest

from tests.library.colours import write_video
from videoclip.errors import DataError
from videoclip.library import approximate, vectors
from videoclip.library.search import SearchOptions
from videoclip.library.vectors import MatrixStore

faiss = pytest.importorskip("faiss", reason="needs the extra `ann`")
DIM, ROWS, K = 16, 6000, 10


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(approximate, "MIN_ROWS", 1000)


@pytest.fixture
def queries():
    return np.random.default_rng(1).normal(size=(30, DIM)).astype(np.float32)


@pytest.fixture
def store(tmp_path, small, queries):
    rng = np.random.default_rng(0)
    store = MatrixStore(tmp_path / "vectors-0.f16", DIM)
    store.append(rng.normal(size=(ROWS, DIM)).astype(np.float32))
    store.refresh_index(queries, ROWS)
    names = {file.name for file in tmp_path.iterdir()} - {"vectors-0.lock"}
    assert names == {"vectors-0.f16", "vectors-0.ivf"}
    return store


def recall(store, queries, num_rows=ROWS, allowed=None):
    exact = store.search(queries, K, num_rows, allowed, exact=True)
    near = store.search(queries, K, num_rows, allowed)
    assert near[0].shape == exact[0].shape and (np.diff(near[0], axis=1) <= 0).all()
    for i, query in enumerate(queries):  # whatever is found is compared exactly
        rows = np.concatenate([store.read(row, 1) for row in near[1][i]])
        np.testing.assert_allclose(near[0][i], rows @ query, rtol=1e-5, atol=1e-5)
    return np.mean([np.isin(*pair).mean() for pair in zip(exact[1], near[1], strict=True)])


def test_it_finds_nearly_what_an_exact_search_finds(store):
    others = np.random.default_rng(2).normal(size=(50, DIM)).astype(np.float32)
    assert recall(store, others) >= 0.9
    assert MatrixStore(store.path, DIM).index.open().ntotal == ROWS


@pytest.mark.parametrize("share", [0.5, 0.1, 0.03, 0.001])
def test_only_what_is_allowed_is_found(store, queries, share):
    allowed = np.random.default_rng(3).random(ROWS) < share
    found = store.search(queries, K, ROWS, allowed)[1]
    assert allowed[found].all() and found.shape == (30, min(K, allowed.sum()))
    assert recall(store, queries, allowed=allowed) >= 0.9


def test_rows_added_since_are_found_exactly_and_later_indexed(store, queries):
    new = 9 * queries[:5] / np.linalg.norm(queries[:5], axis=1, keepdims=True)
    assert store.append(new) == ROWS
    assert store.search(queries[:5], 1, ROWS + 5)[1][:, 0].tolist() == list(range(ROWS, ROWS + 5))
    assert ROWS not in store.search(queries[:1], K, ROWS)[1]  # an older view of the library
    assert ROWS not in store.search(queries[:1], K, ROWS + 5, np.arange(ROWS + 5) != ROWS)[1]
    store.refresh_index(queries, ROWS + 5)
    assert store.index.open().ntotal == ROWS  # too few to write the file anew
    store.append(np.random.default_rng(4).normal(size=(500, DIM)).astype(np.float32))
    store.refresh_index(queries, ROWS + 505)
    assert store.index.open().ntotal == ROWS + 505
    assert store.search(queries[:5], 1, ROWS + 505)[1][:, 0].tolist() == list(range(ROWS, ROWS + 5))
    assert store.search(queries[:1], 1, ROWS)[1][0, 0] < ROWS  # covered, but not yet there
    assert recall(store, queries, ROWS + 505) >= 0.9


def test_a_small_file_gets_none(tmp_path, queries):
    store = MatrixStore(tmp_path / "v.f16", DIM)
    store.append(queries)
    store.refresh_index(queries, 30)
    assert not store.index.path.exists()


def test_a_broken_index_is_reported(store, queries):
    store.index.path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="delete it"):
        store.search(queries, K, ROWS)
    assert store.search(queries, K, ROWS, exact=True)[1].shape == (30, K)


def test_one_process_builds_at_a_time(store, queries, monkeypatch):
    store.index.path.unlink()
    built = []
    monkeypatch.setattr(store, "build_index", lambda *_: built.append(1))
    with approximate.FileLock(store.index.path.with_suffix(".lock")):
        MatrixStore.refresh_index(store, queries, ROWS)
    assert not built


def test_a_library_keeps_its_index_through_pruning_and_compaction(library, videos, monkeypatch):
    monkeypatch.setattr(approximate, "MIN_ROWS", 1)
    monkeypatch.setattr(approximate, "SAMPLES_PER_LIST", 2)
    for number, colour in enumerate(["red", "blue", "green", "yellow"]):
        write_video(videos / f"more{number}.mp4", [colour] * 40 + ["white"] * 5)
    library.update(videos)
    index_path = library._catalog.vectors().index.path
    assert index_path.exists()
    both = [library.search_many(["red", "yellow"], SearchOptions(exact=e)) for e in (False, True)]
    assert both[0] == both[1]
    (videos / "more0.mp4").unlink()
    library.update(videos, prune=True)
    assert all(m.video_id != "more0" for m in library.search("red", 20))
    library.compact()
    assert not library._catalog.vectors().index.path.exists()
    assert library.search("yellow", 1)[0].video_id in ("b", "more3")
    library.update(videos)
    assert library._catalog.vectors().index.path.exists()
    library.compact()
    assert not index_path.exists()


@pytest.mark.parametrize("known", [ROWS - 1000, ROWS])
def test_lists_are_chosen_by_an_exact_search_of_the_rows_that_are_known(
    store, queries, monkeypatch, known
):
    """Not by what the index finds itself, and not by rows that others have added since."""
    asked = []
    matrix = store.read(0, ROWS)
    monkeypatch.setattr(vectors, "build_index", lambda *what: asked.append(what))
    wrong = np.tile(np.arange(vectors.RECALL_OF), (len(queries), 1))
    monkeypatch.setattr(vectors, "find_candidates", lambda *_: wrong)
    store.build_index(queries, known)
    ((rows, path, given, exact),) = asked
    assert path == store.index.path and given is queries
    assert np.array_equal(rows, matrix[:known].astype(np.float16))
    best = -np.sort(-(queries @ matrix[:known].T), axis=1)[:, : exact.shape[1]]
    assert exact.shape[1] == vectors.RECALL_OF
    np.testing.assert_allclose(exact, best, rtol=1e-4, atol=1e-4)
