"""Background by a word of its own, and labels by a head."""

import numpy as np
import pytest

from videoclip.benchmarks.examples import LabelledVideo
from videoclip.config import EvaluateConfig
from videoclip.errors import ConfigError
from videoclip.evaluation.labellers import BACKGROUND_TEXT, head_labeller, zero_shot_labeller

VIDEO = LabelledVideo("v", 4.0, ())


def test_a_second_is_background_unless_a_label_is_nearer_than_that_word(make_store, provider):
    # The word is as near to everything as half of "cut": only what is more like "fry" is a label.
    words = {"cut": [0, 0, 0, 1, 0, 0, 0, 0], "fry": [0, 0, 0, 0, 1, 0, 0, 0]}
    words[BACKGROUND_TEXT] = [1, 0, 0, 0.5, 1, 0, 0, 0]
    provider.embed_text = lambda texts: np.array([words[t] for t in texts], np.float32)
    store = make_store({"v": ["nothing", "cut", "fry", "pour"]})
    config = EvaluateConfig(background="text")
    labeller = zero_shot_labeller(("cut", "fry"), [], provider, store, config)
    assert labeller.label(VIDEO).tolist() == [0, 1, 0, 0]
    assert labeller.settings["background"] == "text"
    assert labeller.settings["videos the threshold is fitted on"] == 0


def test_a_head_says_the_likeliest_class(make_store, provider):
    provider.classes = ("cut", "fry")
    provider.classify_seconds = lambda features, attend_cls: features[:, [0, 3, 4]]
    store = make_store({"v": ["nothing", "cut", "fry", "nothing"]})
    labeller = head_labeller(("cut", "fry"), provider, store, EvaluateConfig())
    assert labeller.label(VIDEO).tolist() == [0, 1, 2, 0]
    with pytest.raises(ConfigError, match="2 classes, which are not the 3 labels here"):
        head_labeller(("cut", "fry", "pour"), provider, store, EvaluateConfig())
