"""The pages: HTML with the answer in it, which works without a script too.

The address of a page says all that it shows: query, filters, video and span. What changes something
is a form that is answered with a page to go to. htmx sends the same requests and takes the part of
the page that it needs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from videoclip.errors import ConfigError, DataError, DecodeError
from videoclip.output.html import environment_of
from videoclip.web import schemas
from videoclip.web.api import Served, ask, localize_steps, segment_video, start_job
from videoclip.web.media import playback_kind
from videoclip.web.safety import COOKIE
from videoclip.web.served import ServedLibrary, is_correct
from videoclip.zeroshot.confidence import LEVELS

ModelT = TypeVar("ModelT", bound=BaseModel)
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
NUM_STILLS = 24
"""Thumbnails on a video's contact sheet."""
EMPTY_FORMS = {"texts": "", "kind": "ordered", "question": "", "choices": ""}
"""What the forms of a video's page say at first."""
CURVE_SIZE = (1000.0, 100.0)
"""Width and height of a score curve, in units of the drawing."""


def address(path: str, **values: object) -> str:
    """Return an address with those of the values that are not empty."""
    text = urlencode({name: value for name, value in values.items() if value not in ("", None)})
    return f"{path}?{text}" if text else path


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    page = environment_of("videoclip.web").get_template(template, globals={"address": address})
    return HTMLResponse(page.render(values), status)


