"""Fit the thresholds of a library's confidence levels to labelled queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from videoclip.benchmarks.files import read_rows
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.confidence import Thresholds, fit_thresholds

if TYPE_CHECKING:
    from videoclip.library.library import VideoLibrary
    from videoclip.zeroshot.moments import Moment


@dataclass(frozen=True)
class LabelledQuery:
    """A query with its correct answer.

    Attributes:
        query: The words.
        video: Name of the correct video, with or without folders and extension; "" if nothing in
            the library matches.
        start: Seconds at which the correct span of the video starts.
        end: Seconds at which it ends.
    """

    query: str
    video: str
    start: float = 0.0
    end: float = float("inf")

    def accepts(self, moment: Moment) -> bool:
        """Whether a moment is correct: in that video, and overlapping that span."""
        path, name = PurePath(moment.path), PurePath(self.video)
        is_video = bool(self.video) and (
            path.parts[-len(name.parts) :] == name.parts or path.stem == self.video
        )
        return is_video and moment.start < self.end and moment.end > self.start


@dataclass(frozen=True)
class FitReport:
    """Fitted thresholds and their errors on the labelled queries.

    Attributes:
        thresholds: The fitted thresholds.
        num_correct: Queries whose first moment is correct.
        num_incorrect: The other queries with a moment.
        miss_rate: Share of correct moments whose confidence is now "none".
        false_alarm_rate: Share of incorrect moments whose confidence is not "none".
    """

    thresholds: Thresholds
    num_correct: int
    num_incorrect: int
    miss_rate: float
    false_alarm_rate: float

    def __str__(self) -> str:
        return (
            f"thresholds: high from {self.thresholds.high:.2f}, medium from "
            f"{self.thresholds.medium:.2f}, low from {self.thresholds.low:.2f}\n"
            f"{self.num_correct} correct answers ({self.miss_rate:.0%} missed), "
            f"{self.num_incorrect} incorrect answers ({self.false_alarm_rate:.0%} false alarms)"
        )


def read_labels(path: Path | str) -> list[LabelledQuery]:
    """Read a CSV with columns `query` and `video` (empty: nothing matches), and `start`, `end`.

    Raises:
        DataError: If it cannot be read (path, line).
    """
    return [
        LabelledQuery(
            record.text("query"),
            record.values["video"].strip(),
            **{name: record.number(name) for name in ("start", "end") if record.values.get(name)},
        )
        for record in read_rows(Path(path), ["query", "video"])
    ]


def fit_library(library: VideoLibrary, labels: Iterable[LabelledQuery]) -> FitReport:
    """Fit a library's thresholds to labelled queries, and store them in the library.

    Raises:
        DataError: If all first moments are correct, or none is.
    """
    labels = list(labels)
    options = SearchOptions(top_k=1, speech=0.0)  # narration raises the level by itself
    answers = library.search_many([label.query for label in labels], options)
    first = [(moments[0], label) for moments, label in zip(answers, labels, strict=True) if moments]
    strengths = np.array([moment.strength for moment, _ in first])
    correct = np.array([label.accepts(moment) for moment, label in first], dtype=bool)
    library.thresholds = thresholds = fit_thresholds(strengths, correct)
    return FitReport(
        thresholds=thresholds,
        num_correct=int(correct.sum()),
        num_incorrect=int((~correct).sum()),
        miss_rate=float((strengths[correct] < thresholds.low).mean()),
        false_alarm_rate=float((strengths[~correct] >= thresholds.low).mean()),
    )
