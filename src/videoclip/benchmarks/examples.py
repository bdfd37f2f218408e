"""The neutral examples that all readers return, and the benchmarks that they make up.

Times are seconds, spans half open; a `video_id` is the key of the video's features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class RetrievalExample:
    """A text and the clip it describes.

    Attributes:
        video_id: Video of the clip.
        text: A sentence, or a paragraph about the whole video.
        start: Start of the clip, or None for the whole video.
        end: End of the clip, or None for the whole video.
    """

    video_id: str
    text: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class MultipleChoiceExample:
    """A video, an optional question, and several texts of which one is correct.

    Attributes:
        example_id: Unique in its file.
        video_id: The video.
        choices: Texts to choose from.
        answer: Index of the correct one.
        question: Empty where the choices are captions.
        kind: The benchmark's category of the question, or empty.
    """

    example_id: str
    video_id: str
    choices: tuple[str, ...]
    answer: int
    question: str = ""
    kind: str = ""


@dataclass(frozen=True)
class MomentExample:
    """A text and the spans of one video that it describes.

    Attributes:
        example_id: Unique in its file.
        video_id: The video.
        text: The sentence.
        moments: Spans (start, end): all that the text describes, or one per annotator (DiDeMo).
            Empty where they are not published.
        duration: Length of the video, or None where the file has none.
    """

    example_id: str
    video_id: str
    text: str
    moments: tuple[tuple[float, float], ...]
    duration: float | None = None


@dataclass(frozen=True)
class Segment:
    """A labelled span of a video.

    Attributes:
        start: Seconds.
        end: Seconds.
        label: Index of a step of the task (from 0), or a label id (from 1; 0 is background).
    """

    start: float
    end: float
    label: int


@dataclass(frozen=True)
class Task:
    """A task and its steps, in order.

    Attributes:
        task_id: The benchmark's id.
        title: For instance "Make Pancakes".
        steps: Texts of the steps.
    """

    task_id: str
    title: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class StepVideo:
    """A video of a known task, and the spans of its steps.

    One video may show several tasks: (task_id, video_id) is the key.

    Attributes:
        video_id: The video.
        task: The task.
        segments: In the order of the file; `label` indexes `task.steps`.
    """

    video_id: str
    task: Task
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class LabelledVideo:
    """A video whose every second has one of a benchmark's labels, or is background.

    Attributes:
        video_id: The video.
        duration: Its length.
        segments: In the order of the file, where later ones overwrite; `label` is an id from 1.
        task: The benchmark's name of the task.
    """

    video_id: str
    duration: float
    segments: tuple[Segment, ...]
    task: str = ""


@dataclass(frozen=True)
class LabelledSplit:
    """Videos of one split, and the texts of all labels.

    Attributes:
        labels: Text of label id i at index i - 1; texts may repeat.
        videos: In the order of the file.
    """

    labels: tuple[str, ...]
    videos: tuple[LabelledVideo, ...]


@dataclass(frozen=True)
class Benchmark:
    """How the annotation files of a benchmark are read and how a model is scored on them.

    Attributes:
        summary: The question it asks, in a line.
        files: The files its folder must have.
        protocol: How it is scored. What `read` must return for each:
            "retrieval": list of `RetrievalExample`;
            "multiple_choice": list of `MultipleChoiceExample`;
            "moments": list of `MomentExample`, whose moments may be any spans;
            "chunks": two such lists, test and validation (or None), as DiDeMo has them;
            "labels": two `LabelledSplit`, test and training, as COIN has them;
            "steps": a `CrossTask`.
        read: Returns the examples in a folder or file of annotations.
    """

    summary: str
    files: str
    protocol: Literal["retrieval", "multiple_choice", "moments", "chunks", "labels", "steps"]
    read: Callable[[Path], Any]
