import json
import os
import pickle
import signal
import subprocess
import sys
import time
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.data import feature_store
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import ConfigError, DataError, IndexMismatchError

SPEC = FeatureSpec(
    dim=4, features_per_second=1.0, backbone="toy", normalized=False, fingerprint="f1"
)
any_character = st.characters(exclude_categories=["Cs"])
"""What `st.text` draws from by default, found without encoding every character there is."""


def rows(num_rows, value=1.0):
    return np.full((num_rows, 4), value, dtype=np.float16)


@pytest.fixture
def store(tmp_path):
    with FeatureStore.create(tmp_path / "store", SPEC) as store:
        yield store


def test_what_goes_in_comes_out(store):
    features = np.arange(20, dtype=np.float32).reshape(5, 4)
    store.append("a", features)
    store.append("b c/ü", rows(2))
    assert store.video_ids == ["a", "b c/ü"]
    assert len(store) == 2
    assert "a" in store
    assert "x" not in store
    assert store.num_features("a") == 5
    assert store.read("a").dtype == np.float16
    np.testing.assert_array_equal(store.read("a"), features)
    np.testing.assert_array_equal(store.read("a", 1, 3), features[1:3])
    np.testing.assert_array_equal(store.read("a", 3, 99), features[3:])
    assert store.read("a", 4, 2).shape == (0, 4)
    assert repr(store).endswith("2 videos, toy 4-d at 1/s)")
    store.verify()


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(any_character, min_size=1).filter(lambda text: text.isprintable()),
        st.integers(1, 9),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_a_store_is_a_dictionary_of_arrays(tmp_path_factory, lengths, random):
    folder = tmp_path_factory.mktemp("store")
    naive = {
        name: np.random.default_rng(n).normal(size=(n, 4)).astype(np.float16)
        for n, name in enumerate(lengths, start=1)
    }
    with FeatureStore.create(folder, SPEC) as store:
        for name, features in naive.items():
            store.append(name, features)
    with FeatureStore.open(folder) as store:
        assert store.video_ids == list(naive)
        windows = []
        for name, features in naive.items():
            start, stop = sorted(random.randint(0, len(features)) for _ in range(2))
            windows.append((name, start, stop))
            np.testing.assert_array_equal(store.read(name), features)
        for (name, start, stop), window in zip(windows, store.read_windows(windows), strict=True):
            np.testing.assert_array_equal(window, naive[name][start:stop])


@pytest.mark.parametrize("flag", [0, 1 << 30], ids=["unknown", "refused"])
def test_windows_that_are_not_in_memory_are_read_from_the_disk(store, monkeypatch, flag):
    """As on a system that cannot tell what is in memory, or has nothing of it there."""
    store.append("a", np.arange(20).reshape(5, 4))
    monkeypatch.setattr(feature_store, "RWF_NOWAIT", flag)
    windows = store.read_windows([("a", 1, 3), ("a", 0, 5), ("a", 2, 2)])
    assert [window[:, 0].tolist() for window in windows] == [[4, 8], [0, 4, 8, 12, 16], []]


def test_windows_beyond_the_end_are_refused(store):
    store.append("a", rows(3))
    for start, stop in [(0, 4), (-1, 2), (2, 1)]:
        with pytest.raises(DataError, match="not within the 3 features of 'a'"):
            store.read_windows([("a", start, stop)])


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (np.ones((3, 5)), r"of shape \(3, 5\) instead of \(T, 4\)"),
        (np.ones(4), "of shape"),
        (np.ones((0, 4)), "of shape"),
        (np.full((2, 4), np.nan), "not finite"),
        (np.full((2, 4), 1e6), "too large for float16"),
    ],
)
def test_unfit_features_are_refused(store, features, problem):
    with pytest.raises(DataError, match=problem):
        store.append("a", features)
    assert len(store) == 0
    store.append("a", rows(1))


def test_names_are_refused_when_empty_or_taken(store):
    with pytest.raises(DataError, match="empty video id"):
        store.append("", rows(1))
    store.append("a", rows(1))
    with pytest.raises(DataError, match="'a' is in the store already"):
        store.append("a", rows(1))
    with pytest.raises(DataError, match="no video 'b' in the store"):
        store.read("b")


