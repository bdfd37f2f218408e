"""Background by a word of its own, and labels by a head."""

import numpy as np
import pytest

from videoclip.benchmarks.examples import LabelledVideo
from videoclip.config import EvaluateConfig
from videoclip.errors import ConfigError
from videoclip.evaluation.segmenters import BACKGROUND_TEXT, head_segmenter, zero_shot_segmenter

VIDEO = LabelledVideo("v", 4.0, ())


def test_a_second_is_background_unless_a_label_is_nearer_than_that_word(make_store, encoder):
    # The word is as near to everything as half of "cut": only what is more like "fry" is a label.
    words = {"cut": [0, 0, 0, 1, 0, 0, 0, 0], "fry": [0, 0, 0, 0, 1, 0, 0, 0]}
    words[BACKGROUND_TEXT] = [1, 0, 0, 0.5, 1, 0, 0, 0]
    encoder.embed_text = lambda texts: np.array([words[t] for t in texts], np.float32)
    store = make_store({"v": ["nothing", "cut", "fry", "pour"]})
    config = EvaluateConfig(background="text")
    segmenter = zero_shot_segmenter(("cut", "fry"), [], encoder, store, config)
    assert segmenter.label(VIDEO).tolist() == [0, 1, 0, 0]
    assert segmenter.settings["background"] == "text"
    assert segmenter.settings["videos the threshold is fitted on"] == 0


def test_a_head_says_the_likeliest_class(make_store, encoder):
    encoder.classes = ("cut", "fry")
    encoder.classify_seconds = lambda features, attend_cls: features[:, [0, 3, 4]]
    store = make_store({"v": ["nothing", "cut", "fry", "nothing"]})
    segmenter = head_segmenter(("cut", "fry"), encoder, store, EvaluateConfig())
    assert segmenter.label(VIDEO).tolist() == [0, 1, 2, 0]
    with pytest.raises(ConfigError, match="2 classes, which are not the 3 labels here"):
        head_segmenter(("cut", "fry", "pour"), encoder, store, EvaluateConfig())
