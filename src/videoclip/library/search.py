"""From a query to moments: similar windows, whole videos around them, narration, one ranking.

Windows are compared in one pass, corrected for hubs (`zeroshot.confidence`). Around the best ones,
whole videos are decoded into moments, which are ranked by what several seconds of their video
reach. Cues that contain rare words of the query add moments or strengthen them. What the frames
and the narration contribute are strengths relative to what unrelated queries reach
(`zeroshot.confidence`); their combination ranks the moments and gives their confidence.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np

from videoclip.embedding import WindowConfig, num_shortest_windows, window_spans
from videoclip.errors import ConfigError
from videoclip.library.catalog import (
    Catalog,
    IndexedVideo,
    NarrationHit,
    Passages,
    VectorStore,
)
from videoclip.library.exact import highest, in_threads, to_float32
from videoclip.library.filters import Condition
from videoclip.types import BoolArray, FloatArray, IntArray, RealArray
from videoclip.zeroshot.confidence import (
    BIAS_UNIT,
    LibraryCalibration,
    Thresholds,
    combine,
    mean_of_best,
    products,
)
from videoclip.zeroshot.moments import (
    Moment,
    Proposal,
    Windows,
    merge_windows,
    refine_moments,
    vote_weights,
)

HITS_PER_MOMENT = (6, 48)
"""Windows fetched per moment. A moment uses up about six overlapping windows of four lengths; the
second number is for queries whose first hits gave too few moments."""
ROUNDING_ERROR = 1e-5
"""Upper bound on the difference between two orders of summing the same products."""
EXACT_ROWS = 2**16
"""Largest library, in rows, in which an exact search takes no noticeable time."""
MIN_ALIKE = 2.5
"""Least strength of a passage that resembles the query; about one in a hundred unrelated queries
has such a passage."""
PASSAGES_PER_BLOCK = 2**14
"""Passages of the narration that are compared at once."""
MAX_WINDOWS = 2**12
"""Windows whose vectors are in memory at once, unless one video has more."""
MIN_SPOKEN_SECONDS = 4.0
"""Shortest length of a moment that was found in the narration alone."""
CANDIDATES_PER_MOMENT = 2
"""Videos decoded for each moment: they are found by their best windows and ranked by their best
seconds."""
VIDEOS_PER_THREAD = 32
"""Videos whose windows a thread compares at a time."""
SEPARATOR = re.compile(r"\s*,\s*then\s+", re.IGNORECASE)
"""What separates the parts of an ordered query."""


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
        numbers = self.top_k, self.offset, self.rerank_top
        if not all(isinstance(number, Integral) for number in numbers):
            raise ConfigError(f"top_k, offset and rerank_top are whole numbers, got {numbers}")
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
    calibration: LibraryCalibration
    thresholds: Thresholds

    @cached_property
    def is_whole(self) -> bool:
        """Whether the vectors agree with their checksums, or a `DataError`; compared once."""
        self.catalog.check(self.videos)
        return True

    @cached_property
    def passages(self) -> Passages:
        """What is said in all videos."""
        return self.catalog.passages(self.calibration.scenes.shape[1])

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

    def biases(self, rows: FloatArray) -> FloatArray:
        """Return what the similarities of rows (W, D) are corrected by: (W,), see `hub_biases`."""
        if not self.calibration.has_biases:
            return np.zeros(len(rows), np.float32)
        return np.asarray(BIAS_UNIT * rows[:, -1])

    def window_features(self, video: IndexedVideo) -> IntArray:
        """Return the ranges of features (W, 2) of a video's windows, in order of their rows."""
        spans = window_spans(video.num_features, self.features_per_second, self.windows)
        assert len(spans) == video.num_windows
        return spans

    def num_seconds(self, video: IndexedVideo) -> int:
        """Return the number of a video's shortest windows, which come first."""
        return num_shortest_windows(video.num_features, self.features_per_second, self.windows)

    def nearest_window(self, video: IndexedVideo, start: float, end: float) -> int:
        """Return the number of a video's window that is most like a span in seconds, by IoU."""
        spans = self.seconds(video, self.window_features(video))  # (W, 2)
        intersection = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)
        union = np.maximum(spans[:, 1], end) - np.minimum(spans[:, 0], start)
        return int(np.argmax(intersection / union))

    def score_curve(self, video: IndexedVideo, query: FloatArray) -> RealArray:
        """Return the strength of a query (E,) in each second of a video.

        It has the unit of `Moment.strength`, but a moment's strength is lower than the peak of the
        curve where several seconds of the video are below one.

        Returns:
            (T, 3) start and end in seconds, and strength, of the shortest windows in order of time.
        """
        calibration, num_seconds = self.calibration, self.num_seconds(video)
        rows = self.vectors.read(video.first_row, num_seconds)
        (scores,) = products(calibration.prepare(query[None]), rows)
        (expected,) = calibration.frames.expected(calibration.traits_of(query[None]))
        strengths = (scores - expected) / calibration.frames.scale
        spans = self.seconds(video, self.window_features(video)[:num_seconds])
        return np.column_stack((spans, strengths))

    def seconds(self, video: IndexedVideo, spans: RealArray | IntArray) -> RealArray:
        """Convert ranges of features (n, 2) of a video to seconds."""
        seconds = np.asarray(spans / self.features_per_second)
        # The last feature may stand for less than its share of a second.
        seconds[:, 1] = np.maximum(np.minimum(seconds[:, 1], video.duration), seconds[:, 0] + 0.001)
        return seconds


