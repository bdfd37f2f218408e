"""Confidence of a match: its similarity relative to what unrelated queries reach.

A similarity of 0.3 means nothing by itself: some windows resemble every query. So each window is
also compared with a bank of unrelated queries: scenes that hardly any library shows, and sentences
spoken in other videos of the library, since in a library on one subject every query is about it.
The z-score of a query at a window is relative to that bank. The best z-score that each unrelated
query reaches anywhere in the library is typical of a wrong match; the strength of a match is
relative to those:

    z_score  = (similarity - mean over the bank) / standard deviation over the bank
    strength = (z_score - median of the bank's best z-scores) / their scaled MAD

This accounts for the model, the size of the library, its subject and windows that resemble
everything, and needs no labels: a given strength is about as rare among wrong matches in a library
of three videos as in one of fifty (`bench/confidence.py`). Three thresholds on the strength give
the confidence level; they can be fitted to labelled queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from videoclip.errors import ConfigError, DataError
from videoclip.types import BoolArray, FloatArray, IntArray

NO_VIDEO = -1
"""Video key of a query that no video speaks, and of windows outside a library."""

Confidence: TypeAlias = Literal["none", "low", "medium", "high"]
"""`none`: no better than unrelated queries reach."""

LEVELS: tuple[Confidence, ...] = get_args(Confidence)

MIN_Z_SCORE = 1.0
"""Default threshold of `segment` and `localize`."""

MIN_QUERIES = 4
"""Fewest unrelated queries of a kind whose median is used."""
MAD_TO_STANDARD_DEVIATION = 1.4826
"""For normally distributed values."""
MIN_SCALE = 0.25
"""Least scale of the best z-scores: in a tiny library they can all be equal."""

_QUERIES_FILE = Path(__file__).with_name("unrelated_queries.txt")
UNRELATED_QUERIES = tuple(_QUERIES_FILE.read_text(encoding="utf-8").splitlines())
"""Visual scenes that hardly any library shows, on as many subjects as possible. Each joins two
unlike things, so that half a match counts as unrelated too."""


@dataclass(frozen=True)
class Thresholds:
    """Least strength of each level.

    The defaults are reached by about one in four, one in ten and one in fifty wrong matches of the
    starter model on libraries of 3 to 45 real clips.

    Attributes:
        low: Below it, confidence is `none`.
        medium: Least strength of `medium`.
        high: Least strength of `high`.

    Raises:
        ConfigError: If they do not rise.
    """

    low: float = 1.0
    medium: float = 2.0
    high: float = 3.5

    def __post_init__(self) -> None:
        if not self.low <= self.medium <= self.high:
            raise ConfigError(f"thresholds must rise from low to high, got {self}")

    def level(self, strength: float) -> Confidence:
        """Return the confidence level of a strength."""
        bounds = (self.low, self.medium, self.high)
        return LEVELS[sum(strength >= bound for bound in bounds)]


def next_level(confidence: Confidence) -> Confidence:
    """Return the next higher level; `high` stays `high`."""
    return LEVELS[min(LEVELS.index(confidence) + 1, len(LEVELS) - 1)]


@dataclass(frozen=True)
class Calibration:
    """What unrelated queries reach in one library or video.

    Attributes:
        queries: (Q, E) embeddings of the unrelated queries.
        owners: (Q,) key of the video in which each is spoken, or `NO_VIDEO`. A query is related to
            the video that speaks it, and is left out there.
        median: Of the best z-scores they reach: of scenes or of sentences, whichever is higher.
        scale: Scaled MAD of those, since some of the queries may match after all.
    """

    queries: FloatArray
    owners: IntArray
    median: float = 0.0
    scale: float = 1.0

    @classmethod
    def of_scenes(cls, queries: FloatArray) -> Self:
        """Return a calibration, not yet fitted, with queries (Q, E) that no video speaks."""
        return cls(queries, np.full(len(queries), NO_VIDEO, dtype=np.int64))

    def best_z_scores(self, vectors: FloatArray, owner: int = NO_VIDEO) -> FloatArray:
        """Return the best z-score (Q,) that each unrelated query reaches at windows of one video.

        Args:
            vectors: (W, E) of the windows.
            owner: Key of their video; the queries spoken in it get -inf.
        """
        best = np.full(len(self.queries), -np.inf, dtype=np.float32)
        unrelated = self._is_unrelated(np.array([owner]))[:, 0]
        best[unrelated] = _leave_one_out(self.queries[unrelated] @ vectors.T).max(axis=1)
        return best

    def fit(self, best_z_scores: Sequence[FloatArray]) -> Self:
        """Return a copy with `median` and `scale` of what `best_z_scores` gives for each video."""
        lowest = np.full(len(self.queries), -np.inf, dtype=np.float32)
        best = np.maximum.reduce([lowest, *best_z_scores])
        is_spoken, is_measured = self.owners != NO_VIDEO, np.isfinite(best)
        kinds = [best[is_measured & ~is_spoken], best[is_measured & is_spoken]]
        # Scenes match nothing in a library, sentences about its subject match many videos: wrong
        # matches have to be told from whichever of the two reach higher.
        levels = [_median_and_scale(kind) for kind in kinds if len(kind) >= MIN_QUERIES]
        median, scale = max(levels, key=sum, default=(0.0, 1.0))
        return replace(self, median=median, scale=scale)

    def z_scores(
        self, vectors: FloatArray, similarities: FloatArray, owners: int | IntArray = NO_VIDEO
    ) -> FloatArray:
        """Return z-scores of queries at windows, relative to the unrelated queries there.

        Args:
            vectors: (W, E) of the windows.
            similarities: (..., W) of one or more queries with the windows.
            owners: Key of the windows' video, or (W,) of each window's.

        Returns:
            (..., W) in standard deviations over the unrelated queries.
        """
        bank = self.queries @ vectors.T  # (Q, W)
        unrelated = self._is_unrelated(np.broadcast_to(owners, len(vectors)))
        mean = bank.mean(axis=0, where=unrelated)
        deviation = np.maximum(bank.std(axis=0, where=unrelated), 1e-6)
        return np.asarray((similarities - mean) / deviation)

    def strength(self, z_score: float) -> float:
        """Return the strength of a z-score, relative to the best of the unrelated queries."""
        return (z_score - self.median) / self.scale

    def _is_unrelated(self, owners: IntArray) -> BoolArray:
        """(Q, W), True where a query is not spoken in the window's video."""
        spoken_in = self.owners[:, None]
        return np.asarray((spoken_in == NO_VIDEO) | (spoken_in != owners))


