"""Subtitle files: reading .srt, .vtt, .ass, .ssa and JSON of many kinds, and writing WebVTT.

SRT and WebVTT are parsed here rather than by pysubs2, which appends WebVTT comments and cue names
to the previous cue, reads a text line with two word times as a new cue, and has no line numbers.
"""

import codecs
import html
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, dropwhile, pairwise, takewhile, zip_longest
from pathlib import Path
from typing import Any

import charset_normalizer
import pysubs2
from pysubs2.formats.webvtt import WebVTTFormat

from videoclip.data.captions import Cue, clean_cues
from videoclip.data.sources import archive_of, is_plain, list_files, read_bytes
from videoclip.errors import DataError, one_line

SUBTITLE_SUFFIXES = (".vtt", ".srt", ".ass", ".ssa", ".json")
"""Suffixes of the files that can be read, the preferred ones first."""
TEXT_SUFFIX = ".txt"
"""In a tar archive: a text about the whole video, as WebDataset has it."""
MAX_SECONDS = 3_600_000.0
"""Latest time of a cue; the end of one that is about the whole video."""

MAX_BYTES = 32 * 2**20
"""Largest file that is read: a day of speech, word by word with times, has about half of it."""

_TIME = r"(-?)(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_SPAN = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s|$)")
_COMMENT = re.compile(r"(NOTE|STYLE|REGION)\b")
_OVERRIDE, _DRAWING = re.compile(r"\{[^}]*\}"), re.compile(r"\\p0*[1-9]")
_NOT_WESTERN = {"Croatian", "Czech", "Hungarian", "Polish", "Romanian", "Slovak", "Slovene"}
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_.][a-z0-9]+)*")


def read_subtitles(path: Path | str) -> list[Cue]:
    """Read a subtitle file and clean its cues; see `clean_cues`.

    Raises:
        DataError: If the file cannot be read or has another format than its suffix (path, line).
    """
    return clean_cues(parse_subtitles(path))


