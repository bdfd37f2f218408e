"""The user's own columns for videos, read from a table: camera, customer, take, ..."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from videoclip.benchmarks.files import Record, read_json, read_rows
from videoclip.errors import DataError

Values: TypeAlias = dict[str, str | float | None]

NAME_COLUMNS = ("path", "file", "video", "video_id", "name")
"""Columns that can name the video; the first one that has a value counts."""


def read_metadata(path: Path | str) -> dict[str, Values]:
    """Read a table of metadata.

    Args:
        path: `.csv` with a header, or `.json`: a list of rows or an object of rows by video. One
            column names the video (see `NAME_COLUMNS`) by its path, any end of its path, or its
            name with or without extension. Values that are numbers are compared as numbers by
            `--where`; empty ones are null.

    Returns:
        The other columns, by the name of the video in the table.

    Raises:
        DataError: If the file cannot be read (path, line).
    """
    table: dict[str, Values] = {}
    for record in _records(Path(path)):
        column = next((name for name in NAME_COLUMNS if record.values.get(name)), None)
        if column is None:
            known = ", ".join(NAME_COLUMNS)
            raise record.error(f"no column names the video: add one of {known}")
        table[str(record.values[column])] = {
            str(key): _value(value, record) for key, value in record.values.items() if key != column
        }
    return table


def metadata_of(table: Mapping[str, Values], paths: Iterable[str]) -> dict[str, Values]:
    """Find the row of each video by path, end of path, file name or stem; the longest match counts.

    Returns:
        Values by path, of the videos that have a row.
    """
    found = {}
    for path in paths:
        parts = PurePath(path).parts
        ends = [path, *("/".join(parts[-count:]) for count in range(len(parts), 0, -1))]
        name = next((name for name in (*ends, PurePath(path).stem) if name in table), None)
        if name is not None:
            found[path] = table[name]
    return found


def _records(path: Path) -> Iterable[Record]:
    if path.suffix.lower() != ".json":
        return read_rows(path)
    content = read_json(path)
    if isinstance(content, dict):
        content = [{"path": name, **row} for name, row in content.items() if isinstance(row, dict)]
    if not isinstance(content, list):
        raise DataError("expected a list of rows or an object of rows by video", path)
    return [Record(row, path, f"row {number}") for number, row in enumerate(content, start=1)]


def _value(value: Any, record: Record) -> str | float | None:
    if value is None or value == "":
        return None
    if isinstance(value, (bool, int, float)):
        return float(value)
    if not isinstance(value, str):
        raise record.error(f"expected a text or a number, got {value!r}: fix the row")
    try:
        number = float(value)
    except ValueError:
        return value.strip()
    return number if math.isfinite(number) else value.strip()
