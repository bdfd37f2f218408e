"""Steps where one knows when they happen."""

import numpy as np
import pytest

from videoclip.benchmarks.crosstask import CrossTask, released_split
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
    assert first.predicted[-1] == (5.0, 6.0, "stir")
    names = [c.name for c in outcome.baselines]
    assert names == ["random", "evenly spread"]


def test_a_run_of_seconds_for_each_step(store, encoder):
    config = EvaluateConfig(exactly_one=False, num_resamples=5)
    assigned = step_localizer(Trial(encoder, store, config))(tea("a"))[0]
    runs = [np.flatnonzero(assigned[:, k]).tolist() for k in range(3)]
    assert runs == [[1, 2], [3], [5]]  # seconds that show nothing are as likely as chance
    outcome = evaluate_steps(benchmark(tea("a", (1, 3, 0))), Trial(encoder, store, config))
    assert outcome.settings["steps"] == "a run of seconds each"


def test_steps_in_another_order_and_their_overlap(make_store, encoder):
    store = make_store({"a": ["stir", "nothing", "wash", "wash", "nothing", "pour"]}, name="order")
    video = tea("a", (2, 4, 0), (5, 6, 1), (0, 1, 2))  # stirring comes first
    _, likeliest = step_localizer(Trial(encoder, store, CONFIG))(video)
    assert likeliest.argmax(axis=0).tolist() == [2, 5, 0]
    outcome = evaluate_steps(benchmark(video), Trial(encoder, store, CONFIG))
    got = {m.name: m.value for m in outcome.measures}
    assert got["average recall"] == pytest.approx(1 / 3)
    assert got["average recall, unordered"] == 1.0
    random = outcome.baselines[0].values
    assert 0 < random["average recall, unordered"] < 0.6
    store = make_store({"b": ["wash", "wash", "nothing", "nothing", "pour", "stir"]}, name="runs")
    config = EvaluateConfig(exactly_one=False, num_resamples=5)
    runs = benchmark(tea("b", (0, 4, 0), (4, 5, 1)))  # of the first step half is shown
    outcome = evaluate_steps(runs, Trial(encoder, store, config))
    overlap = {m.name: m.value for m in outcome.measures}["step IoU"]
    assert overlap == pytest.approx((1 / 2 + 1) / 2)


def test_recall_is_the_mean_over_splits(make_store, encoder):
    found_of = {f"v{i}": 2 * (i % 2) for i in range(36)}  # odd videos show the steps in order
    orders = ["fry", "cut", "nothing"], ["cut", "fry", "nothing"]
    shown = {video_id: orders[found // 2] for video_id, found in found_of.items()}
    store = make_store(shown, name="many")
    videos = [fish(video_id, (0, 1, 0), (1, 2, 1)) for video_id in shown]
    settings = [EvaluateConfig(num_splits=n, num_resamples=5) for n in (1, 4)]
    one, four = (
        evaluate_steps(benchmark(*videos), Trial(encoder, store, config)) for config in settings
    )
    assert one.num_videos == 6 < four.num_videos
    recalls = []
    for seed in range(4):
        _, test = released_split(videos, (), set(shown), seed)
        found = [found_of[video.video_id] for video in test]
        recalls.append(sum(found) / (2 * len(found)))
    assert one.measures[0].value == pytest.approx(recalls[0])
    assert four.measures[0].value == pytest.approx(np.mean(recalls))
    assert four.settings["splits"] == 4


def test_a_resample_without_a_video_of_a_split(make_store, encoder):
    names = [f"v{i}" for i in range(36)]
    store = make_store({name: ["cut", "fry", "nothing"] for name in names}, name="few")
    videos = [fish(name, (0, 1, 0)) for name in names]
    first, second = (
        {video.video_id for video in released_split(videos, (), set(names), seed)[1]}
        for seed in (0, 1)
    )
    kept = {min(first - second), min(second - first)}
    videos = [video if video.video_id in kept else fish(video.video_id) for video in videos]
    config = EvaluateConfig(num_splits=2, num_resamples=20)
    outcome = evaluate_steps(benchmark(*videos), Trial(encoder, store, config))
    assert outcome.num_videos == 2
    assert outcome.measures[0].value == 1.0


def test_validation_videos_are_not_tested(store, encoder):
    held_out = benchmark(fish("b", (0, 1, 0)), validation=[("2", "b")])
    with pytest.raises(DataError, match="no test video has features"):
        evaluate_steps(held_out, Trial(encoder, store, CONFIG))
