"""From overlapping hits to moments: windows vote for the seconds they cover.

A moment's true borders lie between those of the windows that hit it. So every window votes for
each of its seconds with its weight, how far it stands above the other windows of its video, and a
moment is the run of seconds around the best hit that keeps half of the peak's votes. Short windows
sharpen the borders, long ones bridge gaps; nothing is learned. Measured by `bench/moments.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

__all__ = ["Hits", "MergedSpan", "merge_hits", "votes"]

KEPT_SHARE = 0.5
"""Share of the peak's votes a second needs to belong to a moment."""

LEAST_VOTE = 0.001
"""Of a window below the mean of its video, so that even a moment of such windows has borders."""

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """How windows of one video suit one query.

    Attributes:
        spans: (W, 2) half-open ranges of seconds (or whatever features stand for).
        similarities: (W,) by which moments are ranked.
        weights: (W,) positive votes.
        least: Moments whose best hit is below this similarity are not looked for.
    """

    spans: IntArray
    similarities: FloatArray
    weights: FloatArray
    least: float = -np.inf


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


def merge_hits(hits: Sequence[Hits]) -> list[list[MergedSpan]]:
    """Merge overlapping hits, of each video by itself, into moments that do not overlap much.

    The most similar hit left is the seed of the next moment; hits that share at least half of the
    shorter of the two with a moment are used up by it.

    Args:
        hits: Of several videos and queries, merged side by side.

    Returns:
        Moments of each, best first.
    """
    found: list[list[MergedSpan]] = [[] for _ in hits]
    if not hits:
        return found
    left = _Left.all_of(hits)
    while len(left.owners):
        left = left.next_moments(found)
    return found


@dataclass(frozen=True)
class _Left:
    """Hits (S,) that no moment has used up yet, in order of their owners."""

    owners: IntArray
    places: IntArray
    """Rows in the owner's hits."""
    starts: IntArray
    ends: IntArray
    similarities: FloatArray
    weights: FloatArray
    least: FloatArray
    """Of each owner."""

    @classmethod
    def all_of(cls, hits: Sequence[Hits]) -> _Left:
        counts = [len(some.spans) for some in hits]
        starts, ends = np.concatenate([some.spans for some in hits]).T
        return cls(
            owners=np.repeat(np.arange(len(hits)), counts),
            places=np.concatenate([np.arange(count) for count in counts]),
            starts=starts,
            ends=ends,
            similarities=np.concatenate([some.similarities for some in hits]),
            weights=np.concatenate([some.weights for some in hits]),
            least=np.array([some.least for some in hits], dtype=np.float64),
        )

    def next_moments(self, found: list[list[MergedSpan]]) -> _Left:
        """Add the next moment of each owner to those found, and return the hits then left."""
        owners, rows = np.unique(self.owners, return_index=True)
        counts = np.diff(rows, append=len(self.owners))
        best = np.maximum.reduceat(self.similarities, rows)  # (P,) of P owners
        going_on = best >= self.least[owners]
        if not going_on.all():
            return self._only(np.repeat(going_on, counts))
        group = np.repeat(np.arange(len(owners)), counts)  # (S,)
        seeds = np.flatnonzero(self.similarities == best[group])
        seeds = seeds[np.searchsorted(group[seeds], np.arange(len(owners)))]  # the first of equals
        starts, ends, middles = self._voted_spans(group, rows, seeds)
        for owner, *moment in zip(
            owners.tolist(),
            *(starts.tolist(), ends.tolist(), middles.tolist()),
            *(self.similarities[seeds].tolist(), self.places[seeds].tolist()),
            strict=True,
        ):
            found[owner].append(MergedSpan(*moment))
        shared = np.minimum(self.ends, ends[group]) - np.maximum(self.starts, starts[group])
        used = shared >= 0.5 * np.minimum(self.ends - self.starts, (ends - starts)[group])
        used[seeds] = True  # however the votes fell, it goes on
        return self._only(~used)

    def _only(self, kept: npt.NDArray[np.bool_]) -> _Left:
        columns = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name != "least"}
        return replace(self, **columns)

    def _voted_spans(
        self, group: IntArray, rows: IntArray, seeds: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Start, end and best second (P,) of the run of well-voted seconds around each seed."""
        # All videos lie on one line, a second without votes after each.
        lengths = np.maximum.reduceat(self.ends, rows) + 1  # (P,)
        offsets = np.cumsum(lengths) - lengths
        firsts, lasts = self.starts + offsets[group], self.ends + offsets[group]  # (S,)
        num = int(lengths.sum())
        rises = np.bincount(firsts, self.weights, num) - np.bincount(lasts, self.weights, num)
        votes = np.cumsum(rises)
        peaks = np.array(
            [a + votes[a:b].argmax() for a, b in zip(firsts[seeds], lasts[seeds], strict=True)]
        )
        weak = np.flatnonzero(votes < np.repeat(KEPT_SHARE * votes[peaks], lengths))
        after = np.searchsorted(weak, peaks)
        begins = np.maximum(np.where(after > 0, weak[after - 1] + 1, 0), offsets)
        borders = np.flatnonzero(np.bincount(np.concatenate((firsts, lasts)), minlength=num))
        stops = borders[np.searchsorted(borders, peaks, side="right")]
        middles = 0.5 * (peaks + stops) - offsets
        return begins - offsets, weak[after] - offsets, middles
