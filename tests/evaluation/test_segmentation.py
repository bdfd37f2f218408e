"""Labels where one knows what is shown."""

import numpy as np
import pytest

from videoclip.benchmarks.examples import LabelledSplit, LabelledVideo, Segment
from videoclip.config import EvaluateConfig
from videoclip.errors import ConfigError, DataError
from videoclip.evaluation.segmentation import (
    BACKGROUND_TEXT,
    evaluate_labels,
    head_segmenter,
    zero_shot_segmenter,
)
from videoclip.evaluation.trial import Trial
from videoclip.zeroshot.confidence import MIN_Z_SCORE, UNRELATED_QUERIES
from videoclip.zeroshot.labels import SWITCH_COST, label_frames

TEXTS = ("cut", "fry", "pour")
CONFIG = EvaluateConfig(num_resamples=20)


def video(video_id, *segments):
    return LabelledVideo(video_id, 8.0, tuple(Segment(*s) for s in segments), "Cook")


TRAIN = [video("train", (1, 3, 1), (4, 6, 2))]
TEST = LabelledSplit(TEXTS, (video("test", (0, 3, 1), (4, 6, 2)), video("absent", (0, 1, 3))))


@pytest.fixture
def store(make_store):
    return make_store(
        {
            "train": ["nothing", "cut", "cut", "nothing", "fry", "fry", "nothing", "nothing"],
            "test": ["cut", "cut", "cut", "nothing", "fry", "fry", "nothing", "pour"],
        }
    )


@pytest.mark.parametrize("background", ["fitted", "balanced"])
def test_a_fitted_threshold_separates_background(store, encoder, background):
    config = EvaluateConfig(background=background, num_resamples=20)
    label, _ = zero_shot_segmenter(TEXTS, TRAIN, Trial(encoder, store, config))
    assert label(TEST.videos[0]).tolist() == [1, 1, 1, 0, 2, 2, 0, 3]
    outcome = evaluate_labels(
        (TEST, LabelledSplit(TEXTS, tuple(TRAIN))), Trial(encoder, store, config)
    )
    got = {m.name: m.value for m in outcome.measures}
    assert got == pytest.approx(
        {
            "frame accuracy": 7 / 8,
            "foreground accuracy": 1.0,
            "segment F1@10": 4 / 5,
            "segment F1@25": 4 / 5,
            "segment F1@50": 4 / 5,
            "edit score": 2 / 3,
            "step recall": 1.0,
            "step IoU": 1.0,
            "predicted background": 2 / 8,
        }
    )
    empty = outcome.baselines[0].values
    assert empty["frame accuracy"] == 3 / 8
    assert empty["predicted background"] == 1.0
    assert empty["foreground accuracy"] == empty["segment F1@10"] == empty["edit score"] == 0.0
    chance = ("frame accuracy", "foreground accuracy", "predicted background")
    assert outcome.baselines[1].name == "random label"  # of three labels and the background
    assert outcome.baselines[1].values == dict.fromkeys(chance, 1 / 4)
    assert outcome.settings["background"] == background
    assert outcome.settings["videos the threshold is fitted on"] == 1
    assert [m.video_id for m in outcome.missing] == ["absent"]


def test_the_released_threshold_can_turn_everything_into_background(store, encoder):
    alike = ("cut fry", "fry pour", "pour")  # two labels as similar as a frame with its own
    config = EvaluateConfig(background="released", num_resamples=20)
    label, settings = zero_shot_segmenter(alike, [], Trial(encoder, store, config))
    assert settings["threshold"] == 1.0
    assert label(TEST.videos[0]).tolist() == [0] * 8
    test = LabelledSplit(alike, TEST.videos)
    outcome = evaluate_labels((test, LabelledSplit(alike, ())), Trial(encoder, store, config))
    assert {m.name: m.value for m in outcome.measures}["predicted background"] == 1.0


def test_a_threshold_needs_training_videos(store, encoder):
    with pytest.raises(DataError, match="no training video has features to fit"):
        zero_shot_segmenter(TEXTS, [video("gone")], Trial(encoder, store, CONFIG))


def test_no_more_training_videos_than_asked_for(make_store, encoder):
    shown = ["nothing", "cut", "cut", "nothing", "fry", "fry", "nothing", "nothing"]
    store = make_store({f"v{i}": shown for i in range(5)})
    training = [video(f"v{i}", (1, 3, 1), (4, 6, 2)) for i in range(5)]
    config = EvaluateConfig(fitting_videos=2)
    _, settings = zero_shot_segmenter(TEXTS, training, Trial(encoder, store, config))
    assert settings["videos the threshold is fitted on"] == 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_training_videos_that_are_taken_are_drawn_by_the_seed(
    make_store, encoder, monkeypatch, seed
):
    shown = ["nothing", "cut", "cut", "nothing", "fry", "fry", "nothing", "nothing"]
    store = make_store({f"v{i}": shown for i in range(0, 12, 2)})
    training = [video(f"v{i}", (1, 3, 1), (4, 6, 2)) for i in range(12)]  # each other one is absent
    taken, embed_seconds = [], Trial.embed_seconds
    monkeypatch.setattr(
        Trial,
        "embed_seconds",
        lambda self, video_id, **how: (
            taken.append(video_id) or embed_seconds(self, video_id, **how)
        ),
    )
    config = EvaluateConfig(fitting_videos=3, seed=seed)
    zero_shot_segmenter(TEXTS, training, Trial(encoder, store, config))
    order = np.random.default_rng(seed).permutation(6)
    assert taken == [f"v{2 * i}" for i in order[:3]]


