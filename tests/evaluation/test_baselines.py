"""Chance against simulation."""

from itertools import permutations

import numpy as np
import pytest

from videoclip.evaluation import baselines
from videoclip.evaluation.metrics import moments
from videoclip.zeroshot.moments import DIDEMO_CANDIDATES


def test_chance_of_the_best_of_several_right_ones():
    num_right = np.array([1, 1, 3])
    expected = np.zeros(5)
    for right in num_right:
        orders = list(permutations(range(5)))
        firsts = [min(order.index(i) for i in range(right)) for order in orders]
        expected += [np.mean(np.array(firsts) < k) for k in range(1, 6)]
    np.testing.assert_allclose(baselines.chance_ranks(num_right, 5), expected / 3)


def test_one_right_candidate_in_many():
    np.testing.assert_allclose(baselines.chance_ranks(np.array([1]), 4), [0.25, 0.5, 0.75, 1.0])


def test_frequent_moments_come_first():
    ranking = baselines.frequency_ranking([[(0, 0), (0, 0)], [(1, 1), (0, 1)], [(0, 1), (0, 0)]])
    assert [DIDEMO_CANDIDATES[i] for i in ranking[:3]] == [(0, 0), (0, 1), (1, 1)]
    assert len(ranking) == 21


def test_random_moments_against_simulation():
    annotated = [[(0, 0)] * 4, [(0, 0), (1, 1), (0, 0), (2, 3)], [(0, 1), (1, 1), (2, 2), (3, 3)]]
    annotated.append([(i, 5) for i in range(6)] + [(0, 1)])  # seven, all apart
    got = baselines.random_moments(annotated)
    rng = np.random.default_rng(1)
    agreement = np.array(
        [
            moments.didemo_agreement(rng.permutation(21), marked)
            for _ in range(3000)
            for marked in annotated
        ]
    )
    expected = (
        (agreement[:, 0] <= 1).mean(),
        (agreement[:, 0] <= 5).mean(),
        agreement[:, 1].mean(),
    )
    assert got == pytest.approx(expected, abs=0.01)
    assert got[0] == pytest.approx(1 / 21 / 4)  # only agreement of three can rank first


def test_steps_without_a_model():
    rng = np.random.default_rng(0)
    for _ in range(20):
        frames = np.argmax(baselines.random_steps(7, 3, rng), axis=0)
        assert (np.diff(frames) > 0).all()
    assert np.argmax(baselines.even_steps(10, 3), axis=0).tolist() == [1, 5, 8]
    assert baselines.even_steps(3, 3).tolist() == np.eye(3, dtype=bool).tolist()
