"""Action segmentation: from similarities with label texts to one label for each frame.

A frame is what one feature stands for. Labels are ints; 0 is background (COIN's Outside).
"""

import math
from typing import Literal

import numpy as np

from videoclip.types import BoolArray, IntArray, RealArray
from videoclip.zeroshot.confidence import BEST_SHARE, BIAS_SHARE

BACKGROUND = 0
SWITCH_COST = 2.0
"""Cost of a change of label, in standard deviations, that keeps single frames from flickering."""


def label_frames(scores: RealArray, threshold: float, switch_cost: float = 0.0) -> IntArray:
    """Give every frame the label with the highest score, or background.

    The labels maximise the sum of (score - threshold) over the frames that are not background,
    minus the cost of the changes of label (Viterbi). Without that cost each frame stands alone, as
    released: its best label, or background unless the score exceeds the threshold.

    Args:
        scores: (T, K) of frames for label texts, similarities or z-scores; column k is label k + 1.
        threshold: Least score of a label, in units of `scores`.
        switch_cost: Of each change of label, in units of `scores`.

    Returns:
        (T,) labels.
    """
    num_frames, num_labels = scores.shape
    gains = np.zeros((num_frames, num_labels + 1))
    gains[:, 1:] = scores.astype(np.float64) - threshold
    if not switch_cost:
        return np.asarray(gains.argmax(axis=1))
    came_from = np.zeros(gains.shape, dtype=np.int64)
    total = gains[0].copy()
    stay = np.arange(num_labels + 1)
    for t in range(1, num_frames):
        best = int(total.argmax())
        switched = total[best] - switch_cost
        came_from[t] = np.where(total >= switched, stay, best)
        total = np.maximum(total, switched) + gains[t]
    labels = np.empty(num_frames, dtype=np.int64)
    labels[-1] = int(total.argmax())
    for t in range(num_frames - 1, 0, -1):
        labels[t - 1] = came_from[t, labels[t]]
    return labels


def correct_label_hubs(z_scores: RealArray, threshold: float) -> RealArray:
    """Return z-scores (T, K) in which a label that is near to most frames does not win everywhere.

    Among the labels that reach the threshold in a frame, the best is the one whose z-score exceeds
    its bias most; it keeps its z-score, and the others follow as far behind as they are without
    biases. The bias of a label is half of its mean z-score in its best third of the frames. Which
    frames reach the threshold does not change, and one label alone is not changed at all.

    Source: CSLS (Conneau et al., ICLR 2018) halves the means of both neighbourhoods. Z-scores
    correct for frames that are near to all texts, this for texts that are near to all frames.
    """
    num_best = math.ceil(BEST_SHARE * len(z_scores))
    best = np.partition(z_scores, -num_best, axis=0)[-num_best:]
    corrected = z_scores - BIAS_SHARE * best.mean(axis=0)
    reached = z_scores >= threshold
    winner = np.where(reached, corrected, -np.inf).argmax(axis=1)[:, None]
    behind = corrected - np.take_along_axis(corrected, winner, axis=1)
    return np.where(reached, np.take_along_axis(z_scores, winner, axis=1) + behind, z_scores)


def label_z_scores(
    z_scores: RealArray, threshold: float, switch_cost: float = SWITCH_COST
) -> IntArray:
    """Label frames by z-scores (T, K) that are corrected for hubs among the labels: (T,).

    Args:
        z_scores: Of each frame and label, relative to unrelated texts.
        threshold: As for `label_frames`.
        switch_cost: As for `label_frames`.
    """
    return label_frames(correct_label_hubs(z_scores, threshold), threshold, switch_cost)


def label_segments(labels: IntArray) -> tuple[IntArray, IntArray]:
    """Return the runs of equal labels without background: (S,) labels and (S, 2) frame spans."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    starts = np.concatenate(([0], edges)) if len(labels) else np.empty(0, np.int64)
    ends = np.concatenate((edges, [len(labels)])) if len(labels) else starts
    kept = labels[starts] != BACKGROUND
    return labels[starts][kept], np.stack((starts, ends), axis=1)[kept]


def released_threshold(label_embeddings: RealArray) -> float:
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
    similarity: RealArray,
    correct: BoolArray,
    background: BoolArray,
    objective: Literal["frame_accuracy", "balanced"] = "frame_accuracy",
) -> float:
    """Return the background threshold with the best result on training frames.

    Args:
        similarity: (T,) of every frame with its most similar label.
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
