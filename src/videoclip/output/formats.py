"""Moments as tables, chapters, edit lists or labels of other tools, and read back from JSON."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from videoclip.data import subtitles
from videoclip.data.captions import Cue
from videoclip.data.subtitles import read_text
from videoclip.errors import DataError
from videoclip.output.edl import FrameRate, choose_rate, to_edl, to_fcpxml
from videoclip.zeroshot.confidence import LEVELS, Confidence
from videoclip.zeroshot.moments import Moment, clock

OnMessage: TypeAlias = Callable[[str], None]
ExportFormat: TypeAlias = Literal[
    "csv", "json", "edl", "fcpxml", "vtt", "youtube", "fiftyone", "labelstudio"
]
CONFIDENCES: dict[str, Confidence | Literal[""]] = {"": "", **{word: word for word in LEVELS}}
FORMULA_MARKS = ("=", "+", "-", "@", "\t")
"""What a formula begins with in a spreadsheet."""
MIN_CHAPTER_SECONDS = 10
"""YouTube ignores all chapters if one is shorter."""
GAP_TITLE = "..."
"""Title of a chapter between two moments."""
NO_LABEL = "moment"
"""Text of a chapter without a label."""


def read_moments(path: Path | str) -> list[Moment]:
    """Read JSON printed by `search`, `segment` or `localize`, or written by `to_json`.

    Args:
        path: A file; "-" for standard input.

    Raises:
        DataError: If it cannot be read or is something else.
    """
    source = "standard input" if str(path) == "-" else path
    advice = "print moments with `videoclip search --json`"
    if source != path and sys.stdin.isatty():
        raise DataError(f"nothing is piped in; {advice} and pipe them in", source)
    text = read_text(Path(path))
    if not text.strip():
        raise DataError(f"is empty; {advice}", source)
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # finds halves of surrogate pairs
    except json.JSONDecodeError as error:
        raise DataError(
            f"is not valid JSON ({error.msg}); {advice}", source, error.lineno
        ) from error
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply, a number too long, or a text not Unicode"
        raise DataError(f"is not valid JSON of moments ({reason})", source) from error
    try:
        return [_moment(row) for row in _rows(content)]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            "expected moments as `videoclip search --json` prints them, with a path, a start and a "
            f"later end in seconds ({error})",
            source,
        ) from error


def _rows(content: Any) -> list[dict[str, Any]]:
    """Objects with a start, each with the plain values of the objects it lies in."""
    if isinstance(content, dict) and "start" in content:
        return [content]
    if isinstance(content, dict):
        common = {k: v for k, v in content.items() if not isinstance(v, (list, dict))}
        lists = [v for v in content.values() if _is_list_of_objects(v)]  # others are labels
        if lists:
            return [{**common, **row} for rows in lists for row in _rows(rows)]
    elif _is_list_of_objects(content):
        return [row for item in content for row in _rows(item)]
    raise ValueError("none here")


def _is_list_of_objects(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(item, dict) for item in content)


NUMBERS = {field.name for field in fields(Moment) if "float" in str(field.type)}
"""Of a moment."""


def _moment(row: dict[str, Any]) -> Moment:
    label = row.get("label") or row.get("name") or row.get("query") or row.get("words") or ""
    numbers = {name: float(row[name]) for name in NUMBERS if row.get(name) is not None}
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("a number is NaN or infinite")
    is_span = 0 <= numbers.get("start", -1) <= numbers.get("end", -1)
    if "path" not in row or "\0" in row["path"] or not is_span:
        raise ValueError(f"got {json.dumps(row):.100}")
    confidence = row.get("confidence") or ""
    if confidence not in CONFIDENCES:
        raise ValueError(f"confidence is one of {', '.join(LEVELS)}, not {confidence!r}")
    return Moment(
        path=Path(row["path"]),
        label=str(label),
        confidence=CONFIDENCES[confidence],
        has_all_words=bool(row.get("has_all_words")),
        words=str(row.get("words") or ""),
        parts=(),
        **numbers,
    )


def export_moments(
    moments: Sequence[Moment],
    format: ExportFormat,
    title: str = "videoclip",
    rate: FrameRate | None = None,
    on_message: OnMessage = lambda text: None,
) -> str:
    """Write moments in a format.

    Args:
        moments: In the order of the output.
        format: The format.
        title: Title of an edit list.
        rate: Frame rate of an edit list; by default the one that most moments have.
        on_message: Called with a line of text if the format cannot hold all of a moment.

    Raises:
        DataError: If there are no moments or the format cannot hold them.
    """
    if not moments:
        raise DataError("there are no moments to export; search for something else")
    if format in ("edl", "fcpxml"):
        write = to_edl if format == "edl" else to_fcpxml
        return write(moments, rate or choose_rate(moments, on_message=on_message), title)
    if format == "youtube":
        return to_youtube(moments, on_message)
    writers = {
        "csv": to_csv,
        "json": to_json,
        "vtt": to_webvtt,
        "fiftyone": to_fiftyone,
        "labelstudio": to_labelstudio,
    }
    return writers[format](moments)


def to_csv(moments: Sequence[Moment]) -> str:
    """A table with a header: path, start and end in seconds, name, confidence, is_deleted."""
    return to_table(
        [
            {
                "path": str(moment.path),
                "start": f"{moment.start:.3f}",
                "end": f"{moment.end:.3f}",
                "name": moment.label,
                "confidence": moment.confidence,
                "is_deleted": moment.is_deleted,
            }
            for moment in moments
        ]
    )


def to_table(rows: Sequence[Mapping[str, object]]) -> str:
    """CSV with a header, in which no text is a formula for a spreadsheet; empty without rows.

    A text that could be one, as the name of a foreign file may be, gets an apostrophe in front.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([list(row) for row in rows[:1]])
    writer.writerows([map(_cell, row.values()) for row in rows])
    return table.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # the writer does not quote it, but readers end a line there
    return f"'{text}" if text.startswith(FORMULA_MARKS) else text


