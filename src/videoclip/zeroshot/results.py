"""Results: moments, timelines and answers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from videoclip.zeroshot.confidence import Confidence

__all__ = ["Answer", "Moment", "Timeline", "clock"]

SPAN_KEYS = ("label", "start", "end", "best", "similarity", "strength", "confidence")
"""What the JSON of a timeline holds of each moment; the rest is the same for all of them."""


def clock(seconds: float) -> str:
    """Write a time as a person would: 1:02:03.4, or 2:03.4 below an hour."""
    tenths = round(max(0.0, seconds) * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


@dataclass(frozen=True)
class Moment:
    """A span found in a video: by a query, for a label, or as a step of a task.

    Attributes:
        path: The video; what a library returns is absolute.
        start: Seconds.
        end: Seconds, exclusive.
        label: Text it was found for: query, label or step; may be empty.
        best: The best matching second, where a thumbnail is taken; by default the middle.
        similarity: Of the text: with the best window (search), or mean over the span's features
            (timelines); 0 where unknown.
        strength: Score relative to unrelated queries, as in `confidence`; 0 where unknown.
        confidence: Level of that strength, raised by one if every word of the query is spoken in
            the moment; empty where unknown.
        is_spoken: Whether every word of the query is spoken in the moment.
        words: Narration of the moment.
        duration: Seconds of the whole video; None where unknown.
        frame_rate: Frames per second of the video; None where unknown.
    """

    path: Path
    start: float
    end: float
    label: str = ""
    best: float = math.nan
    similarity: float = 0.0
    strength: float = 0.0
    confidence: Confidence | Literal[""] = ""
    is_spoken: bool = False
    words: str = ""
    duration: float | None = None
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.best):
            object.__setattr__(self, "best", 0.5 * (self.start + self.end))

    @property
    def video_id(self) -> str:
        """The file's name without its extension."""
        return self.path.stem

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON or CSV."""
        return {"video_id": self.video_id, **asdict(self), "path": str(self.path)}

    def __repr__(self) -> str:
        """One line: video, times, similarity, confidence, narration."""
        words = f", {_shortened(self.words)!r}" if self.words else ""
        return (
            f"Moment({self.video_id!r}, {clock(self.start)}-{clock(self.end)}, "
            f"best {clock(self.best)}, similarity {self.similarity:.3f}, {self.confidence}{words})"
        )


def _shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


@dataclass(frozen=True)
class Timeline:
    """Moments that `segment` or `localize` found in a video.

    Attributes:
        path: The video.
        duration: Seconds.
        frame_rate: Of the video.
        labels: All texts asked for, in their order.
        moments: In order of time; the seconds between them have no label.
        threshold: Least z-score with which a second can get a label.
    """

    path: Path
    duration: float
    frame_rate: float
    labels: tuple[str, ...]
    moments: tuple[Moment, ...]
    threshold: float

    @property
    def missing(self) -> tuple[str, ...]:
        """Labels that were found nowhere."""
        found = {moment.label for moment in self.moments}
        return tuple(label for label in self.labels if label not in found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `spans` holds what differs between the moments."""
        rows = [moment.as_dict() for moment in self.moments]
        return {
            "path": str(self.path),
            "duration": self.duration,
            "frame_rate": self.frame_rate,
            "labels": self.labels,
            "spans": [{key: row[key] for key in SPAN_KEYS} for row in rows],
            "threshold": self.threshold,
            "missing": self.missing,
        }

    def __repr__(self) -> str:
        """One line per moment: times, confidence, label."""
        head = f"Timeline({self.path.stem!r}, {clock(self.duration)}, threshold {self.threshold:g})"
        lines = [
            f"  {clock(m.start):>9}-{clock(m.end):<9} {m.confidence:>6}  {m.label}"
            for m in self.moments
        ]
        if self.missing:
            lines.append(f"  not found: {', '.join(self.missing)}")
        return "\n".join([head, *lines])


@dataclass(frozen=True)
class Answer:
    """What `answer` chose.

    Attributes:
        path: The video.
        question: As asked.
        choices: As given.
        chosen: Position of the chosen one.
        similarities: Of each choice with the part of the video that suits it best.
        probabilities: Their softmax at the model's temperature; add up to 1.
        best: The second that suits the chosen answer best.
    """

    path: Path
    question: str
    choices: tuple[str, ...]
    chosen: int
    similarities: tuple[float, ...]
    probabilities: tuple[float, ...]
    best: float

    @property
    def text(self) -> str:
        """The chosen answer."""
        return self.choices[self.chosen]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "text": self.text}

    def __repr__(self) -> str:
        """The answer and how sure it is."""
        sure = self.probabilities[self.chosen]
        return f"Answer({self.text!r}, {sure:.0%} of {len(self.choices)}, at {clock(self.best)})"