def test_names_that_are_not_utf8_survive(store):
    name = os.fsdecode(b"\xff")
    store.append(name, rows(1))
    with FeatureStore.open(store.folder) as again:
        assert again.video_ids == [name]


def test_opening_what_is_not_there_or_is_there(tmp_path, store):
    with pytest.raises(DataError, match="no feature store; 'videoclip extract' makes one"):
        FeatureStore.open(tmp_path)
    with pytest.raises(DataError, match="already"):
        FeatureStore.create(store.folder, SPEC)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot make a feature store"):
        FeatureStore.create(tmp_path / "file" / "store", SPEC)


def test_another_spec_is_refused_with_what_differs(store):
    other = FeatureSpec(
        dim=8, features_per_second=1.0, backbone="s3d", normalized=False, fingerprint="f1"
    )
    with pytest.raises(IndexMismatchError, match="dim 4, not 8; backbone 'toy', not 's3d'"):
        FeatureStore.open_or_create(store.folder, other)
    with FeatureStore.open_or_create(store.folder, SPEC) as same:
        assert same.spec == SPEC


def test_senseless_specs_are_refused():
    for dim, rate in [(0, 1.0), (4, 0.0), (4, float("nan"))]:
        with pytest.raises(ConfigError):
            FeatureSpec(dim, rate, "toy", False, "")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "does not describe"),
        ("[" * 100_000, "does not describe features .JSON is nested too deeply"),
        ("[]", "does not describe"),
        ('{"format": 1}', "does not describe"),
        ('{"format": 1, "spec": {"dim": 0}}', "does not describe"),
        ('{"format": 9, "spec": {}}', "format 9 is not known"),
    ],
)
def test_a_damaged_description(store, content, problem):
    (store.folder / "store.json").write_text(content)
    with pytest.raises(DataError, match=problem):
        FeatureStore.open(store.folder)


def test_readers_see_what_others_append_after_a_refresh(store):
    reader = FeatureStore.open(store.folder)
    store.append("a", rows(3, 7.0))
    assert "a" not in reader
    reader.refresh()
    np.testing.assert_array_equal(reader.read("a"), rows(3, 7.0))
    reader.close()
    reader.close()


def test_two_writers_take_turns(store):
    other = FeatureStore.open(store.folder)
    store.append("a", rows(3, 1.0))
    other.append("b", rows(2, 2.0))
    store.append("c", rows(1, 3.0))
    other.refresh()
    assert other.video_ids == store.video_ids == ["a", "b", "c"]
    with pytest.raises(DataError, match="already"):
        other.append("c", rows(1))
    other.verify()
    other.close()


def _append_many(folder, name):
    with FeatureStore.open(folder) as store:
        for number in range(20):
            store.append(f"{name}{number}", rows(1 + number % 3, number))


def test_two_processes_may_write_at_once(store):
    context = get_context("fork")
    processes = [context.Process(target=_append_many, args=(store.folder, n)) for n in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    store.refresh()
    assert len(store) == 40
    store.verify()
    assert all((store.read(f"{n}{i}") == i).all() for n in "ab" for i in range(20))


def test_a_reader_pickles_as_its_folder(store):
    store.append("a", rows(2))
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.read("a"), rows(2))
    again.close()


WRITER = """
import sys, numpy as np
from videoclip.data.feature_store import FeatureStore
store = FeatureStore.open(sys.argv[1])
number = len(store)
while True:
    store.append(f"v{number}", np.full((1 + number % 50, 4), number % 100, np.float16))
    print(number, flush=True)
    number += 1
"""


def test_killed_at_any_moment_nothing_is_lost(store):
    """What the killed writer had reported is there, in full; the next writer goes on."""
    told = -1
    for round_ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, store.folder], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline()
        time.sleep(0.01 + 0.037 * round_)
        writer.send_signal(signal.SIGKILL)
        told = max([told, *map(int, writer.stdout.read().split())])
        writer.stdout.close()
        writer.wait()
        store.refresh()
        store.verify()
        assert len(store) > told
    for number, name in enumerate(store.video_ids):
        assert name == f"v{number}"
        assert (store.read(name) == number % 100).all()


