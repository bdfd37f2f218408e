"""From a query to moments: similar windows, whole videos around them, narration, one ranking."""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from videoclip.embedding import WindowConfig, window_spans
from videoclip.errors import ConfigError
from videoclip.library.catalog import Catalog, IndexedVideo, NarrationHit, VectorStore
from videoclip.library.filters import Condition
from videoclip.types import BoolArray, FloatArray, IntArray, RealArray
from videoclip.zeroshot.confidence import Calibration, Thresholds, next_level
from videoclip.zeroshot.moments import (
    Moment,
    Proposal,
    Windows,
    merge_windows,
    refine_moment,
    vote_weights,
)

HITS_PER_MOMENT = (6, 48)
"""Windows fetched per moment. A moment uses up about six overlapping windows of four lengths; the
second number is for queries whose first hits gave too few moments."""
ROUNDING_ERROR = 1e-5
"""Upper bound on the difference between two ways of summing the same products."""
MAX_WINDOWS = 2**12
"""Windows whose vectors are in memory at once, unless one video has more."""
MIN_SPOKEN_SECONDS = 4.0
"""Shortest length of a moment that was found in the narration alone."""
PARTIAL_WEIGHT = 0.5
"""Weight of cues with only some of the query's terms, used if no cue has all of them."""
RANK_DAMPING = 60
"""Source: Cormack, Clarke and Buettcher, SIGIR 2009; results hardly depend on it."""

