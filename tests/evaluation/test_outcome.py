"""Bootstrap intervals."""

import numpy as np
import pytest

from videoclip.evaluation.outcome import bootstrap_interval


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000)
    low, high = bootstrap_interval(
        lambda items: values[items].mean(), np.arange(2000), rng, num_resamples=2000
    )
    half = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - half, abs=0.01)
    assert high == pytest.approx(values.mean() + half, abs=0.01)


def test_items_of_a_video_are_drawn_together():
    values = np.repeat([0.0, 1.0] * 20, 50)
    videos = [f"v{i}" for i in np.repeat(np.arange(40), 50)]

    def width(groups):
        rng = np.random.default_rng(1)
        low, high = bootstrap_interval(lambda items: values[items].mean(), groups, rng, 300)
        return high - low

    assert width(videos) > 4 * width(np.arange(2000))


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(2).random(30)
    first, second = (
        bootstrap_interval(
            lambda items: float(np.median(values[items])), np.arange(30), np.random.default_rng(5)
        )
        for _ in range(2)
    )
    assert first == second
