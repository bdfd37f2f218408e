"""Frames on disk: what goes in comes out, whole or not at all."""

import numpy as np
import pytest

from videoclip.data.frame_store import FrameSpec, FrameStore
from videoclip.errors import DataError, IndexMismatchError

SPEC = FrameSpec(height=2, width=3, frames_per_second=1.0, resize="Squash(width=3, height=2)")


def frames(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 3, 3), dtype=np.uint8)


@pytest.fixture
def store(tmp_path):
    return FrameStore.open_or_create(tmp_path / "frames", SPEC)


def test_every_window_is_found_again(store):
    first, second = frames(5), frames(2, seed=1)
    assert store.append("a", first) == 5
    store.append("folder/b.c", iter(second))
    again = FrameStore.open(store.folder)
    assert again.video_ids == ["a", "folder/b.c"]
    assert "a" in again
    assert "b" not in again
    assert [again.num_features(name) for name in again.video_ids] == [5, 2]
    windows = again.read_windows([("a", 1, 4), ("folder/b.c", 0, 9), ("a", 4, 5)])
    for window, expected in zip(windows, (first[1:4], second, first[4:]), strict=True):
        np.testing.assert_array_equal(window, expected)
    assert again.spec.dim == 18


def test_a_video_is_added_whole_or_not_at_all(store):
    def cut_short():
        yield frames(1)[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        store.append("a", cut_short())
    with pytest.raises(DataError, match="'a' has no frames"):
        store.append("a", [])
    with pytest.raises(DataError, match=r"a frame \(4, 3, 3\) of uint8, not \(2, 3, 3\)"):
        store.append("a", [np.zeros((4, 3, 3), np.uint8)])
    assert [path.name for path in store.folder.iterdir()] == ["frames.json"]
    (store.folder / ".a.partial-123.rgb").write_bytes(bytes(18))  # of a killed process
    assert store.video_ids == []


def test_what_is_wrong_is_named(store):
    with pytest.raises(DataError, match="no frames of 'a' in this store"):
        store.num_features("a")
    (store.folder / "a.rgb").write_bytes(b"12345")
    with pytest.raises(DataError, match=r"a\.rgb: the file is truncated"):
        store.num_features("a")
    with pytest.raises(IndexMismatchError, match="holds other frames"):
        FrameStore.open_or_create(store.folder, FrameSpec(4, 3, 1.0, ""))
    with pytest.raises(DataError, match="no frames here"):
        FrameStore.open(store.folder / "nowhere")
    (store.folder / "frames.json").write_text("[]")
    with pytest.raises(DataError, match=r"frames\.json: this does not describe frames"):
        FrameStore.open(store.folder)
