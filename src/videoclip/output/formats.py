"""Moments and labelled spans in the formats editors, players and scripts read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from videoclip.errors import DataError
from videoclip.output.fcpxml import to_fcpxml
from videoclip.output.timecode import FrameRate, find_rate
from videoclip.zeroshot.results import Timeline

__all__ = [
    "EXPORT_FORMATS",
    "ExportFormat",
    "Shot",
    "common_rate",
    "export_shots",
    "parse_shots",
    "read_shots",
    "shots_of",
    "to_csv",
    "to_edl",
    "to_json",
    "to_webvtt",
    "to_youtube",
]

ExportFormat: TypeAlias = Literal["csv", "json", "edl", "fcpxml", "vtt", "youtube"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

ONE_HOUR = 3600
"""Seconds at which an edit list's own timecode begins, as is the custom."""


@dataclass(frozen=True)
class Shot:
    """A span of a video to hand on.

    Attributes:
        path: The video.
        start: Seconds.
        end: Seconds, exclusive.
        name: What it shows.
        frame_rate: Of the video; None where unknown.
        duration: Seconds of the whole video; None where unknown.
        confidence: Word for how sure it is; "" where unknown.
    """

    path: str
    start: float
    end: float
    name: str = ""
    frame_rate: float | None = None
    duration: float | None = None
    confidence: str = ""


def shots_of(timeline: Timeline) -> list[Shot]:
    """The spans of a timeline."""
    return [
        Shot(
            path=str(timeline.path),
            start=span.start,
            end=span.end,
            name=span.label,
            frame_rate=timeline.frame_rate,
            duration=timeline.duration,
            confidence=span.confidence,
        )
        for span in timeline.spans
    ]


def read_shots(path: Path | str) -> list[Shot]:
    """Read what `search --json`, `segment --json`, `localize --json` or `to_json` wrote.

    Raises:
        DataError: If it is something else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from error
    return parse_shots(text, str(path))


def parse_shots(text: str, where: str) -> list[Shot]:
    """Read shots from JSON text; `where` is what messages call it.

    Raises:
        DataError: If it is not the JSON of moments or spans.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid JSON ({error.msg})", where, error.lineno) from error
    return [_shot(row, where) for row in _rows(content, where)]


def _rows(content: Any, where: str) -> list[dict[str, Any]]:
    """Rows with a start and an end, with what their surroundings say of all of them."""
    if isinstance(content, dict) and "start" in content:
        return [content]
    if isinstance(content, dict):
        common = {k: v for k, v in content.items() if not isinstance(v, (list, dict))}
        lists = [value for value in content.values() if isinstance(value, list)]
        return [{**common, **row} for rows in lists for row in _rows(rows, where)]
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return [row for item in content for row in _rows(item, where)]
    raise DataError("expected moments as `videoclip search --json` prints them", where)


