"""The library as the page and the API see it: opaque ids for paths, pages of lists, jobs."""

import hashlib
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from videoclip.errors import VideoCLIPError, printable
from videoclip.files import read_json, report_disk_errors, write_json
from videoclip.library.catalog import IndexedVideo
from videoclip.library.labels import FitReport, LabelledQuery, add_label, fit_library, read_labels
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions
from videoclip.output.clip import cut_clip
from videoclip.types import OnProgress
from videoclip.web.jobs import Job, Jobs
from videoclip.web.media import MediaCache, existing
from videoclip.web.safety import Metrics, ServeSettings
from videoclip.web.schemas import ExportedSpan, Judgement, SearchQuery, Span
from videoclip.zeroshot.confidence import Thresholds
from videoclip.zeroshot.moments import Moment, with_confidence

MAX_FOUND = 1000
"""Moments of a search that paging reaches."""
MAX_QUEUE = 32
"""Requests that wait for a processor; more are refused."""
MAX_WAIT_SECONDS = 30.0
STATE = "web"
"""Folder in the library for judgements and edited spans."""
LABELS = "labels.csv"
"""File of the judgements in that folder."""


@dataclass(frozen=True)
class NamedMoment(Moment):
    """A moment whose path is a name only, so that it tells nothing about folders."""

    @property
    def is_deleted(self) -> bool:
        """False: only videos that exist are exported."""
        return False


