"""From overlapping hits to moments: windows vote for the seconds they cover.

A moment's true borders lie between those of the windows that hit it. So every window votes for
each of its seconds with its weight, how far it stands above the other windows of its video, and a
moment is the run of seconds around the best hit that keeps half of the peak's votes. Short windows
sharpen the borders, long ones bridge gaps; nothing is learned. Measured by `bench/moments.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MergedSpan", "merge_hits", "votes"]

KEPT_SHARE = 0.5
"""Share of the peak's votes a second needs to belong to a moment."""

LEAST_VOTE = 0.001
"""Of a window below the mean of its video, so that even a moment of such windows has borders."""

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class MergedSpan:
    """One moment of one video.

    Attributes:
        start: Seconds.
        end: Seconds, exclusive.
        best: The second in the middle of the stretch with most votes.
        similarity: Of the best hit.
        hit: Row of that hit in what was merged.
    """

    start: float
    end: float
    best: float
    similarity: float
    hit: int


def votes(similarities: FloatArray) -> FloatArray:
    """Weights (W,) of all windows of a video: how far they stand above their mean.

    Not above the background of the library: in a video about the query every window does, and the
    borders of the moment drown.
    """
    return np.asarray(np.maximum(similarities - similarities.mean(), LEAST_VOTE))


def merge_hits(
    spans: FloatArray, similarities: FloatArray, weights: FloatArray, least: float = -np.inf
) -> list[MergedSpan]:
    """Merge overlapping hits of one video into moments that do not overlap much.

    The most similar hit left is the seed of the next moment; hits that share at least half of the
    shorter of the two with a moment are used up by it.

    Args:
        spans: (W, 2) seconds, half open.
        similarities: (W,) of each, by which moments are ranked.
        weights: (W,) positive votes of each.
        least: Moments whose best hit is below this similarity are not looked for.

    Returns:
        Moments, best first.
    """
    left = np.argsort(-similarities, kind="stable")
    found: list[MergedSpan] = []
    while len(left) and similarities[left[0]] >= least:
        seed = int(left[0])
        starts, ends = spans[left].T
        start, end, best = _voted_span(starts, ends, weights[left], spans[seed])
        found.append(MergedSpan(start, end, best, float(similarities[seed]), seed))
        shared = np.minimum(ends, end) - np.maximum(starts, start)
        used = shared >= 0.5 * np.minimum(ends - starts, end - start)
        used[0] = True  # however the votes fell, the loop goes on
        left = left[~used]
    return found


def _voted_span(
    starts: FloatArray, ends: FloatArray, weights: FloatArray, seed: FloatArray
) -> tuple[float, float, float]:
    """Start, end and best second of the run of well-voted seconds in and around the seed."""
    borders = np.unique(np.concatenate((starts, ends)))  # K + 1 borders of K elementary stretches
    first_votes = np.bincount(np.searchsorted(borders, starts), weights, len(borders))
    last_votes = np.bincount(np.searchsorted(borders, ends), weights, len(borders))
    votes = np.cumsum(first_votes - last_votes)[:-1]  # (K,)
    first, last = np.searchsorted(borders, seed)
    peak = int(first + np.argmax(votes[first:last]))
    weak = np.flatnonzero(votes < KEPT_SHARE * votes[peak])
    after = int(np.searchsorted(weak, peak))
    begin = weak[after - 1] + 1 if after else 0
    stop = weak[after] if after < len(weak) else len(votes)
    best = 0.5 * (borders[peak] + borders[peak + 1])
    return float(borders[begin]), float(borders[stop]), float(best)
