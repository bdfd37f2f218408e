"""The ordered assignment against all assignments there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.evaluation.metrics import steps


def naive_best_cost(cost, exactly_one):
    """Try every ordered choice of runs."""
    num_frames, num_steps = cost.shape
    best = np.inf
    if exactly_one:
        for frames in itertools.combinations(range(num_frames), num_steps):
            best = min(best, sum(cost[f, k] for k, f in enumerate(frames)))
        return best
    edges = range(num_frames + 1)
    for bounds in itertools.combinations_with_replacement(edges, 2 * num_steps):
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
    assignment = steps.order_steps(cost, exactly_one=exactly_one)
    assert (assignment.sum(axis=1) <= 1).all()
    runs = [np.flatnonzero(assignment[:, k]) for k in range(num_steps)]
    for run in runs:
        assert len(run) == 1 if exactly_one else len(run) >= 1
        assert (np.diff(run) == 1).all()
    assert all(a[-1] < b[0] for a, b in itertools.pairwise(runs))
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
    assignment = steps.order_steps(cost, exactly_one=exactly_one)
    assert (assignment == naive_assignment(cost, exactly_one)).all()


def test_as_many_frames_as_steps_leave_no_choice():
    assert (
        steps.order_steps(np.random.default_rng(0).normal(size=(4, 4))).tolist()
        == np.eye(4, dtype=bool).tolist()
    )


def test_equal_costs_start_early_but_end_with_the_video():
    assert [np.flatnonzero(c).tolist() for c in steps.order_steps(np.zeros((6, 3))).T] == [
        [0],
        [1],
        [5],
    ]


def test_log_softmax():
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 1000.0, 1000.0]])
    np.testing.assert_allclose(np.exp(steps.log_softmax(logits)).sum(axis=1), 1.0)
    np.testing.assert_allclose(steps.log_softmax(logits)[1], np.log(1 / 3))


def test_recall_counts_steps_not_frames():
    predicted = np.eye(3, dtype=bool)
    true = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)
    assert steps.recall_counts(predicted, true) == (1, 2)