class _Scored(NamedTuple):
    """A video that may have moments of a query."""

    score: float
    """Mean similarity of its best seconds, corrected for hubs."""
    gap: float
    """Similarity of its best window minus the score."""
    video: IndexedVideo
    similarities: FloatArray
    """(W,) of its windows, corrected for hubs."""
    biases: FloatArray
    """(W,) corrections of the similarities."""


class _Found(NamedTuple):
    """A moment as it was merged from the windows of a video, in features."""

    scored: _Scored
    windows: Windows
    proposal: Proposal
    score: float
    """Similarity of its best window minus the gap of the video."""


@dataclass
class _Candidate:
    """A possible answer: a span in seconds, and the evidence for it."""

    video: IndexedVideo
    start: float
    end: float
    best: float
    similarity: float
    visual_strength: float
    narration_strength: float = -np.inf
    has_all_words: bool = False


def split_query(query: str) -> list[str]:
    """Return the parts of an ordered query ("A, then B"); the query itself if it is none."""
    parts = SEPARATOR.split(query.strip())
    return parts if len(parts) > 1 and all(re.search(r"\w", part) for part in parts) else [query]


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
    calibration = library.calibration
    traits = calibration.traits_of(queries)
    expected = calibration.frames.expected(traits)
    prepared = calibration.prepare(queries)
    keys = library.catalog.keys(condition) if condition else None
    visual: list[list[_Candidate]] = [[] for _ in texts]
    if options.vision:
        found = _search_frames(library, prepared, options, library.allowed(keys))
        every = [(moment.windows, moment.proposal) for moments in found for moment in moments]
        refined = iter(refine_moments(every))
        visual = [
            [_candidate(library, moment, next(refined), least) for moment in moments]
            for moments, least in zip(found, expected.tolist(), strict=True)
        ]
    num_hits = 4 * options.num_moments
    alike: list[list[NarrationHit]] = [[] for _ in texts]
    if options.speech and any(texts):
        alike = _search_passages(library, queries, traits, num_hits, keys)
    answers = []
    for i, (text, candidates) in enumerate(zip(texts, visual, strict=True)):
        if options.speech and text:
            hits = library.catalog.spoken(text, num_hits, condition)
            for hit in hits + alike[i]:
                # If frames are searched too, a passage no better than chance adds nothing.
                if hit.video in library.by_key and (hit.strength > 0 or not options.vision):
                    _add_narration(library, prepared[i], float(expected[i]), hit, candidates)
        weights = options.vision, options.speech
        ranked = sorted(
            ((combine(c.visual_strength, c.narration_strength, *weights), c) for c in candidates),
            key=lambda pair: -pair[0],
        )
        answers.append(ranked[: options.num_moments])
    library.catalog.check_records({c.video.id for ranked in answers for _, c in ranked})
    return [
        [_to_moment(library, candidate, text, strength) for strength, candidate in ranked]
        for text, ranked in zip(texts, answers, strict=True)
    ]


