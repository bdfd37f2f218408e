"""Ranking and confidence: how similar a moment is, relative to what unrelated queries reach.

Some windows are similar to every query: hubs. Each window's bias is how similar it is to unrelated
queries (`hub_biases`), and is subtracted from its similarities. A video's score is
the mean of its best seconds (`mean_of_best`), since the best one of many is often best by chance.
`python bench/real/measure.py` shows how well that ranks.

A score of 0.3 means nothing by itself. In a library, `LibraryCalibration` measures what
unrelated queries reach: scenes that hardly any library shows, and sentences spoken in other videos
of the library, since in a library on one subject every query is about it. Short, common queries
reach more than long, odd ones, and queries about something visible more than vague ones, whether
they are shown or not: how much more is measured with common things. The strength of a match is
relative to all of this:

    expected = median of what unrelated queries reach + slopes * (traits - theirs)
    strength = (score - expected) / scaled MAD of what common things reach

where the traits of a query are its nearness to common things, and the spread of its similarities
with all of them (`traits`): both follow from texts alone. This accounts for the model, the size of
the library and its subject, and needs no labels: a given strength is about as rare among wrong
matches in a library of three videos as in one of fifty (`bench/confidence.py`).
Three thresholds on the strength give the confidence level; they can be fitted to labelled queries.

In one video (`segment`, `localize`), `Calibration` compares every second with the scenes alone:

    z_score  = (similarity - mean over the scenes) / standard deviation over the scenes
    strength = (z_score - median of the scenes' best z-scores) / their scaled MAD
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeAlias, get_args

import numkong
import numpy as np
import numpy.typing as npt

from videoclip.errors import ConfigError, DataError
from videoclip.types import FloatArray, IntArray, RealArray

Confidence: TypeAlias = Literal["none", "low", "medium", "high"]
"""`none`: no better than unrelated queries reach."""

LEVELS: tuple[Confidence, ...] = get_args(Confidence)

MIN_Z_SCORE = 1.0
"""Default threshold of `segment` and `localize`."""

NUM_NEAREST = 5
"""Unrelated queries whose similarities make the bias of a window."""
BIAS_SHARE = 0.5
"""Share of their mean that is the bias. Source: CSLS (Conneau et al., ICLR 2018) halves both
neighbourhoods' means."""
BIAS_UNIT = 1 / 8
"""Biases are stored divided by this unit, and the last component of a query is the unit, negative.
With 1, that component would make the int8 codes of a query so coarse that a search compares ten
times as many rows in float32."""

BEST_SHARE = 1 / 3
"""Share of a video's seconds, the most similar ones, whose mean is its score."""
MAX_SECONDS = 8
"""At most so many of them, so that a short moment of a long video is not lost."""

MIN_QUERIES = 4
"""A kind with fewer unrelated queries is left out."""
MAD_TO_STANDARD_DEVIATION = 1.4826
"""For normally distributed values."""
MIN_SCALE = 0.25
"""Least scale of the best z-scores: in a short video they can all be equal."""
MIN_SCORE_SCALE = 1e-3
"""Least scale of the best scores of a library."""


def _read_lines(name: str) -> tuple[str, ...]:
    return tuple(Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines())


UNRELATED_QUERIES = _read_lines("unrelated_queries.txt")
"""Visual scenes that hardly any library shows, on as many subjects as possible. Each joins two
unlike things, so that half a match counts as unrelated too."""
COMMON_THINGS = tuple(f"a video of {thing}" for thing in _read_lines("common_things.txt"))
"""What videos usually show: animals, places, things, actions, people, kinds of pictures."""
NUM_NEAREST_THINGS = 3
"""The nearness of a query is its mean similarity with so many of the most similar common things."""


