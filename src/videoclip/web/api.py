"""The REST API: each route checks what is asked, calls the library and names no path."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse

from videoclip.features.extract import VIDEO_SUFFIXES
from videoclip.files import report_disk_errors, sync
from videoclip.output.formats import export_moments
from videoclip.web import schemas
from videoclip.web.jobs import Job
from videoclip.web.media import playback_kind, thumbnail
from videoclip.web.served import ServedLibrary
from videoclip.zeroshot.results import Timeline, answer, localize, segment

router = APIRouter(prefix="/api/v1", responses=schemas.PROBLEMS)
EVENT_SECONDS = 0.25
"""How often a job's progress is looked at."""
TYPES = {
    "csv": "text/csv",
    "json": "application/json",
    "edl": "text/plain",
    "fcpxml": "application/xml",
    "vtt": "text/vtt",
    "youtube": "text/plain",
}


def served_by(request: Request) -> ServedLibrary:
    """Return the library that the application serves."""
    served: ServedLibrary = request.app.state.served
    return served


Served = Annotated[ServedLibrary, Depends(served_by)]
Time = Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False)]


# --- videos


@router.get("/videos")
def list_videos(
    served: Served,
    where: Annotated[str, Query(max_length=2000, examples=["duration > 60"])] = "",
    cursor: Annotated[str, Query(max_length=40)] = "",
    limit: schemas.Limit = 50,
) -> schemas.Page[schemas.Video]:
    """List the videos, or those that satisfy a filter."""
    videos, following = served.list_videos(where, cursor, limit)
    items = [schemas.Video(**served.describe(video)) for video in videos]
    return schemas.Page(items=items, next=following or None)


@router.get("/videos/{id}")
def describe_video(served: Served, id: str) -> schemas.VideoDetails:
    """Describe a video."""
    video = served.find(id)
    try:
        playback: Any = playback_kind(video)[0]
    except HTTPException:
        playback = "missing"
    metadata = served.library.metadata(video.path)
    return schemas.VideoDetails(**served.describe(video), metadata=metadata, playback=playback)


@router.get("/videos/{id}/narration")
def read_narration(served: Served, id: str) -> schemas.Page[schemas.CueText]:
    """Return the cues of a video's narration in order of time."""
    cues = served.library.narration(served.find(id).path)
    items = [schemas.CueText(start=cue.start, end=cue.end, text=cue.text) for cue in cues]
    return schemas.Page(items=items)


@router.get("/videos/{id}/curve")
def read_curve(
    served: Served, id: str, q: Annotated[str, Query(min_length=1, max_length=1000)]
) -> schemas.Curve:
    """Return the strength of a query in each second of a video."""
    path = served.find(id).path
    with served.computing():
        rows = served.library.score_curve(q, path).tolist()
    points = [schemas.CurvePoint(start=a, end=b, strength=strength) for a, b, strength in rows]
    levels = served.library.thresholds
    return schemas.Curve(points=points, low=levels.low, medium=levels.medium, high=levels.high)


@router.get("/videos/{id}/media", response_class=FileResponse)
def read_media(served: Served, id: str) -> FileResponse:
    """Return a video as browsers play it; takes range requests."""
    with served.computing():
        return served.media.whole(served.find(id))


@router.get("/videos/{id}/clip", response_class=FileResponse)
def read_clip(served: Served, id: str, start: Time, end: Time) -> FileResponse:
    """Return exactly the frames of a span as MP4, with the sound; takes range requests."""
    with served.computing():
        return served.media.clip(served.find(id), start, end)


@router.get("/videos/{id}/thumbnail", response_class=Response)
def read_thumbnail(served: Served, id: str, t: Time = 0.0) -> Response:
    """Return the frame at a time as JPEG."""
    with served.computing():
        image = thumbnail(served.find(id), t)
    return Response(
        image, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
    )


@router.get("/videos/{id}/spans")
def read_spans(served: Served, id: str) -> schemas.Page[schemas.Span]:
    """Return the spans that were saved for a video."""
    return schemas.Page(items=served.spans(id))


