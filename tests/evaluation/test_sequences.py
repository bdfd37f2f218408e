"""Distances of paragraphs from videos against naive twins that try every alignment."""

import functools

import numpy as np
import pytest

from videoclip.evaluation.metrics import sequences


def naive_dtw(distances):
    """The cheapest way from the first pair to the last, by trying all ways."""

    @functools.cache
    def cost(i, j):
        if i < 0 or j < 0:
            return np.inf
        if i == j == 0:
            return distances[0, 0]
        return distances[i, j] + min(cost(i - 1, j - 1), cost(i - 1, j), cost(i, j - 1))

    return cost(distances.shape[0] - 1, distances.shape[1] - 1)


def naive_otam(distances):
    """The cheapest run of clips: each sentence has the clip of the one before, or the next one."""

    def ways(i, j):
        if i == len(distances):
            return 0.0
        further = (
            [ways(i + 1, j)]
            if j + 1 == distances.shape[1]
            else [ways(i + 1, j), ways(i + 1, j + 1)]
        )
        return distances[i, j] + min(further) if i + 1 < len(distances) else distances[i, j]

    return min(ways(0, j) for j in range(distances.shape[1]))


def naive_average(distances):
    return np.mean([min(row) for row in distances])


@pytest.mark.parametrize("seed", range(5))
def test_costs_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    num_sentences, num_clips = rng.integers(1, 6, size=4), rng.integers(1, 7, size=5)
    distances = rng.random((num_sentences.sum(), num_clips.sum()))
    costs = sequences.paragraph_costs(distances, num_sentences, num_clips)
    rows = np.split(distances, np.cumsum(num_sentences)[:-1])
    for i, row in enumerate(rows):
        for j, pair in enumerate(np.split(row, np.cumsum(num_clips)[:-1], axis=1)):
            assert costs["DTW"][i, j] == pytest.approx(naive_dtw(pair), abs=1e-12)
            assert costs["OTAM"][i, j] == pytest.approx(naive_otam(pair), abs=1e-12)
            assert costs["caption average"][i, j] == pytest.approx(naive_average(pair), abs=1e-12)


def test_costs_by_hand():
    # Two sentences; the video shows something else, the first, the second, something else.
    distances = np.array([[1, 0, 1, 1], [1, 1, 0, 1]], dtype=float)
    costs = sequences.paragraph_costs(distances, np.array([2]), np.array([4]))
    assert costs["DTW"][0, 0] == 2  # background costs at both ends
    assert costs["OTAM"][0, 0] == 0  # it begins and ends anywhere
    assert costs["caption average"][0, 0] == 0
    turned = sequences.paragraph_costs(distances[::-1], np.array([2]), np.array([4]))
    assert turned["OTAM"][0, 0] == 1  # one of the two in the wrong order
    assert turned["caption average"][0, 0] == 0  # does not see the order
