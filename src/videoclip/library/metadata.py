"""The user's own columns for videos, from a table beside them: camera, customer, take, ..."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from videoclip.errors import DataError

__all__ = ["Values", "metadata_of", "read_metadata"]

Values: TypeAlias = dict[str, str | float | None]

NAME_COLUMNS = ("path", "file", "video", "video_id", "name")
"""The column that says which video a row is about; the first of these that is there."""


def read_metadata(path: Path | str) -> dict[str, Values]:
    """Read a table of metadata.

    Args:
        path: `.csv` with a header, or `.json`: a list of rows or an object of rows by name. One
            column names the video (see `NAME_COLUMNS`) by its path, any end of its path, or its
            name with or without extension. Values that read as numbers are numbers, so that
            `--where` compares them as such; empty ones are null.

    Returns:
        The other columns, by the name given.

    Raises:
        DataError: If the file cannot be read (path, line).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from error
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8 text", path) from error
    rows = _json_rows(text, path) if path.suffix.lower() == ".json" else _csv_rows(text, path)
    table: dict[str, Values] = {}
    for number, row in rows:
        column = next((name for name in NAME_COLUMNS if row.get(name)), None)
        if column is None:
            known = ", ".join(NAME_COLUMNS)
            what = f"no column says which video this is; expected one of {known}"
            raise DataError(what, path, number)
        table[str(row[column])] = {
            str(key): _value(value, path, number) for key, value in row.items() if key != column
        }
    return table


def metadata_of(table: Mapping[str, Values], paths: Iterable[str]) -> dict[str, Values]:
    """Find the row of each video, by path, end of path, file name or stem; the longest name wins.

    Returns:
        Values by path, of the videos the table is about.
    """
    found = {}
    for path in paths:
        parts = PurePath(path).parts
        ends = [path, *("/".join(parts[-count:]) for count in range(len(parts), 0, -1))]
        name = next((name for name in (*ends, PurePath(path).stem) if name in table), None)
        if name is not None:
            found[path] = table[name]
    return found


def _csv_rows(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = []
    for row in reader:
        if None in row:
            raise DataError("more values than the header has columns", path, reader.line_num)
        rows.append((reader.line_num, row))
    return rows


def _json_rows(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid JSON ({error.msg})", path, error.lineno) from error
    if isinstance(content, dict):
        content = [{"path": name, **row} for name, row in content.items() if isinstance(row, dict)]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError("expected a list of rows or an object of rows by video", path)
    return list(enumerate(content, start=1))


def _value(value: Any, path: Path, number: int) -> str | float | None:
    if value is None or value == "":
        return None
    if isinstance(value, (bool, int, float)):
        return float(value)
    if not isinstance(value, str):
        raise DataError(f"expected a text or a number, got {value!r}", path, number)
    try:
        number_read = float(value)
    except ValueError:
        return value.strip()
    return number_read if math.isfinite(number_read) else value.strip()
