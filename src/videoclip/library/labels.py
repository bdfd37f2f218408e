"""Fit the thresholds of a library's confidence levels to labelled queries."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from videoclip.benchmarks.files import read_rows
from videoclip.errors import DataError
from videoclip.files import report_disk_errors, write_text
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.confidence import Thresholds, fit_thresholds

if TYPE_CHECKING:
    from videoclip.library.library import VideoLibrary
    from videoclip.zeroshot.moments import Moment

NUM_JUDGED = 10
"""Best moments of a query among which one that is labelled wrong is looked for."""


@dataclass(frozen=True)
class LabelledQuery:
    """A query with its correct answer.

    Attributes:
        query: The words.
        video: Name of the correct video, with or without folders and extension; "" if nothing in
            the library matches.
        start: Seconds at which the correct span of the video starts.
        end: Seconds at which it ends.
        is_wrong: Whether the span is an incorrect answer instead of the correct one.
    """

    query: str
    video: str
    start: float = 0.0
    end: float = float("inf")
    is_wrong: bool = False

    def accepts(self, moment: Moment) -> bool:
        """Whether a moment is in that video and overlaps that span."""
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
        num_incorrect: The other queries with a moment, and moments that are labelled wrong.
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
            f"{self.thresholds}\n"
            f"correct answers: {self.num_correct} ({self.miss_rate:.0%} missed), "
            f"incorrect: {self.num_incorrect} ({self.false_alarm_rate:.0%} false alarms)"
        )


def read_labels(path: Path | str) -> list[LabelledQuery]:
    """Read a CSV with columns `query` and `video` (empty: nothing matches).

    Optional columns: `start` and `end` in seconds, and `wrong`, which is "yes" where the span is an
    incorrect answer.

    Raises:
        DataError: If it cannot be read (path, line).
    """
    return [
        LabelledQuery(
            record.text("query"),
            record.values["video"].strip(),
            **{name: record.number(name) for name in ("start", "end") if record.values.get(name)},
            is_wrong=(record.values.get("wrong") or "").strip().casefold() == "yes",
        )
        for record in read_rows(Path(path), ["query", "video"])
    ]


def add_label(path: Path, label: LabelledQuery) -> list[LabelledQuery]:
    """Add a label to a CSV that `read_labels` reads, and return all its labels.

    It replaces the labels of the same query whose span it overlaps in the same video.

    Raises:
        DataError: If the file cannot be read or written.
    """
    with report_disk_errors(path), ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(path.with_suffix(".lock")))
        known = read_labels(path) if path.exists() else []

        def is_replaced(old: LabelledQuery) -> bool:
            is_same = (old.query, old.video) == (label.query, label.video)
            return is_same and old.start < label.end and label.start < old.end

        labels = [*(old for old in known if not is_replaced(old)), label]
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["query", "video", "start", "end", "wrong"])
        for one in labels:
            end = "" if one.end == float("inf") else one.end
            mark = "yes" if one.is_wrong else ""
            writer.writerow([one.query, one.video, one.start, end, mark])
        write_text(path, table.getvalue())
    return labels


def fit_library(library: VideoLibrary, labels: Iterable[LabelledQuery]) -> FitReport:
    """Fit a library's thresholds to labelled queries, and store them in the library.

    `VideoLibrary.reset_thresholds` undoes it.

    Raises:
        DataError: If there are no labels, or all first moments are correct, or none is.
    """
    labels = list(labels)
    if not labels:
        raise DataError("there are no labelled queries to fit thresholds to: label some")
    options = SearchOptions(top_k=NUM_JUDGED, speech=0.0)  # narration raises the level by itself
    answers = library.search_many([label.query for label in labels], options)
    judged = [
        (moment, label)
        for moments, label in zip(answers, labels, strict=True)
        for moment in _judged(moments, label)
    ]
    strengths = np.array([moment.strength for moment, _ in judged])
    correct = np.array([label.accepts(m) and not label.is_wrong for m, label in judged], dtype=bool)
    library.thresholds = thresholds = fit_thresholds(strengths, correct)
    return FitReport(
        thresholds=thresholds,
        num_correct=int(correct.sum()),
        num_incorrect=int((~correct).sum()),
        miss_rate=float((strengths[correct] < thresholds.low).mean()),
        false_alarm_rate=float((strengths[~correct] >= thresholds.low).mean()),
    )


def _judged(moments: Sequence[Moment], label: LabelledQuery) -> Sequence[Moment]:
    """Return the moment that a label is about: the first, or the wrong one if it was found."""
    if label.is_wrong:
        return [moment for moment in moments if label.accepts(moment)][:1]
    return moments[:1]
