"""What a person is handed: moments, timelines, answers, and the report of an update."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from videoclip.zeroshot.confidence import Confidence

__all__ = ["Answer", "LabelledSpan", "Moment", "Timeline", "UpdateReport", "clock"]


def clock(seconds: float) -> str:
    """Write a time as a person would: 1:02:03.4, or 2:03.4 below an hour."""
    tenths = round(max(0.0, seconds) * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


@dataclass(frozen=True)
class Moment:
    """A span of a video that answers a query.

    Attributes:
        path: Absolute path of the video.
        start: Seconds.
        end: Seconds, exclusive.
        best: The second that answers best; where a thumbnail is taken.
        similarity: Of the query with the best window of the moment, as the model measures it.
        strength: That similarity over the library's background, in its spreads.
        confidence: The word for it; one level higher where every word of the query is spoken.
        is_spoken: Whether every word of the query is spoken in the moment.
        words: What is spoken in the moment.
        duration: Seconds of the whole video.
        frame_rate: Of the video; None where unknown.
    """

    path: Path
    start: float
    end: float
    best: float
    similarity: float
    strength: float
    confidence: Confidence
    is_spoken: bool
    words: str
    duration: float
    frame_rate: float | None

    @property
    def video_id(self) -> str:
        """The file's name without its extension."""
        return self.path.stem

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON or CSV."""
        return {"video_id": self.video_id, **asdict(self), "path": str(self.path)}

    def __repr__(self) -> str:
        """One line with what matters."""
        words = f", {_shortened(self.words)!r}" if self.words else ""
        return (
            f"Moment({self.video_id!r}, {clock(self.start)}-{clock(self.end)}, "
            f"best {clock(self.best)}, similarity {self.similarity:.3f}, {self.confidence}{words})"
        )


def _shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


@dataclass(frozen=True)
class LabelledSpan:
    """A span of a video that shows what a label says.

    Attributes:
        label: The text.
        start: Seconds.
        end: Seconds, exclusive.
        similarity: Of the text with the span, mean over its seconds.
        strength: Of its best second over the video's background, in its spreads.
        confidence: The word for it.
    """

    label: str
    start: float
    end: float
    similarity: float
    strength: float
    confidence: Confidence


@dataclass(frozen=True)
class Timeline:
    """What `segment` and `localize` found in a video.

    Attributes:
        path: The video.
        duration: Seconds.
        frame_rate: Of the video.
        labels: All texts asked for, in their order.
        spans: In order of time; the seconds between them are background.
        threshold: Height from which on a second could belong to a label.
    """

    path: Path
    duration: float
    frame_rate: float
    labels: tuple[str, ...]
    spans: tuple[LabelledSpan, ...]
    threshold: float

    @property
    def missing(self) -> tuple[str, ...]:
        """Labels that were found nowhere."""
        found = {span.label for span in self.spans}
        return tuple(label for label in self.labels if label not in found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "missing": self.missing}

    def __repr__(self) -> str:
        """A line for each span, as a person would write a plan."""
        head = f"Timeline({self.path.stem!r}, {clock(self.duration)}, threshold {self.threshold:g})"
        lines = [
            f"  {clock(span.start):>9}-{clock(span.end):<9} {span.confidence:>6}  {span.label}"
            for span in self.spans
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


@dataclass(frozen=True)
class UpdateReport:
    """What an update did, as paths.

    Attributes:
        added: New videos.
        changed: Videos whose content changed; embedded again.
        moved: Known content found at a new path.
        narrated: Videos of which only the subtitles changed.
        unchanged: Number of videos left as they were.
        removed: Videos dropped since their file is gone (`prune`).
        missing: Videos kept although their file is gone.
        failed: Reason for each path that could not be indexed.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    narrated: list[str] = field(default_factory=list)
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say the counts that are not zero."""
        counts = {
            "added": len(self.added),
            "changed": len(self.changed),
            "moved": len(self.moved),
            "with new narration": len(self.narrated),
            "unchanged": self.unchanged,
            "removed": len(self.removed),
            "missing (drop them with --prune)": len(self.missing),
            "failed": len(self.failed),
        }
        said = [f"{count} {what}" for what, count in counts.items() if count]
        return ", ".join(said) or "nothing to do"
