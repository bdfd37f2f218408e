"""From a query to moments: exact hits, whole videos around them, narration, one fused order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from videoclip.errors import ConfigError
from videoclip.library.catalog import Catalog, IndexedVideo
from videoclip.library.confidence import Background, Thresholds, raised
from videoclip.library.fusion import fuse_ranks
from videoclip.library.moments import MergedSpan, merge_hits, votes
from videoclip.library.narration import NarrationHit
from videoclip.library.results import Moment
from videoclip.library.snapshot import Snapshot
from videoclip.library.vectors import VectorStore
from videoclip.library.where import Condition

__all__ = ["SearchOptions", "View", "find_moments"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

HITS_PER_MOMENT = 32
"""Windows fetched for each moment wanted; a moment rarely uses up more."""
MARGIN = 1e-5
"""By which two ways of adding up the same products may differ."""
SHORTEST_HEARD = 4.0
"""Seconds; a moment that was heard but not seen is at least this long."""
HALF_HEARD = 0.5
"""Weight of cues with only some of the query's words, where no cue has all."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search.

    Attributes:
        top_k: Moments returned.
        offset: Moments left out before them, for paging.
        vision: Weight of what is seen; 0 searches the narration alone.
        speech: Weight of what is said; 0 searches the pictures alone.
        rerank_top: Best moments that the model's re-ranker looks at again; 0: none.
        exact: Look at every window, even where the library has an approximate index.
    """

    top_k: int = 10
    offset: int = 0
    vision: float = 1.0
    speech: float = 1.0
    rerank_top: int = 0
    exact: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1 or min(self.offset, self.rerank_top) < 0:
            raise ConfigError("top_k must be at least 1, offset and rerank_top at least 0")
        if min(self.vision, self.speech) < 0 or self.vision + self.speech == 0:
            raise ConfigError("vision and speech are weights: not negative, not both 0")

    @property
    def num_moments(self) -> int:
        """Moments to rank."""
        return self.top_k + self.offset

    @property
    def num_hits(self) -> int:
        """Windows to fetch for them."""
        return HITS_PER_MOMENT * self.num_moments


@dataclass(frozen=True)
class View:
    """All that answering takes, as it is at one moment."""

    catalog: Catalog
    store: VectorStore
    snapshot: Snapshot
    background: Background
    thresholds: Thresholds

    @cached_property
    def by_key(self) -> dict[int, IndexedVideo]:
        """The videos by their keys."""
        return {video.id: video for video in self.snapshot.videos}


@dataclass(frozen=True)
class _Candidate:
    """A span that may be an answer; `height` as in `confidence`."""

    video: IndexedVideo
    span: MergedSpan
    height: float
    is_spoken: bool = False

    def shows(self, hit: NarrationHit) -> bool:
        """Whether the middle of a cue lies inside."""
        return self.video.id == hit.video and self.span.start <= hit.middle < self.span.end


def find_moments(
    view: View,
    query: FloatArray,
    hits: tuple[FloatArray, IntArray],
    options: SearchOptions,
    text: str = "",
    condition: Condition | None = None,
) -> list[Moment]:
    """Turn the windows nearest to a query, and the cues that speak of it, into moments.

    Args:
        view: The library.
        query: (E,) its embedding.
        hits: Similarities and rows of the nearest windows, best first.
        options: How many, and what counts.
        text: The query's words, looked for in the narration; empty where it is not words.
        condition: Which videos to look in; `hits` keep to it already.

    Returns:
        Moments, best first.
    """
    candidates = _seen(view, query, hits, options.num_moments) if options.vision else []
    rankings = [(options.vision, list(range(len(candidates))))]
    if options.speech and text:
        spoken = view.catalog.spoken(text, 4 * options.num_moments, condition)
        if complete := [hit for hit in spoken if hit.is_complete]:
            spoken = complete
        heard = [_place(view, query, hit, candidates) for hit in spoken if hit.video in view.by_key]
        # First in the list, so that at equal places a moment spoken of comes before one just seen.
        rankings.insert(0, (options.speech * (1.0 if complete else HALF_HEARD), heard))
    ranked = [candidates[position] for position in fuse_ranks(rankings)]
    return [_moment(view, c) for c in ranked[options.offset : options.num_moments]]


def _seen(
    view: View, query: FloatArray, hits: tuple[FloatArray, IntArray], num_moments: int
) -> list[_Candidate]:
    """The best moments by similarity alone.

    Videos are taken in order of their best hits, until no video left can hold a better moment.
    """
    owners = view.snapshot.owners(hits[1])
    order, best_at = np.unique(owners, return_index=True)
    by_best = sorted(zip(order, hits[0][best_at], strict=True), key=lambda pair: -pair[1])
    # Below the last hit fetched, other videos may have better moments than those looked at here.
    for lowest in (hits[0].min(initial=np.inf), -np.inf):
        found: list[_Candidate] = []
        for owner, best in by_best:
            least = found[-1].span.similarity if len(found) == num_moments else lowest
            if least > best:
                break
            video = view.snapshot.videos[owner]
            found += _moments_of(view, video, query, float(least))
            found = sorted(found, key=lambda c: -c.span.similarity)[:num_moments]
        if len(found) == num_moments:
            break
    return found


def _moments_of(
    view: View, video: IndexedVideo, query: FloatArray, least: float
) -> list[_Candidate]:
    similarities, heights = _profile(view, video, query)
    spans = view.snapshot.spans(video)
    merged = merge_hits(spans, similarities, votes(similarities), least - MARGIN)
    return [_Candidate(video, span, float(heights[span.hit])) for span in merged]


def _profile(view: View, video: IndexedVideo, query: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Similarities and heights (W,) of all windows of a video."""
    vectors = view.store.read(video.first_row, video.num_windows)  # (W, E)
    similarities = vectors @ query
    return similarities, view.background.heights(vectors, similarities, video.id)


def _place(view: View, query: FloatArray, hit: NarrationHit, candidates: list[_Candidate]) -> int:
    """Position of the candidate in which a cue is spoken; one is added where none is."""
    for position, candidate in enumerate(candidates):
        if candidate.shows(hit):
            is_spoken = candidate.is_spoken or hit.is_complete
            candidates[position] = replace(candidate, is_spoken=is_spoken)
            return position
    video = view.by_key[hit.video]
    start = min(hit.start, max(0.0, hit.middle - SHORTEST_HEARD / 2))
    end = min(max(hit.end, start + SHORTEST_HEARD), max(video.duration, hit.end))
    similarities, heights = _profile(view, video, query)
    spans = view.snapshot.spans(video)  # (W, 2)
    shared = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)
    joined = np.maximum(spans[:, 1], end) - np.minimum(spans[:, 0], start)
    nearest = int(np.argmax(shared / joined))
    span = MergedSpan(start, end, hit.middle, float(similarities[nearest]), nearest)
    candidates.append(_Candidate(video, span, float(heights[nearest]), hit.is_complete))
    return len(candidates) - 1


def _moment(view: View, candidate: _Candidate) -> Moment:
    video, span = candidate.video, candidate.span
    strength = view.background.strength(candidate.height)
    level = view.thresholds.level(strength)
    return Moment(
        path=Path(video.path),
        start=span.start,
        end=span.end,
        best=span.best,
        similarity=span.similarity,
        strength=strength,
        confidence=raised(level) if candidate.is_spoken else level,
        is_spoken=candidate.is_spoken,
        words=view.catalog.words(video.id, span.start, span.end),
        duration=video.duration,
        frame_rate=video.frame_rate,
    )
