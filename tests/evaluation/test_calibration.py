"""Areas, calibration errors and Brier scores against naive loops."""

import numpy as np
import pytest

from videoclip.evaluation.metrics import calibration


def test_area_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 5, size=40).astype(float), rng.random(40) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert calibration.roc_auc(scores, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(calibration.roc_auc(scores, np.ones(40, bool)))
    assert np.isnan(calibration.roc_auc(scores, np.zeros(40, bool)))


def test_calibration_error_by_hand():
    confidences = np.array([0.9, 0.9, 0.9, 0.9, 0.5, 1.0])
    correct = np.array([1, 1, 1, 0, 1, 1], dtype=float)
    # 0.9 is right three times in four; 0.5 and 1.0 are right; one bin each.
    expected = (4 * abs(0.75 - 0.9) + abs(1 - 0.5) + 0) / 6
    assert calibration.calibration_error(confidences, correct) == pytest.approx(expected)


def test_brier_score_by_hand():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    answers = np.array([0, 0, 1])
    np.testing.assert_allclose(calibration.brier_scores(probabilities, answers), [0, 2, 0.5])
