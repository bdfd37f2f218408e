"""Step localisation: the recall of CrossTask."""

from __future__ import annotations

import numpy as np

from videoclip.types import BoolArray, IntArray, RealArray


def recall_counts(predicted: BoolArray, true: BoolArray) -> tuple[int, int]:
    """Return how many steps of one video are found, and how many it has.

    A step is found if a frame assigned to it lies in one of its true segments.

    Args:
        predicted: (T, K), True where a frame is assigned to a step.
        true: (T, K), True in the true segments.

    Source: CrossTask.
    """
    return int((predicted & true).any(axis=0).sum()), int(true.any(axis=0).sum())


def task_recall(counts: RealArray, tasks: IntArray) -> float:
    """Return the mean over tasks of step recall, which is pooled over the videos of a task.

    Args:
        counts: (V, 2) from `recall_counts`.
        tasks: (V,) task of each video.

    Source: CrossTask.
    """
    found, present = (np.bincount(tasks, counts[:, i]) for i in (0, 1))
    return float((found[present > 0] / present[present > 0]).mean())
