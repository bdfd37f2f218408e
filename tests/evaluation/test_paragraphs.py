"""Paragraphs of videos where one knows what must come out."""

import pytest

from videoclip.benchmarks.examples import RetrievalExample
from videoclip.config import EvaluateConfig
from videoclip.errors import DataError
from videoclip.evaluation.paragraphs import evaluate_paragraphs
from videoclip.evaluation.trial import Trial

CONFIG = EvaluateConfig(num_resamples=20)


def values(outcome):
    return {m.name: m.value for m in outcome.measures}


@pytest.fixture
def store(make_store):
    return make_store(
        {
            "forth": ["nothing", "cut", "cut", "fry", "serve"],
            "back": ["fry", "cut", "nothing", "serve"],
            "tea": ["pour", "stir", "serve"],
        }
    )


EXAMPLES = [
    RetrievalExample("forth", "fry", 3.0, 4.0),
    RetrievalExample("forth", "cut", 1.0, 3.0),
    RetrievalExample("back", "fry", 0.0, 1.0),
    RetrievalExample("back", "cut", 1.0, 2.0),
    RetrievalExample("tea", "pour", 0.0, 1.0),
    RetrievalExample("tea", "stir", 1.0, 2.0),
    RetrievalExample("tea", "serve", 2.0, 3.0),
    RetrievalExample("tea", "wash", 9.0, 10.0),
    RetrievalExample("absent", "wash", 0.0, 1.0),
]


def test_the_order_of_the_sentences_counts(store, encoder):
    outcome = evaluate_paragraphs(EXAMPLES, Trial(encoder, store, CONFIG))
    ours = values(outcome)
    assert ours["DTW, background removed R@1"] == 1.0
    # With background "cut, fry" costs 2 in either video: in its own for what nothing describes.
    assert ours["DTW, background kept R@1"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    for background in ("removed", "kept"):
        assert ours[f"OTAM, background {background} R@1"] == 1.0
        # The same two sentences in both orders: each video is first half the time.
        assert ours[f"caption average, background {background} R@1"] == pytest.approx(2 / 3)
    chance, same_length = (baseline.values for baseline in outcome.baselines)
    assert chance["DTW, background kept R@1"] == pytest.approx(1 / 3)
    assert same_length["DTW, background removed R@1"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert "DTW, background kept R@1" not in same_length
    assert outcome.settings["clips without background"] == 7
    assert outcome.settings["clips with background"] == 10
    assert {(m.video_id, m.reason) for m in outcome.missing} == {
        ("absent", "no features"),
        ("tea", "features end before 9 s"),
    }
    assert (outcome.num_examples, outcome.num_videos) == (3, 3)


def test_long_background_is_cut_into_pieces(make_store, encoder):
    store = make_store({"a": ["nothing"] * 5 + ["cut"] + ["nothing"] * 3}, name="long")
    examples = [RetrievalExample("a", "cut", 5.0, 6.0)]
    for clip_seconds, expected in ((2.0, 3 + 1 + 2), (0.0, 3)):
        config = EvaluateConfig(num_resamples=5, clip_seconds=clip_seconds)
        outcome = evaluate_paragraphs(examples, Trial(encoder, store, config))
        assert outcome.settings["clips with background"] == expected


def test_clips_beyond_all_features(store, encoder):
    examples = [RetrievalExample("tea", "wash", 9.0, 10.0)]
    with pytest.raises(DataError, match="every clip begins after the end"):
        evaluate_paragraphs(examples, Trial(encoder, store, CONFIG))
