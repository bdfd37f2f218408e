"""Cutting into windows and putting together what they say."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from videoclip.data import windows


@given(st.integers(1, 120), st.integers(1, 40), st.integers(1, 40))
def test_windows_stop_once_the_rest_fits(num_frames, window, step):
    step = min(step, window)
    expected, start = [], 0
    while True:
        expected.append((start, min(start + window, num_frames)))
        if num_frames - start <= window:
            break
        start += step
    assert windows.sliding_windows(num_frames, window, step) == expected


def test_overlapping_windows_are_averaged():
    ranges = [(0, 3), (2, 4)]
    values = np.array([[1.0], [2.0], [3.0], [5.0], [6.0]])
    assert windows.average_windows(values, ranges).ravel().tolist() == [1, 2, 4, 6]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.integers(0, 9))
def test_the_average_is_that_of_every_window_a_position_lies_in(num, window, step, seed):
    ranges = windows.sliding_windows(num, window, min(step, window))
    values = np.random.default_rng(seed).normal(size=(sum(b - a for a, b in ranges), 2))
    said = [[] for _ in range(num)]
    rows = iter(values)
    for start, stop in ranges:
        for position in range(start, stop):
            said[position].append(next(rows))
    expected = [np.mean(rows, axis=0) for rows in said]
    np.testing.assert_allclose(windows.average_windows(values, ranges), expected)
