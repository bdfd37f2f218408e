"""Action segmentation: segmental F1 and edit score of one label for each frame."""

from __future__ import annotations

import numpy as np

from videoclip.evaluation.metrics.moments import span_iou
from videoclip.types import IntArray
from videoclip.zeroshot.labels import label_segments


def segment_counts(predicted: IntArray, true: IntArray, min_iou: float) -> tuple[int, int, int]:
    """Return true positives, false positives and false negatives of the segments of one video.

    Each predicted segment is compared with the true one of its label that it overlaps most. It is
    correct if their overlap ratio reaches `min_iou` and no earlier prediction matched that one.

    Source: segmental F1 (Lea et al. 2017), the standard measure of action segmentation.
    """
    predicted_labels, predicted_spans = label_segments(predicted)
    true_labels, true_spans = label_segments(true)
    overlaps = span_iou(predicted_spans.astype(float), true_spans.astype(float))  # (P, S)
    overlaps = np.where(predicted_labels[:, None] == true_labels[None, :], overlaps, 0.0)
    taken = np.zeros(len(true_labels), dtype=bool)
    for row in overlaps:
        if len(row) and row.max() >= min_iou and not taken[row.argmax()]:
            taken[row.argmax()] = True
    true_positives = int(taken.sum())
    return (
        true_positives,
        len(predicted_labels) - true_positives,
        len(true_labels) - true_positives,
    )


def segment_f1(true_positives: float, false_positives: float, false_negatives: float) -> float:
    """Return the F1 of pooled segment counts; 0 without true positives."""
    if true_positives == 0:
        return 0.0
    return 2 * true_positives / (2 * true_positives + false_positives + false_negatives)


def edit_score(predicted: IntArray, true: IntArray) -> float:
    """Return 1 minus the edit distance of the two orders of segments over the longer one.

    Background is left out; two videos without any segment agree fully.

    Source: segmental edit score (Lea et al. 2017), here in [0, 1].
    """
    a, b = label_segments(predicted)[0], label_segments(true)[0]
    if len(a) == len(b) == 0:
        return 1.0
    distance = np.arange(len(b) + 1)
    for i, label in enumerate(a, start=1):
        changed = np.minimum(distance[1:] + 1, distance[:-1] + (b != label))
        row = np.concatenate(([i], changed)) - np.arange(len(b) + 1)
        distance = np.minimum.accumulate(row) + np.arange(len(b) + 1)  # insertions, left to right
    return 1.0 - float(distance[-1]) / max(len(a), len(b))