def _median_and_scale(values: FloatArray) -> tuple[float, float]:
    median = float(np.median(values))
    deviation = float(np.median(np.abs(values - median)))
    return median, max(MAD_TO_STANDARD_DEVIATION * deviation, MIN_SCALE)


def _leave_one_out(similarities: FloatArray) -> FloatArray:
    """Z-scores (Q, W) of each unrelated query relative to all the others."""
    others = len(similarities) - 1
    mean = (similarities.sum(axis=0) - similarities) / others
    square = ((similarities**2).sum(axis=0) - similarities**2) / others
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return np.asarray((similarities - mean) / deviation, dtype=np.float32)


def fit_thresholds(
    strengths: npt.ArrayLike, correct: npt.ArrayLike, medium: float = 0.6, high: float = 0.9
) -> Thresholds:
    """Fit thresholds to labelled matches.

    `low` maximises the share of correct matches at or above it minus that of wrong ones (Youden's
    J); `medium` and `high` are the least strengths from which on the wanted share of matches is
    correct.

    Args:
        strengths: (N,) of the best moment of each query.
        correct: (N,) whether it is correct; include queries that nothing matches.
        medium: Wanted precision at or above `medium`.
        high: Wanted precision at or above `high`.

    Raises:
        DataError: If all matches are correct, or none is.
    """
    order = np.argsort(-np.asarray(strengths, dtype=np.float64), kind="stable")
    ranked = np.asarray(strengths, dtype=np.float64)[order]
    hits = np.asarray(correct, dtype=bool)[order]
    if hits.all() or not hits.any():
        raise DataError(
            "fitting thresholds needs right and wrong answers, these are all of one kind: label "
            "more queries, also some that nothing matches"
        )
    ends = np.append(ranked[1:] < ranked[:-1], True)  # equal strengths cannot be separated
    true_positives, false_positives = np.cumsum(hits), np.cumsum(~hits)
    balance = true_positives / true_positives[-1] - false_positives / false_positives[-1]
    low = float(ranked[int(np.argmax(np.where(ends, balance, -np.inf)))])

    def least(precision: float) -> float:
        reached = ends & (true_positives / (true_positives + false_positives) >= precision)
        rows = np.flatnonzero(reached)
        return float(ranked[rows[-1]]) if len(rows) else float(np.nextafter(ranked[0], np.inf))

    medium_strength = max(low, least(medium))
    return Thresholds(low, medium_strength, max(medium_strength, least(high)))