def parse_subtitles(path: Path | str) -> list[Cue]:
    """Read a subtitle file without cleaning: cues in file order, with markup and repeats.

    Raises:
        DataError: If the file cannot be read or has another format than its suffix (path, line).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == TEXT_SUFFIX and archive_of(path) is not None:
        return [Cue(0.0, MAX_SECONDS, read_text(path))]
    if suffix not in SUBTITLE_SUFFIXES:
        known = ", ".join(SUBTITLE_SUFFIXES)
        raise DataError(f"unknown subtitle format; expected one of {known}", path)
    if path.exists() and not path.is_file():
        raise DataError("not a regular file", path)
    parse = {".json": _parse_json, ".ass": _parse_substation, ".ssa": _parse_substation}
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise DataError(f"is larger than {MAX_BYTES >> 20} MiB, and so no subtitles", path)
    try:
        cues = list(parse.get(suffix, _parse_timed_text)(read_text(path), path))
        if any(max(abs(cue.start), abs(cue.end)) > MAX_SECONDS for cue in cues):
            raise DataError(f"has a time of more than {MAX_SECONDS / 3600:g} hours", path)
        return cues
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"is damaged ({one_line(error)})", path) from error


def pair_subtitles(videos: Iterable[Path]) -> dict[Path, Path | None]:
    """Return the subtitle file beside each video: `name.vtt`, else `name.en.vtt`, or None.

    A name without a language is preferred, then English, then the order of `SUBTITLE_SUFFIXES`.
    """
    videos = list(videos)
    folders = {video.parent for video in videos}
    files = {f: _by_stem(f.iterdir() if f.is_dir() else ()) for f in folders}
    return {video: _best(video.stem, files[video.parent][video.stem]) for video in videos}


def find_narrations(folder: Path | str, video_ids: Iterable[str]) -> dict[str, Path | None]:
    """Return the subtitle file of each video id, or None, searching a folder and its subfolders.

    The folder may be a tar archive, have some in it, or be an address in object storage.

    The file of an id with slashes ("camera-2/take") must be in a folder of that name. Of several
    folders with a file, the least deep, then the first in sorted order is taken.

    Raises:
        DataError: If there is no such folder.
    """
    if is_plain(folder) and not Path(folder).is_dir():
        raise DataError("no such folder; name the folder with the subtitles", folder)
    files = _by_stem(list_files(folder))
    found: dict[str, Path | None] = {}
    for video_id in video_ids:
        *parents, name = video_id.split("/")
        place = tuple(parents)
        found[video_id] = _best(
            name, (f for f in files[name] if f.parts[-1 - len(place) : -1] == place)
        )
    return found


def _by_stem(files: Iterable[Path]) -> defaultdict[str, list[Path]]:
    """Index subtitle files by every video name they may belong to."""
    table: defaultdict[str, list[Path]] = defaultdict(list)
    for file in files:
        suffix = file.suffix.lower()
        if suffix in SUBTITLE_SUFFIXES or (suffix == TEXT_SUFFIX and archive_of(file)):
            # a.en.vtt is of a.mp4, or of a.en.mp4.
            for stem in accumulate(file.stem.split("."), "{}.{}".format):
                table[stem].append(file)
    return table


def _best(stem: str, files: Iterable[Path]) -> Path | None:
    """Return the subtitle file to prefer for a video of this stem: least deep, then best named."""
    ranked = []
    for file in files:
        language = file.stem.removeprefix(stem).removeprefix(".").lower()
        if not language or _LANGUAGE.fullmatch(language):
            choice = 0 if not language else 1 if language.startswith("en") else 2
            kind = (*SUBTITLE_SUFFIXES, TEXT_SUFFIX).index(file.suffix.lower())
            ranked.append((len(file.parts), file.parent, choice, kind, file))
    return min(ranked)[-1] if ranked else None


def read_text(path: Path) -> str:
    """Decode a file by its byte order mark, as UTF-8, or by its most likely encoding.

    The path "-" is standard input.
    """
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from error
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        matches = charset_normalizer.from_bytes(raw)
    if not matches:
        raise DataError("is not text in any known encoding; save it as UTF-8", path)
    for match in matches:
        # A short text fits several encodings equally well; take the most common one, unless the
        # language is never written in it.
        fits = match.chaos <= matches[0].chaos and match.language not in _NOT_WESTERN
        if match.encoding == "cp1252" and fits:
            return str(match)
    return str(matches[0])


def _parse_timed_text(text: str, path: Path) -> Iterator[Cue]:
    """Parse SRT and WebVTT: spans with an arrow, each followed by its text."""
    is_vtt = path.suffix.lower() == ".vtt"
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    spans = [(i, span) for i, line in enumerate(lines) if (span := _parse_span(line, path, i + 1))]
    if not spans and text.strip() and not text.startswith("WEBVTT"):
        raise DataError("has no time span such as 00:00:01,000 --> 00:00:02,500", path)
    borders = pairwise([*(i for i, _ in spans), len(lines)])
    for (i, stop), (_, (start, end)) in zip(borders, spans, strict=True):
        block = lines[i + 1 : stop]
        if stop < len(lines):
            block = _without_name(block)
        if is_vtt:
            block = _first_paragraph(block)
        yield Cue(start, end, "\n".join(block).strip())


def _without_name(block: list[str]) -> list[str]:
    """Remove the number or name of the next cue, the line between an empty one and its span."""
    if block and (block[-1].strip().isdigit() or block[-2:-1] == [""]):
        return block[:-1]
    return block


def _first_paragraph(block: list[str]) -> list[str]:
    """Return a WebVTT cue's text: up to an empty line, after which comments and styles may come.

    Captions of video sites begin with a line of one space, which editors strip, so empty lines at
    the front do not end a cue.
    """
    text = list(dropwhile(lambda line: not line, block))
    text = list(takewhile(bool, text))
    return [] if text and _COMMENT.match(text[0]) else text


def _parse_span(line: str, path: Path, number: int) -> tuple[float, float] | None:
    if "-->" not in line:
        return None
    if match := _SPAN.match(line):
        return _seconds(*match.groups()[:5]), _seconds(*match.groups()[5:])
    if line.lstrip().lstrip("-")[:1].isdigit() and ":" in line:
        raise DataError(f"cannot read the time span {line.strip()!r}", path, number)
    return None  # an arrow in the text


def _seconds(
    sign: str, hours: str | None, minutes: str, seconds: str, fraction: str | None
) -> float:
    # In whole milliseconds first, so that equal times in the file are equal floats.
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    time = (whole * 1000 + int((fraction or "").ljust(3, "0"))) / 1000
    return -time if sign else time  # editors that shift subtitles write times before the video


def _parse_substation(text: str, path: Path) -> list[Cue]:
    try:
        events = pysubs2.SSAFile.from_string(text, format_=path.suffix.lower()[1:])
    except (ValueError, IndexError, pysubs2.exceptions.Pysubs2Error) as error:
        raise DataError(f"is not a SubStation file ({error})", path) from error
    if not len(events) and text.strip() and "[events]" not in text.lower():
        raise DataError("is not a SubStation file (no [Events])", path)
    return [
        Cue(event.start / 1000, event.end / 1000, plain)
        for event in events
        if not event.is_comment and (plain := _plain(event.text)) is not None
    ]


def _plain(text: str) -> str | None:
    """Return the text of a SubStation event without its overrides; None if it is a drawing.

    pysubs2 does the same in quadratic time and memory.
    """
    end = text.rfind("}") + 1  # an override that does not end is text
    if any(_DRAWING.search(override) for override in _OVERRIDE.findall(text[:end])):
        return None
    text = _OVERRIDE.sub("", text[:end]) + text[end:]
    return text.replace(r"\h", " ").replace(r"\n", "\n").replace(r"\N", "\n")


def _parse_json(text: str, path: Path) -> Iterator[Cue]:
    """Parse Whisper's segments, lists of segments, parallel lists, and YouTube's json3 events."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid JSON ({error.msg})", path, error.lineno) from error
    if isinstance(content, dict) and archive_of(path) is not None:
        for name in ("caption", "text"):  # WebDataset's description of a whole video
            if isinstance(content.get(name), str) and "segments" not in content:
                yield Cue(0.0, MAX_SECONDS, content[name])
                return
    for number, segment in enumerate(_json_segments(content, path), start=1):
        start: Any = segment.get("start")
        end: Any = segment.get("end")
        words = segment.get("text")
        if words is None or isinstance(words, float):  # HowTo100M writes NaN for no text
            continue
        if end is None and _are_numbers(start, segment.get("duration")):
            end = start + segment["duration"]
        if not _are_numbers(start, end) or not isinstance(words, str):
            raise DataError(
                f"segment {number} needs a start and an end in seconds and a text", path
            )
        yield Cue(float(start), float(end), words)