def _search_passages(
    library: Snapshot,
    queries: FloatArray,
    traits: RealArray,
    num_hits: int,
    keys: Collection[int] | None,
) -> list[list[NarrationHit]]:
    """Return where something like each query (N, E) is said in other words, strongest first."""
    videos, spans, vectors = library.passages
    levels, rows = library.calibration.narration, np.arange(len(videos))
    if keys is not None:
        rows = rows[np.isin(videos, list(keys))]
    similarities = np.concatenate(
        [
            products(queries, to_float32(vectors[rows[first : first + PASSAGES_PER_BLOCK]]))
            for first in range(0, max(1, len(rows)), PASSAGES_PER_BLOCK)
        ],
        axis=1,
    )  # (N, P)
    strengths = (similarities - levels.expected(traits)[:, None]) / levels.scale
    hits = []
    for mine in strengths:
        best, best_rows = highest(mine, rows, num_hits)
        hits.append(
            [
                NarrationHit(
                    video=int(videos[row]),
                    start=float(spans[row, 0]),
                    end=float(spans[row, 1]),
                    is_complete=False,
                    strength=float(strength),
                )
                for strength, row in zip(best, best_rows, strict=True)
                if strength >= MIN_ALIKE
            ]
        )
    return hits


def _search_frames(
    library: Snapshot, queries: FloatArray, options: SearchOptions, allowed: BoolArray | None
) -> list[list[_Found]]:
    """Return the best moments of each prepared query by its similarities alone.

    Candidates are the videos with the best windows; their moments are ranked by their scores. In a
    library of at most `EXACT_ROWS` rows no other video could have a better moment.
    """
    found: dict[int, list[_Found]] = {}
    left = list(range(len(queries)))  # queries with too few moments so far
    num_moments = options.num_moments
    is_exact = library.num_rows <= EXACT_ROWS
    num_videos = CANDIDATES_PER_MOMENT * num_moments
    for hits_per_moment in HITS_PER_MOMENT:
        k = hits_per_moment * num_moments
        similarities, rows = library.vectors.search(
            queries[left], k, library.num_rows, allowed, exact=options.exact
        )
        hits = dict(zip(left, zip(similarities, rows, strict=True), strict=True))
        scored = _score_videos(library, queries, hits, None if is_exact else num_videos)
        # Below the last hit, videos that were not fetched may have better moments.
        lowest = {i: float(hits[i][0].min(initial=np.inf)) for i in left}
        found |= _best_moments(library, scored, num_moments, lowest, is_exact)
        left = [i for i in left if len(found[i]) < num_moments]
        if not left or rows.shape[1] < k:
            break
    rest = {i: scored[i] for i in left}
    found |= _best_moments(library, rest, num_moments, dict.fromkeys(left, -np.inf))
    return [found[i] for i in range(len(queries))]


def _candidate(library: Snapshot, found: _Found, span: Proposal, expected: float) -> _Candidate:
    """Convert a moment, with its span as refined, to seconds and a strength."""
    video = found.scored.video
    ((start, end),) = library.seconds(video, np.array([[span.start, span.end]])).tolist()
    best = min(span.best / library.features_per_second, end)
    strength = (found.score - expected) / library.calibration.frames.scale
    similarity = found.proposal.similarity + float(found.scored.biases[found.proposal.window])
    return _Candidate(video, start, end, best, similarity, strength)


def _score_videos(
    library: Snapshot,
    queries: FloatArray,
    hits: Mapping[int, tuple[FloatArray, IntArray]],
    num_videos: int | None,
) -> dict[int, list[_Scored]]:
    """Return the videos of each query's best hits, in descending order of their scores."""
    wanted: dict[int, list[int]] = {}  # queries by the video's position
    for i, (_, rows) in hits.items():
        owners, best_at = np.unique(library.owners(rows), return_index=True)
        for owner in owners[np.argsort(best_at)[:num_videos]].tolist():
            wanted.setdefault(owner, []).append(i)

    def compare(part: Sequence[int]) -> list[tuple[FloatArray, FloatArray]]:
        """Return the similarities (n, W) of videos and the queries that want them, and biases."""
        compared = []
        for owner in part:
            video = library.videos[owner]
            vectors = library.vectors.read(video.first_row, video.num_windows)
            compared.append((products(queries[wanted[owner]], vectors), library.biases(vectors)))
        return compared

    order, size = list(wanted), VIDEOS_PER_THREAD
    parts = [order[first : first + size] for first in range(0, len(order), size)]
    compared = [pair for part in in_threads(compare, parts) for pair in part]
    scored: dict[int, list[_Scored]] = {i: [] for i in hits}
    for owner, (similarities, biases) in zip(order, compared, strict=True):
        video = library.videos[owner]
        scores = mean_of_best(similarities[:, : library.num_seconds(video)]).tolist()
        largest = similarities.max(axis=1).tolist()
        for i, score, most, row in zip(wanted[owner], scores, largest, similarities, strict=True):
            scored[i].append(_Scored(score, most - score, video, row, biases))
    return {
        i: sorted(videos, key=lambda one: (-one.score, one.video.first_row))
        for i, videos in scored.items()
    }


