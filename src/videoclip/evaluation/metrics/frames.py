"""Labels and steps of single frames: targets from annotated spans, and measures."""

import math
from collections.abc import Iterable

import numpy as np

from videoclip.benchmarks.examples import Segment
from videoclip.evaluation.metrics.moments import span_iou
from videoclip.types import BoolArray, IntArray, RealArray
from videoclip.zeroshot.labels import label_segments


def frame_span(
    start: float, end: float, num_frames: int, frames_per_second: float = 1.0
) -> tuple[int, int]:
    """Return the half-open range of frames that a span in seconds touches, within the video.

    It is empty (start == end) only if the span lies outside the video.
    """
    first = min(max(math.floor(start * frames_per_second), 0), num_frames)
    last = min(math.ceil(end * frames_per_second), num_frames)
    return first, max(first, last)


def label_targets(
    segments: Iterable[Segment], num_frames: int, frames_per_second: float = 1.0
) -> IntArray:
    """Return (T,) the label of each frame, 0 where there is none; later segments overwrite earlier.

    Source: released COIN evaluation: seconds floor(start) to ceil(end) of each segment.
    """
    targets = np.zeros(num_frames, dtype=np.int64)
    for segment in segments:
        first, last = frame_span(segment.start, segment.end, num_frames, frames_per_second)
        targets[first:last] = segment.label
    return targets


def step_targets(
    segments: Iterable[Segment], num_frames: int, num_steps: int, frames_per_second: float = 1.0
) -> BoolArray:
    """Return (T, K), True where a frame lies in a segment of a step; a frame may lie in several.

    A segment's label is its step's index, from 0.
    """
    targets = np.zeros((num_frames, num_steps), dtype=bool)
    for segment in segments:
        first, last = frame_span(segment.start, segment.end, num_frames, frames_per_second)
        targets[first:last, segment.label] = True
    return targets


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


def recall_counts(predicted: BoolArray, true: BoolArray) -> tuple[int, int]:
    """Return how many steps of one video are found, and how many it has.

    A step is found if a frame assigned to it lies in one of its true segments.

    Args:
        predicted: (T, K), True where a frame is assigned to a step.
        true: (T, K), True in the true segments.

    Source: CrossTask.
    """
    return int((predicted & true).any(axis=0).sum()), int(true.any(axis=0).sum())


def step_overlap(predicted: BoolArray, true: BoolArray) -> float:
    """Return the overlap ratios of the steps that a video has, summed.

    Args:
        predicted: (T, K), True where a frame is assigned to a step.
        true: (T, K), True in the true segments.

    Source: the IoU of Drop-DTW (arXiv 2108.11996), here of each step by itself.
    """
    either = (predicted | true).sum(axis=0)
    ratios = (predicted & true).sum(axis=0) / np.maximum(either, 1)
    return float(ratios[true.any(axis=0)].sum())


def task_recall(counts: RealArray, tasks: IntArray) -> float:
    """Return the mean over tasks of a share of steps, which is pooled over the videos of a task.

    Args:
        counts: (V, 2) from `recall_counts`, or sums over the steps of a video and their number.
        tasks: (V,) task of each video.

    Source: CrossTask.
    """
    found, present = (np.bincount(tasks, counts[:, i]) for i in (0, 1))
    return float((found[present > 0] / present[present > 0]).mean())
