from itertools import combinations, combinations_with_replacement, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.zeroshot.steps import (
    assign_steps,
    best_spans,
    log_softmax,
    order_steps,
    step_mask,
    subtract_rivals,
)

small = st.integers(-3, 3)


def arrays(most_steps, most_labels):
    return st.tuples(st.integers(1, most_steps), st.integers(1, most_labels)).flatmap(
        lambda shape: st.lists(
            small, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        ).map(lambda values: np.array(values, dtype=float).reshape(shape))
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


def naive_best_cost(cost, exactly_one):
    """Try every ordered choice of runs."""
    num_frames, num_steps = cost.shape
    best = np.inf
    if exactly_one:
        for frames in combinations(range(num_frames), num_steps):
            best = min(best, sum(cost[f, k] for k, f in enumerate(frames)))
        return best
    edges = range(num_frames + 1)
    for bounds in combinations_with_replacement(edges, 2 * num_steps):
        runs = [(bounds[2 * k], bounds[2 * k + 1]) for k in range(num_steps)]
        if all(start < end for start, end in runs):
            best = min(best, sum(cost[s:e, k].sum() for k, (s, e) in enumerate(runs)))
    return best


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(0, 4), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_the_assignment_is_ordered_and_cheapest(num_steps, more, exactly_one, whole, seed):
    rng = np.random.default_rng(seed)
    cost = rng.normal(size=(num_steps + more, num_steps))
    cost = np.round(cost) if whole else cost
    assignment = step_mask(order_steps(-cost, exactly_one=exactly_one), len(cost))
    assert (assignment.sum(axis=1) <= 1).all()
    runs = [np.flatnonzero(assignment[:, k]) for k in range(num_steps)]
    for run in runs:
        assert len(run) == 1 if exactly_one else len(run) >= 1
        assert (np.diff(run) == 1).all()
    assert all(a[-1] < b[0] for a, b in pairwise(runs))
    assert (cost * assignment).sum() == pytest.approx(naive_best_cost(cost, exactly_one), abs=1e-9)


def naive_assignment(cost, exactly_one):
    """One state at a time: background, step 0, background, step 1, ...; ties as released.

    Staying beats coming from the state before, which beats skipping a background.
    """
    num_frames, num_steps = cost.shape
    num_states = 2 * num_steps + 1
    total = np.full((num_frames + 1, num_states), np.inf)
    origin = np.full((num_frames + 1, num_states), -1)
    total[0, 0] = origin[0, 0] = 0
    for frame in range(num_frames):
        for state in range(num_states):
            is_step = state % 2 == 1
            sources = [state] if not (is_step and exactly_one) else []
            sources += [state - 1] + ([state - 2] if is_step else [])
            for source in sources:
                if source < 0 or origin[frame, source] < 0:
                    continue
                if origin[frame + 1, state] < 0 or total[frame, source] < total[frame + 1, state]:
                    total[frame + 1, state], origin[frame + 1, state] = total[frame, source], source
            total[frame + 1, state] += cost[frame, state // 2] if is_step else 0
    last = num_states - 1
    state = last if total[-1, last] < total[-1, last - 1] else last - 1
    assignment = np.zeros(cost.shape, dtype=bool)
    for frame in range(num_frames, 0, -1):
        if state % 2 == 1:
            assignment[frame - 1, state // 2] = True
        state = origin[frame, state]
    return assignment


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(0, 12),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_ties_are_broken_as_released(num_steps, more, exactly_one, levels, seed):
    rng = np.random.default_rng(seed)
    cost = rng.integers(-1, levels, size=(num_steps + more, num_steps)).astype(np.float32)
    assignment = step_mask(order_steps(-cost, exactly_one=exactly_one), len(cost))
    assert (assignment == naive_assignment(cost, exactly_one)).all()


def test_as_many_frames_as_steps_leave_no_choice():
    gains = np.random.default_rng(0).normal(size=(4, 4))
    for exactly_one in (True, False):
        spans = order_steps(gains, exactly_one=exactly_one)
        assert step_mask(spans, 4).tolist() == np.eye(4, dtype=bool).tolist()


def test_equal_costs_start_early_but_end_with_the_video():
    assert order_steps(np.zeros((6, 3)), exactly_one=True) == [(0, 1), (1, 2), (5, 6)]


def test_log_softmax():
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 1000.0, 1000.0]])
    np.testing.assert_allclose(np.exp(log_softmax(logits)).sum(axis=1), 1.0)
    np.testing.assert_allclose(log_softmax(logits)[1], np.log(1 / 3))


def test_a_step_takes_every_frame_that_is_likelier_than_chance():
    logits = np.array([[3, 0], [2, 0], [0.1, 0], [0, 0.2], [0, 3]], dtype=float)
    runs = assign_steps(logits)
    assert [np.flatnonzero(step).tolist() for step in runs.T] == [[0, 1, 2], [3, 4]]
    single = assign_steps(logits, exactly_one=True)
    assert [np.flatnonzero(step).tolist() for step in single.T] == [[0], [4]]


def test_a_frame_less_likely_than_chance_belongs_to_no_step():
    shares = [[0.3, 0.35, 0.35], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]
    expected = np.vstack((np.zeros((1, 3)), np.eye(3)))
    assert (assign_steps(np.log(shares)) == expected).all()
