"""Annotated spans as targets."""

import pytest

from videoclip.benchmarks.examples import Segment
from videoclip.evaluation.metrics import targets


@pytest.mark.parametrize(
    ("start", "end", "rate", "expected"),
    [(2.3, 5.9, 1, (2, 6)), (2.3, 5.9, 2, (4, 12)), (9, 99, 1, (9, 10)), (50, 60, 1, (10, 10))],
)
def test_a_span_covers_every_frame_it_touches(start, end, rate, expected):
    assert targets.frame_span(start, end, 10 * rate, rate) == expected


def test_later_segments_overwrite_labels_but_steps_may_share_a_frame():
    segments = [Segment(0.5, 3, 1), Segment(2, 4, 2), Segment(50, 60, 2)]
    assert targets.label_targets(segments, 6).tolist() == [1, 1, 2, 2, 0, 0]
    steps = [Segment(s.start, s.end, s.label - 1) for s in segments]
    happens = targets.step_targets(steps, 6, 2)
    assert happens[2].tolist() == [True, True]
    assert happens.sum(axis=0).tolist() == [3, 2]
