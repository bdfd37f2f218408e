"""Multiple choice where one knows the answers."""

import numpy as np
import pytest

from videoclip.benchmarks.examples import MultipleChoiceExample
from videoclip.config import EvaluateConfig
from videoclip.evaluation.trial import Trial
from videoclip.evaluation.videoqa import choice_similarity, evaluate_multiple_choice

EXAMPLES = [
    MultipleChoiceExample("1", "a", ("cut", "fry", "pour"), 0, kind="easy"),
    MultipleChoiceExample("2", "b", ("cut", "fry"), 1, "what with the pan", kind="easy"),
    MultipleChoiceExample("3", "b", ("fry", "wash", "fry"), 2, kind="double"),
    MultipleChoiceExample("4", "absent", ("cut", "fry"), 1),
]
CONFIG = EvaluateConfig(num_resamples=20)


@pytest.fixture
def store(make_store):
    return make_store({"a": ["cut"], "b": ["fry", "fry"]})


def test_answers_and_equal_choices(store, encoder):
    outcome = evaluate_multiple_choice(EXAMPLES, Trial(encoder, store, CONFIG))
    got = {m.name: m.value for m in outcome.measures}
    # Probabilities at temperature 0.1: sure of the first two, half and half in the third.
    sure, other = 1 / (1 + 2 * np.exp(-10)), np.exp(-10) / (1 + np.exp(-10))
    assert got == pytest.approx(
        {
            "accuracy": 2.5 / 3,
            "accuracy double": 0.5,
            "accuracy easy": 1.0,
            "calibration error": got["calibration error"],
            "Brier score": 0.5 / 3,
        },
        abs=1e-4,
    )
    # The first two are in the bin of 1, the third in that of a half.
    errors = abs(2 - sure - (1 - other)), abs(0.5 - 1 / (2 + np.exp(-10)))
    assert got["calibration error"] == pytest.approx(sum(errors) / 3, rel=1e-3)
    random = outcome.baselines[0].values
    assert random["calibration error"] == 0
    assert random["Brier score"] == pytest.approx(1 - random["accuracy"])
    assert [m.video_id for m in outcome.missing] == ["absent"]
    assert outcome.rows[1]["predicted"] == "fry" and outcome.rows[1]["right"]
    confusion, similarities, bars = outcome.plots
    assert [sum(n) for n in similarities.counts.values()] == [
        3,
        sum(len(e.choices) - 1 for e in EXAMPLES[:3]),
    ]
    assert np.sum(confusion.counts) == 3
    assert dict(zip(bars.names, bars.values, strict=True)) == {"double": 0.5, "easy": 1.0}
    baselines = {c.name: c.values["accuracy"] for c in outcome.baselines}
    assert baselines == pytest.approx(
        {"random": (1 / 3 + 1 / 2 + 1 / 3) / 3, "always the same place": 1 / 3, "longest choice": 0}
    )


def test_the_released_rule_takes_the_last_of_equal_choices(store, encoder):
    released = EvaluateConfig(ties="released", num_resamples=20)
    outcome = evaluate_multiple_choice(EXAMPLES, Trial(encoder, store, released))
    assert outcome.measures[0].value == 1.0


def test_missing_choices_are_never_chosen(store, encoder):
    similarity = choice_similarity(EXAMPLES[:3], Trial(encoder, store, CONFIG))
    assert similarity.shape == (3, 3)
    assert similarity[1, 2] == -np.inf
    assert similarity[2, 0] == similarity[2, 2] == 1.0


def test_questions_of_a_kind_are_scored_as_by_themselves(store, encoder):
    rng = np.random.default_rng(0)
    examples = [
        MultipleChoiceExample(
            *(str(i), "ab"[i % 2], ("cut", "fry"), int(rng.integers(2))),
            kind="easy" if rng.random() < 0.5 else "hard",
        )
        for i in range(40)
    ]
    trial = Trial(encoder, store, CONFIG)
    together = {m.name: m for m in evaluate_multiple_choice(examples, trial).measures}
    for kind in ("easy", "hard"):
        some = [example for example in examples if example.kind == kind]
        alone = evaluate_multiple_choice(some, trial).measures[0]
        of_kind = together[f"accuracy {kind}"]
        assert (of_kind.value, of_kind.low, of_kind.high) == (alone.value, alone.low, alone.high)
