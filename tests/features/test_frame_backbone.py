"""Frames go through in batches; from keyframes a backbone's features are another kind."""

import numpy as np

from tests.library.colours import NAMES, ColourBackbone, write_video
from videoclip.features.backbones import keyframe_fingerprint
from videoclip.features.decode import sample_frames
from videoclip.features.frame_backbone import KeyframeBackbone


class InThrees(ColourBackbone):
    frames_per_batch = 3


def test_features_come_in_batches_and_in_order(tmp_path):
    shown = ["red", "blue", "green", "green", "white", "black", "red"]
    path = write_video(tmp_path / "v.mp4", shown)
    chunks = list(InThrees().features_for(path))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert [NAMES[i] for i in np.concatenate(chunks).argmax(axis=1)] == shown
    np.testing.assert_array_equal(
        np.concatenate(list(ColourBackbone().features_for(path))), np.concatenate(chunks)
    )


def test_features_of_keyframes_have_another_fingerprint():
    exact = ColourBackbone()
    fast = KeyframeBackbone(exact)
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
    chunks = list(Watched().features_from([red] * 10 + [blue] * 8))
    assert [len(chunk) for chunk in chunks] == [3] * 6
    assert [NAMES[i] for i in np.concatenate(chunks).argmax(axis=1)] == ["red"] * 10 + ["blue"] * 8
    assert seen == [1, 3, 1]
