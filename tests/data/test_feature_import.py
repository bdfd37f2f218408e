import numpy as np
import pytest

from videoclip.config import ConvertOptions
from videoclip.conversion import find_arrays, import_features, spec_of_arrays
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import DataError


def import_folder(folder, store):
    return import_features(find_arrays(folder), store)


@pytest.fixture
def store(tmp_path):
    with FeatureStore.create(tmp_path / "store", FeatureSpec(2, 1.0, "s3d", False, "")) as store:
        yield store


def test_a_folder_of_arrays(tmp_path, store):
    np.save(tmp_path / "b.npy", np.ones((3, 2), np.float32))
    np.save(tmp_path / "a.npy", np.zeros((1, 2), np.float16))
    assert import_folder(tmp_path, store) == ["a", "b"]
    assert import_folder(tmp_path, store) == []
    np.testing.assert_array_equal(store.read("b"), np.ones((3, 2)))


def test_bad_numbers_are_named_and_good_ones_stay(tmp_path, store):
    np.save(tmp_path / "a.npy", np.ones((1, 2)))
    np.save(tmp_path / "b.npy", np.full((1, 2), np.nan))
    with pytest.raises(DataError, match=r"b\.npy: not imported: .*not finite"):
        import_folder(tmp_path, store)
    assert store.video_ids == ["a"]


HUGE = b"\x93NUMPY\x01\x00v\x00" + (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 512), }".ljust(117) + b"\n"
)


@pytest.mark.parametrize(
    "content",
    [b"text", b"", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00v\x00{'descr': (", HUGE],
    ids=["text", "empty", "zip", "header", "huge"],
)
def test_files_that_are_no_arrays_are_named(tmp_path, content):
    (tmp_path / "b.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"b\.npy: not a NumPy array \(.+\)") as caught:
        spec_of_arrays(find_arrays(tmp_path), ConvertOptions())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        np.ones(3),
        np.float32(1),
        np.ones((0, 2)),
        np.ones((2, 2), dtype=complex),
        np.ones((2, 2), dtype=bool),
        np.full((2, 2), "1"),
        np.zeros((2, 2), dtype="datetime64[s]"),
        np.zeros((2, 2), dtype=[("a", "f4")]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_that_are_no_features_are_named(tmp_path, array):
    np.save(tmp_path / "b.npy", array)
    with pytest.raises(DataError, match=r"b\.npy: (expected \(T, D\) numbers|not a NumPy array)"):
        spec_of_arrays(find_arrays(tmp_path), ConvertOptions())


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "b.npy", np.array([[{"a": 1}]]), allow_pickle=True)
    with pytest.raises(DataError, match=r"b\.npy: not a NumPy array"):
        spec_of_arrays(find_arrays(tmp_path), ConvertOptions())


def test_one_array_of_another_width_is_named_before_there_is_a_store(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 3)))
    np.save(tmp_path / "b.npy", np.ones((3, 16)))
    with pytest.raises(DataError, match=r"b\.npy: width 16, but a\.npy has 3"):
        spec_of_arrays(find_arrays(tmp_path), ConvertOptions())


def test_whole_numbers_are_features(tmp_path, store):
    for kind in ("uint8", "int16"):
        np.save(tmp_path / f"{kind}.npy", np.full((2, 2), 3, kind))
    assert import_folder(tmp_path, store) == ["int16", "uint8"]


def test_features_that_are_said_to_be_normalised_have_to_be(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0.6, 0.8]]))
    np.save(tmp_path / "b.npy", np.array([[0.6, 0.8]] * 99 + [[0.6, 0.9]]))
    arrays = find_arrays(tmp_path)
    spec = spec_of_arrays(arrays, ConvertOptions(backbone="clip", normalized=True))
    with FeatureStore.create(tmp_path / "store", spec) as store:
        with pytest.raises(DataError, match=r"b\.npy: .*not L2-normalised"):
            import_features(arrays, store)
        assert store.video_ids == ["a"]


def test_what_another_process_added_meanwhile_is_done(tmp_path, store):
    np.save(tmp_path / "a.npy", np.ones((1, 2)))
    with FeatureStore.open(store.folder) as other:
        import_folder(tmp_path, other)
    assert import_folder(tmp_path, store) == []


def test_the_name_of_the_video_file_may_be_part_of_the_name(tmp_path, store):
    np.save(tmp_path / "-a.b.mp4.npy", np.ones((3, 2)))
    np.save(tmp_path / "_c.webm.npy", np.ones((3, 2)))
    assert import_folder(tmp_path, store) == ["-a.b", "_c"]
    np.save(tmp_path / "_c.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match=r"_c\.webm\.npy: same video id as _c\.npy"):
        find_arrays(tmp_path)


def test_an_empty_folder_says_what_belongs_there(tmp_path):
    for folder in (tmp_path, tmp_path / "none", __file__):
        with pytest.raises(DataError, match=r"has no arrays; .*VIDEO_ID\.npy"):
            find_arrays(folder)


def test_imported_features_say_what_they_are(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 512)))
    spec = spec_of_arrays(find_arrays(tmp_path), ConvertOptions())
    assert spec == FeatureSpec(512, 1.0, "s3d", False, "imported")
