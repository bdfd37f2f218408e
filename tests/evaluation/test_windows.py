"""Windows and targets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.benchmarks.examples import Segment
from videoclip.evaluation.metrics import windows


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


@pytest.mark.parametrize(
    ("start", "end", "rate", "expected"),
    [(2.3, 5.9, 1, (2, 6)), (2.3, 5.9, 2, (4, 12)), (9, 99, 1, (9, 10)), (50, 60, 1, (10, 10))],
)
def test_a_span_covers_every_frame_it_touches(start, end, rate, expected):
    assert windows.frame_span(start, end, 10 * rate, rate) == expected


def test_later_segments_overwrite_labels_but_steps_may_share_a_frame():
    segments = [Segment(0.5, 3, 1), Segment(2, 4, 2), Segment(50, 60, 2)]
    assert windows.label_targets(segments, 6).tolist() == [1, 1, 2, 2, 0, 0]
    steps = [Segment(s.start, s.end, s.label - 1) for s in segments]
    targets = windows.step_targets(steps, 6, 2)
    assert targets[2].tolist() == [True, True]
    assert targets.sum(axis=0).tolist() == [3, 2]
