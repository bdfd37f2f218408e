"""How far to trust a hit: similarities measured against the library's own background.

A similarity of 0.3 means nothing by itself: some windows resemble every query. So each window is
first compared with a bank of unrelated queries: scenes that hardly any library holds, and sentences
spoken in other videos of the library, since in a library of one subject every question is about it.
How many of their standard deviations a query stands above their mean is its *height* at that
window. The best height each unrelated query reaches anywhere in this library, by chance or by half
a match, is what a wrong answer looks like here. A hit's *strength* says how far it stands above the
typical one:

    height(q, w) = (similarity(q, w) - mean over bank) / deviation over bank
    strength     = (height - median of the bank's best heights) / their spread

That takes the model, the size of the library, its subject and popular windows into account and
needs no labels, so that a strength is about as rare among wrong answers in a library of three
videos as in one of fifty (`bench/confidence.py`). Three thresholds on it turn into words; they can
be fitted to labelled queries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from videoclip.errors import ConfigError, DataError

__all__ = [
    "NOBODY",
    "UNRELATED_QUERIES",
    "Background",
    "Confidence",
    "Thresholds",
    "fit_thresholds",
    "measure_background",
    "raised",
    "unrelated_to_all",
]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

NOBODY = -1
"""Owner of a query that no video speaks, and of windows without a library."""

Confidence: TypeAlias = Literal["none", "low", "medium", "high"]
"""`none`: no better than an unrelated query does here."""

FEWEST = 4
"""Unrelated queries of a kind from which on their median says something."""

LEVELS: tuple[Confidence, ...] = get_args(Confidence)

UNRELATED_QUERIES = (
    "a walrus typing on a typewriter",
    "astronauts playing chess on a glacier",
    "a medieval knight refuelling a helicopter",
    "penguins crossing a desert highway",
    "a violin floating in a swimming pool",
    "a beekeeper riding a roller coaster",
    "the parliament votes inside a submarine",
    "a camel wearing ice skates",
    "welding a bridge out of bread",
    "a surgeon operating on a grandfather clock",
    "elephants queueing at an airport gate",
    "a lighthouse in the middle of a cornfield",
    "a judge reading the verdict to a parrot",
    "knitting a scarf on a space station",
    "a tram driving over the sea bed",
    "a blacksmith forging a wedding cake",
    "an owl conducting an orchestra",
    "harvesting grapes on the moon",
    "a diver painting a portrait under water",
    "a snowman at a tropical carnival",
    "an archaeologist digging up a washing machine",
    "a giraffe in a telephone booth",
    "firefighters watering a cactus garden",
    "a hot air balloon landing in a library",
    "a kangaroo sorting letters at the post office",
    "a locomotive parked in a bedroom",
    "monks testing a racing car",
    "an octopus opening a bank account",
    "a chemistry lesson on a ski lift",
    "repairing a satellite with a wooden spoon",
    "a pirate ship stuck in a traffic jam",
    "a dentist examining a crocodile",
    "sheep grazing on the roof of a skyscraper",
    "a magician sawing a piano in half",
    "a weather forecast for the planet Mars",
    "a goldfish driving a tractor",
    "shearing a lion in a hair salon",
    "a stone age family watching television",
    "an auction of volcanic rocks at midnight",
    "a ballet dancer changing a truck tyre",
    "a windmill on top of an iceberg",
    "vikings assembling flat-pack furniture",
    "a polar bear sunbathing on a trampoline",
    "a clown filling in a tax form",
    "a telescope buried in a sand castle",
    "a flamingo delivering newspapers",
    "a cathedral made of playing cards",
    "a sumo wrestler repairing a watch",
)
"""Scenes with something to see that no library is likely to hold, on as many subjects as possible;
two unlike things each, so that half a match counts as background too."""


@dataclass(frozen=True)
class Thresholds:
    """Least strengths of the levels.

    By default those that about one in four, one in ten and one in fifty wrong answers reach, with
    the starter model on libraries of 3 to 45 real clips.

    Attributes:
        low: Below it nothing matches: one in four unrelated queries finds as much.
        medium: One in ten does.
        high: One in fifty does.
    """

    low: float = 1.0
    medium: float = 2.0
    high: float = 3.5

    def __post_init__(self) -> None:
        if not self.low <= self.medium <= self.high:
            raise ConfigError(f"thresholds must rise from low to high, got {self}")

    def level(self, strength: float) -> Confidence:
        """The word for a strength."""
        bounds = (self.low, self.medium, self.high)
        return LEVELS[sum(strength >= bound for bound in bounds)]


def raised(confidence: Confidence) -> Confidence:
    """One level up: what hearing every word of the query adds to seeing it."""
    return LEVELS[min(LEVELS.index(confidence) + 1, len(LEVELS) - 1)]


@dataclass(frozen=True)
class Background:
    """What unrelated queries look like in one library.

    Attributes:
        queries: (Q, E) embeddings of the unrelated queries.
        owners: (Q,) key of the video in which each is spoken, or `NOBODY`; it is related to that
            video, and left out there.
        median: Of the best heights they reach; of scenes or of sentences, whichever reach further.
        spread: Their deviation, estimated robustly, since some may match after all.
    """

    queries: FloatArray
    owners: IntArray
    median: float = 0.0
    spread: float = 1.0

    def heights(
        self, vectors: FloatArray, similarities: FloatArray, owners: int | IntArray = NOBODY
    ) -> FloatArray:
        """How far hits stand above what unrelated queries reach at the same windows.

        Args:
            vectors: (W, E) the windows hit.
            similarities: (W,) of the query with each.
            owners: Key of the video whose windows they are, or of each one's (W,).

        Returns:
            (W,) in deviations over the unrelated queries.
        """
        bank = self.queries @ vectors.T  # (Q, W)
        counts = self.is_unrelated(np.broadcast_to(owners, len(vectors)))
        mean = bank.mean(axis=0, where=counts)
        deviation = np.maximum(bank.std(axis=0, where=counts), 1e-6)
        return np.asarray((similarities - mean) / deviation)

    def is_unrelated(self, owners: IntArray) -> npt.NDArray[np.bool_]:
        """Which queries are not spoken in videos: (Q, W)."""
        spoken_in = self.owners[:, None]
        return np.asarray((spoken_in == NOBODY) | (spoken_in != owners))

    def strength(self, height: float) -> float:
        """How far a height stands above the best of unrelated queries in this library."""
        return (height - self.median) / self.spread


def unrelated_to_all(queries: FloatArray) -> Background:
    """A background, yet to be measured, of queries (Q, E) that no video speaks."""
    return Background(queries, np.full(len(queries), NOBODY, dtype=np.int64))


def measure_background(
    background: Background, chunks: Iterable[tuple[int, FloatArray]]
) -> Background:
    """Measure what the unrelated queries reach in a library.

    Args:
        background: Its queries; they are measured anew.
        chunks: The library's vectors, (n, E) at a time, so that memory stays bounded, each with the
            key of the video they are of.
    """
    best = np.full(len(background.queries), -np.inf, dtype=np.float32)
    for owner, vectors in chunks:
        chosen = background.is_unrelated(np.array([owner]))[:, 0]
        heights = _heights_among_others(background.queries[chosen] @ vectors.T).max(axis=1)
        best[chosen] = np.maximum(best[chosen], heights)
    spoken, is_finite = background.owners != NOBODY, np.isfinite(best)
    kinds = [best[is_finite & ~spoken], best[is_finite & spoken]]
    # Chatter finds nothing in any video, and talk about the videos' own subject much: whichever
    # kind reaches further is what a wrong answer has to be told from.
    levels = [_level(heights) for heights in kinds if len(heights) >= FEWEST]
    median, spread = max(levels, key=sum, default=(0.0, 1.0))
    return replace(background, median=median, spread=spread)


def _level(best: FloatArray) -> tuple[float, float]:
    """Median and spread of best heights."""
    median = float(np.median(best))
    # 1.4826 makes the median deviation that of a normal distribution; a quarter of a bank
    # deviation at least, for in a tiny library all unrelated queries can end up equally far.
    return median, max(1.4826 * float(np.median(np.abs(best - median))), 0.25)


def _heights_among_others(similarities: FloatArray) -> FloatArray:
    """Heights (Q, n) of each unrelated query over the others: a query is not in its own bank."""
    others = len(similarities) - 1
    mean = (similarities.sum(axis=0) - similarities) / others
    square = ((similarities**2).sum(axis=0) - similarities**2) / others
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return np.asarray((similarities - mean) / deviation, dtype=np.float32)


def fit_thresholds(
    strengths: npt.ArrayLike, right: npt.ArrayLike, medium: float = 0.6, high: float = 0.9
) -> Thresholds:
    """Fit thresholds to labelled answers.

    `low` is where right and wrong answers are best told apart (the sum of the shares on the right
    side is largest); `medium` and `high` are the least strengths from which on the wanted share of
    answers is right.

    Args:
        strengths: (N,) of the best moment found for each query.
        right: (N,) whether it was right; wrong ones, of queries that nothing matches, included.
        medium: Wanted share of right answers at or above `medium`.
        high: Likewise for `high`.

    Raises:
        DataError: If right or wrong answers are missing altogether.
    """
    order = np.argsort(-np.asarray(strengths, dtype=np.float64), kind="stable")
    ranked = np.asarray(strengths, dtype=np.float64)[order]
    correct = np.asarray(right, dtype=bool)[order]
    if correct.all() or not correct.any():
        raise DataError("thresholds need right and wrong answers, this has only one kind")
    ends = np.append(ranked[1:] < ranked[:-1], True)  # between equal strengths there is no cut
    hits, alarms = np.cumsum(correct), np.cumsum(~correct)
    balance = np.where(ends, hits / hits[-1] - alarms / alarms[-1], -np.inf)
    low = float(ranked[int(np.argmax(balance))])

    def least(wanted: float) -> float:
        good = np.flatnonzero(ends & (hits / (hits + alarms) >= wanted))
        return float(ranked[good[-1]]) if len(good) else float(np.nextafter(ranked[0], np.inf))

    reached = max(low, least(medium))
    return Thresholds(low, reached, max(reached, least(high)))
