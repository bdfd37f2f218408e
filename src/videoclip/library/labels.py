"""Labelled queries, which thresholds of confidence are fitted to."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from videoclip.data.subtitles import read_text
from videoclip.errors import DataError
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.confidence import Thresholds, fit_thresholds

if TYPE_CHECKING:
    from videoclip.library.library import VideoLibrary
    from videoclip.zeroshot.moments import Moment

__all__ = ["FitReport", "LabelledQuery", "fit_library", "read_labels"]


@dataclass(frozen=True)
class LabelledQuery:
    """A query whose answer is known.

    Attributes:
        query: The words.
        video: Name of the right video, with or without folders and extension; "" where nothing in
            the library matches.
        start: Seconds from which the video is right.
        end: Seconds up to which it is.
    """

    query: str
    video: str
    start: float = 0.0
    end: float = float("inf")

    def accepts(self, moment: Moment) -> bool:
        """Whether a moment is a right answer: in that video, and not beside that span."""
        path, name = PurePath(moment.path), PurePath(self.video)
        is_video = bool(self.video) and (
            path.parts[-len(name.parts) :] == name.parts or path.stem == self.video
        )
        return is_video and moment.start < self.end and moment.end > self.start


@dataclass(frozen=True)
class FitReport:
    """What fitting found.

    Attributes:
        thresholds: The fitted ones.
        num_right: Queries whose first moment is right.
        num_wrong: The others.
        miss_rate: Share of right answers that now say "none".
        false_alarm_rate: Share of wrong answers that do not.
    """

    thresholds: Thresholds
    num_right: int
    num_wrong: int
    miss_rate: float
    false_alarm_rate: float

    def __str__(self) -> str:
        return (
            f"thresholds: high from {self.thresholds.high:.2f}, medium from "
            f"{self.thresholds.medium:.2f}, low from {self.thresholds.low:.2f}\n"
            f"{self.num_right} correct answers ({self.miss_rate:.0%} missed), "
            f"{self.num_wrong} incorrect answers ({self.false_alarm_rate:.0%} false alarms)"
        )


def read_labels(path: Path | str) -> list[LabelledQuery]:
    """Read a CSV with columns `query` and `video` (empty: nothing matches), and `start`, `end`.

    Raises:
        DataError: If it cannot be read (path, line).
    """
    text = read_text(Path(path))
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {"query", "video"} <= set(reader.fieldnames or ()):
        raise DataError("needs the columns query and video, and may have start and end", path, 1)
    labels = []
    for row in reader:
        try:
            start, end = float(row.get("start") or 0.0), float(row.get("end") or "inf")
        except ValueError as error:
            raise DataError("start and end are seconds", path, reader.line_num) from error
        if not (query := (row["query"] or "").strip()):
            raise DataError("there is no query", path, reader.line_num)
        labels.append(LabelledQuery(query, (row["video"] or "").strip(), start, end))
    return labels


def fit_library(library: VideoLibrary, labels: Iterable[LabelledQuery]) -> FitReport:
    """Fit a library's thresholds to labelled queries and record them in it.

    Raises:
        DataError: If all answers are right, or all are wrong.
    """
    labels = list(labels)
    options = SearchOptions(top_k=1, speech=0.0)  # hearing raises the level by itself
    answers = library.search_many([label.query for label in labels], options)
    judged = [
        (moments[0].strength, label.accepts(moments[0]))
        for label, moments in zip(labels, answers, strict=True)
        if moments
    ]
    thresholds = fit_thresholds([s for s, _ in judged], [right for _, right in judged])
    library.thresholds = thresholds
    right = [strength for strength, is_right in judged if is_right]
    wrong = [strength for strength, is_right in judged if not is_right]
    return FitReport(
        thresholds=thresholds,
        num_right=len(right),
        num_wrong=len(wrong),
        miss_rate=sum(strength < thresholds.low for strength in right) / len(right),
        false_alarm_rate=sum(strength >= thresholds.low for strength in wrong) / len(wrong),
    )
