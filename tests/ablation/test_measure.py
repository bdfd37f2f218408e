import numpy as np
import pytest

from tests.ablation.beds import Reader, telling_bed
from videoclip.ablation.measure import MEASURES, measure, ratios
from videoclip.ablation.seconds import TRIVIAL, trivial


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    return telling_bed(tmp_path_factory.mktemp("bed"))


def test_who_sees_everything_is_right_about_everything(bed):
    counts = measure(Reader(bed), bed)
    assert set(counts) == set(MEASURES)
    num_test = sum(video.split == "test" for video in bed.videos)
    assert {pairs.shape for pairs in counts.values()} == {(num_test, 2)}
    found = ratios(counts)
    assert found.pop("direction, order hidden") == 0.5  # a picture in which nothing moves
    # In order every step of a task has to take a second, whether the video shows it or not.
    assert 0.5 < found.pop("step recall") < 1
    assert 0.5 < found.pop("F1 in order") < 1
    assert 0.8 < found.pop("foreground in order") <= 1
    assert set(found.values()) == {1.0}, found


def test_who_sees_nothing_is_right_by_chance(bed):
    found = ratios(measure(Reader(bed, sight=0.0), bed))
    assert found["R@1"] < 0.35
    assert 0.2 < found["direction"] < 0.8
    assert found["all-label foreground"] < 0.3


def test_seen_and_held_out_steps_are_all_steps(bed):
    counts = measure(Reader(bed, sight=0.3), bed)
    parts = counts["R@1 seen"] + counts["R@1 held out"]
    np.testing.assert_array_equal(parts, counts["R@1"])
    new = [sum(s.step.held_out for s in v.shown) for v in bed.videos if v.split == "test"]
    np.testing.assert_array_equal(counts["R@1 held out"][:, 1], new)


def test_trivial_answers(bed):
    found = {who: ratios(counts) for who, counts in trivial(bed).items()}
    assert tuple(found) == TRIVIAL
    assert set(found["always background"].values()) == {0.0}
    assert 0 < found["uniform in order"]["foreground accuracy"] < 0.6
    assert 0 < found["uniform in order"]["step recall"] < 0.8
    assert 0 <= found["uniform in order"]["segment F1"] < 0.6
