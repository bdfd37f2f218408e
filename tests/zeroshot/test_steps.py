from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.zeroshot.labels import label_frames
from videoclip.zeroshot.steps import best_spans, order_steps, subtract_rivals

small = st.integers(-3, 3)


def arrays(most_steps, most_labels):
    return st.tuples(st.integers(1, most_steps), st.integers(1, most_labels)).flatmap(
        lambda shape: st.lists(
            small, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        ).map(lambda values: np.array(values, dtype=float).reshape(shape))
    )


def value(gains, labels, switch_cost):
    gained = sum(gains[t, label - 1] for t, label in enumerate(labels) if label)
    return gained - switch_cost * sum(a != b for a, b in pairwise(labels))


@settings(deadline=None)
@given(arrays(5, 2), st.sampled_from([0.0, 0.5, 2.0]))
def test_labels_with_a_switch_cost_are_the_best_of_all(gains, switch_cost):
    best = max(
        value(gains, labels, switch_cost)
        for labels in product(range(gains.shape[1] + 1), repeat=len(gains))
    )
    assert value(gains, list(label_frames(gains, 0.0, switch_cost)), switch_cost) == pytest.approx(
        best
    )


def all_spans(num_seconds):
    return [None] + [(a, b) for a in range(num_seconds) for b in range(a + 1, num_seconds + 1)]


def gained(gains, spans):
    return sum(gains[a:b, k].sum() for k, (a, b) in ((k, s) for k, s in enumerate(spans) if s))


def in_order(spans):
    found = [span for span in spans if span]
    return all(a[1] <= b[0] for a, b in pairwise(found))


@settings(deadline=None)
@given(arrays(5, 3))
def test_optional_steps_in_order_are_the_best_of_all(gains):
    candidates = product(all_spans(len(gains)), repeat=gains.shape[1])
    best = max(gained(gains, spans) for spans in candidates if in_order(spans))
    spans = order_steps(gains, optional=True)
    assert in_order(spans)
    assert gained(gains, spans) == pytest.approx(best)


@given(arrays(8, 3))
def test_spans_in_any_order_are_the_best_of_all(gains):
    for k, span in enumerate(best_spans(gains)):
        best = max(gains[a:b, k].sum() for a, b in all_spans(len(gains))[1:])
        assert (span is None) == (best <= 0)
        if span:
            assert gains[slice(*span), k].sum() == pytest.approx(best)


def test_steps_out_of_order_are_put_in_order_or_left_out():
    gains = np.full((9, 2), -1.0)
    gains[0:2, 1] = 1.0  # the second step's stronger place comes before the first step
    gains[3:6, 0] = 1.0
    gains[7:8, 1] = 0.5
    assert order_steps(gains, optional=True) == [(3, 6), (7, 8)]
    assert best_spans(gains) == [(3, 6), (0, 2)]


def test_an_hour_is_quick():
    gains = np.random.default_rng(0).normal(size=(3600, 12)) - 1
    spans = order_steps(gains, optional=True)
    assert in_order(spans)
    assert len(label_frames(gains, 0.0, 1.0)) == 3600


@given(arrays(6, 3))
def test_rivals_speak_against_a_label_by_the_difference(gains):
    found = subtract_rivals(gains)
    for t, row in enumerate(gains):
        for k, gain in enumerate(row):
            best = max([*row[:k], *row[k + 1 :]], default=-np.inf)
            assert found[t, k] == (gain - best if best > gain else gain)


def test_alike_steps_do_not_reach_into_each_other():
    gains = np.full((12, 2), -1.0)
    gains[0:6], gains[6:12] = (2.0, 1.0), (1.0, 2.0)
    assert best_spans(gains) == [(0, 12), (0, 12)]
    assert best_spans(subtract_rivals(gains)) == [(0, 6), (6, 12)]