def error_page(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page that says what went wrong."""
    page = _page("error.html", status, detail=detail)
    page.headers.update(headers or {})
    return page


class PageQuery(schemas.SearchQuery):
    """A search as the page asks for it: without the nearest moments if nothing matches."""

    strictness: Any = "low"


async def _read_form(request: Request) -> list[tuple[str, str]]:
    return parse_qsl((await request.body()).decode("latin-1"), keep_blank_values=True)


Form = Annotated[list[tuple[str, str]], Depends(_read_form)]
"""Names and values of a form, in its order."""


def _checked(model: type[ModelT], values: Mapping[str, Any]) -> ModelT:
    """Return what a form asks for; what is wrong in it is answered as a wrong request."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(wrong) from None


def _lines(text: str) -> list[str]:
    """Return the different lines of a text that are not empty."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


@router.get("/")
def search_page(request: Request, served: Served, query: Annotated[PageQuery, Query()]) -> Response:
    """The form, and what was found; the address has only what differs from the defaults."""
    if query.strictness not in LEVELS:
        query.strictness = "low"
    if query.q.strip():  # words that are typed into the page of a span or picture
        query.like = query.picture = ""
        query.start = query.end = 0.0
    state = query.model_dump(exclude_defaults=True)
    if set(request.query_params) - set(state):
        return RedirectResponse(address("/", **state), 303)
    problem, following, num_labels = "", "", 0
    moments: list[dict[str, Any]] = []
    is_asked = bool(query.q.strip() or query.like or query.picture)
    if is_asked:
        try:
            found, following = served.search(query)
            moments = [{**served.describe_moment(one), "is_correct": None} for one in found]
            labels = served.labels()
            num_labels = len(labels)
            for moment, row in zip(found, moments, strict=True):
                row["is_correct"] = is_correct(moment, query.q, labels)
        except (ConfigError, DataError, DecodeError) as error:
            problem = served.without_paths(str(error))
    first = {name: value for name, value in state.items() if name != "cursor"}
    return _page(
        "search.html",
        query=query,
        query_string=request.url.query,
        state=state,
        first=first,
        levels=LEVELS,
        moments=moments,
        problem=problem,
        is_asked=is_asked,
        next=address("/", **{**first, "cursor": following}) if following else "",
        num_videos=len(served.library),
        num_labels=num_labels,
    )


@router.post("/labels")
def judge(served: Served, form: Form) -> Response:
    """Keep whether a moment is a correct answer to a query."""
    values = dict(form)
    target = _local(values.pop("next", "/"))
    served.judge(_checked(schemas.Judgement, values))
    return RedirectResponse(target, 303)


@router.get("/videos")
def list_page(
    served: Served,
    where: Annotated[str, Query(max_length=2000)] = "",
    cursor: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """All videos, some on each page."""
    problem, following = "", ""
    videos: list[dict[str, Any]] = []
    try:
        found, following = served.list_videos(where, cursor, 48)
        videos = [served.describe(video) for video in found]
    except ConfigError as error:
        problem = str(error)
    return _page(
        "videos.html",
        where=where,
        videos=videos,
        problem=problem,
        is_rest=bool(cursor),
        next=address("/videos", where=where, cursor=following) if following else "",
        allow_upload=served.settings.allow_upload,
        suffixes="video/*",
    )


@router.get("/videos/{id}")
def video_page(
    served: Served,
    id: str,
    q: Annotated[str, Query(max_length=1000)] = "",
    start: schemas.Seconds = 0.0,
    end: schemas.Seconds = 0.0,
) -> HTMLResponse:
    """One video: player, score curve, contact sheet, narration, steps."""
    return _video_page(served, id, q, start, end)


@router.post("/videos/{id}/spans")
def save_spans(served: Served, id: str, form: Form) -> Response:
    """Save the spans of a video, instead of those saved before."""
    columns: dict[str, list[str]] = {"label": [], "start": [], "end": []}
    for name, value in form:
        if name in columns:
            columns[name].append(value)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]
    served.save_spans(id, _checked(schemas.Spans, {"spans": rows}).spans)
    return RedirectResponse(_local(dict(form).get("next", f"/videos/{id}")), 303)


@router.post("/videos/{id}/find")
def find_spans(served: Served, id: str, form: Form) -> HTMLResponse:
    """The page of a video with the spans of steps or labels."""
    asked = dict(form)
    texts, kind = _lines(asked.get("texts", "")), asked.get("kind", "")
    if kind == "labels":
        values = {"video": id, "labels": texts}
        found = segment_video(served, _checked(schemas.SegmentRequest, values))
    else:
        steps: Mapping[str, Any] = {"video": id, "steps": texts, "ordered": kind != "any"}
        found = localize_steps(served, _checked(schemas.LocalizeRequest, steps))
    return _video_page(served, id, asked=asked, spans=found.moments, missing=found.missing)


@router.post("/videos/{id}/ask")
def ask_page(served: Served, id: str, form: Form) -> HTMLResponse:
    """The page of a video with the answer to a question about it."""
    asked = dict(form)
    choices = _lines(asked.get("choices", ""))
    values = {"video": id, "question": asked.get("question", ""), "choices": choices}
    answered = ask(served, _checked(schemas.AskRequest, values))
    return _video_page(served, id, asked=asked, answered=answered)


def _video_page(
    served: ServedLibrary,
    id: str,
    q: str = "",
    start: float = 0.0,
    end: float = 0.0,
    asked: Mapping[str, str] | None = None,
    spans: Sequence[schemas.Span | schemas.FoundMoment] | None = None,
    missing: Sequence[str] = (),
    answered: schemas.Answered | None = None,
) -> HTMLResponse:
    """Return the page of a video: with its saved spans, or with what was asked of its forms."""
    video = served.find(id)
    problem, curve = "", ""
    if q.strip():
        try:
            with served.computing():
                rows = served.library.score_curve(q, video.path).tolist()
            curve = _curve(rows, video.duration, served.library.thresholds.high)
        except DataError as error:
            problem = served.without_paths(str(error))
    playback = "missing" if not Path(video.path).is_file() else playback_kind(video)[0]
    step = video.duration / NUM_STILLS
    return _page(
        "video.html",
        id=id,
        video=served.describe(video),
        metadata=served.library.metadata(video.path),
        playback=playback,
        q=q,
        start=start,
        end=min(end, video.duration) if end > start else 0.0,
        problem=problem,
        curve=curve,
        cues=served.library.narration(video.path),
        asked={**EMPTY_FORMS, **(asked or {})},
        spans=served.spans(id) if spans is None else spans,
        missing=missing,
        answered=answered,
        stills=[round((i + 0.5) * step, 1) for i in range(NUM_STILLS)],
    )


def _curve(rows: list[list[float]], duration: float, high: float) -> str:
    """Return the points of a line from the bottom (strength 0 or less) to the top."""
    width, height = CURVE_SIZE
    top = max([high, *(strength for _, _, strength in rows)]) * 1.05
    points = []
    for start, end, strength in rows:
        x = min(1.0, 0.5 * (start + end) / max(duration, 1e-3)) * width
        points.append(f"{x:.1f},{height * (1 - max(0.0, strength) / top):.1f}")
    return " ".join(points)


@router.get("/jobs")
def jobs_page(served: Served) -> HTMLResponse:
    """What the server does besides answering."""
    can_index, jobs = bool(served.settings.sources), served.jobs.list()
    return _page("jobs.html", can_index=can_index, jobs=jobs)


@router.post("/jobs")
def index(served: Served) -> Response:
    """Bring the library up to date with the videos that the server was started with."""
    start_job(served, schemas.JobRequest(kind="index"))
    return RedirectResponse("/jobs", 303)


@router.post("/jobs/{id}/cancel")
def cancel_job(served: Served, id: str) -> Response:
    """End a job after the video in hand."""
    served.jobs.cancel(served.jobs.find(id))
    return RedirectResponse("/jobs", 303)


@router.get("/docs")
def docs_page(request: Request, served: Served) -> Response:
    """The API in one list; only on loopback."""
    if not served.settings.is_local:
        return error_page(404, "Not Found")
    return _page("docs.html", routes=_operations(request.app.openapi()))


def _operations(document: Mapping[str, Any]) -> list[tuple[str, str, str, list[str]]]:
    """Return method, path, summary and names of parameters of each operation."""
    return [
        (
            method.upper(),
            path,
            operation.get("description", ""),
            [parameter["name"] for parameter in operation.get("parameters", [])],
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


@router.get("/login")
def login_page(next: str = "/") -> HTMLResponse:
    """A form for the token."""
    return _page("login.html", next=_local(next), problem="")


@router.post("/login")
def log_in(request: Request, served: Served, form: Form) -> Response:
    """Give a cookie for the right token."""
    values, settings = dict(form), served.settings
    target = _local(values.get("next", "/"))
    if settings.token is None or not settings.is_token(values.get("token", "").strip()):
        return _page("login.html", 401, next=target, problem="This is not the token.")
    answer = RedirectResponse(target, 303)
    is_secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, settings.session, httponly=True, samesite="strict", secure=is_secure, path="/"
    )
    return answer


def _local(target: str) -> str:
    """Return the address of a page here, never of another server."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_local and target.isprintable() else "/"