class ServedLibrary:
    """A library with what its users need around it.

    Args:
        library: The library; closed by its owner.
        settings: Who may use it.
    """

    def __init__(self, library: VideoLibrary, settings: ServeSettings) -> None:
        self.library, self.settings = library, settings
        self.metrics, self.jobs, self.media = Metrics(), Jobs(self.without_paths), MediaCache()
        self._key = hashlib.sha256(str(library.folder.resolve()).encode()).digest()
        self._known: tuple[tuple[int, int], list[IndexedVideo], dict[str, IndexedVideo]] | None = (
            None
        )
        num_slots = max(2, os.cpu_count() or 1)
        self._slots = threading.Semaphore(num_slots)
        self._places = threading.Semaphore(num_slots + MAX_QUEUE)

    def close(self) -> None:
        """Cancel jobs and remove temporary files."""
        self.jobs.close()
        self.media.close()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Hold one of a few places for work that needs a processor.

        Raises:
            HTTPException: 503 if too many wait, or it takes too long.
        """
        busy = HTTPException(503, "too much to do at once: try again", {"Retry-After": "2"})
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            if not self._slots.acquire(timeout=MAX_WAIT_SECONDS):
                raise busy
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._places.release()

    # --- videos and their ids

    def id_of(self, path: Path | str) -> str:
        """Return the opaque id of a video; another library gives it another one."""
        return hashlib.blake2s(
            str(path).encode(errors="surrogateescape"), key=self._key[:32], digest_size=12
        ).hexdigest()

    def _videos(self) -> tuple[list[IndexedVideo], dict[str, IndexedVideo]]:
        version = self.library.version
        if self._known is None or self._known[0] != version:
            videos = self.library.videos()
            self._known = version, videos, {self.id_of(video.path): video for video in videos}
        return self._known[1:]

    def find(self, id: str) -> IndexedVideo:
        """Return a video by its id.

        Raises:
            HTTPException: 404 if this library has none of this id.
        """
        video = self._videos()[1].get(id)
        if video is None:
            raise HTTPException(404, "no such video in this library")
        return video

    def list_videos(self, where: str, cursor: str, limit: int) -> tuple[list[IndexedVideo], str]:
        """Return some videos in order of path, and the cursor of the rest, "" if there is none.

        Raises:
            ConfigError: If the filter cannot be parsed.
            HTTPException: 422 if the cursor is wrong.
        """
        videos = self.library.videos(where) if where else self._videos()[0]
        first = offset_of(cursor)
        end = first + limit
        return videos[first:end], cursor_of(end) if end < len(videos) else ""

    def describe(self, video: IndexedVideo) -> dict[str, Any]:
        """Plain values of a video for JSON."""
        names = ("duration", "width", "height", "frame_rate", "added")
        return {
            "id": self.id_of(video.path),
            "name": printable(Path(video.path).name),
            **{name: getattr(video, name) for name in names},
            "has_narration": video.narration_path is not None,
        }

    def describe_moment(self, moment: Moment) -> dict[str, Any]:
        """Plain values of a moment for JSON, without its path."""
        row = moment.as_dict()
        del row["path"], row["video_id"], row["is_deleted"], row["frame_rate"]
        names = ("label", "start", "end", "confidence")
        row["parts"] = [{name: getattr(part, name) for name in names} for part in moment.parts]
        id = self.id_of(moment.path)
        thumbnail = f"/api/v1/videos/{id}/thumbnail?t={moment.best:.1f}"
        return {"video": id, "name": printable(moment.path.name), **row, "thumbnail": thumbnail}

    # --- search

    def search(self, query: SearchQuery) -> tuple[list[Moment], str]:
        """Return the moments of a page of a search, and the cursor of the next one, or "".

        Raises:
            VideoCLIPError: If the query or the filter is wrong.
            HTTPException: 404 if there is no such video or picture, 422 if the cursor is wrong.
        """
        offset = offset_of(query.cursor)
        if offset + query.limit > MAX_FOUND:
            raise HTTPException(422, f"a search reaches {MAX_FOUND} moments: filter it")
        options = SearchOptions(
            top_k=query.limit + 1, offset=offset, vision=query.vision, speech=query.speech
        )
        where = query.where or None
        with self.computing():
            if query.picture:
                path, _ = self.media.picture(query.picture)
                found = self.library.search_like(path, options, where=where)
            elif query.like:
                video, end = self.find(query.like).path, max(query.end, query.start + 0.1)
                found = self.library.search_span(video, query.start, end, options, where=where)
            else:
                found = self.library.search_many([query.q], options, where=where)[0]
        moments = with_confidence(found, query.strictness)
        has_more = len(moments) > query.limit and offset + query.limit < MAX_FOUND
        return moments[: query.limit], cursor_of(offset + query.limit) if has_more else ""

    # --- what users leave behind

    @property
    def _state(self) -> Path:
        return self.library.folder / STATE

    def spans(self, id: str) -> list[Span]:
        """Return the spans that were saved for a video."""
        self.find(id)
        path = self._state / f"spans-{id}.json"
        return [Span(**row) for row in read_json(path)] if path.exists() else []

    def save_spans(self, id: str, spans: Sequence[Span]) -> None:
        """Save the spans of a video.

        Raises:
            DataError: If they cannot be written.
        """
        self.find(id)
        path = self._state / f"spans-{id}.json"
        with report_disk_errors(path):
            self._state.mkdir(exist_ok=True)
            write_json(path, [span.model_dump() for span in spans])

    def judge(self, judgement: Judgement) -> int:
        """Keep whether a moment is a correct answer, and return the number of judgements.

        Raises:
            DataError: If it cannot be written.
        """
        path = self.find(judgement.video).path
        span = judgement.start, judgement.end
        label = LabelledQuery(judgement.query, path, *span, is_wrong=not judgement.is_correct)
        return len(add_label(self._state / LABELS, label))

    def labels(self) -> list[LabelledQuery]:
        """Return the judgements.

        Raises:
            DataError: If they cannot be read.
        """
        path = self._state / LABELS
        return read_labels(path) if path.exists() else []

    def fit(self) -> FitReport:
        """Fit the library's thresholds to the judgements.

        Raises:
            DataError: If they are all of one kind.
        """
        with self.computing():
            return fit_library(self.library, self.labels())

    def undo_fit(self) -> Thresholds:
        """Return to the default thresholds; the judgements stay."""
        self.library.reset_thresholds()
        return self.library.thresholds

    # --- jobs

    def index(self, sources: Sequence[Path]) -> Job:
        """Start a job that brings the library up to date with videos and folders."""

        def work(job: Job, on_progress: OnProgress) -> None:
            library = VideoLibrary(self.library.address, self.library.embedder)  # own connection
            with library:
                report = library.update(sources, on_progress=on_progress)
            job.message = str(report)
            job.failed = {
                printable(Path(path).name): self.without_paths(reason)
                for path, reason in report.failed.items()
            }

        return self.jobs.start("index", work)

    def cut(self, spans: Sequence[ExportedSpan]) -> Job:
        """Start a job that makes a ZIP file with a clip of each span."""
        videos = [self.find(span.video) for span in spans]

        def work(job: Job, on_progress: OnProgress) -> None:
            result = self.media.folder / f"{job.id}.zip"
            folder = self.media.folder / f"clips-{job.id}"
            folder.mkdir()
            try:
                with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as archive:
                    for i, (video, span) in enumerate(zip(videos, spans, strict=True)):
                        name = f"{i + 1:03d}-{printable(Path(video.path).stem[:80])}.mp4"
                        try:
                            cut_clip(existing(video), span.start, span.end, folder / "clip.mp4")
                            archive.write(folder / "clip.mp4", name)
                        except (VideoCLIPError, HTTPException) as error:
                            job.failed[name] = self.without_paths(str(error))
                        on_progress(i + 1, len(spans))
            except BaseException:
                result.unlink(missing_ok=True)
                raise
            finally:
                shutil.rmtree(folder)
            job.result = result
            job.message = f"{len(spans) - len(job.failed)} clips"

        return self.jobs.start("clips", work)

    # --- paths

    def to_moments(self, spans: Sequence[ExportedSpan]) -> list[Moment]:
        """Return spans as moments; beyond loopback with names instead of paths."""
        is_local, moments = self.settings.is_local, []
        for span in spans:
            video = self.find(span.video)
            path = Path(video.path)
            moments.append(
                (Moment if is_local else NamedMoment)(
                    path if is_local else Path(path.name),
                    span.start,
                    span.end,
                    label=span.label,
                    confidence=span.confidence,
                    duration=video.duration,
                    frame_rate=video.frame_rate,
                )
            )
        return moments

    def without_paths(self, message: str) -> str:
        """Return a message in which videos and the library have names instead of paths."""
        places = {str(Path(video.path).parent) for video in self._videos()[0]}
        places |= {str(path.absolute()) for path in self.settings.sources}
        places |= {self.library.address, str(self.library.folder), str(self.media.folder)}
        for place in sorted(places, key=len, reverse=True):
            message = message.replace(f"{place}{os.sep}", "").replace(place, Path(place).name)
        return printable(message)


def is_correct(moment: Moment, query: str, labels: Sequence[LabelledQuery]) -> bool | None:
    """Return whether a moment was judged a correct answer to a query; None if it was not judged."""
    for label in reversed(labels):
        if label.query == query.strip() and label.accepts(moment):
            return not label.is_wrong
    return None


def cursor_of(offset: int) -> str:
    """Return the cursor at which a list goes on."""
    return f"o{offset:x}"


def offset_of(cursor: str) -> int:
    """Return where a list goes on; 0 for an empty cursor.

    Raises:
        HTTPException: 422 if it is none.
    """
    if not cursor:
        return 0
    digits = cursor.removeprefix("o")
    if (
        not cursor.startswith("o")
        or not 0 < len(digits) < 9
        or set(digits) - set("0123456789abcdef")
    ):
        raise HTTPException(422, "not a cursor of this list")
    return int(digits, 16)
