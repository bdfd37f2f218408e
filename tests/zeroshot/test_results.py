import numpy as np
import pytest

from videoclip import answer, localize, segment
from videoclip.errors import ConfigError, DecodeError


def test_every_second_has_a_label_or_none(videos, embedder):
    timeline = segment(videos / "a.mp4", ["green", "blue"], embedder)  # red is neither
    assert [moment.label for moment in timeline.moments] == ["blue", "green"]
    blue, green = timeline.moments
    assert (blue.start, blue.end) == pytest.approx((10, 22), abs=1)
    assert (green.start, green.end) == pytest.approx((22, 32), abs=1)


def test_steps_are_found_where_they_happen_or_named_as_missing(videos, embedder):
    timeline = localize(videos / "a.mp4", ["red", "white", "green"], embedder)
    assert [moment.label for moment in timeline.moments] == ["red", "green"]
    assert list(timeline.missing) == ["white"]


def test_steps_in_the_wrong_order_are_found_only_in_any_order(videos, embedder):
    steps = ["green", "red"]
    in_order = localize(videos / "a.mp4", steps, embedder)
    any_order = localize(videos / "a.mp4", steps, embedder, ordered=False)
    assert len(in_order.moments) == 1
    assert [moment.label for moment in any_order.moments] == ["red", "green"]


def test_the_choice_that_is_shown_is_the_answer(videos, embedder):
    found = answer(videos / "a.mp4", "", ["yellow", "blue", "white"], embedder)
    assert found.text == "blue"
    assert sum(found.probabilities) == pytest.approx(1)
    assert 10 <= found.best <= 22


def test_probabilities_are_at_the_temperature_of_the_model_not_of_its_settings(videos, embedder):
    assert embedder.temperature != embedder.config.temperature  # as if learned
    found = answer(videos / "a.mp4", "", ["yellow", "blue", "white"], embedder)
    logits = np.array(found.similarities) / embedder.temperature
    expected = np.exp(logits) / np.exp(logits).sum()
    assert found.probabilities == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("ask", [segment, localize])
@pytest.mark.parametrize("texts", [[], ["red", "red"], "red"])
def test_texts_that_cannot_be_told_apart_are_refused(ask, texts, videos, embedder):
    with pytest.raises(ConfigError):
        ask(videos / "a.mp4", texts, embedder)


def test_bad_questions_are_refused(videos, embedder):
    with pytest.raises(ConfigError, match="at least two choices"):
        answer(videos / "a.mp4", "which?", ["red"], embedder)
    with pytest.raises(DecodeError):
        answer(videos / "absent.mp4", "which?", ["red", "blue"], embedder)
