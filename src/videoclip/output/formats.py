"""Moments and labelled spans in the formats editors, players and scripts read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from videoclip.errors import DataError
from videoclip.output.fcpxml import to_fcpxml
from videoclip.output.timecode import FrameRate, find_rate
from videoclip.zeroshot.confidence import LEVELS, Confidence
from videoclip.zeroshot.results import Moment

__all__ = [
    "EXPORT_FORMATS",
    "ExportFormat",
    "common_rate",
    "export_moments",
    "parse_moments",
    "read_moments",
    "to_csv",
    "to_edl",
    "to_json",
    "to_webvtt",
    "to_youtube",
]

ExportFormat: TypeAlias = Literal["csv", "json", "edl", "fcpxml", "vtt", "youtube"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

CONFIDENCES: dict[str, Confidence | Literal[""]] = {"": "", **{word: word for word in LEVELS}}

ONE_HOUR = 3600
"""Seconds at which an edit list's own timecode begins, as is the custom."""


def read_moments(path: Path | str) -> list[Moment]:
    """Read what `search --json`, `segment --json`, `localize --json` or `to_json` wrote.

    Raises:
        DataError: If it is something else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from error
    return parse_moments(text, str(path))


def parse_moments(text: str, where: str) -> list[Moment]:
    """Read moments from JSON text; `where` is what messages call it.

    Raises:
        DataError: If it is not the JSON of moments or spans.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid JSON ({error.msg})", where, error.lineno) from error
    return [_moment(row, where) for row in _rows(content, where)]


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


def _moment(row: dict[str, Any], where: str) -> Moment:
    label = row.get("label") or row.get("name") or row.get("query") or row.get("words") or ""
    numbers = ("best", "similarity", "strength", "duration", "frame_rate")
    try:
        return Moment(
            path=Path(row["path"]),
            start=float(row["start"]),
            end=float(row["end"]),
            label=str(label),
            confidence=CONFIDENCES[row.get("confidence") or ""],
            is_spoken=bool(row.get("is_spoken")),
            words=str(row.get("words") or ""),
            **{key: float(row[key]) for key in numbers if row.get(key) is not None},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a moment needs a path, a start and an end in seconds; its confidence, if any, is one "
            f"of {', '.join(LEVELS)} ({error})",
            where,
        ) from error


def export_moments(
    moments: Sequence[Moment],
    kind: ExportFormat,
    title: str = "videoclip",
    rate: FrameRate | None = None,
) -> str:
    """Write moments in a format.

    Args:
        moments: In the order in which they shall come.
        kind: The format.
        title: Of the edit list or event.
        rate: Of the timeline; by default that of the videos, which must agree then.

    Raises:
        DataError: If the format cannot hold these moments.
    """
    if not moments:
        raise DataError("there are no moments to export")
    writers: dict[ExportFormat, Callable[[], str]] = {
        "csv": lambda: to_csv(moments),
        "json": lambda: to_json(moments),
        "edl": lambda: to_edl(moments, rate or common_rate(moments), title),
        "fcpxml": lambda: to_fcpxml(moments, rate or common_rate(moments), title),
        "vtt": lambda: to_webvtt(moments),
        "youtube": lambda: to_youtube(moments),
    }
    return writers[kind]()


def common_rate(moments: Sequence[Moment]) -> FrameRate:
    """The frame rate of all the videos.

    Raises:
        DataError: If it is unknown or they differ: a timeline has one.
    """
    rates = {find_rate(moment.frame_rate) for moment in moments if moment.frame_rate}
    if len(rates) != 1:
        known = ", ".join(sorted(f"{float(rate.exact):g}" for rate in rates)) or "unknown"
        raise DataError(f"the frame rates of the videos are {known}: choose one with --rate")
    return rates.pop()


def to_csv(moments: Sequence[Moment]) -> str:
    """A table with a header: path, start and end in seconds, name, confidence."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "start", "end", "name", "confidence"])
    for moment in moments:
        times = (f"{moment.start:.3f}", f"{moment.end:.3f}")
        writer.writerow([str(moment.path), *times, moment.label, moment.confidence])
    return table.getvalue()


def to_json(moments: Sequence[Moment]) -> str:
    """A list of objects, which `read_moments` reads."""
    return json.dumps([moment.as_dict() for moment in moments], indent=2) + "\n"


def to_edl(moments: Sequence[Moment], rate: FrameRate, title: str = "videoclip") -> str:
    """A CMX 3600 edit decision list: the moments one after the other, on one video track.

    Source timecode counts from 0 at the start of each file. Source: SMPTE 258M; the reel is AX
    ("auxiliary"), as editors write for files, which are named in comments instead.
    """
    lines = [f"TITLE: {_plain(title):.70}"]
    lines.append(f"FCM: {'DROP FRAME' if rate.is_drop else 'NON-DROP FRAME'}")
    record = ONE_HOUR * rate.nominal
    if rate.is_drop:  # the frame called 01:00:00;00 comes earlier: names were left out before it
        record -= 6 * 9 * rate.nominal // 15
    for number, moment in enumerate(moments, start=1):
        first, last = _frames(moment, rate)
        times = (first, last, record, record + last - first)
        codes = " ".join(rate.timecode(frame) for frame in times)
        lines += ["", f"{number:03d}  AX       V     C        {codes}"]
        lines.append(f"* FROM CLIP NAME: {_plain(moment.path.name)}")
        lines.append(f"* SOURCE FILE: {_plain(str(moment.path))}")
        if moment.label:
            lines.append(f"* COMMENT: {_plain(moment.label)}")
        record += last - first
    return "\n".join(lines) + "\n"


def to_webvtt(moments: Sequence[Moment]) -> str:
    """WebVTT chapters of one video, in order of time.

    Raises:
        DataError: If the moments are of several videos.
    """
    cues = []
    for moment in _of_one_video(moments, "WebVTT"):
        text = _plain(moment.label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        times = f"{_webvtt_time(moment.start)} --> {_webvtt_time(moment.end)}"
        cues.append(f"{times}\n{text or 'moment'}\n")
    return "\n".join(["WEBVTT\n", *cues])


def to_youtube(moments: Sequence[Moment]) -> str:
    """Chapter lines for a video's description: the first at 0:00, none shorter than 10 seconds.

    A chapter that would begin within 10 seconds of the one before is left out.

    Raises:
        DataError: If the moments are of several videos.
    """
    lines: list[tuple[int, str]] = []
    for moment in _of_one_video(moments, "chapters"):
        second = int(moment.start)
        if not lines and second >= 10:
            lines.append((0, "Intro"))
        elif not lines:
            second = 0
        if not lines or second - lines[-1][0] >= 10:
            lines.append((second, _plain(moment.label) or "moment"))
    return "".join(f"{_youtube_time(second)} {name}\n" for second, name in lines)


def _of_one_video(moments: Sequence[Moment], what: str) -> list[Moment]:
    if len(paths := sorted({moment.path for moment in moments})) > 1:
        raise DataError(
            f"{what} are about one video, these moments about {len(paths)}: choose with --video"
        )
    return sorted(moments, key=lambda moment: (moment.start, moment.end))


def _frames(moment: Moment, rate: FrameRate) -> tuple[int, int]:
    """First frame and the one after the last; at least one frame."""
    first = rate.frames(moment.start)
    return first, max(rate.frames(moment.end), first + 1)


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
