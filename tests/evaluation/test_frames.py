"""Targets and measures of frames: by hand, and segmental measures against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.zeroshot.test_labels import SEQUENCES, naive_segments
from videoclip.benchmarks.examples import Segment
from videoclip.evaluation.metrics import frames


def naive_edit(a, b):
    if not a or not b:
        return len(a) + len(b)
    changed = naive_edit(a[1:], b[1:]) + (a[0] != b[0])
    return min(changed, naive_edit(a[1:], b) + 1, naive_edit(a, b[1:]) + 1)


def naive_counts(predicted, true, min_iou):
    taken, true_positives, false_positives = set(), 0, 0
    for label, start, end in predicted:
        overlaps = [
            (min(end, e) - max(start, s)) / (max(end, e) - min(start, s)) if label == other else 0
            for other, s, e in true
        ]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= min_iou and best not in taken:
            taken.add(best)
            true_positives += 1
        else:
            false_positives += 1
    return true_positives, false_positives, len(true) - true_positives


@settings(deadline=None)
@given(SEQUENCES, SEQUENCES, st.sampled_from([0.1, 0.25, 0.5]))
def test_segment_counts(predicted, true, min_iou):
    expected = naive_counts(naive_segments(predicted), naive_segments(true), min_iou)
    assert frames.segment_counts(predicted, true, min_iou) == expected


@settings(deadline=None, max_examples=25)
@given(SEQUENCES.map(lambda s: s[:10]), SEQUENCES.map(lambda s: s[:10]))
def test_edit_score(predicted, true):
    a, b = ([label for label, _, _ in naive_segments(s)] for s in (predicted, true))
    expected = 1 - naive_edit(a, b) / max(len(a), len(b)) if a or b else 1.0
    assert frames.edit_score(predicted, true) == pytest.approx(expected)


def test_f1():
    assert frames.segment_f1(3, 1, 2) == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert frames.segment_f1(0, 0, 4) == 0.0
    assert frames.segment_f1(1, 0, 0) == 1.0


@pytest.mark.parametrize(
    ("start", "end", "rate", "expected"),
    [(2.3, 5.9, 1, (2, 6)), (2.3, 5.9, 2, (4, 12)), (9, 99, 1, (9, 10)), (50, 60, 1, (10, 10))],
)
def test_a_span_covers_every_frame_it_touches(start, end, rate, expected):
    assert frames.frame_span(start, end, 10 * rate, rate) == expected
    if rate == 1:
        assert frames.frame_span(start, end, 10) == expected


def test_later_segments_overwrite_labels_but_steps_may_share_a_frame():
    segments = [Segment(0.5, 3, 1), Segment(2, 4, 2), Segment(50, 60, 2)]
    assert frames.label_targets(segments, 6).tolist() == [1, 1, 2, 2, 0, 0]
    steps = [Segment(s.start, s.end, s.label - 1) for s in segments]
    happens = frames.step_targets(steps, 6, 2)
    assert happens.dtype == bool and happens[2].tolist() == [True, True]
    assert happens.sum(axis=0).tolist() == [3, 2]


def test_targets_at_two_frames_a_second():
    segments = [Segment(0.5, 1.5, 1), Segment(2, 3, 0)]
    assert frames.label_targets(segments[:1], 6, 2.0).tolist() == [0, 1, 1, 0, 0, 0]
    happens = frames.step_targets(segments, 6, 2, 2.0)
    assert np.argwhere(happens).tolist() == [[1, 1], [2, 1], [4, 0], [5, 0]]


def test_recall_counts_steps_not_frames():
    predicted = np.eye(3, dtype=bool)
    true = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)
    assert frames.recall_counts(predicted, true) == (1, 2)
    # Three frames are right, of one step; the video has two steps in four frames.
    predicted = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], dtype=bool)
    true = np.array([[1, 1], [1, 1], [1, 1], [0, 1]], dtype=bool)
    assert frames.recall_counts(predicted, true) == (1, 2)


def test_recall_is_pooled_by_task():
    counts = np.array([[1, 4], [3, 4], [1, 1], [0, 0]])
    assert frames.task_recall(counts, np.array([0, 0, 2, 3])) == pytest.approx((4 / 8 + 1) / 2)
