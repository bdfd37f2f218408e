import numpy as np
import pytest

from videoclip.data.feature_import import import_npy_folder
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import DataError


@pytest.fixture
def store(tmp_path):
    with FeatureStore.create(tmp_path / "store", FeatureSpec(2, 1.0, "s3d", False, "")) as store:
        yield store


def test_a_folder_of_arrays(tmp_path, store):
    np.save(tmp_path / "b.npy", np.ones((3, 2), np.float32))
    np.save(tmp_path / "a.npy", np.zeros((1, 2), np.float16))
    assert import_npy_folder(tmp_path, store) == ["a", "b"]
    assert import_npy_folder(tmp_path, store) == []
    np.testing.assert_array_equal(store.read("b"), np.ones((3, 2)))


def test_bad_files_are_named_and_good_ones_stay(tmp_path, store):
    np.save(tmp_path / "a.npy", np.ones((1, 2)))
    (tmp_path / "b.npy").write_text("text")
    with pytest.raises(DataError, match=r"b\.npy: this is not an array"):
        import_npy_folder(tmp_path, store)
    np.save(tmp_path / "b.npy", np.ones((1, 3)))
    with pytest.raises(DataError, match=r"b\.npy: not imported: .*shape \(1, 3\)"):
        import_npy_folder(tmp_path, store)
    np.save(tmp_path / "b.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"b\.npy: this is not an array"):
        import_npy_folder(tmp_path, store)
    assert store.video_ids == ["a"]
