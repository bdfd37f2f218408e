import numpy as np
import pytest

from videoclip.data.feature_import import find_arrays, import_features, spec_of_arrays
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


def test_bad_files_are_named_and_good_ones_stay(tmp_path, store):
    np.save(tmp_path / "a.npy", np.ones((1, 2)))
    (tmp_path / "b.npy").write_text("text")
    with pytest.raises(DataError, match=r"b\.npy: this is not an array"):
        import_folder(tmp_path, store)
    np.save(tmp_path / "b.npy", np.ones((1, 3)))
    with pytest.raises(DataError, match=r"b\.npy: not imported: .*shape \(1, 3\)"):
        import_folder(tmp_path, store)
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(DataError, match=r"b\.npy: .*not \(T, D\) features but an array \(3,\)"):
        import_folder(tmp_path, store)
    np.save(tmp_path / "b.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"b\.npy: this is not an array"):
        import_folder(tmp_path, store)
    assert store.video_ids == ["a"]


def test_the_name_of_the_video_file_may_be_part_of_the_name(tmp_path, store):
    np.save(tmp_path / "-a.b.mp4.npy", np.ones((3, 2)))
    np.save(tmp_path / "_c.webm.npy", np.ones((3, 2)))
    assert import_folder(tmp_path, store) == ["-a.b", "_c"]
    np.save(tmp_path / "_c.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match=r"_c\.webm\.npy: is of the same video as _c\.npy"):
        find_arrays(tmp_path)


def test_an_empty_folder_says_what_belongs_there(tmp_path):
    with pytest.raises(DataError, match=r"VIDEO_ID\.npy"):
        find_arrays(tmp_path)


def test_imported_features_say_what_they_are(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 512)))
    spec = spec_of_arrays(find_arrays(tmp_path), "s3d", 1.0, normalized=False)
    assert spec == FeatureSpec(512, 1.0, "s3d", False, "imported")
