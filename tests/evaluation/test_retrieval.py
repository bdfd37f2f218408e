"""Retrieval where one knows what must come out."""

import numpy as np
import pytest

from videoclip.benchmarks.examples import RetrievalExample
from videoclip.config import EvaluateConfig
from videoclip.errors import DataError
from videoclip.evaluation.retrieval import evaluate_retrieval
from videoclip.evaluation.trial import Trial

CONFIG = EvaluateConfig(num_resamples=50)


def values(outcome):
    return {m.name: m.value for m in outcome.measures}


@pytest.fixture
def store(make_store):
    return make_store(
        {
            "a": ["cut"] * 3 + ["fry"] * 3,
            "b": ["pour"] * 4,
            "c": ["stir"] * 2,
            "long": ["peel"] * 40,
        }
    )


def test_a_model_that_knows_finds_everything(store, encoder):
    examples = [
        RetrievalExample("a", "cut", 0.0, 3.0),
        RetrievalExample("a", "fry", 3.0, 6.0),
        RetrievalExample("b", "pour"),
        RetrievalExample("c", "stir"),
        RetrievalExample("absent", "wash"),
        RetrievalExample("c", "stir", 90.0, 95.0),
    ]
    outcome = evaluate_retrieval(examples, Trial(encoder, store, CONFIG))
    assert values(outcome) == {
        f"{way} {name}": 1.0
        for way in ("text-to-video", "video-to-text")
        for name in ("R@1", "R@5", "R@10", "MedR", "MeanR")
    }
    assert (outcome.num_examples, outcome.num_videos) == (4, 3)
    assert [(m.video_id, m.reason) for m in outcome.missing] == [
        ("absent", "no features"),
        ("c", "features end before 90 s"),
    ]
    assert outcome.rows[1] == {
        "video_id": "a",
        "start": 3.0,
        "end": 6.0,
        "text": "fry",
        "rank": 1.0,
        "similarity": 1.0,
    }
    assert outcome.measures[0].low == pytest.approx(0.025 ** (1 / 3))  # three videos, no failure
    assert outcome.baselines[0].values["text-to-video R@1"] == pytest.approx(1 / 4)


def test_equal_texts_of_one_clip_score_chance(store, encoder):
    examples = [RetrievalExample("b", "wash")] * 3 + [RetrievalExample("c", "wash")]
    outcome = evaluate_retrieval(examples, Trial(encoder, store, CONFIG))
    chance = outcome.baselines[0].values
    for name in ("R@1", "R@5", "MeanR"):
        name = f"video-to-text {name}"
        assert values(outcome)[name] == pytest.approx(chance[name])


def test_a_text_of_several_clips_spans_and_whole_videos(store, encoder):
    examples = [
        RetrievalExample("b", "pour"),
        RetrievalExample("a", "pour", 0.0, 3.0),  # shows cutting
        RetrievalExample("a", "cut", 0.0, 3.0),
        RetrievalExample("c", "stir"),
        RetrievalExample("c", "pour"),
        RetrievalExample("c", "pour"),  # the same row again changes nothing
    ]
    outcome = evaluate_retrieval(examples, Trial(encoder, store, CONFIG), join_texts=True)
    ours, chance = values(outcome), outcome.baselines[0].values
    assert (outcome.settings["texts"], outcome.settings["clips"]) == (3, 3)
    assert ours["text-to-video R@1"] == ours["video-to-text R@1"] == 1.0
    # "pour" has three right clips of three, the others one; b has one text, a and c two of three.
    assert chance["text-to-video R@1"] == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert chance["video-to-text R@1"] == pytest.approx((1 / 3 + 2 / 3 + 2 / 3) / 3)
    assert [row["rank"] for row in outcome.rows] == [1.0] * 6
    assert len(outcome.rows) == outcome.num_examples == 6
    apart = values(evaluate_retrieval(examples, Trial(encoder, store, CONFIG)))
    assert apart["text-to-video R@1"] < 1  # each row is a query with one right clip


def test_one_clip_with_two_texts_is_one_candidate(store, encoder):
    examples = [
        RetrievalExample("a", "cut", 0.0, 3.0),
        RetrievalExample("a", "cut nothing", 0.0, 3.0),
        RetrievalExample("b", "pour"),
    ]
    outcome = evaluate_retrieval(examples, Trial(encoder, store, CONFIG))
    ours, chance = values(outcome), outcome.baselines[0].values
    assert ours["text-to-video R@1"] == ours["video-to-text R@1"] == 1.0
    # One of two clips is right for a text; of three texts two are right for one clip, one for the
    # other.
    assert chance["text-to-video R@1"] == pytest.approx(1 / 2)
    assert chance["video-to-text R@1"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert chance["text-to-video MeanR"] == pytest.approx(1.5)
    assert chance["video-to-text MeanR"] == pytest.approx((4 / 3 + 2) / 2)
    released = evaluate_retrieval(examples, Trial(encoder, store, EvaluateConfig(ties="released")))
    # Each of the two equal clips ranks as both first and second: 3 of 5 entries are first.
    assert values(released)["text-to-video R@1"] == pytest.approx(3 / 5)
    assert "video-to-text R@1" not in values(released)


def test_equal_similarities_score_chance(make_store, encoder):
    store = make_store({f"v{i}": ["nothing"] for i in range(20)})
    examples = [RetrievalExample(f"v{i}", "cut") for i in range(20)]
    outcome = evaluate_retrieval(examples, Trial(encoder, store, CONFIG))
    for name, value in values(outcome).items():
        if "R@" in name:
            assert value == pytest.approx(outcome.baselines[0].values[name])


def test_clips_are_seen_from_their_start(make_store, encoder):
    store = make_store({"a": ["cut"] * 32 + ["fry"] * 200, "b": ["fry"] * 10 + ["cut"] * 5})
    examples = [RetrievalExample("a", "cut"), RetrievalExample("b", "fry")]
    assert (
        values(evaluate_retrieval(examples, Trial(encoder, store, CONFIG)))["text-to-video R@1"]
        == 1
    )
    whole = evaluate_retrieval(
        examples, Trial(encoder, store, EvaluateConfig(clip_seconds=0, num_resamples=5))
    )
    assert values(whole)["text-to-video R@1"] == 0
    assert whole.settings["clip"] == "whole"


def test_dual_softmax_is_named(store, encoder):
    examples = [RetrievalExample("b", "pour"), RetrievalExample("c", "stir")]
    outcome = evaluate_retrieval(
        examples, Trial(encoder, store, EvaluateConfig(dual_softmax=0.1, num_resamples=5))
    )
    assert outcome.settings["dual softmax"] == 0.1
    assert values(outcome)["text-to-video R@1"] == 1.0


def test_no_clip_within_its_video(store, encoder):
    with pytest.raises(DataError, match="every clip begins after the end of its features"):
        evaluate_retrieval(
            [RetrievalExample("a", "cut", 50.0, 60.0)], Trial(encoder, store, CONFIG)
        )


def test_plots_hold_every_text(store, encoder):
    examples = [RetrievalExample("b", "pour"), RetrievalExample("c", "stir")]
    ranks, similarities = evaluate_retrieval(examples, Trial(encoder, store, CONFIG)).plots
    assert sum(ranks.counts["texts"]) == 2
    assert sum(similarities.counts["right pairs"]) == 2
    assert np.sum(list(similarities.counts.values())) == 4
