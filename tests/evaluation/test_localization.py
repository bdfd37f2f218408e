"""Steps where one knows when they happen."""

import numpy as np
import pytest

from videoclip.benchmarks.crosstask import CrossTask
from videoclip.benchmarks.examples import Segment, StepVideo, Task
from videoclip.config import EvaluateConfig
from videoclip.errors import DataError
from videoclip.evaluation.localization import evaluate_steps, step_localizer
from videoclip.evaluation.trial import Trial

TEA = Task("1", "Make Tea", ("wash", "pour", "stir"))
FISH = Task("2", "Fry Fish", ("cut", "fry"))
CONFIG = EvaluateConfig(num_resamples=20)


def benchmark(*videos, validation=()):
    return CrossTask({"1": TEA, "2": FISH}, tuple(videos), frozenset(validation))


def tea(video_id, *segments):
    return StepVideo(video_id, TEA, tuple(Segment(*s) for s in segments))


def fish(video_id, *segments):
    return StepVideo(video_id, FISH, tuple(Segment(*s) for s in segments))


@pytest.fixture
def store(make_store):
    return make_store(
        {
            "a": ["nothing", "wash", "wash", "pour", "nothing", "stir"],
            "b": ["cut", "nothing", "fry", "fry"],
            "both": ["wash", "pour", "stir", "cut", "fry"],
            "short": ["cut"],
        }
    )


def test_steps_shown_in_order_are_found(store, encoder):
    videos = [
        tea("a", (1, 3, 0), (3, 4, 1), (5, 6, 2)),
        fish("b", (0, 1, 0), (1, 2, 1)),  # frying is annotated where nothing is shown
        tea("both", (0, 1, 0), (1, 2, 1), (2, 3, 2)),
        fish("both", (3, 4, 0), (4, 5, 1)),
        fish("short", (0, 1, 0)),
        tea("b"),
        fish("absent", (0, 1, 0)),
        fish("held out", (0, 1, 0)),
    ]
    told = []
    outcome = evaluate_steps(
        benchmark(*videos),
        Trial(encoder, store, CONFIG, lambda done, total: told.append((done, total))),
    )
    assert outcome.measures[0].value == pytest.approx((6 / 6 + 3 / 4) / 2)
    assert outcome.measures[0].low < outcome.measures[0].value
    assert {m.video_id: m.reason for m in outcome.missing} == {
        "b": "no step annotated",
        "short": "fewer features than the 2 steps",
        "absent": "no features",
        "held out": "no features",
    }
    assert (outcome.num_examples, outcome.num_videos) == (10, 4)
    found = {(r["task"], r["video_id"]): r["steps found"] for r in outcome.rows}
    assert found == {("1", "a"): 3, ("2", "b"): 1, ("1", "both"): 3, ("2", "both"): 2}
    assert told == [(i, 4) for i in range(1, 5)]
    bars, spread, first, *_ = outcome.plots
    assert sum(spread.counts["model"]) == 4 and spread.counts["model"][-1] == 3
    assert bars.names == ("Make Tea", "Fry Fish")
    assert first.tracks[1].spans[-1] == (5.0, 6.0, "stir")
    names = [c.name for c in outcome.baselines]
    assert names == ["random", "evenly spread"]


def test_a_run_of_seconds_for_each_step(store, encoder):
    config = EvaluateConfig(exactly_one=False, num_resamples=5)
    assigned = step_localizer(Trial(encoder, store, config))(tea("a"))
    runs = [np.flatnonzero(assigned[:, k]).tolist() for k in range(3)]
    assert runs == [[1, 2], [3], [5]]  # seconds that show nothing are as likely as chance
    outcome = evaluate_steps(benchmark(tea("a", (1, 3, 0))), Trial(encoder, store, config))
    assert outcome.settings["steps"] == "a run of seconds each"


def test_validation_videos_are_not_tested(store, encoder):
    held_out = benchmark(fish("b", (0, 1, 0)), validation=[("2", "b")])
    with pytest.raises(DataError, match="no test video has features"):
        evaluate_steps(held_out, Trial(encoder, store, CONFIG))