@pytest.mark.parametrize("seed", range(3))
def test_with_the_products_decoding_labels_are_those_of_segment(make_store, encoder, seed):
    """As by plain Python: z-scores over unrelated queries, and a cost of switching labels."""
    rng = np.random.default_rng(seed)
    words = {word: rng.normal(size=8) for word in (*TEXTS, *UNRELATED_QUERIES)}
    encoder.embed_text = lambda texts: np.array([words[t] for t in texts], np.float32)
    shown = np.repeat(rng.choice([*TEXTS, *UNRELATED_QUERIES[:2]], 8), 5)
    seconds = np.array([words[word] + 0.8 * rng.normal(size=8) for word in shown], np.float32)
    seen = []
    encoder.embed_seconds = lambda features, attend_cls: seen.append(attend_cls) or seconds
    store = make_store({"v": ["cut"] * 40})
    config = EvaluateConfig(decoding="product")
    label, settings = zero_shot_segmenter(TEXTS, [], Trial(encoder, store, config))
    unrelated = encoder.embed_text(UNRELATED_QUERIES) @ seconds.T
    scores = encoder.embed_text(TEXTS) @ seconds.T - unrelated.mean(axis=0)
    scores = (scores / unrelated.std(axis=0)).T
    found = label(LabelledVideo("v", 40.0, ())).tolist()
    assert found == label_frames(scores, MIN_Z_SCORE, SWITCH_COST).tolist()
    without = [label_frames(scores, MIN_Z_SCORE, 0.0).tolist(), [0] * 40]
    assert found not in without and seen == [True]
    assert settings == {
        "background": "as `segment` finds it",
        "threshold": MIN_Z_SCORE,
        "switch cost": SWITCH_COST,
        "attend to [CLS]": True,
    }


def test_a_head_is_scored_alike(store, encoder):
    told = []
    encoder.classes = TEXTS
    encoder.classify_seconds = lambda features, attend_cls: np.eye(4)[[1, 1, 1, 0, 2, 2, 0, 0]]
    examples = TEST, LabelledSplit(TEXTS, ())
    outcome = evaluate_labels(
        examples, Trial(encoder, store, CONFIG, lambda *done: told.append(done))
    )
    assert all(m.value == 1.0 for m in outcome.measures if m.name != "predicted background")
    assert outcome.settings["labels by"] == "the model's head"
    assert told == [(1, 1)]
    confusion, spread, timeline = outcome.plots
    assert spread.counts["model"] == (0,) * 9 + (1,)  # all of it right, in one video
    assert spread.counts["always background"] == (0, 0, 0, 1) + (0,) * 6  # 3 of 8 seconds
    assert confusion.labels[:3] == ("background", "cut", "fry")
    assert confusion.counts[1][1] == 3
    assert np.sum(confusion.counts) == 8
    assert timeline.predicted == ((0.0, 3.0, "cut"), (4.0, 6.0, "fry"))


def test_a_second_is_background_unless_a_label_is_nearer_than_that_word(make_store, encoder):
    # The word is as near to everything as half of "cut": only what is more like "fry" is a label.
    words = {"cut": [0, 0, 0, 1, 0, 0, 0, 0], "fry": [0, 0, 0, 0, 1, 0, 0, 0]}
    words[BACKGROUND_TEXT] = [1, 0, 0, 0.5, 1, 0, 0, 0]
    encoder.embed_text = lambda texts: np.array([words[t] for t in texts], np.float32)
    store = make_store({"v": ["nothing", "cut", "fry", "pour"]})
    config = EvaluateConfig(background="text")
    label, settings = zero_shot_segmenter(("cut", "fry"), [], Trial(encoder, store, config))
    assert label(LabelledVideo("v", 4.0, ())).tolist() == [0, 1, 0, 0]
    assert settings["background"] == "text"
    assert settings["videos the threshold is fitted on"] == 0


def test_a_head_says_the_likeliest_class(make_store, encoder):
    encoder.classes = ("cut", "fry")
    encoder.classify_seconds = lambda features, attend_cls: features[:, [0, 3, 4]]
    store = make_store({"v": ["nothing", "cut", "fry", "nothing"]})
    label, _ = head_segmenter(("cut", "fry"), Trial(encoder, store, EvaluateConfig()))
    assert label(LabelledVideo("v", 4.0, ())).tolist() == [0, 1, 2, 0]
    with pytest.raises(ConfigError, match="2 classes, which are not the 3 labels here"):
        head_segmenter(("cut", "fry", "pour"), Trial(encoder, store, EvaluateConfig()))
