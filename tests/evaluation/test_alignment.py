"""Alignment where one knows where the texts are shown."""

import numpy as np
import pytest

from videoclip.benchmarks.examples import AlignmentVideo, PlacedText
from videoclip.config import EvaluateConfig
from videoclip.errors import DataError
from videoclip.evaluation.alignment import evaluate_alignment, windows
from videoclip.evaluation.trial import Trial

CONFIG = EvaluateConfig(num_resamples=20)


def values(outcome):
    return {m.name: m.value for m in outcome.measures}


def test_texts_are_found_and_those_that_are_not_shown_told_apart(make_store, encoder):
    store = make_store({"a": ["nothing", "cut", "cut", "fry", "serve", "nothing"]})
    texts = (
        PlacedText("cut", ((1.2, 2.0),), (1.2, 2.0)),
        PlacedText("wash", (), (2.0, 3.0)),
        PlacedText("fry", ((0.0, 1.9),), (0.0, 1.9)),  # annotated where it is not shown
        PlacedText("serve", ((3.1, 3.9),), (3.1, 3.9)),  # second 4 is ceil(3.9)
    )
    videos = [AlignmentVideo("a", texts), AlignmentVideo("absent", texts)]
    outcome = evaluate_alignment(videos, Trial(encoder, store, CONFIG))
    assert values(outcome)["R@1"] == values(outcome)["R@1 in windows"] == pytest.approx(2 / 3)
    assert values(outcome)["alignability AUC"] == 1.0
    random, even = (baseline.values for baseline in outcome.baselines)
    assert random["R@1"] == pytest.approx((2 + 3 + 2) / 6 / 3)
    assert random["alignability AUC"] == 0.5
    assert even["R@1"] == 0.0  # frames 0, 2, 3 and 5
    assert [row["second"] for row in outcome.rows] == [1.0, 3.0, 4.0]
    assert [m.video_id for m in outcome.missing] == ["absent"]
    assert (outcome.num_examples, outcome.num_videos) == (3, 1)


def test_steps_without_narration_have_no_windows(make_store, encoder):
    store = make_store({"a": ["cut", "fry"]})
    shown = AlignmentVideo("a", (PlacedText("cut", ((0.0, 1.0),)),))
    assert set(values(evaluate_alignment([shown], Trial(encoder, store, CONFIG)))) == {"R@1"}
    with pytest.raises(DataError, match="no text of a video with features is shown"):
        nothing = AlignmentVideo("a", (PlacedText("cut"),))
        evaluate_alignment([nothing], Trial(encoder, store, CONFIG))


def test_windows_lie_around_the_narration_that_is_not_shown():
    texts = [PlacedText(str(i), (), (30.0 * i, 30.0 * i)) for i in range(20)]
    texts[10] = PlacedText("shown", ((0.0, 1.0),), (0.0, 1.0))
    allowed = windows(texts, 600, 1.0)
    assert allowed.shape == (20, 600)
    # Text 10 lies between narration at 270 and 330 s: windows within 64 s of both, of 64 s.
    seconds = np.flatnonzero(allowed[10])
    assert (seconds.min(), seconds.max()) == (208, 383)
    assert allowed[0, :112].all() and allowed[-1, -60:].all()
    # A window without narration near it is left out; the first four begin with the first text.
    texts = [PlacedText("shown", ((1.0, 2.0),)), PlacedText("spoken", (), (0.0, 0.0))]
    alone = windows(texts, 600, 1.0)
    assert np.flatnonzero(alone[0]).tolist() == list(range(48 + 64))
    assert np.flatnonzero(alone[1]).tolist() == list(range(64 + 64))
