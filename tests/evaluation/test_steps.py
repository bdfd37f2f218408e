"""The recall of steps, by hand."""

import numpy as np
import pytest

from videoclip.evaluation.metrics import steps


def test_recall_counts_steps_not_frames():
    predicted = np.eye(3, dtype=bool)
    true = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)
    assert steps.recall_counts(predicted, true) == (1, 2)


def test_recall_is_pooled_by_task():
    counts = np.array([[1, 4], [3, 4], [1, 1], [0, 0]])
    assert steps.task_recall(counts, np.array([0, 0, 2, 3])) == pytest.approx((4 / 8 + 1) / 2)