@router.put("/videos/{id}/spans", status_code=204)
def save_spans(served: Served, id: str, spans: schemas.SpanList) -> None:
    """Save the spans of a video, instead of those saved before."""
    served.save_spans(id, spans)


@router.put("/uploads/{name}", status_code=202, response_model=schemas.JobStatus)
async def upload(request: Request, served: Served, name: str) -> JSONResponse:
    """Take a video file as the body, and start a job that indexes it."""
    if not served.settings.allow_upload:
        raise HTTPException(403, "uploads are off: start the server with --allow-upload")
    suffix = Path(name).suffix.lower()
    if Path(name).name != name or name.startswith(".") or not name.isprintable():
        raise HTTPException(422, "not a file name")
    if suffix not in VIDEO_SUFFIXES or len(name.encode()) > 200:
        raise HTTPException(422, f"a video's name ends in {', '.join(sorted(VIDEO_SUFFIXES))}")
    folder = served.library.folder / "uploads"
    path, partial = folder / name, folder / f".{secrets.token_hex(8)}.part"
    try:
        with report_disk_errors(path):
            folder.mkdir(exist_ok=True)
            with partial.open("wb") as file:
                async for piece in request.stream():
                    await asyncio.to_thread(file.write, piece)
            sync(partial)
            try:
                os.link(partial, path)  # unlike a rename, it replaces no file
                sync(folder)
            except FileExistsError:
                raise HTTPException(409, "a video of this name was uploaded before") from None
    finally:
        partial.unlink(missing_ok=True)
    return _accepted(served.index([path]))


# --- questions


@router.get("/search")
def search(
    served: Served, query: Annotated[schemas.SearchQuery, Query()]
) -> schemas.Page[schemas.FoundMoment]:
    """Find moments by words (`q`), a span of a video (`like`, `start`, `end`) or a `picture`."""
    if [bool(query.q.strip()), bool(query.like), bool(query.picture)].count(True) != 1:
        problem = "search by words (q), a span of a video (like) or a picture, one of them"
        raise HTTPException(422, problem)
    moments, following = served.search(query)
    items = [schemas.FoundMoment(**served.describe_moment(moment)) for moment in moments]
    return schemas.Page(items=items, next=following or None)


IMAGE = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}


@router.post("/pictures", status_code=201, openapi_extra={"requestBody": IMAGE})
async def add_picture(request: Request, served: Served) -> schemas.Picture:
    """Take a JPEG, PNG or WebP picture as the body, for a search; it is kept for a while."""
    image = await request.body()
    return schemas.Picture(id=await asyncio.to_thread(served.media.add_picture, image))


@router.get("/pictures/{id}", response_class=FileResponse)
def read_picture(served: Served, id: str) -> FileResponse:
    """Return a picture that was sent before."""
    path, kind = served.media.picture(id)
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})


@router.post("/segment")
def segment_video(served: Served, asked: schemas.SegmentRequest) -> schemas.FoundSpans:
    """Give every second of a video one of several labels, or none."""
    find = partial(
        segment, labels=asked.labels, threshold=asked.threshold, switch_cost=asked.switch_cost
    )
    return _find_spans(served, asked.video, find)


@router.post("/localize")
def localize_steps(served: Served, asked: schemas.LocalizeRequest) -> schemas.FoundSpans:
    """Find where each of several steps happens in a video."""
    find = partial(localize, steps=asked.steps, ordered=asked.ordered, threshold=asked.threshold)
    return _find_spans(served, asked.video, find)


def _find_spans(
    served: ServedLibrary, id: str, find: Callable[..., Timeline]
) -> schemas.FoundSpans:
    path, library = served.find(id).path, served.library
    with served.computing():
        timeline = find(path, embedder=library.embedder, embedded=library.embedded(path))
    return schemas.FoundSpans(
        moments=[schemas.FoundMoment(**served.describe_moment(m)) for m in timeline.moments],
        missing=list(timeline.missing),
        threshold=timeline.threshold,
    )


