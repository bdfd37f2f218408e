"""One label for every frame: accuracies, segments, edit distance, background thresholds.

Labels are ints; 0 is background (COIN's Outside).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from videoclip.evaluation.metrics.moments import span_iou

__all__ = [
    "BACKGROUND",
    "edit_score",
    "fit_threshold",
    "label_frames",
    "label_segments",
    "released_threshold",
    "segment_counts",
    "segment_f1",
]

BACKGROUND = 0
Labels = NDArray[np.int64]
FloatArray = NDArray[np.floating]


def label_frames(similarity: FloatArray, threshold: float) -> Labels:
    """Return (T,) the most similar label, or background unless its similarity exceeds a threshold.

    Args:
        similarity: (T, K) of frames with label texts; column k is label k + 1.
        threshold: In units of similarity.
    """
    return np.where(similarity.max(axis=1) > threshold, similarity.argmax(axis=1) + 1, BACKGROUND)


def released_threshold(label_embeddings: FloatArray) -> float:
    """Return the largest similarity of two different labels, the released rule for background.

    Args:
        label_embeddings: (K, E), K > 1, not normalised.

    Source: released COIN evaluation. With the released model it exceeds every similarity of a
    frame with a label, so that everything becomes background: the published 58.9 %.
    """
    similarity = label_embeddings @ label_embeddings.T  # (K, K)
    np.fill_diagonal(similarity, -np.inf)
    return float(similarity.max())


def fit_threshold(
    similarity: FloatArray,
    correct: NDArray[np.bool_],
    background: NDArray[np.bool_],
    objective: Literal["frame_accuracy", "balanced"] = "frame_accuracy",
) -> float:
    """Return the background threshold that does best on training frames.

    Args:
        similarity: (T,) of every frame's most similar label.
        correct: (T,) whether that label is the true one.
        background: (T,) whether the frame is truly background.
        objective: `frame_accuracy`, or `balanced`: the mean of the accuracies on foreground and on
            background, which does not reward calling everything background.
    """
    weight = np.ones(len(similarity))
    if objective == "balanced":
        weight = np.where(background, 1 / max(background.sum(), 1), 1 / max((~background).sum(), 1))
    order = np.argsort(similarity, kind="stable")
    levels = similarity[order]
    # Raising the threshold past a frame wins it if it is background, loses it if it was correct.
    gain = (weight * (background.astype(float) - correct))[order]
    total = np.concatenate(([0.0], np.cumsum(gain)))  # after the first i frames are background
    possible = np.concatenate(
        ([True], levels[1:] > levels[:-1], [True])
    )  # equal frames go together
    best = int(np.where(possible, total, -np.inf).argmax())
    if best == 0:
        return float(np.nextafter(levels[0], -np.inf))
    return float(levels[best - 1])


def label_segments(labels: Labels) -> tuple[Labels, NDArray[np.float64]]:
    """Return the runs of equal labels without background: (S,) labels and (S, 2) frame spans."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    starts = np.concatenate(([0], edges)) if len(labels) else np.empty(0, np.int64)
    ends = np.concatenate((edges, [len(labels)])) if len(labels) else starts
    kept = labels[starts] != BACKGROUND
    return labels[starts][kept], np.stack((starts, ends), axis=1)[kept].astype(np.float64)


def segment_counts(predicted: Labels, true: Labels, min_iou: float) -> tuple[int, int, int]:
    """Count segments found, predicted in vain and missed in one video.

    Each predicted segment is held against the true one of its label that it overlaps most; it is
    right if their overlap ratio reaches `min_iou` and no earlier prediction took that one.

    Source: segmental F1 (Lea et al. 2017), the standard measure of action segmentation.
    """
    predicted_labels, predicted_spans = label_segments(predicted)
    true_labels, true_spans = label_segments(true)
    overlaps = span_iou(predicted_spans, true_spans)  # (P, S)
    overlaps = np.where(predicted_labels[:, None] == true_labels[None, :], overlaps, 0.0)
    taken = np.zeros(len(true_labels), dtype=bool)
    for row in overlaps:
        if len(row) and row.max() >= min_iou and not taken[row.argmax()]:
            taken[row.argmax()] = True
    found = int(taken.sum())
    return found, len(predicted_labels) - found, len(true_labels) - found


def segment_f1(found: float, in_vain: float, missed: float) -> float:
    """Return the F1 of pooled segment counts; 0 where nothing was found."""
    return 0.0 if found == 0 else 2 * found / (2 * found + in_vain + missed)


def edit_score(predicted: Labels, true: Labels) -> float:
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
