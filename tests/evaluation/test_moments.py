"""Moments against naive loops."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.evaluation.metrics import moments


def naive_iou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union else 0.0


def naive_agreement(ranking, annotated):
    places, overlaps = [], []
    top = moments.MOMENTS[ranking[0]]
    for first, last in annotated:
        for place, candidate in enumerate(ranking, start=1):
            if moments.MOMENTS[candidate] == (first, last):
                places.append(place)
        overlaps.append(naive_iou((top[0], top[1] + 1), (first, last + 1)))
    places, overlaps = sorted(places)[:3], sorted(overlaps)[-3:]
    return (sum(places) / len(places) if places else np.inf), sum(overlaps) / len(overlaps)


def test_candidates_are_chunks_then_pairs():
    assert len(moments.MOMENTS) == 21
    assert moments.MOMENTS[:6] == tuple((i, i) for i in range(6))
    assert moments.MOMENTS[6:] == tuple(itertools.combinations(range(6), 2))
    assert moments.moment_index(4, 5) == 20


def test_iou_of_all_pairs():
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.integers(0, 6, size=(2, 12, 2)), axis=2).astype(float)
    expected = [[naive_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(moments.span_iou(a, b), expected)


@pytest.mark.parametrize("num_valid", [1, 5, 6, 17, 25, 26, 30])
def test_ranking_is_the_sorted_means(num_valid):
    similarity = np.random.default_rng(num_valid).normal(size=num_valid)
    means = {}
    for i, (first, last) in enumerate(moments.MOMENTS):
        seconds = [s for s in range(5 * first, 5 * last + 5) if s < num_valid]
        if 5 * first < num_valid:
            means[i] = sum(similarity[s] for s in seconds) / len(seconds)
    expected = sorted(means, key=lambda i: means[i], reverse=True)
    assert moments.didemo_ranking(similarity, num_valid).tolist() == expected


def test_padding_states_count_where_they_are_given():
    similarity = np.array([1.0] * 5 + [0.0] * 25)
    assert moments.didemo_ranking(similarity, 7)[0] == moments.moment_index(0, 0)
    assert moments.didemo_ranking(similarity[:5], 5).tolist() == [0, *range(6, 11)]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 21))
def test_agreement(seed, num_annotators, num_ranked):
    rng = np.random.default_rng(seed)
    ranking = rng.permutation(21)[:num_ranked]
    annotated = [moments.MOMENTS[i] for i in rng.integers(21, size=num_annotators)]
    got = moments.didemo_agreement(ranking, annotated)
    np.testing.assert_allclose(got, naive_agreement(ranking, annotated))


def test_overlapping_spans_are_suppressed():
    spans = np.array([[0, 10], [1, 10], [20, 30], [9, 19]], dtype=float)
    similarity = np.array([0.5, 0.9, 0.1, 0.7])
    assert moments.suppress_overlaps(spans, similarity, 0.5, top_k=9).tolist() == [1, 3, 2]
    assert moments.suppress_overlaps(spans, similarity, 1.0, top_k=3).tolist() == [1, 3, 0]


def test_average_precision_by_hand():
    true = np.array([[0, 10], [20, 30]], dtype=float)
    assert moments.average_precision(true, true, 0.95) == 1.0
    # Right, a double of the right one, then the second: precision 1 at recall 1/2, 2/3 at 1.
    predicted = np.array([[0, 10], [0, 9], [20, 30]], dtype=float)
    assert moments.average_precision(predicted, true, 0.5) == pytest.approx((1 + 2 / 3) / 2)
    # Interpolation: a later, higher precision counts for the earlier recall too.
    predicted = np.array([[50, 60], [0, 10], [20, 30]], dtype=float)
    assert moments.average_precision(predicted, true, 0.5) == pytest.approx(2 / 3)
    assert moments.average_precision(predicted[:1], true, 0.5) == 0.0
