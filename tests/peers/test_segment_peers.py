"""Labels, steps and spans beside scikit-learn and torchmetrics, with empty predictions."""

import numpy as np
import pytest
import torch

from videoclip.evaluation.metrics import calibration, frames, moments

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def random_labels(rng, num_labels=4):
    """A video of a few runs of labels, 0 for background."""
    runs = rng.integers(num_labels, size=rng.integers(1, 9))
    return np.repeat(runs, rng.integers(1, 6, size=len(runs)))


def order_of(labels):
    """The runs of a video without background, a letter each."""
    changes = np.flatnonzero(np.diff(labels, prepend=-1))
    return "".join(chr(ord("a") + int(label)) for label in labels[changes] if label)


def test_edit_score(peer):
    edit_distance = peer("torchmetrics.functional.text").edit_distance
    rng = np.random.default_rng(0)
    for _ in range(200):
        predicted, true = random_labels(rng), random_labels(rng)
        texts = order_of(predicted), order_of(true)
        longest = max(map(len, texts))
        expected = 1 - float(edit_distance(*texts)) / longest if longest else 1.0
        assert frames.edit_score(predicted, true) == pytest.approx(expected, abs=1e-6)
    assert frames.edit_score(np.zeros(5, int), np.ones(5, int)) == 0.0  # an empty prediction


def test_calibration_and_areas(peer):
    metrics = peer("sklearn.metrics")
    classification = peer("torchmetrics.functional.classification")
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(4), size=300)
    answers = rng.integers(4, size=300)
    correct = (probabilities.argmax(axis=1) == answers).astype(float)
    ours = calibration.calibration_error(probabilities.max(axis=1), correct)
    theirs = classification.multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(answers), num_classes=4, n_bins=15
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)  # counted in float32
    ours = calibration.brier_scores(probabilities, answers).mean()
    assert ours == pytest.approx(
        metrics.brier_score_loss(answers, probabilities, labels=range(4), scale_by_half=False),
        abs=1e-9,
    )
    for levels in (10**6, 4):
        scores, positive = rng.integers(levels, size=200), rng.random(200) < 0.3
        area = calibration.roc_auc(scores.astype(float), positive)
        assert area == pytest.approx(metrics.roc_auc_score(positive, scores), abs=1e-9)


def test_segment_f1(peer):
    metrics = peer("sklearn.metrics")
    rng = np.random.default_rng(1)
    counts = [(0, 0, 0), (0, 3, 2), (0, 0, 4), *rng.integers(0, 20, size=(100, 3)).tolist()]
    for positives, wrong, missed in counts:
        true = [1] * positives + [0] * wrong + [1] * missed
        predicted = [1] * (positives + wrong) + [0] * missed
        expected = metrics.f1_score(true, predicted, zero_division=0) if true else 0.0
        assert frames.segment_f1(positives, wrong, missed) == pytest.approx(expected, abs=1e-9)


def test_step_recall(peer):
    metrics = peer("sklearn.metrics")
    rng = np.random.default_rng(2)
    true = rng.random((30, 40, 6)) < 0.05
    predicted = rng.random((30, 40, 6)) < 0.05
    predicted[:3] = False  # empty predictions
    tasks = np.repeat([0, 1, 2], 10)
    counts = [frames.recall_counts(*pair) for pair in zip(predicted, true, strict=True)]
    recalls = [
        metrics.recall_score(
            true[tasks == task].any(axis=1).ravel(),
            (predicted & true)[tasks == task].any(axis=1).ravel(),
        )
        for task in range(3)
    ]
    ours = frames.task_recall(np.array(counts, float), tasks)
    assert ours == pytest.approx(np.mean(recalls), abs=1e-9)


def test_interpolated_average_precision(peer):
    """Predictions are exact or disjoint, so that only their order counts."""
    metrics = peer("sklearn.metrics")
    rng = np.random.default_rng(3)
    for _ in range(100):
        num_true = int(rng.integers(1, 6))
        correct = rng.permutation([True] * num_true + [False] * int(rng.integers(8)))
        true = np.array([(10 * i, 10 * i + 5) for i in range(num_true)], dtype=float)
        predicted = np.array([(10 * i, 10 * i + 5) for i in range(100, 100 + len(correct))], float)
        predicted[correct] = rng.permutation(true)
        precision, recall, _ = metrics.precision_recall_curve(correct, -np.arange(len(correct)))
        # From the largest recall to 0: the best precision at this recall or more.
        best = np.maximum.accumulate(precision)
        expected = -np.sum(np.diff(recall) * best[:-1])
        ours = moments.average_precision(moments.span_iou(predicted, true), 0.5)
        assert ours == pytest.approx(expected, abs=1e-9)
    nothing = moments.span_iou(np.zeros((0, 2)), true)  # an empty prediction
    assert moments.average_precision(nothing, 0.5) == 0.0


def test_precision_of_highlights(peer):
    metrics = peer("sklearn.metrics")
    rng = np.random.default_rng(4)
    for levels in (1000, 4):  # without ties, and with clips that come at once
        for _ in range(50):
            similarities = rng.permutation(levels)[:30] if levels > 30 else rng.integers(4, size=30)
            positive = rng.random(30) < 0.3
            positive[0] = True
            precision, recall, _ = metrics.precision_recall_curve(positive, similarities)
            best = np.maximum.accumulate(precision)
            expected = -np.sum(np.diff(recall) * best[:-1])
            ours = moments.highlight_precision(similarities.astype(float), positive)
            assert ours == pytest.approx(expected, abs=1e-9)
