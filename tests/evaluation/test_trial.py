"""Clips of many videos through a model."""

import numpy as np

from videoclip.config import EvaluateConfig
from videoclip.evaluation import trial
from videoclip.evaluation.clips import Clip


def test_clips_of_many_videos_are_embedded_in_parts(make_store, encoder, monkeypatch):
    monkeypatch.setattr(trial, "CLIPS_AT_ONCE", 2)
    store = make_store({"a": ["cut", "fry", "fry"], "b": ["pour"]})
    some = [Clip("a", 0, 1), Clip("b", 0, 1), Clip("a", 0, 3)]
    seen = []
    scored = trial.Trial(encoder, store, EvaluateConfig(), lambda *done: seen.append(done))
    got = scored.embed_clips(some)
    words = encoder.embed_text(["cut", "pour", "cut"])
    words[2] = (words[2] + 2 * encoder.embed_text(["fry"])[0]) / 3
    np.testing.assert_allclose(got, words, atol=1e-6)
    assert seen == [(2, 3), (3, 3)]