def to_json(moments: Sequence[Moment]) -> str:
    """A list of objects, which `read_moments` reads."""
    return json.dumps([moment.as_dict() for moment in moments], indent=2) + "\n"


def to_fiftyone(moments: Sequence[Moment]) -> str:
    """The labels.json of a FiftyOneTemporalDetectionDataset, whose keys are the videos' paths.

    Raises:
        DataError: If the frame rate of a moment is not known.
    """
    classes = sorted({_chapter_title(moment) for moment in moments})
    labels: dict[str, list[dict[str, Any]]] = {}
    for moment in moments:
        first, last = _frames(moment)
        labels.setdefault(str(moment.path.absolute()), []).append(
            {
                "label": classes.index(_chapter_title(moment)),
                "support": [first, last],
                "attributes": {
                    "similarity": moment.similarity,
                    "confidence_level": moment.confidence or "unknown",
                },
            }
        )
    return json.dumps({"classes": classes, "labels": labels}, indent=2) + "\n"


def to_labelstudio(moments: Sequence[Moment]) -> str:
    """Tasks of Label Studio, one a video, with the moments as predictions on its timeline.

    They fit the labelling setup `<Video name="video" value="$video"/>` with `<TimelineLabels
    name="moments" toName="video">`.

    Raises:
        DataError: If the frame rate of a moment is not known.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for i, moment in enumerate(moments):
        first, last = _frames(moment)
        results.setdefault(str(moment.path), []).append(
            {
                "id": f"moment-{i + 1}",
                "from_name": "moments",
                "to_name": "video",
                "type": "timelinelabels",
                "value": {
                    "ranges": [{"start": first, "end": last}],
                    "timelinelabels": [_chapter_title(moment)],
                },
            }
        )
    tasks = [
        {
            "data": {"video": video},
            "predictions": [{"model_version": "videoclip", "result": result}],
        }
        for video, result in results.items()
    ]
    return json.dumps(tasks, indent=2) + "\n"


def _frames(moment: Moment) -> tuple[int, int]:
    """Return the first and the last frame of a moment, counted from 1."""
    if not moment.frame_rate:
        raise DataError(
            "the frame rate of a moment is not known: print moments with `search --json`",
            moment.path,
        )
    first = math.floor(moment.start * moment.frame_rate + 1e-6)
    return first + 1, max(first + 1, math.ceil(moment.end * moment.frame_rate - 1e-6))


def to_webvtt(moments: Sequence[Moment]) -> str:
    """WebVTT chapters of one video, in order of time.

    Raises:
        DataError: If the moments are of several videos.
    """
    chapters = _of_one_video(moments)
    return subtitles.to_webvtt(Cue(m.start, m.end, _chapter_title(m)) for m in chapters)


def to_youtube(moments: Sequence[Moment], on_message: OnMessage = lambda text: None) -> str:
    """Chapter lines for a video's description: the first at 0:00, none shorter than 10 seconds.

    Chapters have no end: each lasts until the next one. A chapter named "..." therefore begins
    where a moment ends, if at least 10 seconds are left to the next. A chapter that would begin
    within 10 seconds of the one before is left out.

    Args:
        moments: Of one video.
        on_message: Called with a line of text about what chapters cannot show.

    Raises:
        DataError: If the moments are of several videos.
    """
    lines: list[tuple[int, str]] = []
    left_out, stretched, end = 0, 0, 0.0
    for moment in _of_one_video(moments):
        second = int(moment.start)
        if not lines and second >= MIN_CHAPTER_SECONDS:
            lines.append((0, "Intro"))
        elif not lines:
            stretched += second > 0
            second = 0
        elif second - end >= MIN_CHAPTER_SECONDS <= end - lines[-1][0]:
            lines.append((int(end), GAP_TITLE))
        elif second > end:
            stretched += 1
        if not lines or second - lines[-1][0] >= MIN_CHAPTER_SECONDS:
            lines.append((second, _chapter_title(moment)))
        else:
            left_out += 1
        end = max(end, moment.end)
    for number, what in ((left_out, "left out"), (stretched, "made longer")):
        if number:
            on_message(
                f"{number} of {len(moments)} chapters {what}, since each lasts until the next one, "
                f"{MIN_CHAPTER_SECONDS} s or more (--format vtt keeps the exact times)"
            )
    return "".join(f"{clock(second).removesuffix('.0')} {title}\n" for second, title in lines)


def _of_one_video(moments: Sequence[Moment]) -> list[Moment]:
    """The moments in order of time."""
    if (num_videos := len({moment.path for moment in moments})) > 1:
        raise DataError(
            f"chapters are of one video, but these moments are of {num_videos}; choose one with "
            "--video"
        )
    return sorted(moments, key=lambda moment: (moment.start, moment.end))


def _chapter_title(moment: Moment) -> str:
    """The label in one line."""
    return " ".join(moment.label.split()) or NO_LABEL
