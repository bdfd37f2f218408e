"""Frames go through in batches; from keyframes a backbone's features are another kind."""

import numpy as np

from tests.library.colours import NAMES, ColourBackbone, write_video
from videoclip.features.backbones import keyframe_fingerprint
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
