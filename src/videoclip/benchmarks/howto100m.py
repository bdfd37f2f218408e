"""HowTo100M: the narration of its videos, and the titles of its tasks.

Files: task_ids.csv (tab separated despite its name, no header), caption.json and raw_caption.json
(gigabytes, hence streamed), and the same as a pickle (raw_caption_dedup.pkl). Of HowTo100M_v1.csv,
with category and task of each video, `library.metadata.read_metadata` makes columns to search by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoclip.benchmarks.files import Record, open_text, read_rows, unique
from videoclip.data.captions import Cue
from videoclip.errors import DataError

if TYPE_CHECKING:
    from videoclip.data.tokenizer import Tokenizer

CHARACTERS_AT_ONCE = 1 << 20


def read_task_titles(path: Path) -> dict[int, str]:
    """Read task_ids.csv: titles by task id."""
    rows = read_rows(path, names=("id", "title"), delimiter="\t")
    tasks = unique(rows, "task", lambda row: row.integer("id"))
    return {task_id: task.text("title") for task_id, task in tasks.items()}


def read_captions(
    path: Path, tokenizer: Tokenizer | None = None
) -> Iterator[tuple[str, list[Cue]]]:
    """Stream (video_id, cues) from caption.json or raw_caption.json, one video in memory at a time.

    A pickle is read whole, without running anything in it: its videos are tables as in the JSON, or
    the JSON text of such a table. Items that are blank or not text (the files have NaN) are left
    out, newlines become spaces. Cues may overlap and are in the order of the file.

    Args:
        path: The file; a suffix .pkl or .pickle means a pickle.
        tokenizer: Vocabulary of a pickle whose captions are lists of word-piece ids ("cap").

    Raises:
        DataError: If the three lists of a video differ in length, a video occurs twice, the file is
            truncated, or a pickle has anything but plain data.
    """
    seen: set[str] = set()
    is_pickle = path.suffix in (".pkl", ".pickle")
    for video_id, value in _pickled_table(path) if is_pickle else _stream_table(path):
        record = Record(value, path, f"video '{video_id}'")
        if video_id in seen:
            raise record.error("occurs twice: remove one of them")
        seen.add(video_id)
        if is_pickle and "cap" in record.values:
            record.values["text"] = _decoded(record, tokenizer)
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


def _pickled_table(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a pickled table; JSON text in place of an entry is parsed."""
    from videoclip.weights.torch_file import read_plain_pickle  # imports torch, --help does not

    table = read_plain_pickle(path)
    if not isinstance(table, dict):
        raise DataError(
            "not a table of captions by video id: give the file of pickled captions", path
        )
    for video_id, value in table.items():
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise DataError(f"video '{video_id}' is not valid JSON ({error})", path) from error
        yield str(video_id), value


def _decoded(record: Record, tokenizer: Tokenizer | None) -> list[str]:
    """Return the texts of captions that are lists of word-piece ids."""
    if tokenizer is None:
        raise record.error("its captions are word-piece ids: name their vocab.txt by --vocabulary")
    texts = []
    for ids in record.items("cap"):
        known = range(tokenizer.vocab_size)
        if not isinstance(ids, list) or not all(type(i) is int and i in known for i in ids):
            raise record.error(
                f"a caption is no list of word-piece ids below {tokenizer.vocab_size}: check "
                "--vocabulary"
            )
        texts.append(tokenizer.decode(ids))
    return texts


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
