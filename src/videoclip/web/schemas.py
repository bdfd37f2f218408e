"""What the API takes and returns, checked by pydantic and described in its OpenAPI document."""

from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from videoclip.output.playback import Playback
from videoclip.zeroshot.confidence import Confidence

ItemT = TypeVar("ItemT")
VideoKey = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{24}$"),
    Field(examples=["8f3a09c1d2e4b5a697887766"]),
]
"""Opaque id of a video."""
Text = Annotated[
    str, StringConstraints(min_length=1, max_length=300, strip_whitespace=True, pattern=r"\w")
]
"""A label, step, question or answer."""
Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Cursor = Annotated[str, StringConstraints(max_length=40)]
Filter = Annotated[str, StringConstraints(max_length=2000)]
Limit = Annotated[int, Field(ge=1, le=100)]


class Strict(BaseModel):
    """A request, in which unknown names are errors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SearchQuery(Strict):
    """A search by words, by a span of an indexed video, or by a picture sent before."""

    q: Annotated[str, StringConstraints(max_length=1000)] = Field(
        "", examples=["chop the onion"], description='Words; "A, then B" is an ordered query'
    )
    like: VideoKey | Literal[""] = Field("", description="A video, whose span is the query")
    picture: VideoKey | Literal[""] = Field("", description="A picture that was sent before")
    start: Seconds = 0.0
    end: Seconds = 0.0
    strictness: Confidence = Field("none", description="Least confidence of a moment")
    where: Filter = Field("", examples=["duration > 60"])
    vision: Weight = 1.0
    speech: Weight = 1.0
    limit: Limit = 20
    cursor: Cursor = ""


class Page(BaseModel, Generic[ItemT]):
    """Part of a list; `next` is the cursor of the rest."""

    items: list[ItemT]
    next: str | None = None


class Picture(BaseModel):
    """A picture to search by."""

    id: VideoKey


class Video(BaseModel):
    """An indexed video."""

    id: VideoKey
    name: str
    duration: float
    width: int | None
    height: int | None
    frame_rate: float | None
    has_narration: bool
    added: str


class VideoDetails(Video):
    """An indexed video with the user's metadata, and how a browser plays it."""

    metadata: dict[str, str | float | None]
    playback: Playback | Literal["missing"]


class Span(Strict):
    """A labelled span of a video."""

    label: Annotated[str, StringConstraints(max_length=300)] = ""
    start: Seconds
    end: Seconds

    @model_validator(mode="after")
    def _is_span(self) -> "Span":
        if self.start >= self.end:
            raise ValueError("a span ends after its start")
        return self


SpanList: TypeAlias = Annotated[list[Span], Field(max_length=1000)]
"""The spans that are saved for a video."""


class Spans(Strict):
    """The spans that a form saves."""

    spans: SpanList


class Part(BaseModel):
    """A moment of an ordered query ("A, then B")."""

    label: str
    start: float
    end: float
    confidence: Confidence | Literal[""]


class FoundMoment(BaseModel):
    """A found moment. Strengths are relative to what unrelated queries reach."""

    video: VideoKey
    name: str
    start: float
    end: float
    best: float
    label: str
    similarity: float
    strength: float
    confidence: Confidence | Literal[""]
    visual_strength: float | None
    narration_strength: float | None
    has_all_words: bool
    words: str
    duration: float | None
    thumbnail: str
    parts: list[Part] = []


class CueText(BaseModel):
    """A cue of the narration."""

    start: float
    end: float
    text: str


class CurvePoint(BaseModel):
    """Strength of a query in a second of a video."""

    start: float
    end: float
    strength: float


class Curve(BaseModel):
    """Strengths over a whole video, and the least strengths of the confidence levels."""

    points: list[CurvePoint]
    low: float
    medium: float
    high: float


class SegmentRequest(Strict):
    """Labels for the seconds of a video."""

    video: VideoKey
    labels: Annotated[
        list[Text], Field(min_length=1, max_length=100, examples=[["chop", "fry", "stir"]])
    ]
    threshold: Annotated[float, Field(ge=-100, le=100)] = 1.0
    switch_cost: Annotated[float, Field(ge=0, le=1000)] = 2.0


class LocalizeRequest(Strict):
    """Steps to find in a video."""

    video: VideoKey
    steps: Annotated[
        list[Text],
        Field(min_length=1, max_length=100, examples=[["chop the onion", "fry it"]]),
    ]
    ordered: bool = True
    threshold: Annotated[float, Field(ge=-100, le=100)] = 1.0


class FoundSpans(BaseModel):
    """What `segment` and `localize` found."""

    moments: list[FoundMoment]
    missing: list[str]
    threshold: float


class AskRequest(Strict):
    """A multiple-choice question about a video."""

    video: VideoKey
    question: Annotated[str, StringConstraints(max_length=1000)] = Field(
        "", examples=["What is cut?"]
    )
    choices: Annotated[
        list[Text], Field(min_length=2, max_length=50, examples=[["an onion", "bread"]])
    ]


class Choice(BaseModel):
    """An answer with its probability."""

    text: str
    probability: float


class Answered(BaseModel):
    """The choices, most likely first, and the second where the first one is seen best."""

    choices: list[Choice]
    best: float


class ExportedSpan(Span):
    """A span to export."""

    video: VideoKey
    confidence: Confidence | Literal[""] = ""


class ExportRequest(Strict):
    """Spans to write in a format; `clips` is a job that makes a ZIP file of clips."""

    format: Literal["csv", "json", "edl", "fcpxml", "vtt", "youtube", "clips"]
    moments: Annotated[list[ExportedSpan], Field(min_length=1, max_length=1000)]
    title: Annotated[str, StringConstraints(max_length=70)] = "videoclip"


class Judgement(Span):
    """Whether a moment is a correct answer to a query."""

    query: Text
    video: VideoKey
    is_correct: bool


class JobRequest(Strict):
    """Work to start: `index` brings the library up to date."""

    kind: Literal["index"]


class JobStatus(BaseModel):
    """How far a job is."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    message: str
    failed: dict[str, str]
    seconds_left: float | None
    has_result: bool


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "content": {"application/problem+json": {}}},
    503: {"model": Problem, "content": {"application/problem+json": {}}},
}
"""Errors that any request may get."""
