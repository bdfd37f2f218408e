import numpy as np
import pytest

from tests.ablation.testbeds import Reader, make_testbed
from videoclip.ablation import measure as module
from videoclip.ablation.measure import (
    BASELINES,
    MEASURES,
    NUM_THRESHOLDS,
    SEGMENT_IOU,
    _fit_threshold,
    measure,
    measure_baselines,
    ratio,
)
from videoclip.evaluation.metrics.frames import segment_counts


def ratios(counts):
    """Each measure over all videos."""
    return {name: float(ratio(pairs.sum(axis=0))) for name, pairs in counts.items()}


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    return make_testbed(tmp_path_factory.mktemp("testbed"))


def test_a_perfect_model_has_perfect_measures(testbed):
    counts = measure(Reader(testbed), testbed)
    assert set(counts) == set(MEASURES)
    num_test = sum(video.split == "test" for video in testbed.videos)
    assert {pairs.shape for pairs in counts.values()} == {(num_test, 2)}
    found = ratios(counts)
    assert found.pop("direction, order hidden") == 0.5  # a picture in which nothing moves
    # In order every step of a task has to take a second, whether the video shows it or not.
    assert 0.5 < found.pop("step recall") < 1
    assert 0.5 < found.pop("F1 in order") < 1
    assert 0.8 < found.pop("foreground in order") <= 1
    assert set(found.values()) == {1.0}, found


def test_a_model_of_other_features_is_refused(testbed):
    reader = Reader(testbed)
    reader.check = lambda spec: pytest.fail(f"asked about {spec.backbone}")
    with pytest.raises(pytest.fail.Exception, match="asked about one-hot"):
        measure(reader, testbed)


def test_a_blind_model_is_right_by_chance(testbed):
    found = ratios(measure(Reader(testbed, sight=0.0), testbed))
    assert found["R@1"] < 0.35
    assert 0.2 < found["direction"] < 0.8
    assert found["all-label foreground"] < 0.3


def test_seen_and_held_out_steps_are_all_steps(testbed):
    counts = measure(Reader(testbed, sight=0.3), testbed)
    parts = counts["R@1 seen"] + counts["R@1 held out"]
    np.testing.assert_array_equal(parts, counts["R@1"])
    new = [sum(s.step.held_out for s in v.shown) for v in testbed.videos if v.split == "test"]
    np.testing.assert_array_equal(counts["R@1 held out"][:, 1], new)


def test_baselines(testbed):
    found = {who: ratios(counts) for who, counts in measure_baselines(testbed).items()}
    assert tuple(found) == BASELINES
    assert set(found["always background"].values()) == {0.0}
    assert 0 < found["uniform in order"]["foreground accuracy"] < 0.6
    assert 0 < found["uniform in order"]["step recall"] < 0.8
    assert 0 <= found["uniform in order"]["segment F1"] < 0.6


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_the_one_with_the_best_f1_over_all_videos_together(seed):
    rng, videos = np.random.default_rng(seed), []
    for length in (40, 7, 90):
        true = np.repeat(rng.integers(0, 4, length), 4)[:length]
        noise = (0.3 + 2 * (length == 7)) * rng.normal(size=(length, 3))
        videos.append((np.eye(4)[true][:, 1:] + noise, true))
    highest = np.concatenate([scores.max(axis=1) for scores, _ in videos])
    found = []
    for threshold in np.quantile(highest, np.linspace(0, 0.95, NUM_THRESHOLDS)):
        hits = every = 0
        for scores, true in videos:
            labels = np.where(scores.max(axis=1) > threshold, scores.argmax(axis=1) + 1, 0)
            good, wrong, missed = segment_counts(labels, true, SEGMENT_IOU)
            hits, every = hits + 2 * good, every + 2 * good + wrong + missed
        found.append((hits / every, -threshold))
    assert _fit_threshold(videos) == -max(found)[1]


def test_clips_are_the_steps_of_the_test_videos(testbed, monkeypatch):
    asked, find_clip = [], module.find_clip
    monkeypatch.setattr(
        module, "find_clip", lambda store, *span: asked.append(span) or find_clip(store, *span)
    )
    measure(Reader(testbed), testbed)
    assert asked == [
        (video.video_id, shown.start, shown.end)
        for video in testbed.videos
        if video.split == "test"
        for shown in video.shown
    ]