@dataclass(frozen=True)
class Thresholds:
    """Least strength of each level.

    Of queries about things that 45 real clips do not show, nearly six in ten, one in fifteen and
    one in twenty-five reach the defaults with the starter model (`bench/real/measure.py`).

    Attributes:
        low: Below it, confidence is `none`.
        medium: Least strength of `medium`.
        high: Least strength of `high`.

    Raises:
        ConfigError: If they do not rise.
    """

    low: float = 0.0
    medium: float = 1.7
    high: float = 2.1

    def __post_init__(self) -> None:
        if not self.low <= self.medium <= self.high:
            raise ConfigError(f"thresholds must rise from low to high, got {self!r}")

    def __str__(self) -> str:
        return (
            f"thresholds: high from {self.high:.2f}, medium from {self.medium:.2f}, "
            f"low from {self.low:.2f}"
        )

    def level(self, strength: float) -> Confidence:
        """Return the confidence level of a strength."""
        bounds = (self.low, self.medium, self.high)
        return LEVELS[sum(strength >= bound for bound in bounds)]


@dataclass(frozen=True)
class Calibration:
    """What unrelated scenes reach in one video.

    Attributes:
        queries: (Q, E) embeddings of the scenes.
        median: Of the best z-scores they reach.
        scale: Scaled MAD of those, since some of the scenes may match after all.
    """

    queries: FloatArray
    median: float = 0.0
    scale: float = 1.0

    def fit(self, vectors: FloatArray) -> Self:
        """Return a copy with `median` and `scale` of the best z-scores at vectors (W, E)."""
        best = _leave_one_out(self.queries @ vectors.T).max(axis=1)
        median, scale = median_and_scale(best, MIN_SCALE)
        return replace(self, median=median, scale=scale)

    def z_scores(self, vectors: FloatArray, similarities: FloatArray) -> FloatArray:
        """Return z-scores of queries at windows, relative to the scenes there.

        Args:
            vectors: (W, E) of the windows.
            similarities: (..., W) of one or more queries with the windows.

        Returns:
            (..., W) in standard deviations over the scenes.
        """
        bank = self.queries @ vectors.T  # (Q, W)
        deviation = np.maximum(bank.std(axis=0), 1e-6)
        return np.asarray((similarities - bank.mean(axis=0)) / deviation)

    def strength(self, z_score: float) -> float:
        """Return the strength of a z-score, relative to the best of the scenes."""
        return (z_score - self.median) / self.scale


class Levels(NamedTuple):
    """What unrelated queries reach in the frames, or in the narration, of one library."""

    slopes: tuple[float, float] = (0.0, 0.0)
    """Gain in score by the two traits of a query."""
    median: float = 0.0
    """Of what scenes or sentences reach beyond that, whichever is higher."""
    scale: float = 1.0
    """Scaled MAD of that, or of what common things reach: some may match after all."""

    def expected(self, traits: RealArray) -> RealArray:
        """Return the scores (N,) that queries with traits (N, 2) reach if nothing matches."""
        return np.asarray(self.median + traits @ np.array(self.slopes))


NO_LEVELS = Levels()
"""Where nothing was measured: scores are strengths."""


