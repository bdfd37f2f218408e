"""HowTo100M: its videos, their tasks and their narration.

Files: HowTo100M_v1.csv (video_id, category_1, category_2, rank, task_id), task_ids.csv (tab
separated despite its name, no header), caption.json and raw_caption.json (gigabytes, hence
streamed), lists of video ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videoclip.benchmarks.files import Record, open_text, read_lines, read_rows, unique
from videoclip.data.captions import Cue
from videoclip.errors import DataError

CHARACTERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class HowToVideo:
    """One video of the collection, and the search that found it.

    `rank` is its rank in the results of the search for the title of `task_id` (see
    `read_task_titles`); `category_2`, its subcategory, may be empty.
    """

    video_id: str
    category_1: str
    category_2: str
    rank: int
    task_id: int


def read_videos(path: Path) -> list[HowToVideo]:
    """Read HowTo100M_v1.csv."""
    columns = ("video_id", "category_1", "category_2", "rank", "task_id")
    return [
        HowToVideo(
            row.text("video_id"),
            row.values["category_1"].strip(),
            row.values["category_2"].strip(),
            row.integer("rank"),
            row.integer("task_id"),
        )
        for row in read_rows(path, columns)
    ]


def read_task_titles(path: Path) -> dict[int, str]:
    """Read task_ids.csv: titles by task id."""
    rows = read_rows(path, names=("id", "title"), delimiter="\t")
    tasks = unique(rows, "task", lambda row: row.integer("id"))
    return {task_id: task.text("title") for task_id, task in tasks.items()}


def read_video_ids(path: Path) -> list[str]:
    """Read a list with one video id a line; an id may begin with '-' or '_'."""
    records = [Record({}, path, line=line, key=text) for line, text in read_lines(path)]
    return list(unique(records, "video", lambda record: record.key))


def read_captions(path: Path) -> Iterator[tuple[str, list[Cue]]]:
    """Stream (video_id, cues) from caption.json or raw_caption.json, one video in memory at a time.

    Items that are blank or not text (the files have NaN) are left out, newlines become spaces. Cues
    may overlap and are in the order of the file.

    Raises:
        DataError: If the three lists of a video differ in length, a video occurs twice, or the
            file is truncated.
    """
    seen: set[str] = set()
    for video_id, value in _stream_table(path):
        record = Record(value, path, f"video '{video_id}'")
        if video_id in seen:
            raise record.error("occurs twice: remove one of them")
        seen.add(video_id)
        starts, ends, texts = (record.items(name) for name in ("start", "end", "text"))
        if not len(starts) == len(ends) == len(texts):
            raise record.error(
                f"{len(starts)} starts, {len(ends)} ends and {len(texts)} texts: download it again"
            )
        yield (
            video_id,
            [
                Cue(*record.span([start, end], allow_empty=True), " ".join(text.split()))
                for start, end, text in zip(starts, ends, texts, strict=True)
                if isinstance(text, str) and text.strip()
            ],
        )


def _stream_table(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a JSON table without holding more than one of them."""
    decoder = json.JSONDecoder()
    with open_text(path) as file:
        buffer = ""

        def read_mark() -> str:
            """Return the first mark of the buffer that is not blank, or "" at the end."""
            nonlocal buffer
            while not (buffer := buffer.lstrip()) and (more := file.read(CHARACTERS_AT_ONCE)):
                buffer = more
            return buffer[:1]

        def take(expected: str) -> str:
            """Take one punctuation mark off the buffer."""
            nonlocal buffer
            mark = read_mark()
            buffer = buffer[1:]
            if not mark or mark not in expected:
                raise DataError(f"expected one of {expected!r}, got {mark!r}: truncated?", path)
            return mark

        def take_value(expected: str) -> Any:
            """Take one JSON value off the buffer, reading on until it is complete."""
            nonlocal buffer
            if read_mark() not in expected:
                raise DataError(f"expected {expected!r}, got {buffer[:20]!r}", path)
            while True:
                try:
                    value, length = decoder.raw_decode(buffer)
                except json.JSONDecodeError as error:  # not complete yet
                    if not (more := file.read(CHARACTERS_AT_ONCE)):
                        message = f"breaks off at {buffer[:40]!r}: download it again"
                        raise DataError(message, path) from error
                    buffer += more
                except (ValueError, RecursionError) as error:  # numbers too long, tables too deep
                    raise DataError(f"not JSON of this kind ({error})", path) from error
                else:
                    buffer = buffer[length:]
                    return value

        take("{")
        while True:
            key = take_value('"')
            take(":")
            yield key, take_value("{")
            if take(",}") == "}":
                return