def _json_segments(content: Any, path: Path) -> list[dict[str, Any]]:
    """Return the segments of a caption file: start, end or duration, and text, unchecked."""
    if isinstance(content, dict):
        if isinstance(events := content.get("events"), list):
            spoken = [e for e in events if isinstance(e, dict) and isinstance(e.get("segs"), list)]
            return [_json3_segment(event) for event in spoken]
        keys = ("start", "end", "text")
        columns: list[Any] = [content.get(key) for key in keys]
        if isinstance(segments := content.get("segments"), list):
            content = segments
        elif all(isinstance(column, list) for column in columns):
            content = [dict(zip(keys, row)) for row in zip_longest(*columns, fillvalue="")]
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    message = "is not a known caption format; expected segments with start, end and text"
    raise DataError(message, path)


def _json3_segment(event: dict[str, Any]) -> dict[str, Any]:
    pieces = (piece.get("utf8") for piece in event["segs"] if isinstance(piece, dict))
    words = "".join(piece for piece in pieces if isinstance(piece, str))
    start, duration = event.get("tStartMs", math.nan), event.get("dDurationMs", 0)
    if not _are_numbers(start, duration):
        return {"text": words}
    return {"start": start / 1000, "end": (start + duration) / 1000, "text": words}


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)


def to_webvtt(cues: Iterable[Cue]) -> str:
    """Return cues as the text of a WebVTT file."""
    time = WebVTTFormat.ms_to_timestamp
    blocks = [
        f"{time(round(cue.start * 1000))} --> {time(round(cue.end * 1000))}\n"
        f"{html.escape(cue.text, quote=False)}\n"
        for cue in cues
    ]
    return "\n".join(["WEBVTT\n", *blocks])