@dataclass(frozen=True)
class LibraryCalibration:
    """What unrelated queries reach in one library.

    Attributes:
        scenes: (S, E) embeddings of scenes that hardly any library shows.
        things: (C, E) of common things.
        sentences: (N, E) of sentences of the library's own narration.
        owners: (N,) key of the video that speaks each sentence: it is related to that video, and
            is left out there.
        has_biases: Whether each window's vector is followed by its bias (`hub_biases`).
        frames: Levels of a video's score.
        narration: Levels of the similarity of texts with passages of the narration.
    """

    scenes: FloatArray
    things: FloatArray
    sentences: FloatArray
    owners: IntArray
    has_biases: bool = True
    frames: Levels = NO_LEVELS
    narration: Levels = NO_LEVELS

    @cached_property
    def queries(self) -> FloatArray:
        """The queries (Q, E) that are measured: scenes, common things, and sentences."""
        return np.concatenate((self.scenes, self.things, self.sentences))

    def traits_of(self, queries: FloatArray) -> RealArray:
        """Return the traits (N, 2) of queries (N, E)."""
        return traits(products(queries, self.things))

    @cached_property
    def _traits(self) -> RealArray:
        """The traits (Q, 2) of the measured queries; of things, from all the other things.

        Much of what is spoken is not visible and has a small spread, from which the slope would
        conclude that it reaches too much. Sentences count as visible as the median thing at least.
        """
        num_things = len(self.things)
        is_other = ~np.eye(num_things, dtype=bool)
        things = traits((self.things @ self.things.T)[is_other].reshape(num_things, -1))
        sentences = self.traits_of(self.sentences)
        sentences[:, 1] = np.maximum(sentences[:, 1], np.median(things[:, 1]))
        return np.concatenate((self.traits_of(self.scenes), things, sentences))

    def prepare(self, queries: FloatArray) -> FloatArray:
        """Return queries (N, D) whose products with stored rows (W, D) are corrected for hubs."""
        if not self.has_biases:
            return queries
        unit = np.full((len(queries), 1), -BIAS_UNIT, np.float32)
        return np.concatenate((queries, unit), axis=1)

    def best_scores(
        self, rows: FloatArray, num_seconds: int, passages: FloatArray, owner: int
    ) -> FloatArray:
        """Return what each measured query reaches in the frames and in the narration of a video.

        Args:
            rows: (W, D) of the video's windows, as stored.
            num_seconds: Number of its shortest windows, which come first.
            passages: (P, E) of its narration.
            owner: Key of the video; the sentences spoken in it get -inf.

        Returns:
            (2, Q): scores, and best similarities with passages, -inf where there are none.
        """
        vectors = rows[:num_seconds, : self.scenes.shape[1]]
        similarities = self.queries @ vectors.T
        if self.has_biases:
            num_scenes = len(self.scenes)
            similarities[:num_scenes] -= hub_biases_without(vectors, self.scenes)
            similarities[num_scenes:] -= BIAS_UNIT * rows[:num_seconds, -1]
        said = np.full(len(self.queries), -np.inf, np.float32)
        if len(passages):
            said = (self.queries @ passages.T).max(axis=1)
        scores = np.stack((mean_of_best(similarities), said)).astype(np.float32)
        num_others = scores.shape[1] - len(self.owners)
        scores[:, num_others:][:, self.owners == owner] = -np.inf
        return scores

    def fit(self, scores: Sequence[FloatArray]) -> Self:
        """Return a copy with the levels of the `best_scores` in each video."""
        if not scores:
            return replace(self, frames=NO_LEVELS, narration=NO_LEVELS)
        frames, narration = np.maximum.reduce(scores)  # (2, Q)
        of_frames = self._levels(frames, by_things=True)
        return replace(self, frames=of_frames, narration=self._levels(narration, by_things=False))

    def _levels(self, best: FloatArray, by_things: bool) -> Levels:
        """Return the levels of what the measured queries reach at best (Q,).

        Args:
            best: What they reach.
            by_things: Whether the scale is that of the things, which are many, and are about what
                frames show, not about what is said.
        """
        num_scenes, num_others = len(self.scenes), len(best) - len(self.owners)
        if not np.isfinite(best[:num_others]).all():  # there is no narration
            return NO_LEVELS
        things = slice(num_scenes, num_others)
        slopes = _slopes(self._traits[things], best[things])
        rest = (best - self._traits @ slopes).astype(np.float32)
        kinds = [rest[:num_scenes], rest[num_others:][np.isfinite(rest[num_others:])]]
        # Scenes match nothing in a library, sentences about its subject match many videos. A right
        # match must reach more than whichever of the two reach more.
        levels = [
            median_and_scale(kind, MIN_SCORE_SCALE) for kind in kinds if len(kind) >= MIN_QUERIES
        ]
        median, scale = max(levels, key=sum, default=(0.0, 1.0))
        if by_things and levels:
            _, scale = median_and_scale(rest[things], MIN_SCORE_SCALE)
        return Levels((float(slopes[0]), float(slopes[1])), median, scale)


def hub_biases(vectors: FloatArray, unrelated: FloatArray) -> FloatArray:
    """Return the biases (W,) of windows: half the mean of their largest unrelated similarities.

    Args:
        vectors: (W, E) of the windows.
        unrelated: (Q, E) queries that hardly any video shows.
    """
    similarities = unrelated @ vectors.T  # (Q, W)
    num = min(NUM_NEAREST, len(similarities))
    largest = np.partition(similarities, -num, axis=0)[-num:]
    return np.asarray(BIAS_SHARE * largest.mean(axis=0), dtype=np.float32)


