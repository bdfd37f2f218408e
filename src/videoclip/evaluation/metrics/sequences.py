"""Distances of a paragraph, a sequence of sentences, from videos, each a sequence of clips.

A distance is 1 minus a cosine similarity. Each function takes those of one paragraph with all clips
of M videos, (S, M, C) with C the most clips of a video, and the number of clips (M,) of each; what
lies past them is ignored. All videos are compared at once, sentence by sentence.
"""

from collections.abc import Callable

import numpy as np

from videoclip.types import IntArray, RealArray


def dtw_costs(distances: RealArray, num_clips: IntArray) -> RealArray:
    """Return (M,) costs of dynamic time warping: all sentences aligned with all clips, in order.

    An alignment leads from the first sentence and clip to the last ones; each step goes to the next
    sentence, the next clip or both, and the distances on the way are summed.
    """
    costs = np.full(distances.shape[1:], np.inf)  # of alignments that end at each clip
    for i, row in enumerate(distances.astype(np.float64)):
        # The cheapest way into each clip from the sentence before; then along the clips: the cost
        # of going from clip a to b is a difference of sums.
        entry = np.minimum(costs, np.pad(costs[:, :-1], ((0, 0), (1, 0)), constant_values=np.inf))
        if i == 0:
            entry[:, 0] = 0.0
        sums = np.cumsum(row, axis=1)
        costs = sums + np.minimum.accumulate(entry - (sums - row), axis=1)
    return np.asarray(np.take_along_axis(costs, num_clips[:, None] - 1, axis=1)[:, 0])


def otam_costs(distances: RealArray, num_clips: IntArray) -> RealArray:
    """Return (M,) costs of ordered temporal alignment, which may begin and end at any clip.

    Each sentence has one clip: that of the sentence before, or the next one.

    Source: OTAM (arXiv 1906.11415), with the video as the sequence that is padded.
    """
    costs = np.zeros(distances.shape[1:])
    for row in distances.astype(np.float64):
        before = np.pad(costs[:, :-1], ((0, 0), (1, 0)), constant_values=np.inf)
        costs = row + np.minimum(costs, before)
    return np.asarray(_within(costs, num_clips).min(axis=1))


def caption_average_costs(distances: RealArray, num_clips: IntArray) -> RealArray:
    """Return (M,) mean distances of the sentences from their nearest clip, in any order."""
    return np.asarray(_within(distances, num_clips).min(axis=2).mean(axis=0))


METHODS: dict[str, Callable[[RealArray, IntArray], RealArray]] = {
    "DTW": dtw_costs,
    "OTAM": otam_costs,
    "caption average": caption_average_costs,
}


def paragraph_costs(
    distances: RealArray, num_sentences: IntArray, num_clips: IntArray
) -> dict[str, RealArray]:
    """Return (N, M) costs of N paragraphs and M videos by each of `METHODS`.

    Args:
        distances: Of all sentences, one paragraph after the other, from all clips, likewise.
        num_sentences: (N,) of each paragraph.
        num_clips: (M,) of each video.
    """
    ends = np.cumsum(num_clips)
    places = (ends - num_clips)[:, None] + np.arange(num_clips.max())  # (M, C)
    places = np.minimum(places, ends[:, None] - 1)  # past the clips of a video: its last one
    costs: dict[str, list[RealArray]] = {method: [] for method in METHODS}
    for rows in np.split(distances, np.cumsum(num_sentences)[:-1]):
        array = rows[:, places]  # (S, M, C)
        for method, cost in METHODS.items():
            costs[method].append(cost(array, num_clips))
    return {method: np.stack(rows) for method, rows in costs.items()}


def _within(values: RealArray, num_clips: IntArray) -> RealArray:
    """Return (..., M, C) with infinity past the clips of each video."""
    return np.where(np.arange(values.shape[-1]) < num_clips[:, None], values, np.inf)