@router.post("/ask")
def ask(served: Served, asked: schemas.AskRequest) -> schemas.Answered:
    """Choose among answers to a question about a video."""
    path, library = served.find(asked.video).path, served.library
    with served.computing():
        found = answer(
            path, asked.question, asked.choices, library.embedder, embedded=library.embedded(path)
        )
    ranked = sorted(zip(found.probabilities, found.choices, strict=True), reverse=True)
    choices = [schemas.Choice(text=text, probability=share) for share, text in ranked]
    return schemas.Answered(choices=choices, best=found.best)


# --- results


@router.post("/export", response_class=Response, responses={202: {"model": schemas.JobStatus}})
def export(served: Served, asked: schemas.ExportRequest) -> Response:
    """Write spans in a format; clips are made by a job, whose result is a ZIP file."""
    if asked.format == "clips":
        return _accepted(served.cut(asked.moments))
    text = export_moments(served.to_moments(asked.moments), asked.format, asked.title)
    suffix = "txt" if asked.format == "youtube" else asked.format
    headers = {"Content-Disposition": f'attachment; filename="moments.{suffix}"'}
    return Response(text, media_type=TYPES[asked.format], headers=headers)


@router.post("/labels", status_code=201)
def add_label(served: Served, judgement: schemas.Judgement) -> dict[str, int]:
    """Keep whether a moment is a correct answer to a query."""
    return {"count": served.judge(judgement)}


@router.post("/labels/fit")
def fit_confidence(served: Served) -> dict[str, str]:
    """Fit the levels of confidence to what was judged; needs correct and incorrect answers."""
    return {"message": str(served.fit())}


@router.delete("/labels/fit")
def undo_fit(served: Served) -> dict[str, str]:
    """Return to the default levels of confidence; judgements are kept."""
    return {"message": str(served.undo_fit())}


# --- jobs


def _status(job: Job) -> schemas.JobStatus:
    return schemas.JobStatus(**job.as_dict())


def _accepted(job: Job) -> JSONResponse:
    location = {"Location": f"/api/v1/jobs/{job.id}"}
    return JSONResponse(_status(job).model_dump(), 202, location)


@router.post("/jobs", status_code=202, response_model=schemas.JobStatus)
def start_job(served: Served, asked: schemas.JobRequest) -> JSONResponse:
    """Bring the library up to date with the videos that the server was started with."""
    if not served.settings.sources:
        raise HTTPException(409, "start the server with the folders to index: serve FOLDER ...")
    return _accepted(served.index(served.settings.sources))


@router.get("/jobs")
def list_jobs(served: Served) -> schemas.Page[schemas.JobStatus]:
    """List the jobs, newest first."""
    return schemas.Page(items=[_status(job) for job in served.jobs.list()])


@router.get("/jobs/{id}")
def describe_job(served: Served, id: str) -> schemas.JobStatus:
    """Say how far a job is."""
    return _status(served.jobs.find(id))


def found_job(served: Served, id: str) -> Job:
    """Return a job, or answer 404 before a stream begins."""
    return served.jobs.find(id)


@router.get("/jobs/{id}/events", response_class=EventSourceResponse)
async def follow_job(job: Annotated[Job, Depends(found_job)]) -> AsyncIterable[ServerSentEvent]:
    """Send a job's status whenever it changes, until it is over."""
    last = None
    while True:
        is_over, status = job.is_over, _status(job)
        if status != last:
            yield ServerSentEvent(data=status.model_dump(), event="status")
            last = status
        if is_over:
            return
        await asyncio.sleep(EVENT_SECONDS)


@router.get("/jobs/{id}/result", response_class=FileResponse)
def read_result(served: Served, id: str) -> FileResponse:
    """Return the file that a job made."""
    job = served.jobs.find(id)
    if job.result is None or not job.is_over or not job.result.exists():
        raise HTTPException(404, "this job has no result")
    return FileResponse(job.result, media_type="application/zip", filename="clips.zip")


@router.delete("/jobs/{id}", status_code=202, response_model=schemas.JobStatus)
def cancel_job(served: Served, id: str) -> JSONResponse:
    """End a job after the video in hand; what was done is kept."""
    job = served.jobs.find(id)
    served.jobs.cancel(job)
    return _accepted(job)