def hub_biases_without(vectors: FloatArray, unrelated: FloatArray) -> FloatArray:
    """Return (Q, W): `hub_biases` of windows for each unrelated query, from all the others."""
    similarities = unrelated @ vectors.T  # (Q, W)
    num = min(NUM_NEAREST, len(similarities) - 1)
    largest = np.partition(similarities, -num - 1, axis=0)[-num - 1 :]
    smallest = largest.min(axis=0)
    # Each leaves out itself if it is among the largest, else the smallest of them.
    rest = largest.sum(axis=0) - np.maximum(similarities, smallest)
    return np.asarray(BIAS_SHARE / num * rest, dtype=np.float32)


def products(queries: FloatArray, vectors: FloatArray) -> FloatArray:
    """Return the products (N, W) of queries (N, E) and vectors (W, E), on the calling thread.

    NumPy's `@` divides even small products among threads, which keep their cores busy for
    hundredths of a second afterwards: in a search, they slow down what follows by a quarter.
    """
    packed = numkong.dots_pack(queries)
    return np.asarray(numkong.dots_packed(vectors, packed), dtype=np.float32).T


def mean_of_best(similarities: RealArray) -> RealArray:
    """Return the mean (...) of the best seconds of a video, from similarities (..., T)."""
    num = min(MAX_SECONDS, math.ceil(BEST_SHARE * similarities.shape[-1]))
    best = np.partition(similarities, -num, axis=-1)[..., -num:]
    return np.asarray(best.sum(axis=-1) / num)  # faster than `mean`


def combine(visual: float, narration: float, vision: float = 1.0, speech: float = 1.0) -> float:
    """Combine the strengths of two kinds of evidence: log of the weighted sum of their powers.

    Strengths are like logarithms of odds: either kind is enough, and weak evidence of one kind
    takes nothing from strong evidence of the other.

    Args:
        visual: Strength of the frames; -inf if there is none.
        narration: Strength of the narration; -inf if there is none.
        vision: Weight of the frames.
        speech: Weight of the narration; the larger of the two weights counts as 1.
    """
    largest = max(vision, speech)
    of_frames, of_narration = (
        strength + math.log(weight / largest) if weight else -math.inf
        for strength, weight in ((visual, vision), (narration, speech))
    )
    return float(np.logaddexp(of_frames, of_narration))


def median_and_scale(values: FloatArray, least: float) -> tuple[float, float]:
    """Return the median of values and their scaled MAD, which is never below `least`."""
    median = float(np.median(values))
    deviation = float(np.median(np.abs(values - median)))
    return median, max(MAD_TO_STANDARD_DEVIATION * deviation, least)


def traits(similarities: RealArray) -> RealArray:
    """Return nearness and spread (N, 2) of queries by their similarities (N, C) with common things.

    Nearness is the mean of the largest similarities. Spread is the standard deviation of all: a
    query about something visible tells things apart, and so tells unrelated frames apart, too.
    """
    num = min(NUM_NEAREST_THINGS, similarities.shape[1])
    nearness = np.partition(similarities, -num, axis=1)[:, -num:].mean(axis=1)
    return np.stack((nearness, similarities.std(axis=1)), axis=1)


def _slopes(x: RealArray, y: RealArray) -> RealArray:
    """Return the slopes (2,) of the least-squares plane of y (N,) over x (N, 2), at least 0."""
    x = x - x.mean(axis=0)
    slopes = np.linalg.lstsq(x, y, rcond=None)[0]
    if slopes.min() < 0:  # then the better one of both alone is the best
        products, squares = np.maximum(x.T @ y, 0.0), np.maximum((x**2).sum(axis=0), 1e-12)
        is_better = np.arange(2) == (products**2 / squares).argmax()
        slopes = np.where(is_better, products / squares, 0.0)
    return np.asarray(slopes)


def _leave_one_out(similarities: FloatArray) -> FloatArray:
    """Z-scores (Q, W) of each unrelated query relative to all the others."""
    others = len(similarities) - 1
    mean = (similarities.sum(axis=0) - similarities) / others
    square = ((similarities**2).sum(axis=0) - similarities**2) / others
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return np.asarray((similarities - mean) / deviation, dtype=np.float32)


VIDEO_THRESHOLDS = Thresholds(1.0, 2.0, 3.5)
"""Of strengths by `Calibration`, in one video."""


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
