"""Results about one video: timelines and answers."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videoclip.zeroshot.moments import Moment, clock

SPAN_KEYS = ("label", "start", "end", "best", "similarity", "strength", "confidence")
"""What the JSON of a timeline holds of each moment; the rest is the same for all of them."""


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
        """Labels without a moment."""
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
    """The answer that `answer` chose.

    Attributes:
        path: The video.
        question: The question; may be empty.
        choices: The choices, in their order.
        chosen: Index of the chosen one.
        similarities: Of each choice with its most similar clip of the video.
        probabilities: Their softmax at the model's temperature; add up to 1.
        best: Second that is most similar to the chosen answer.
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
        """One line: answer, probability, best second."""
        sure = self.probabilities[self.chosen]
        return f"Answer({self.text!r}, {sure:.0%} of {len(self.choices)}, at {clock(self.best)})"
