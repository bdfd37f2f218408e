"""Moments against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.evaluation.metrics import moments
from videoclip.zeroshot.moments import DIDEMO_CANDIDATES, rank_didemo_candidates


def average_precision(predicted, true, min_iou):
    return moments.average_precision(moments.span_iou(predicted, true), min_iou)


def naive_iou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union else 0.0


def naive_agreement(ranking, annotated):
    places, overlaps = [], []
    top = DIDEMO_CANDIDATES[ranking[0]]
    for first, last in annotated:
        for place, candidate in enumerate(ranking, start=1):
            if DIDEMO_CANDIDATES[candidate] == (first, last):
                places.append(place)
        overlaps.append(naive_iou((top[0], top[1] + 1), (first, last + 1)))
    places += [np.inf] * (len(annotated) - len(places))  # a moment beyond the features is missed
    places, overlaps = sorted(places)[:3], sorted(overlaps)[-3:]
    return sum(places) / len(places), sum(overlaps) / len(overlaps)


def test_candidates_are_known_by_their_index():
    assert moments.CANDIDATE_INDEX[4, 5] == 20


def test_iou_of_all_pairs():
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.integers(0, 6, size=(2, 12, 2)), axis=2).astype(float)
    expected = [[naive_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(moments.span_iou(a, b), expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 21))
def test_agreement(seed, num_annotators, num_ranked):
    rng = np.random.default_rng(seed)
    ranking = rng.permutation(21)[:num_ranked]
    annotated = [DIDEMO_CANDIDATES[i] for i in rng.integers(21, size=num_annotators)]
    got = moments.didemo_agreement(ranking, annotated)
    np.testing.assert_allclose(got, naive_agreement(ranking, annotated))


def test_annotators_whose_moment_lies_beyond_the_features_are_missed():
    similarity = np.zeros(22)
    similarity[:5] = 1.0
    ranking = rank_didemo_candidates(similarity, 22)  # (5, 5) begins at 25 s
    assert moments.didemo_agreement(ranking, [(0, 0), (5, 5), (5, 5), (5, 5)])[0] == np.inf
    assert moments.didemo_agreement(ranking, [(0, 0), (0, 0), (0, 0), (5, 5)])[0] == 1


def test_a_union_is_measured_from_the_first_start_to_the_last_end():
    a, b = np.array([[0.1, 0.4]]), np.array([[0.2, 0.7]])
    assert moments.span_iou(a, b)[0, 0] == (0.4 - 0.2) / (0.7 - 0.1)
    assert moments.span_iou(a, np.array([[0.5, 0.9], [0.4, 0.9]])).tolist() == [[0, 0]]


def test_of_equal_overlaps_the_last_true_span_is_matched():
    true = np.array([[0, 10], [10, 20]], dtype=float)
    # The first overlaps both by 1/3 and takes the last, so that the second, which overlaps only
    # the last, has none left; the third takes the first.
    predicted = np.array([[5, 15], [12, 20], [0, 8]], dtype=float)
    assert average_precision(predicted, true, 0.3) == pytest.approx((1 + 2 / 3) / 2)


def test_average_precision_by_hand():
    true = np.array([[0, 10], [20, 30]], dtype=float)
    assert average_precision(true, true, 0.95) == 1.0
    # Right, a double of the right one, then the second: precision 1 at recall 1/2, 2/3 at 1.
    predicted = np.array([[0, 10], [0, 9], [20, 30]], dtype=float)
    assert average_precision(predicted, true, 0.5) == pytest.approx((1 + 2 / 3) / 2)
    # Interpolation: a later, higher precision counts for the earlier recall too.
    predicted = np.array([[50, 60], [0, 10], [20, 30]], dtype=float)
    assert average_precision(predicted, true, 0.5) == pytest.approx(2 / 3)
    assert average_precision(predicted[:1], true, 0.5) == 0.0


def test_precision_is_that_at_this_recall_or_more():
    spans = np.array([[0, 10], [20, 30], [40, 50]], dtype=float)
    wrong = np.array([[60, 70], [80, 90]], dtype=float)
    predicted = np.concatenate((spans[:2], wrong, spans[2:]))
    assert average_precision(predicted, spans, 0.5) == pytest.approx((1 + 1 + 3 / 5) / 3)


def test_recalled_spans_by_hand():
    true = np.array([[0, 10], [20, 30]], dtype=float)
    predicted = np.array([[0, 8], [21, 26]], dtype=float)  # ratios 0.8 and 0.5
    assert moments.recalled_spans(predicted, true, (0.5, 0.6)) == (2 + 1) / 2
    assert moments.recalled_spans(predicted[:0], true, (0.5, 0.6)) == 0.0


def test_precision_of_highlights_by_hand():
    similarities = np.array([0.9, 0.8, 0.7, 0.6])
    positive = np.array([True, False, True, False])
    assert moments.highlight_precision(similarities, positive) == pytest.approx((1 + 2 / 3) / 2)
    # A later, higher precision counts for the earlier recall too.
    positive = np.array([False, True, True, False])
    assert moments.highlight_precision(similarities, positive) == pytest.approx(2 / 3)
    assert moments.highlight_precision(np.zeros(4), positive) == 0.5  # all come at once
    assert moments.highlight_precision(similarities, np.zeros(4, bool)) == 0.0
    assert moments.highlight_precision(similarities, np.ones(4, bool)) == 1.0


def test_an_overlap_ratio_at_the_threshold_is_enough():
    true = np.array([[0.0, 10.0]])
    assert average_precision(np.array([[0.0, 5.0]]), true, 0.5) == 1.0
    assert average_precision(np.array([[0.0, 4.9]]), true, 0.5) == 0.0
