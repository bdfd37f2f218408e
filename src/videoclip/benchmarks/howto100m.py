"""HowTo100M: the narration of its videos, and the titles of its tasks.

Files: task_ids.csv (tab separated despite its name, no header), caption.json and raw_caption.json
(gigabytes, hence streamed). Of HowTo100M_v1.csv, with category and task of each video,
`library.metadata.read_metadata` makes columns to search by.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from videoclip.benchmarks.files import Record, open_text, read_rows, unique
from videoclip.data.captions import Cue
from videoclip.errors import DataError

CHARACTERS_AT_ONCE = 1 << 20


def read_task_titles(path: Path) -> dict[int, str]:
    """Read task_ids.csv: titles by task id."""
    rows = read_rows(path, names=("id", "title"), delimiter="\t")
    tasks = unique(rows, "task", lambda row: row.integer("id"))
    return {task_id: task.text("title") for task_id, task in tasks.items()}


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
    with open_text(path) as file:
        buffer = ""

        def take(expected: str, decode: Callable[[str], tuple[Any, int]]) -> Any:
            """Take what begins with one of some marks off the buffer, reading on until complete."""
            nonlocal buffer
            while True:
                buffer = buffer.lstrip()
                if buffer and buffer[0] not in expected:
                    raise DataError(f"expected one of {expected!r}, got {buffer[0]!r}", path)
                try:
                    value, length = decode(buffer)
                except (IndexError, json.JSONDecodeError) as error:  # not complete yet
                    if not (more := file.read(CHARACTERS_AT_ONCE)):
                        message = f"breaks off at {buffer[:40]!r}: download it again"
                        raise DataError(message, path) from error
                    buffer += more
                except (ValueError, RecursionError) as error:  # numbers too long, tables too deep
                    raise DataError(f"not JSON of this kind ({error})", path) from error
                else:
                    buffer = buffer[length:]
                    return value

        def mark(text: str) -> tuple[str, int]:
            return text[0], 1

        value = json.JSONDecoder().raw_decode
        take("{", mark)
        while True:
            key = take('"', value)
            take(":", mark)
            yield key, take("{", value)
            if take(",}", mark) == "}":
                return
