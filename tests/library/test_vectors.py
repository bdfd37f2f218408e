import gc
import os
import weakref

import numkong
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fork_server import run_script
from videoclip.errors import DataError
from videoclip.library import exact
from videoclip.library.vectors import MatrixStore
from videoclip.zeroshot.confidence import BIAS_UNIT, LibraryCalibration, hub_biases


def search_both_ways(store, *args):
    """Search by comparing every row, as a process does first, and by the int8 copy."""
    store = MatrixStore(store.path, store.dim)
    first, second = (store.search(*args) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    return second


def naive_search(matrix, query, k, allowed):
    similarities = matrix.astype(np.float16).astype(np.float64) @ query.astype(np.float64)
    return np.sort(similarities[allowed])[::-1][:k]


def filled(folder, matrix):
    store = MatrixStore(folder / "v.f16", matrix.shape[1])
    store.append(matrix)
    return store


@settings(deadline=None, max_examples=80)
@given(
    num_rows=st.integers(1, 400),
    num_queries=st.integers(1, 4),
    k=st.integers(1, 50),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    spread=st.sampled_from([1.0, 1e-3]),
    share=st.sampled_from([1.0, 0.5, 0.02]),
    seed=st.integers(0, 2**32 - 1),
)
def test_search_is_exact_however_close_the_rows_are(
    tmp_path_factory, num_rows, num_queries, k, scale, spread, share, seed
):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=24)  # with a small spread all rows are nearly the same vector
    matrix = (scale * (common + spread * rng.normal(size=(num_rows, 24)))).astype(np.float32)
    queries = rng.normal(size=(num_queries, 24)).astype(np.float32) * 5
    allowed = rng.random(num_rows) < share
    store = filled(tmp_path_factory.mktemp("v"), matrix)
    mask = None if share == 1.0 else allowed
    allowed = np.ones(num_rows, bool) if mask is None else mask
    similarities, rows = search_both_ways(store, queries, k, num_rows, mask)
    assert rows.shape == (num_queries, min(k, allowed.sum()))
    for i, query in enumerate(queries):
        assert allowed[rows[i]].all() and len(set(rows[i])) == rows.shape[1]
        naive = naive_search(matrix, query, k, allowed)
        np.testing.assert_allclose(similarities[i], naive, rtol=1e-4, atol=1e-4 * scale)


