"""Labels of frames against naive loops and all labels there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.zeroshot import labels

SEQUENCES = st.lists(st.integers(0, 3), max_size=14).map(lambda x: np.array(x, dtype=np.int64))


small = st.integers(-3, 3)


def arrays(most_steps, most_labels):
    return st.tuples(st.integers(1, most_steps), st.integers(1, most_labels)).flatmap(
        lambda shape: st.lists(
            small, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        ).map(lambda values: np.array(values, dtype=float).reshape(shape))
    )


def naive_segments(sequence):
    segments, start = [], 0
    for label, run in itertools.groupby(sequence.tolist()):
        length = len(list(run))
        if label:
            segments.append((label, start, start + length))
        start += length
    return segments


def test_a_label_that_is_near_to_all_frames_does_not_win_everywhere():
    street = np.array([[5.0, 1.2], [4.0, 1.4], [3.0, 2.4], [2.8, 2.6], [0.2, 0.1]])
    assert labels.label_frames(street, 1.0).tolist() == [1, 1, 1, 1, 0]
    corrected = labels.correct_label_hubs(street, 1.0)
    assert labels.label_frames(corrected, 1.0).tolist() == [1, 1, 2, 2, 0]


@given(arrays(8, 3))
def test_corrected_labels_keep_the_frames_that_reach_the_threshold(z_scores):
    corrected = labels.correct_label_hubs(z_scores, 1.0)
    third = -(-len(z_scores) // 3)
    biases = [sum(sorted(column)[-third:]) / third / 2 for column in z_scores.T.tolist()]
    for row, new in zip(z_scores.tolist(), corrected.tolist(), strict=True):
        reached = [k for k, score in enumerate(row) if score >= 1.0]
        winner = max(reached, key=lambda k: row[k] - biases[k], default=None)
        for k, score in enumerate(row):
            expected = score
            if k in reached:
                expected = row[winner] - biases[winner] - (row[k] - biases[k])
                expected = row[winner] - expected
            assert new[k] == pytest.approx(expected)
    if z_scores.shape[1] == 1:
        np.testing.assert_allclose(corrected, z_scores)


@given(SEQUENCES)
def test_segments_are_runs_without_background(sequence):
    ids, spans = labels.label_segments(sequence)
    assert [(i, *s) for i, s in zip(ids.tolist(), spans.tolist(), strict=True)] == naive_segments(
        sequence
    )


def test_frames_below_the_threshold_are_background():
    similarity = np.array([[0.2, 0.9], [0.5, 0.4], [0.7, 0.1]])
    assert labels.label_frames(similarity, 0.5).tolist() == [2, 0, 1]


def test_released_threshold_is_the_largest_similarity_of_two_labels():
    vectors = np.array([[2.0, 0.0], [1.0, 0.5], [0.0, 3.0]])
    assert labels.released_threshold(vectors) == 2.0


@settings(deadline=None)
@given(
    st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from(["frame_accuracy", "balanced"])
)
def test_the_fitted_threshold_is_the_best_there_is(num, seed, objective):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 5, size=num).astype(float)
    background = rng.random(num) < 0.5
    correct = ~background & (rng.random(num) < 0.6)

    def worth(threshold):
        right = np.where(similarity > threshold, correct, background)
        if objective == "frame_accuracy":
            return right.mean()
        parts = [right[part] for part in (background, ~background) if part.any()]
        return sum(part.mean() for part in parts)

    fitted = labels.fit_threshold(similarity, correct, background, objective)
    assert worth(fitted) == pytest.approx(max(worth(t) for t in [-1, *similarity]))


def value(gains, labels, switch_cost):
    gained = sum(gains[t, label - 1] for t, label in enumerate(labels) if label)
    return gained - switch_cost * sum(a != b for a, b in itertools.pairwise(labels))


@settings(deadline=None)
@given(arrays(5, 2), st.sampled_from([0.0, 0.5, 2.0]))
def test_labels_with_a_switch_cost_are_the_best_of_all(gains, switch_cost):
    best = max(
        value(gains, labels, switch_cost)
        for labels in itertools.product(range(gains.shape[1] + 1), repeat=len(gains))
    )
    assert value(
        gains, list(labels.label_frames(gains, 0.0, switch_cost)), switch_cost
    ) == pytest.approx(best)


def test_an_hour_is_quick():
    gains = np.random.default_rng(0).normal(size=(3600, 12)) - 1
    assert len(labels.label_frames(gains, 0.0, 1.0)) == 3600