def _shot(row: dict[str, Any], where: str) -> Shot:
    try:
        return Shot(
            path=str(row["path"]),
            start=float(row["start"]),
            end=float(row["end"]),
            name=str(
                row.get("name") or row.get("label") or row.get("query") or row.get("words") or ""
            ),
            frame_rate=None if row.get("frame_rate") is None else float(row["frame_rate"]),
            duration=None if row.get("duration") is None else float(row["duration"]),
            confidence=str(row.get("confidence", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"a moment needs a path, a start and an end in seconds ({error})", where
        ) from error


def export_shots(
    shots: Sequence[Shot],
    kind: ExportFormat,
    title: str = "videoclip",
    rate: FrameRate | None = None,
) -> str:
    """Write shots in a format.

    Args:
        shots: In the order in which they shall come.
        kind: The format.
        title: Of the edit list or event.
        rate: Of the timeline; by default that of the videos, which must agree then.

    Raises:
        DataError: If the format cannot hold these shots.
    """
    if not shots:
        raise DataError("there are no moments to export")
    writers: dict[ExportFormat, Callable[[], str]] = {
        "csv": lambda: to_csv(shots),
        "json": lambda: to_json(shots),
        "edl": lambda: to_edl(shots, rate or common_rate(shots), title),
        "fcpxml": lambda: to_fcpxml(shots, rate or common_rate(shots), title),
        "vtt": lambda: to_webvtt(shots),
        "youtube": lambda: to_youtube(shots),
    }
    return writers[kind]()


def common_rate(shots: Sequence[Shot]) -> FrameRate:
    """The frame rate of all the videos.

    Raises:
        DataError: If it is unknown or they differ: a timeline has one.
    """
    rates = {find_rate(shot.frame_rate) for shot in shots if shot.frame_rate}
    if len(rates) != 1:
        known = ", ".join(sorted(f"{float(rate.exact):g}" for rate in rates)) or "unknown"
        raise DataError(f"the frame rates of the videos are {known}: choose one with --rate")
    return rates.pop()


def to_csv(shots: Sequence[Shot]) -> str:
    """A table with a header: path, start and end in seconds, name, confidence."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "start", "end", "name", "confidence"])
    for shot in shots:
        times = (f"{shot.start:.3f}", f"{shot.end:.3f}")
        writer.writerow([shot.path, *times, shot.name, shot.confidence])
    return table.getvalue()


def to_json(shots: Sequence[Shot]) -> str:
    """A list of objects, which `read_shots` reads."""
    return json.dumps([vars(shot) for shot in shots], indent=2) + "\n"


def to_edl(shots: Sequence[Shot], rate: FrameRate, title: str = "videoclip") -> str:
    """A CMX 3600 edit decision list: the shots one after the other, on one video track.

    Source timecode counts from 0 at the start of each file. Source: SMPTE 258M; the reel is AX
    ("auxiliary"), as editors write for files, which are named in comments instead.
    """
    lines = [f"TITLE: {_plain(title):.70}"]
    lines.append(f"FCM: {'DROP FRAME' if rate.is_drop else 'NON-DROP FRAME'}")
    record = ONE_HOUR * rate.nominal
    if rate.is_drop:  # the frame called 01:00:00;00 comes earlier: names were left out before it
        record -= 6 * 9 * rate.nominal // 15
    for number, shot in enumerate(shots, start=1):
        first, last = _frames(shot, rate)
        times = (first, last, record, record + last - first)
        codes = " ".join(rate.timecode(frame) for frame in times)
        lines += ["", f"{number:03d}  AX       V     C        {codes}"]
        lines.append(f"* FROM CLIP NAME: {_plain(Path(shot.path).name)}")
        lines.append(f"* SOURCE FILE: {_plain(shot.path)}")
        if shot.name:
            lines.append(f"* COMMENT: {_plain(shot.name)}")
        record += last - first
    return "\n".join(lines) + "\n"


def to_webvtt(shots: Sequence[Shot]) -> str:
    """WebVTT chapters of one video, in order of time.

    Raises:
        DataError: If the shots are of several videos.
    """
    cues = []
    for shot in _of_one_video(shots, "WebVTT"):
        text = _plain(shot.name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        times = f"{_webvtt_time(shot.start)} --> {_webvtt_time(shot.end)}"
        cues.append(f"{times}\n{text or 'moment'}\n")
    return "\n".join(["WEBVTT\n", *cues])


def to_youtube(shots: Sequence[Shot]) -> str:
    """Chapter lines for a video's description: the first at 0:00, none shorter than 10 seconds.

    A chapter that would begin within 10 seconds of the one before is left out.

    Raises:
        DataError: If the shots are of several videos.
    """
    lines: list[tuple[int, str]] = []
    for shot in _of_one_video(shots, "chapters"):
        second = int(shot.start)
        if not lines and second >= 10:
            lines.append((0, "Intro"))
        elif not lines:
            second = 0
        if not lines or second - lines[-1][0] >= 10:
            lines.append((second, _plain(shot.name) or "moment"))
    return "".join(f"{_youtube_time(second)} {name}\n" for second, name in lines)


def _of_one_video(shots: Sequence[Shot], what: str) -> list[Shot]:
    if len(paths := sorted({shot.path for shot in shots})) > 1:
        raise DataError(
            f"{what} are about one video, these moments about {len(paths)}: choose with --video"
        )
    return sorted(shots, key=lambda shot: (shot.start, shot.end))


def _frames(shot: Shot, rate: FrameRate) -> tuple[int, int]:
    """First frame and the one after the last; at least one frame."""
    first = rate.frames(shot.start)
    return first, max(rate.frames(shot.end), first + 1)


def _plain(text: str) -> str:
    """Text without line breaks, which would end a comment or a cue."""
    return " ".join(text.split())


def _webvtt_time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"


def _youtube_time(second: int) -> str:
    hours, minutes, rest = second // 3600, second // 60 % 60, second % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