@settings(deadline=None, max_examples=80)
@given(
    num_rows=st.integers(1, 3000),
    num_queries=st.integers(1, 70),  # more than one scan takes
    k=st.integers(1, 50),
    share=st.sampled_from([1.0, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_rows_are_ordered_as_in_a_float32_scan(
    tmp_path_factory, num_rows, num_queries, k, share, seed
):
    rng = np.random.default_rng(seed)  # sums of small whole numbers are exact, and often equal
    matrix = rng.integers(-4, 5, (num_rows, 24)).astype(np.float32)
    matrix[rng.random(num_rows) < 0.2] = matrix[0]
    queries = rng.integers(-4, 5, (num_queries, 24)).astype(np.float32)
    allowed = None if share == 1.0 else rng.random(num_rows) < share
    store = filled(tmp_path_factory.mktemp("v"), matrix)
    similarities, rows = search_both_ways(store, queries, k, num_rows, allowed)
    naive = queries @ matrix.T
    if allowed is not None:
        naive[:, ~allowed] = -np.inf
    order = np.argsort(-naive, axis=1, kind="stable")[:, : rows.shape[1]]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(similarities, np.take_along_axis(naive, order, axis=1))


def test_many_blocks_give_what_one_gives(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(1000, 16)).astype(np.float32)
    queries = rng.normal(size=(5, 16)).astype(np.float32)
    store = filled(tmp_path, matrix)
    whole = search_both_ways(store, queries, 7, 1000)
    monkeypatch.setattr(exact, "ROWS_PER_CHUNK", 13)
    monkeypatch.setattr(exact, "ROWS_PER_BLOCK", 101)
    monkeypatch.setattr(exact, "QUERIES_PER_SCAN", 2)
    pieces = search_both_ways(store, queries, 7, 1000)
    np.testing.assert_array_equal(whole[1], pieces[1])
    np.testing.assert_array_equal(whole[0], pieces[0])
    one_by_one = [search_both_ways(store, query[None], 7, 1000)[1][0] for query in queries]
    np.testing.assert_array_equal(whole[1], one_by_one)


def test_threads_share_the_rows(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    store = filled(tmp_path, rng.normal(size=(3000, 16)).astype(np.float32))
    queries = rng.normal(size=(3, 16)).astype(np.float32)
    allowed = rng.random(3000) < 0.4
    alone = search_both_ways(store, queries, 9, 3000, allowed)
    monkeypatch.setattr(exact, "ROWS_PER_BLOCK", 128)
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shared = search_both_ways(store, queries, 9, 3000, allowed)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)
    np.testing.assert_array_equal(alone[1], shared[1])


@pytest.mark.parametrize("rows_per_chunk", [3, exact.ROWS_PER_CHUNK])
def test_int8_copy_follows_a_growing_file_and_bounds_its_error(
    tmp_path, monkeypatch, rows_per_chunk
):
    monkeypatch.setattr(exact, "ROWS_PER_BLOCK", 8)
    monkeypatch.setattr(exact, "ROWS_PER_CHUNK", rows_per_chunk)
    rng = np.random.default_rng(5)
    store = MatrixStore(tmp_path / "v.f16", 16)
    query = rng.normal(size=(1, 16)).astype(np.float32)
    matrix = np.empty((0, 16), np.float32)
    for num_new, size in [(3, 1.0), (9, 1.0), (1, 40.0), (12, 0.1)]:  # larger than at first, too
        new = (size * rng.normal(size=(num_new, 16))).astype(np.float32)
        store.append(new)
        matrix = np.concatenate((matrix, new))
        search_both_ways(store, query, 4, len(matrix))
        found = [store.search(query, 4, len(matrix))[0][0] for _ in range(2)][1]
        naive = naive_search(matrix, query[0], 4, np.ones(len(matrix), bool))
        np.testing.assert_allclose(found, naive, rtol=1e-3)
        index, seen = store._exact, []
        assert index.num_rows == len(matrix)
        for block in index._blocks:
            is_row = block.rows < exact.NO_ROW
            seen += block.rows[is_row].tolist()
            assert block.last_row == block.rows.max()
            rows = matrix[block.rows[is_row]].astype(np.float16) - index._centre
            codes = np.asarray(numkong.dots_packed(np.eye(16, dtype=np.int8), block.codes)).T
            assert np.abs(codes).max() <= 127 and not codes[~is_row].any()
            steps = np.tile(block.steps, exact.ROWS_PER_GROUP)[is_row, None]
            errors = rows / steps - codes[is_row]
            assert block.error == pytest.approx(np.linalg.norm(errors, axis=1).max(), rel=1e-4)
            assert block.error <= 16**0.5 / 2 * (1 + 1e-3)
            assert block.radius == pytest.approx(np.linalg.norm(rows, axis=1).max(), rel=1e-4)
        assert sorted(seen) == list(range(len(matrix)))


def test_rows_with_components_of_like_size_share_a_step():
    rng = np.random.default_rng(6)
    matrix = rng.normal(size=(70, 16)) * rng.choice([0.01, 1.0, 30.0], size=(70, 1))
    half = matrix.astype(np.float16)
    index = exact.ExactIndex(16)
    index.search(lambda rows: half[rows], np.ones((1, 16), np.float32), 1, 70)
    (block,) = index._blocks
    peaks = np.abs(half.astype(np.float32) - index._centre).max(axis=1)
    groups = block.rows.reshape(exact.ROWS_PER_GROUP, -1).T  # rows with ascending peaks
    order = np.argsort(peaks, kind="stable")
    np.testing.assert_array_equal(groups.ravel()[:70], order)
    for rows, step in zip(groups, block.steps, strict=True):
        assert step == pytest.approx(peaks[rows[rows < exact.NO_ROW]].max() / 127)


def test_biases_make_codes_hardly_coarser():
    """A search with biases compares at most a third more rows than one without."""
    rng = np.random.default_rng(0)

    def unit(*shape):
        vectors = rng.standard_normal(shape, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    windows, queries, scenes = unit(20_000, 384), unit(4, 384), unit(48, 384)
    none = np.zeros((0, 384), np.float32)
    calibration = LibraryCalibration(scenes, scenes, none, np.zeros(0, np.int64))
    biases = hub_biases(windows, scenes) / BIAS_UNIT

    def count_rows(matrix, prepared):
        half, read = matrix.astype(np.float16), []

        def read_rows(rows):
            read.append(len(rows))
            return half[rows]

        index = exact.ExactIndex(half.shape[1])
        index.search(read_rows, prepared, 60, len(half))  # makes the codes
        read.clear()
        index.search(read_rows, prepared, 60, len(half))
        return sum(read)

    rows = np.concatenate((windows, biases[:, None]), axis=1)
    with_biases = count_rows(rows, calibration.prepare(queries))
    assert with_biases < 4 / 3 * count_rows(windows, queries)


def test_an_older_view_of_a_grown_file_is_searched(tmp_path):
    matrix = np.random.default_rng(6).normal(size=(50, 16)).astype(np.float32)
    store = filled(tmp_path, matrix)
    before = store.search(matrix[:3], 5, 20)
    store.search(matrix[:3], 5, 50)
    np.testing.assert_array_equal(before[1], store.search(matrix[:3], 5, 20)[1])


def test_products_of_codes_are_exact_with_every_instruction_set():
    rng = np.random.default_rng(7)
    used = [name for name, on in numkong.get_capabilities().items() if on and name != "serial"]
    turned_off = []
    try:
        for name in ["", *reversed(used)]:
            if name:
                numkong.disable_capability(name)
                turned_off.append(name)
            for dim, num in [(24, 1), (384, 5), (513, 33)]:
                queries = rng.integers(-127, 128, (num, dim), dtype=np.int8)
                rows = rng.integers(-127, 128, (100, dim), dtype=np.int8)
                queries[0], rows[:2] = 127, [[127], [-127]]
                products = np.asarray(numkong.dots_packed(queries, numkong.dots_pack(rows)))
                np.testing.assert_array_equal(products, queries.astype(int) @ rows.astype(int).T)
    finally:
        for name in turned_off:
            numkong.enable_capability(name)


def test_rows_beyond_the_known_ones_are_ignored(tmp_path):
    store = filled(tmp_path, np.eye(4, dtype=np.float32))
    similarities, rows = store.search(np.ones((1, 4), np.float32), 10, 2)
    assert sorted(rows[0]) == [0, 1] and (similarities == 1).all()
    assert store.search(np.ones((1, 4), np.float32), 3, 0)[1].shape == (1, 0)
    assert store.search(np.ones((1, 4), np.float32), 3, 4, np.zeros(4, bool))[1].shape == (1, 0)


def test_any_number_of_known_rows_is_searched_after_more_were_copied(tmp_path):
    number = exact.ROWS_PER_GROUP  # no place of the copy is empty
    matrix = np.random.default_rng(0).normal(size=(number, 4)).astype(np.float16).astype(np.float32)
    store, queries = filled(tmp_path, matrix), matrix[:3]
    store._exact.search(store._read_rows, queries, 5, number)  # copies all rows
    for num_rows in range(1, number + 1):
        expected = np.argsort(-(queries @ matrix[:num_rows].T), axis=1, kind="stable")
        rows = store.search(queries, num_rows, num_rows)[1]
        np.testing.assert_array_equal(rows, expected)
        # Also where a row beyond them is the most similar one.
        assert store._exact.search(store._read_rows, matrix, 1, num_rows)[1].max() < num_rows


def test_what_others_append_is_seen(tmp_path):
    store = filled(tmp_path, np.eye(3, dtype=np.float32))
    store.read(0, 3)
    assert MatrixStore(store.path, 3).append(np.full((2, 3), 2.0, np.float32)) == 3
    np.testing.assert_array_equal(store.read(3, 2), np.full((2, 3), 2.0))


def test_a_broken_row_at_the_end_is_written_over(tmp_path):
    store = filled(tmp_path, np.eye(3, dtype=np.float32))
    with store.path.open("ab") as file:
        file.write(b"12345")
    assert store.num_rows == 3
    assert store.append(np.full((1, 3), 7.0, np.float32)) == 3
    np.testing.assert_array_equal(store.read(3, 1), [[7.0, 7.0, 7.0]])
    assert store.path.stat().st_size == 4 * 3 * 2


def test_what_does_not_fit_half_precision_is_refused(tmp_path):
    store = filled(tmp_path, np.eye(3, dtype=np.float32))
    for bad in (np.nan, np.inf, 1e6):
        with pytest.raises(DataError, match="not finite"):
            store.append(np.full((1, 3), bad, np.float32))
    assert store.num_rows == 3


def test_a_short_file_is_reported_with_what_to_do(tmp_path):
    store = filled(tmp_path, np.eye(3, dtype=np.float32))
    with pytest.raises(DataError, match=r"holds 3 of the 9 .*--rebuild"):
        store.read(0, 9)
    assert store.read(1, 0).shape == (0, 3)
    with pytest.raises(DataError, match=r"holds 0 of the 2 .*--rebuild"):
        MatrixStore(tmp_path / "missing.f16", 3).read(0, 2)


def test_a_file_that_shrinks_while_it_is_read_is_reported(tmp_path):
    matrix = np.random.default_rng(7).normal(size=(40, 3)).astype(np.float32)
    store = filled(tmp_path, matrix)
    assert store.read(0, 40).shape == (40, 3)
    allowed = np.zeros(40, bool)
    allowed[[2, 39]] = True  # so few that they are read one by one
    os.truncate(store.path, 39 * 3 * 2 + 1)
    with pytest.raises(DataError, match=r"holds 39 of the 40 vectors.*--rebuild"):
        store.read(30, 10)
    with pytest.raises(DataError, match=r"holds 39 of the 40 vectors.*--rebuild"):
        store.search(matrix[:1], 2, 40, allowed)
    with pytest.raises(DataError, match=r"holds 39 of the 40 vectors.*--rebuild"):
        store.search(matrix[:1], 2, 40)


def test_rewrite_keeps_only_the_ranges(tmp_path):
    matrix = np.arange(30, dtype=np.float32).reshape(10, 3)
    new = filled(tmp_path, matrix).rewrite(tmp_path / "new.f16", [(1, 2), (7, 3)])
    np.testing.assert_array_equal(new.read(0, 5), matrix[[1, 2, 7, 8, 9]])


def test_memory_stays_that_of_the_file(tmp_path):
    """A search keeps an int8 copy of the file, and reads it in small pieces."""
    store = filled(tmp_path, np.zeros((1, 64), np.float32))
    with store.path.open("ab") as file:
        os.truncate(file.fileno(), 64 * 2 * 300_000)  # 38 MB
    script = (
        "import resource, sys, numpy as np\n"
        "from videoclip.library.vectors import MatrixStore\n"
        "store = MatrixStore(sys.argv[1], 64)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for _ in range(2):\n"  # the first makes the copy
        "    store.search(np.ones((1, 64), np.float32), 10, 300_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    status, output = run_script(script, store.path)
    assert status == 0, output
    assert int(output) / 1024 < 38 * 1.6  # the copy is half of it


def test_vectors_are_on_the_disk_when_they_are_added(tmp_path, disk_calls):
    store = MatrixStore(tmp_path / "vectors.f16", 4)
    for number in (1, 2):
        store.append(np.ones((3, 4), np.float32))
        whole = (number * 3 * np.ones(4, np.float16).nbytes) * b"x"
        assert [(call, name) for call, name, _ in disk_calls] == [
            ("sync", "vectors.f16"),
            *([("sync", ".")] if number == 1 else []),  # the name of the new file
        ]
        assert len(disk_calls[0][2]) == len(whole)
        disk_calls.clear()


def test_a_store_that_is_dropped_closes_its_file_at_once(tmp_path):
    store = filled(tmp_path, np.eye(4, dtype=np.float32))
    gc.disable()  # a library on a disk that is to be unmounted cannot wait for it
    try:
        store.search(np.eye(4, dtype=np.float32), 1, 4, exact=True)
        dropped = weakref.ref(store)
        del store
        assert dropped() is None
    finally:
        gc.enable()


def test_half_precision_is_converted_exactly():
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(exact.to_float32(half), half.astype(np.float32))
