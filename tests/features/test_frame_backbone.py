"""Frames go through in batches; from keyframes a backbone's features are another kind."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.library.colours import NAMES, ColourBackbone, write_video
from videoclip.errors import DecodeError
from videoclip.features.backbones import keyframe_fingerprint
from videoclip.features.decode import sample_frames
from videoclip.features.frame_backbone import FEATURES_PER_CHUNK, FrameBackbone, with_keyframes


class InThrees(ColourBackbone):
    frames_per_batch = 3


def test_features_come_in_batches_and_in_order(tmp_path):
    shown = ["red", "blue", "green", "green", "white", "black", "red"]
    path = write_video(tmp_path / "v.mp4", shown)
    chunks = list(InThrees().features_for(path))
    assert [len(chunk) for chunk in chunks] == [3, 4]  # of the two green ones, one is computed
    assert [NAMES[i] for i in np.concatenate(chunks).argmax(axis=1)] == shown
    np.testing.assert_array_equal(
        np.concatenate(list(ColourBackbone().features_for(path))), np.concatenate(chunks)
    )


def test_features_of_keyframes_have_another_fingerprint():
    exact = ColourBackbone()
    fast = with_keyframes(exact)
    assert fast.name == exact.name
    assert fast.spec.fingerprint == keyframe_fingerprint(exact.spec.fingerprint)
    assert fast.spec.fingerprint != exact.spec.fingerprint


def test_a_frame_on_screen_for_long_is_computed_once(tmp_path):
    path = write_video(tmp_path / "v.mp4", ["red", "blue"], frame_rate=1)
    seen = []

    class Watched(InThrees):
        def embed_frames(self, frames):
            seen.append(len(frames))
            return super().embed_frames(frames)

    red, blue = sample_frames(path, 1.0)
    chunks = list(Watched().features_from([red] * 100 + [blue] * 8))
    assert [NAMES[i] for i in np.concatenate(chunks).argmax(axis=1)] == ["red"] * 100 + ["blue"] * 8
    assert [len(chunk) for chunk in chunks] == [FEATURES_PER_CHUNK, 108 - FEATURES_PER_CHUNK]
    assert seen == [1, 1]


class Counting(FrameBackbone):
    """The mean brightness of two frames; counts what it computes."""

    frames_per_feature = frames_per_batch = 2

    def __init__(self):
        self.computed = 0

    def prepare(self, frame):
        return frame.pixels

    def embed_frames(self, frames):
        self.computed += 1
        pairs = [frames[first : first + 2] for first in range(0, len(frames), 2)]
        return np.array([[pair.mean()] for pair in pairs], dtype=np.float32)


class Picture:
    """A frame of 40 x 50 pixels, with one block that is brighter."""

    def __init__(self, level, spot=0):
        self.pixels = np.full((40, 50, 3), level, dtype=np.uint8)
        self.pixels[8:24, 16:32] += spot


@pytest.mark.parametrize(
    ("second", "num_computed"),
    [
        ([Picture(100), Picture(100)], 1),
        ([Picture(104), Picture(100)], 1),  # as compression leaves it
        ([Picture(100), Picture(120)], 2),  # the second frame counts too
        ([Picture(100, spot=60), Picture(100)], 2),  # a small part of the picture counts
        ([Picture(100)], 2),  # half of a second at the end is another
    ],
)
def test_a_picture_that_hardly_differs_is_not_computed_again(second, num_computed):
    backbone = Counting()
    features = np.concatenate(list(backbone.features_from([Picture(100), Picture(100), *second])))
    assert len(features) == 2
    assert backbone.computed == num_computed


def test_slow_changes_add_up_to_a_new_picture():
    """Each is compared with the last one that was computed, not with the one before."""
    backbone = Counting()
    frames = [Picture(level) for level in range(100, 120) for _ in range(2)]
    features = np.concatenate(list(backbone.features_from(frames)))
    assert len(features) == 20
    assert backbone.computed == 3


@pytest.mark.parametrize("num_threads", [1, 2])
def test_frames_are_prepared_while_the_network_computes(monkeypatch, num_threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    is_ahead = threading.Event()

    class Waiting(Counting):
        def prepare(self, frame):
            if frame.pixels.max() >= 200:
                is_ahead.set()
            return frame.pixels

        def embed_frames(self, frames):
            waited.append(is_ahead.wait(10 if num_threads == 2 else 0))
            return super().embed_frames(frames)

    waited: list[bool] = []
    frames = [Picture(level) for level in (0, 50, 100, 150, 200, 250)]
    features = np.concatenate(list(Waiting().features_from(frames)))
    assert features[:, 0].tolist() == [25, 125, 225]
    assert waited == [num_threads == 2, num_threads == 2, True]


def test_a_failure_to_read_ahead_is_raised_where_it_belongs(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def frames():
        yield from map(Picture, (0, 50, 100))
        raise DecodeError("damaged", Path("v.mp4"))

    chunks = Counting().features_from(frames())
    assert next(chunks).tolist() == [[25]]
    with pytest.raises(DecodeError, match="damaged"):
        next(chunks)


def test_reading_ahead_ends_with_whoever_asked(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    read = []

    def frames():
        for level in range(0, 250, 10):
            read.append(level)
            yield Picture(level)

    num_threads = threading.active_count()
    chunks = Counting().features_from(frames())
    next(chunks)
    assert threading.active_count() > num_threads
    chunks.close()
    assert len(read) < 10
    assert threading.active_count() == num_threads