ItemT = TypeVar("ItemT", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options of a search.

    Attributes:
        top_k: Number of moments returned.
        offset: Moments skipped before them, for paging.
        vision: Weight of the frames; 0 searches the narration alone.
        speech: Weight of the narration; 0 searches the frames alone.
        rerank_top: Number of best moments that the model's re-ranker orders again; 0: none.
        exact: Compare with every window, even if the library has an approximate index.

    Raises:
        ConfigError: If a value is out of range.
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
        """Number of moments to rank."""
        return self.top_k + self.offset


@dataclass(frozen=True)
class Snapshot:
    """A consistent state of a library: everything a search reads.

    Windows are not stored one by one. They follow from a video's first row, its length and the
    library's window lengths, so that a million windows take a few thousand rows of the catalogue.

    Attributes:
        catalog: For the narration and for filters.
        vectors: Embeddings of all windows.
        videos: In order of their first rows.
        features_per_second: Rate of the features.
        windows: The library's window lengths.
        calibration: What unrelated queries reach in the library.
        thresholds: Least strengths of the confidence levels.
    """

    catalog: Catalog
    vectors: VectorStore
    videos: Sequence[IndexedVideo]
    features_per_second: float
    windows: WindowConfig
    calibration: Calibration
    thresholds: Thresholds

    @cached_property
    def is_whole(self) -> bool:
        """Whether the vectors agree with their checksums, or a `DataError`; compared once."""
        self.catalog.check(self.videos)
        return True

    @cached_property
    def by_key(self) -> dict[int, IndexedVideo]:
        """The videos by their keys."""
        return {video.id: video for video in self.videos}

    @cached_property
    def _ranges(self) -> IntArray:
        """First row and end (V, 2) of each video."""
        firsts = [(video.first_row, video.first_row + video.num_windows) for video in self.videos]
        return np.array(firsts, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def num_rows(self) -> int:
        """Number of rows up to the last one of a video."""
        return int(self._ranges.max(initial=0))

    @cached_property
    def num_live(self) -> int:
        """Number of rows that belong to a video."""
        return int(np.diff(self._ranges).sum())

    @cached_property
    def _live_rows(self) -> BoolArray | None:
        return None if self.num_live == self.num_rows else self._rows_of(self.by_key)

    def owners(self, rows: IntArray) -> IntArray:
        """Return the positions in `videos` to which live rows belong."""
        return np.searchsorted(self._ranges[:, 0], rows, side="right") - 1

    def allowed(self, keys: Collection[int] | None = None) -> BoolArray | None:
        """Return which rows (R,) belong to the videos with these keys, or to any; None: all do."""
        return self._live_rows if keys is None else self._rows_of(keys)

    def _rows_of(self, keys: Collection[int]) -> BoolArray:
        change = np.zeros(self.num_rows + 1, dtype=np.int8)
        firsts, ends = self._ranges[[video.id in keys for video in self.videos]].T
        change[firsts] += 1
        change[ends] -= 1
        return np.cumsum(change[:-1], dtype=np.int8).astype(bool)

    def window_features(self, video: IndexedVideo) -> IntArray:
        """Return the ranges of features (W, 2) of a video's windows, in order of their rows."""
        spans = window_spans(video.num_features, self.features_per_second, self.windows)
        assert len(spans) == video.num_windows
        return spans

    def seconds(self, video: IndexedVideo, spans: RealArray | IntArray) -> RealArray:
        """Convert ranges of features (n, 2) of a video to seconds."""
        seconds = np.asarray(spans / self.features_per_second)
        # The last feature may stand for less than its share of a second.
        seconds[:, 1] = np.maximum(np.minimum(seconds[:, 1], video.duration), seconds[:, 0] + 0.001)
        return seconds


class _Found(NamedTuple):
    """A moment as it was merged from the windows of a video, in features."""

    video: IndexedVideo
    windows: Windows
    proposal: Proposal
    vector: FloatArray
    """(E,) of the best window."""


@dataclass
class _Candidate:
    """A possible answer: a span in seconds, and the vector (E,) of its best window."""

    video: IndexedVideo
    start: float
    end: float
    best: float
    similarity: float
    vector: FloatArray
    is_spoken: bool = False


def find_moments(
    library: Snapshot,
    queries: FloatArray,
    texts: Sequence[str],
    options: SearchOptions,
    condition: Condition | None = None,
) -> list[list[Moment]]:
    """Find the moments whose windows are similar to queries or whose narration contains them.

    Args:
        library: Where to search.
        queries: (N, E) their embeddings.
        texts: The words of each query, for the narration; empty if it is an image or a video.
        options: How many moments, and the weights of frames and narration.
        condition: Which videos to search; None: all.

    Returns:
        Moments of each query, best first.
    """
    visual: list[list[_Candidate]] = [[] for _ in texts]
    if options.vision:
        keys = library.catalog.keys(condition) if condition else None
        visual = _search_frames(library, queries, options, library.allowed(keys))
    moments = []
    for query, text, candidates in zip(queries, texts, visual, strict=True):
        ranked = _add_narration(library, query, candidates, options, text, condition)
        moments.append(_to_moments(library, ranked, text) if ranked else [])
    return moments


def fuse_ranks(rankings: Sequence[tuple[float, Sequence[ItemT]]]) -> dict[ItemT, float]:
    """Combine rankings by reciprocal rank fusion: sum `weight / (RANK_DAMPING + rank)`.

    Args:
        rankings: Weight and items, best first, of each ranking; repeats of an item are ignored.

    Returns:
        Items with their sums, best first; equal sums keep the order of first appearance.
    """
    sums: dict[ItemT, float] = {}
    for weight, items in rankings:
        for rank, item in enumerate(dict.fromkeys(items), start=1):
            sums[item] = sums.get(item, 0.0) + weight / (RANK_DAMPING + rank)
    return dict(sorted(sums.items(), key=lambda pair: -pair[1]))


def _add_narration(
    library: Snapshot,
    query: FloatArray,
    candidates: list[_Candidate],
    options: SearchOptions,
    text: str,
    condition: Condition | None,
) -> list[_Candidate]:
    """Rank the visual candidates of a query together with the cues that contain its terms."""
    rankings = [(options.vision, list(range(len(candidates))))]
    if options.speech and text:
        hits = library.catalog.spoken(text, 4 * options.num_moments, condition)
        if complete := [hit for hit in hits if hit.is_complete]:
            hits = complete
        spoken = [
            _candidate_of(library, query, hit, candidates)
            for hit in hits
            if hit.video in library.by_key
        ]
        # First in the list, so that of two equal sums the spoken one ranks higher.
        rankings.insert(0, (options.speech * (1.0 if complete else PARTIAL_WEIGHT), spoken))
    ranked = list(fuse_ranks(rankings))[: options.num_moments]
    return [candidates[position] for position in ranked]


def _search_frames(
    library: Snapshot, queries: FloatArray, options: SearchOptions, allowed: BoolArray | None
) -> list[list[_Candidate]]:
    """Return the best moments of each query by similarity alone."""
    found: dict[int, list[_Found]] = {}
    left = list(range(len(queries)))  # queries with too few moments so far
    num_moments = options.num_moments
    for hits_per_moment in HITS_PER_MOMENT:
        k = hits_per_moment * num_moments
        similarities, rows = library.vectors.search(
            queries[left], k, library.num_rows, allowed, exact=options.exact
        )
        hits = dict(zip(left, zip(similarities, rows, strict=True), strict=True))
        # Below the last hit, videos that were not fetched may have better moments.
        lowest = {i: float(hits[i][0].min(initial=np.inf)) for i in left}
        found |= _best_moments(library, queries, hits, num_moments, lowest)
        left = [i for i in left if len(found[i]) < num_moments]
        if not left or rows.shape[1] < k:
            break
    rest = {i: hits[i] for i in left}
    found |= _best_moments(library, queries, rest, num_moments, dict.fromkeys(left, -np.inf))
    return [[_refine(library, moment) for moment in found[i]] for i in range(len(queries))]


def _refine(library: Snapshot, found: _Found) -> _Candidate:
    """Place the borders of a moment, and convert it to seconds."""
    span = refine_moment(found.windows, found.proposal)
    ((start, end),) = library.seconds(found.video, np.array([[span.start, span.end]])).tolist()
    best = min(span.best / library.features_per_second, end)
    return _Candidate(found.video, start, end, best, span.similarity, found.vector)


def _best_moments(
    library: Snapshot,
    queries: FloatArray,
    hits: Mapping[int, tuple[FloatArray, IntArray]],
    num_moments: int,
    lowest: Mapping[int, float],
) -> dict[int, list[_Found]]:
    """Return the best moments, down to a similarity, in the videos of each query's hits.

    Videos are decoded in order of their best hits until no video left can have a better moment. In
    each round and for all queries at once, as many are decoded as moments are missing, or as fit
    into memory.
    """
    queues = {i: _videos_of(library, *hits[i]) for i in hits}
    found: dict[int, list[_Found]] = {i: [] for i in hits}
    while True:
        pairs: list[tuple[int, IndexedVideo, float]] = []  # query, video, least similarity
        num_windows = 0
        for i, queue in queues.items():
            missing = num_moments - len(found[i])
            least = lowest[i] if missing else found[i][-1].proposal.similarity
            for _ in range(max(1, missing)):
                if num_windows >= MAX_WINDOWS or not queue or queue[-1][0] < least:
                    break
                pairs.append((i, library.videos[queue.pop()[1]], least))
                num_windows += pairs[-1][1].num_windows
        if not pairs:
            return found
        for i, moments in _moments_of(library, queries, pairs):
            moments = sorted(found[i] + moments, key=lambda moment: -moment.proposal.similarity)
            found[i] = moments[:num_moments]


def _videos_of(
    library: Snapshot, similarities: FloatArray, rows: IntArray
) -> list[tuple[float, int]]:
    """Return the videos of hits with the similarity of each one's best hit, ascending."""
    owners, best_at = np.unique(library.owners(rows), return_index=True)
    order = np.argsort(best_at)[::-1]
    return list(zip(similarities[best_at[order]].tolist(), owners[order].tolist(), strict=True))


def _moments_of(
    library: Snapshot, queries: FloatArray, pairs: Sequence[tuple[int, IndexedVideo, float]]
) -> Iterator[tuple[int, list[_Found]]]:
    """Yield the moments of each pair of query and video, down to a similarity."""
    known: dict[int, FloatArray] = {}  # vectors (W, E) by the key of their video
    hits = []
    for i, video, least in pairs:
        if video.id not in known:
            known[video.id] = library.vectors.read(video.first_row, video.num_windows)
        similarities = known[video.id] @ queries[i]
        spans, weights = library.window_features(video), vote_weights(similarities)
        hits.append(Windows(spans, similarities, weights, least - ROUNDING_ERROR))
    for (i, video, _), windows, proposals in zip(pairs, hits, merge_windows(hits), strict=True):
        vectors = known[video.id]
        yield i, [_Found(video, windows, p, vectors[p.window].copy()) for p in proposals]


def _candidate_of(
    library: Snapshot, query: FloatArray, hit: NarrationHit, candidates: list[_Candidate]
) -> int:
    """Return the position of the candidate that contains a cue; append one if none does."""
    middle = 0.5 * (hit.start + hit.end)
    for position, candidate in enumerate(candidates):
        if candidate.video.id == hit.video and candidate.start <= middle < candidate.end:
            candidate.is_spoken |= hit.is_complete
            return position
    video = library.by_key[hit.video]
    start = min(hit.start, max(0.0, middle - MIN_SPOKEN_SECONDS / 2))
    end = min(max(hit.end, start + MIN_SPOKEN_SECONDS), max(video.duration, hit.end))
    spans = library.seconds(video, library.window_features(video))  # (W, 2)
    intersection = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)
    union = np.maximum(spans[:, 1], end) - np.minimum(spans[:, 0], start)
    nearest = int(np.argmax(intersection / union))
    vector = library.vectors.read(video.first_row, video.num_windows)[nearest]
    similarity = float(vector @ query)
    candidates.append(_Candidate(video, start, end, middle, similarity, vector, hit.is_complete))
    return len(candidates) - 1


def _to_moments(library: Snapshot, candidates: Sequence[_Candidate], text: str) -> list[Moment]:
    """Add confidence and narration to the answers to one query, at least one."""
    library.catalog.check_records({candidate.video.id for candidate in candidates})
    z_scores = library.calibration.z_scores(
        np.stack([c.vector for c in candidates]),
        np.array([c.similarity for c in candidates], dtype=np.float32),
        np.array([c.video.id for c in candidates]),
    )
    moments = []
    for candidate, z_score in zip(candidates, z_scores.tolist(), strict=True):
        strength = library.calibration.strength(z_score)
        level = library.thresholds.level(strength)
        video, start, end = candidate.video, candidate.start, candidate.end
        moments.append(
            Moment(
                path=Path(video.path),
                start=start,
                end=end,
                label=text,
                best=candidate.best,
                similarity=candidate.similarity,
                strength=strength,
                confidence=next_level(level) if candidate.is_spoken else level,
                is_spoken=candidate.is_spoken,
                words=library.catalog.words(video.id, start, end),
                duration=video.duration,
                frame_rate=video.frame_rate,
            )
        )
    return moments
