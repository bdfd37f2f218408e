"""The neutral examples that all readers return, and the benchmarks that they make up.

Times are seconds, spans half open; a `video_id` is the key of the video's features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar


class OfVideo(Protocol):
    """Any example of a video."""

    @property
    def video_id(self) -> str:
        """Key of the video's features."""


ExampleT = TypeVar("ExampleT", bound=OfVideo)


@dataclass(frozen=True)
class RetrievalExample:
    """A text and the clip it describes: the seconds [start, end) of a video, or all if None."""

    video_id: str
    text: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class MultipleChoiceExample:
    """A video, an optional question, and several texts, of which `choices[answer]` is correct.

    `example_id` is unique in its file, `question` is empty where the choices are captions, and
    `kind` is the benchmark's category of the question, or empty.
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

    `moments` are (start, end): all that the text describes, or one per annotator (DiDeMo); empty
    where they are not published. `example_id` is unique in its file; `duration` may be unknown.
    `saliency` has a row of marks from 0 to 4, one per rater, for each two seconds of the video, and
    is empty where nobody marked highlights.
    """

    example_id: str
    video_id: str
    text: str
    moments: tuple[tuple[float, float], ...]
    duration: float | None = None
    saliency: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Segment:
    """A labelled span of a video.

    `label` is the index of a step of the task (from 0), or a label id (from 1; 0 is background).
    """

    start: float
    end: float
    label: int


@dataclass(frozen=True)
class Task:
    """A task, such as "Make Pancakes", and the texts of its steps, in order."""

    task_id: str
    title: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class StepVideo:
    """A video of a known task, and the spans of its steps: `label` indexes `task.steps`.

    One video may show several tasks: (task_id, video_id) is the key.
    """

    video_id: str
    task: Task
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class PlacedText:
    """A text of a video and the spans in which it is shown, none if it is not.

    `time` is when it is spoken, if it is narration whose time is known; `step` is its number among
    the steps of all articles, if it is one.
    """

    text: str
    spans: tuple[tuple[float, float], ...] = ()
    time: tuple[float, float] | None = None
    step: int | None = None


@dataclass(frozen=True)
class AlignmentVideo:
    """A video and its texts, in their order: narrated sentences, or the steps of an article."""

    video_id: str
    texts: tuple[PlacedText, ...]
    article: str = ""


@dataclass(frozen=True)
class LabelledVideo:
    """A video whose every second has one of a benchmark's labels, or is background.

    `label` of a segment is an id from 1; where segments overlap, later ones overwrite.
    """

    video_id: str
    duration: float
    segments: tuple[Segment, ...]
    task: str = ""


@dataclass(frozen=True)
class LabelledSplit:
    """Videos of one split, and the texts of all labels: of label id i at index i - 1.

    Texts may repeat.
    """

    labels: tuple[str, ...]
    videos: tuple[LabelledVideo, ...]

    def __len__(self) -> int:
        return len(self.videos)


@dataclass(frozen=True)
class Baseline:
    """The numbers of a benchmark without the evaluated model: chance, a trivial answer, a paper's.

    Attributes:
        name: For instance "random".
        values: By the name of the measure; unknown ones are absent.
        note: Source of the numbers, or a remark.
    """

    name: str
    values: Mapping[str, float]
    note: str = ""


FINE_TUNED = "VideoCLIP fine-tuned"
"""Name of the row that fine-tuning compares with."""


def paper(
    training: Literal["zero-shot", "fine-tuned"], values: Mapping[str, float], note: str = ""
) -> Baseline:
    """Return numbers of the VideoCLIP paper; `note` follows its address.

    Its features may differ from yours, and its numbers cannot be reproduced: no fine-tuned weights
    were released.
    """
    return Baseline(f"VideoCLIP {training}", values, f"arXiv 2109.14084{note}")


def text_to_video(*percentages: float) -> dict[str, float]:
    """Return the measures of a published R@1, R@5 and R@10."""
    recalls = zip((1, 5, 10), percentages, strict=True)
    return {f"text-to-video R@{k}": percentage / 100 for k, percentage in recalls}


@dataclass(frozen=True)
class Benchmark:
    """How the annotation files of a benchmark are read and how a model is scored on them.

    Attributes:
        protocol: How it is scored. What `read` must return for each:
            "retrieval": list of `RetrievalExample`;
            "search": the same; examples with one text are one query with several right clips;
            "paragraphs": the same; the texts of a video are the sentences of its paragraph;
            "multiple_choice": list of `MultipleChoiceExample`;
            "moments": list of `MomentExample`, whose moments may be any spans;
            "chunks": two such lists, test and validation (or None), as DiDeMo has them;
            "labels": two `LabelledSplit`, test and training, as COIN has them;
            "steps": a `CrossTask`;
            "alignment": list of `AlignmentVideo`.
        read: Returns the examples in a folder or file of annotations.
        published: Numbers to print beside those of a model.
    """

    protocol: Literal[
        "retrieval",
        "search",
        "paragraphs",
        "multiple_choice",
        "moments",
        "chunks",
        "labels",
        "steps",
        "alignment",
    ]
    read: Callable[[Path], Any]
    published: tuple[Baseline, ...] = ()
