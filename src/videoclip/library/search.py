"""From a query to moments: exact hits, whole videos around them, narration, one fused order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from videoclip.errors import ConfigError
from videoclip.library.catalog import Catalog, IndexedVideo
from videoclip.library.fusion import fuse_ranks
from videoclip.library.narration import NarrationHit
from videoclip.library.snapshot import Snapshot
from videoclip.library.vectors import VectorStore
from videoclip.library.where import Condition
from videoclip.zeroshot.confidence import Calibration, Thresholds, next_level
from videoclip.zeroshot.moments import Proposal, Windows, merge_windows, vote_weights
from videoclip.zeroshot.results import Moment

__all__ = ["SearchOptions", "View", "find_moments"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

HITS_PER_MOMENT = (6, 48)
"""Windows fetched for each moment wanted: at first, and where moments used up more than those."""
MARGIN = 1e-5
"""By which two ways of adding up the same products may differ."""
MOST_WINDOWS = 2**12
"""Windows whose vectors are in memory at a time, unless one video has more."""
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


@dataclass(frozen=True)
class View:
    """All that answering takes, as it is at one moment."""

    catalog: Catalog
    store: VectorStore
    snapshot: Snapshot
    calibration: Calibration
    thresholds: Thresholds

    @cached_property
    def by_key(self) -> dict[int, IndexedVideo]:
        """The videos by their keys."""
        return {video.id: video for video in self.snapshot.videos}


@dataclass(frozen=True)
class _Candidate:
    """A span that may be an answer, and the vector (E,) of its best window."""

    video: IndexedVideo
    span: Proposal
    vector: FloatArray
    is_spoken: bool = False

    def shows(self, hit: NarrationHit) -> bool:
        """Whether the middle of a cue lies inside."""
        return self.video.id == hit.video and self.span.start <= hit.middle < self.span.end


def find_moments(
    view: View,
    queries: FloatArray,
    texts: Sequence[str],
    options: SearchOptions,
    condition: Condition | None = None,
) -> list[list[Moment]]:
    """Turn the windows nearest to queries, and the cues that speak of them, into moments.

    Args:
        view: The library.
        queries: (N, E) their embeddings.
        texts: The words of each, looked for in the narration; empty where it is not words.
        options: How many, and what counts.
        condition: Which videos to look in.

    Returns:
        Moments of each query, best first.
    """
    seen: list[list[_Candidate]] = [[] for _ in texts]
    if options.vision:
        keys = view.catalog.keys(condition) if condition else None
        seen = _seen(view, queries, options, view.snapshot.allowed(keys))
    ranked = [
        _fused(view, query, candidates, options, text, condition)
        for query, candidates, text in zip(queries, seen, texts, strict=True)
    ]
    return _moments(view, ranked, texts)


def _fused(
    view: View,
    query: FloatArray,
    candidates: list[_Candidate],
    options: SearchOptions,
    text: str,
    condition: Condition | None,
) -> list[_Candidate]:
    """One order of what is seen and what is heard of a query."""
    rankings = [(options.vision, list(range(len(candidates))))]
    if options.speech and text:
        spoken = view.catalog.spoken(text, 4 * options.num_moments, condition)
        if complete := [hit for hit in spoken if hit.is_complete]:
            spoken = complete
        heard = [_place(view, query, hit, candidates) for hit in spoken if hit.video in view.by_key]
        # First in the list, so that at equal places a moment spoken of comes before one just seen.
        rankings.insert(0, (options.speech * (1.0 if complete else HALF_HEARD), heard))
    ranked = list(fuse_ranks(rankings))[options.offset : options.num_moments]
    return [candidates[position] for position in ranked]


def _seen(
    view: View, queries: FloatArray, options: SearchOptions, allowed: BoolArray | None
) -> list[list[_Candidate]]:
    """The best moments of each query by similarity alone."""
    found: dict[int, list[_Candidate]] = {}
    left = list(range(len(queries)))  # queries whose hits were too few
    num_moments = options.num_moments
    for wanted in HITS_PER_MOMENT:
        similarities, rows = view.store.search(
            queries[left],
            wanted * num_moments,
            view.snapshot.num_rows,
            allowed,
            exact=options.exact,
        )
        hits = dict(zip(left, zip(similarities, rows, strict=True), strict=True))
        # Below the last hit, other videos may have better moments than those looked at here.
        lowest = {i: float(hits[i][0].min(initial=np.inf)) for i in left}
        found |= _best_moments(view, queries, hits, num_moments, lowest)
        left = [i for i in left if len(found[i]) < num_moments]
        if not left or rows.shape[1] < wanted * num_moments:
            break
    some = {i: hits[i] for i in left}
    found |= _best_moments(view, queries, some, num_moments, dict.fromkeys(left, -np.inf))
    return [found[i] for i in range(len(queries))]


def _best_moments(
    view: View,
    queries: FloatArray,
    hits: Mapping[int, tuple[FloatArray, IntArray]],
    num_moments: int,
    lowest: Mapping[int, float],
) -> dict[int, list[_Candidate]]:
    """The best moments of the videos hit by each of some queries, down to a similarity.

    Videos are taken in order of their best hits, until no video left can hold a better moment; as
    many at a time, for all queries, as there are moments missing.
    """
    queues = {i: _videos_hit(view.snapshot, *hits[i]) for i in hits}
    found: dict[int, list[_Candidate]] = {i: [] for i in hits}
    while True:
        pairs: list[tuple[int, int, float]] = []  # query, video, least similarity
        for i, queue in queues.items():
            missing = num_moments - len(found[i])
            least = lowest[i] if missing else found[i][-1].span.similarity
            for _ in range(max(1, missing)):
                if not queue or queue[-1][0] < least:
                    break
                pairs.append((i, queue.pop()[1], least))
        if not pairs:
            return found
        for i, moments in _moments_in(view, queries, pairs):
            found[i] = sorted(found[i] + moments, key=lambda c: -c.span.similarity)[:num_moments]


def _videos_hit(
    snapshot: Snapshot, similarities: FloatArray, rows: IntArray
) -> list[tuple[float, int]]:
    """The videos of hits, with the similarities of their best hits, rising."""
    owners, best_at = np.unique(snapshot.owners(rows), return_index=True)
    order = np.argsort(best_at)[::-1]
    return list(zip(similarities[best_at[order]].tolist(), owners[order].tolist(), strict=True))


def _moments_in(
    view: View, queries: FloatArray, pairs: Sequence[tuple[int, int, float]]
) -> Iterator[tuple[int, list[_Candidate]]]:
    """The moments of a query in a video, for each of some pairs; as many at a time as fit."""
    first, num_windows = 0, 0
    for last, (_, position, _) in enumerate(pairs, start=1):
        num_windows += view.snapshot.videos[position].num_windows
        if num_windows >= MOST_WINDOWS or last == len(pairs):
            yield from _moments_of(view, queries, pairs[first:last])
            first, num_windows = last, 0


def _moments_of(
    view: View, queries: FloatArray, pairs: Sequence[tuple[int, int, float]]
) -> Iterator[tuple[int, list[_Candidate]]]:
    videos = [view.snapshot.videos[position] for _, position, _ in pairs]
    known: dict[int, FloatArray] = {}  # vectors (W, E) by their first row
    hits = []
    for (i, _, least), video in zip(pairs, videos, strict=True):
        if video.first_row not in known:
            known[video.first_row] = view.store.read(video.first_row, video.num_windows)
        similarities = known[video.first_row] @ queries[i]
        windows = view.snapshot.windows(video)
        hits.append(Windows(windows, similarities, vote_weights(similarities), least - MARGIN))
    for (i, _, _), video, merged in zip(pairs, videos, merge_windows(hits), strict=True):
        vectors = known[video.first_row]
        yield (
            i,
            [
                _Candidate(video, view.snapshot.seconds(video, m), vectors[m.window].copy())
                for m in merged
            ],
        )


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
    spans = view.snapshot.spans(video)  # (W, 2)
    shared = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)
    joined = np.maximum(spans[:, 1], end) - np.minimum(spans[:, 0], start)
    nearest = int(np.argmax(shared / joined))
    vector = view.store.read(video.first_row, video.num_windows)[nearest]
    span = Proposal(start, end, hit.middle, float(vector @ query), nearest)
    candidates.append(_Candidate(video, span, vector, hit.is_complete))
    return len(candidates) - 1


def _moments(
    view: View, ranked: Sequence[list[_Candidate]], texts: Sequence[str]
) -> list[list[Moment]]:
    candidates = [candidate for some in ranked for candidate in some]
    if not candidates:
        return [[] for _ in ranked]
    z_scores = view.calibration.z_scores(
        np.stack([c.vector for c in candidates]),
        np.array([c.span.similarity for c in candidates], dtype=np.float32),
        np.array([c.video.id for c in candidates]),
    )
    labels = [text for text, some in zip(texts, ranked, strict=True) for _ in some]
    found = map(_moment, repeat(view), candidates, labels, z_scores.tolist())
    return [list(islice(found, len(some))) for some in ranked]


def _moment(view: View, candidate: _Candidate, label: str, z_score: float) -> Moment:
    video, span = candidate.video, candidate.span
    strength = view.calibration.strength(z_score)
    level = view.thresholds.level(strength)
    return Moment(
        path=Path(video.path),
        start=span.start,
        end=span.end,
        label=label,
        best=span.best,
        similarity=span.similarity,
        strength=strength,
        confidence=next_level(level) if candidate.is_spoken else level,
        is_spoken=candidate.is_spoken,
        words=view.catalog.words(video.id, span.start, span.end),
        duration=video.duration,
        frame_rate=video.frame_rate,
    )