def _best_moments(
    library: Snapshot,
    scored: Mapping[int, list[_Scored]],
    num_moments: int,
    lowest: Mapping[int, float],
    is_exact: bool = False,
) -> dict[int, list[_Found]]:
    """Return the best moments of each query whose best windows reach its lowest similarity.

    If `is_exact`, their scores must reach it too: those of windows below it cannot.

    Videos are decoded in order of their scores, which are those of their first moments, until no
    video left can have a better moment. In each round and for all queries at once, as many are
    decoded as moments are missing, or as fit into memory.
    """
    queues = {i: videos[::-1] for i, videos in scored.items()}
    found: dict[int, list[_Found]] = {i: [] for i in scored}
    while True:
        pairs: list[tuple[int, _Scored]] = []
        windows: list[Windows] = []
        num_windows = 0
        for i, queue in queues.items():
            missing = num_moments - len(found[i])
            floor = lowest[i] if is_exact else -np.inf
            least = floor if missing else found[i][-1].score
            for _ in range(max(1, missing)):
                if num_windows >= MAX_WINDOWS or not queue or queue[-1].score < least:
                    break
                one = queue.pop()
                pairs.append((i, one))
                least_similarity = max(lowest[i], least + one.gap) - ROUNDING_ERROR
                spans, weights = library.window_features(one.video), vote_weights(one.similarities)
                windows.append(Windows(spans, one.similarities, weights, least_similarity))
                num_windows += len(spans)
        if not pairs:
            return found
        for (i, one), some, proposals in zip(pairs, windows, merge_windows(windows), strict=True):
            moments = [_Found(one, some, p, p.similarity - one.gap) for p in proposals]
            found[i] = sorted(found[i] + moments, key=lambda m: -m.score)[:num_moments]


def _add_narration(
    library: Snapshot,
    query: FloatArray,
    expected: float,
    hit: NarrationHit,
    candidates: list[_Candidate],
) -> None:
    """Add a passage of the narration to the candidate that contains it, or as a new candidate.

    Args:
        library: The library.
        query: (D,) the prepared query.
        expected: Its expected score.
        hit: The passage.
        candidates: Of the query; changed.
    """
    middle = 0.5 * (hit.start + hit.end)
    for candidate in candidates:
        if candidate.video.id == hit.video and candidate.start <= middle < candidate.end:
            candidate.narration_strength = max(candidate.narration_strength, hit.strength)
            candidate.has_all_words |= hit.is_complete
            return
    video = library.by_key[hit.video]
    start = min(hit.start, max(0.0, middle - MIN_SPOKEN_SECONDS / 2))
    end = min(max(hit.end, start + MIN_SPOKEN_SECONDS), max(video.duration, hit.end))
    nearest = library.nearest_window(video, start, end)
    rows = library.vectors.read(video.first_row, video.num_windows)
    (similarities,) = products(query[None], rows)
    gap = float(similarities.max() - mean_of_best(similarities[: library.num_seconds(video)]))
    corrected = float(similarities[nearest])
    strength = (corrected - gap - expected) / library.calibration.frames.scale
    similarity = corrected + float(library.biases(rows)[nearest])
    span, narration = (start, end, middle), (hit.strength, hit.is_complete)
    candidates.append(_Candidate(video, *span, similarity, strength, *narration))


def _to_moment(library: Snapshot, candidate: _Candidate, text: str, strength: float) -> Moment:
    """Return a candidate with its confidence and narration."""
    video, narration = candidate.video, candidate.narration_strength
    return Moment(
        path=Path(video.path),
        start=candidate.start,
        end=candidate.end,
        label=text,
        best=candidate.best,
        similarity=candidate.similarity,
        strength=strength,
        confidence=library.thresholds.level(strength),
        visual_strength=candidate.visual_strength,
        narration_strength=narration if np.isfinite(narration) else None,
        has_all_words=candidate.has_all_words,
        words=library.catalog.words(video.id, candidate.start, candidate.end),
        duration=video.duration,
        frame_rate=video.frame_rate,
    )