@pytest.mark.parametrize("num_bytes", range(0, 32, 5))
def test_an_unfinished_append_is_dropped(store, num_bytes):
    store.append("a", rows(3, 1.0))
    before = (store.folder / "index.bin").read_bytes()
    store.append("b", rows(3, 2.0))
    after = (store.folder / "index.bin").read_bytes()
    (store.folder / "index.bin").write_bytes(after[: len(before) + num_bytes])
    with FeatureStore.open(store.folder) as again:
        assert again.video_ids == ["a"]
        again.append("c", rows(1, 3.0))
        again.verify()
    with FeatureStore.open(store.folder) as again:
        assert again.video_ids == ["a", "c"]


def test_room_for_a_record_that_never_came(store):
    store.append("a", rows(3))
    with (store.folder / "index.bin").open("ab") as file:
        file.write(bytes(32))
    with FeatureStore.open(store.folder) as again:
        again.append("b", rows(1))
        assert again.video_ids == ["a", "b"]


@pytest.mark.parametrize("name", ["index.bin", "names.bin"])
def test_a_damaged_index_is_named(store, name):
    store.append("a", rows(3))
    store.append("b", rows(3))
    content = bytearray((store.folder / name).read_bytes())
    content[0] ^= 1
    (store.folder / name).write_bytes(content)
    with pytest.raises(DataError, match=r"index\.bin: record 0 is damaged; restore the folder"):
        FeatureStore.open(store.folder)


def test_damaged_features_are_named(store):
    store.append("a", rows(3))
    content = bytearray((store.folder / "features.bin").read_bytes())
    content[5] ^= 1
    (store.folder / "features.bin").write_bytes(content)
    with pytest.raises(DataError, match="features of 'a' are damaged; restore"):
        store.verify()


def test_lost_features_are_named(store):
    store.append("a", rows(3))
    reader = FeatureStore.open(store.folder)
    os.truncate(store.folder / "features.bin", 16)
    with pytest.raises(DataError, match="ends after 2 of 3 features; restore"):
        FeatureStore.open(store.folder)
    with pytest.raises(DataError, match="has become shorter"):
        reader.read("a")
    reader.close()
    (store.folder / "features.bin").unlink()
    with pytest.raises(DataError, match="cannot read it: No such file"):
        FeatureStore.open(store.folder)


def test_a_full_disk_changes_nothing(store, monkeypatch):
    store.append("a", rows(2))

    def full(handle, data, offset):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DataError, match="cannot add 'b': No space left on device"):
            store.append("b", rows(2))
    assert store.video_ids == ["a"]
    store.append("b", rows(2))
    store.verify()


def test_the_description_is_readable(store):
    content = json.loads((store.folder / "store.json").read_text())
    assert content["spec"]["backbone"] == "toy"


def test_a_store_that_is_opened_again_finds_entries(store):
    store.append("a", rows(2, 1.0))
    store.append("b", rows(3, 2.0))
    with FeatureStore.open(store.folder) as again:
        assert again.num_features("b") == 3
        np.testing.assert_array_equal(again.read("b"), rows(3, 2.0))
        assert again.checksum("b") == store.checksum("b")


def test_rows_and_name_are_on_the_disk_before_the_record_that_points_to_them(store, disk_calls):
    def sizes():
        files = ("features.bin", "names.bin", "index.bin")
        return tuple((store.folder / name).stat().st_size for name in files)

    disk_calls.looks = sizes
    rows, names, records = sizes()
    store.append("new", np.zeros((5, store.spec.dim)))
    after = rows + 5 * 2 * store.spec.dim, names + len("new"), records + feature_store.RECORD_BYTES
    folder = store.folder.name
    assert disk_calls == [
        ("sync", f"{folder}/features.bin", (after[0], names, records)),
        ("sync", f"{folder}/names.bin", (*after[:2], records)),
        ("sync", f"{folder}/index.bin", after),
    ]


def test_the_files_of_a_new_store_are_on_the_disk_with_its_description(tmp_path, disk_calls):
    FeatureStore.create(tmp_path / "s", FeatureSpec(2, 1.0, "made", False, "f"))
    files = ["features.bin", "index.bin", "names.bin", "store.json"]
    assert disk_calls[-1] == ("sync", "s", files)
