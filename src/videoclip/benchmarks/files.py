"""Finding, opening, parsing and checking annotation files, with errors that name file and row.

A reader finds its file with `find_file`, gets records from one of the `read_*` functions and asks
them for typed fields; a field that is missing or of another type is a `DataError`.
"""

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO, TypeVar

from videoclip.errors import DataError

K = TypeVar("K", bound=Hashable)


class Record:
    """One row, line or entry of an annotation file, asked for typed fields.

    Args:
        values: Its parsed value; anything but a mapping is an error.
        path: The file.
        where: Its name in messages, for instance "video 'xHr8X2Wpmno'".
        line: Its line from 1, where lines mean something.
        key: Its key, where it is an entry of a table.
    """

    def __init__(
        self, values: Any, path: Path, where: str = "", line: int | None = None, key: str = ""
    ) -> None:
        self.path, self.where, self.line, self.key = path, where, line, key
        if not isinstance(values, dict):
            raise self.error(f"expected a table of fields, got {_shorten(values)}; wrong file?")
        self.values = values

    def error(self, message: str) -> DataError:
        """Return an error with a message about this record."""
        prefix = f"{self.where}: " if self.where else ""
        return DataError(prefix + message, self.path, self.line)

    def records(self, name: str, what: str) -> list[Self]:
        """Return the entries of a list of tables; messages call entry i "`what` i"."""
        prefix = f"{self.where}, {what}" if self.where else what
        return [type(self)(v, self.path, f"{prefix} {i}") for i, v in enumerate(self.items(name))]

    def _get(self, name: str, kinds: type | tuple[type, ...], what: str) -> Any:
        if name not in self.values:
            known = ", ".join(map(str, self.values))
            raise self.error(f"no field '{name}' (there are: {_shorten(known)}); wrong file?")
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise self.error(f"'{name}' must be {what}, got {_shorten(value)}: fix the row")
        return value

    def text(self, name: str) -> str:
        """Return a text, stripped; blank is an error."""
        value: str = self._get(name, str, "a text").strip()
        if not value:
            raise self.error(f"'{name}' is blank: fix or remove the row")
        return value

    def number(self, name: str) -> float:
        """Return a finite number, also from a column of text."""
        value = self._get(name, (int, float, str), "a number")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not abs(number) < float("inf"):
            raise self.error(f"'{name}' must be a number, got {_shorten(value)}: fix the row")
        return number

    def integer(self, name: str) -> int:
        """Return a whole number, also from a column of text."""
        number = self.number(name)
        if number != int(number):
            raise self.error(f"'{name}' must be a whole number, got {number:g}: fix the row")
        return int(number)

    def choice(self, name: str, num_choices: int) -> int:
        """Return an index in [0, num_choices)."""
        index = self.integer(name)
        if not 0 <= index < num_choices:
            raise self.error(f"'{name}' must be in 0..{num_choices - 1}, got {index}")
        return index

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value: list[Any] = self._get(name, list, "a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts, each stripped and not blank."""
        values = self.items(name)
        if not all(isinstance(value, str) and value.strip() for value in values):
            raise self.error(f"'{name}' must be texts, none blank: fix the row")
        return tuple(value.strip() for value in values)

    def table(self, name: str) -> dict[str, Any]:
        """Return a mapping."""
        value: dict[str, Any] = self._get(name, dict, "a table of fields")
        return value

    def span(self, value: Any, *, allow_empty: bool = False) -> tuple[float, float]:
        """Check a [start, end] pair in seconds."""
        right = isinstance(value, (list, tuple)) and len(value) == 2
        right = right and all(isinstance(v, (int, float)) for v in value)
        if not right or not 0 <= value[0] <= value[1] or (value[0] == value[1] and not allow_empty):
            raise self.error(
                f"a span must be [start, end] with 0 <= start < end, got {_shorten(value)}"
            )
        return float(value[0]), float(value[1])


def find_file(path: Path, *names: str) -> Path:
    """Return the annotation file itself, or the first of some names found in a folder.

    Each name may also end in .gz.

    Raises:
        DataError: If there is none of them.
    """
    if path.is_file():
        return path
    for name in names:
        for candidate in (path / name, path / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    if not path.exists():
        raise DataError("no such file or folder", path)
    raise DataError(f"no {' or '.join(names)} in this folder; put it there, or name the file", path)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a plain, gzipped or zipped (one .json inside) annotation file as UTF-8.

    Raises:
        DataError: If it is missing or, possibly only while it is read, damaged or truncated.
    """
    try:
        with _opened(path) as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile) as error:
        kind = "a zip archive" if path.suffix == ".zip" else "gzip"
        raise DataError(f"truncated or not {kind}; download it again", path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text (byte {error.start}): wrong file?", path) from error


def _opened(path: Path) -> TextIO:
    if path.is_dir():
        raise DataError("a folder; name a file", path)
    if not path.is_file():
        raise DataError("no such file: check the path", path)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            members = [n for n in archive.namelist() if n.endswith(".json")]
            if len(members) != 1:
                raise DataError(f"holds {len(members)} .json files: unpack it", path)
            return io.StringIO(archive.read(members[0]).decode("utf-8-sig"))
    return path.open(encoding="utf-8-sig", newline="")


def _read(path: Path) -> str:
    with open_text(path) as file:
        return file.read()


def read_json(path: Path) -> Any:
    """Parse a whole JSON file, in which no table may have a key twice.

    Raises:
        DataError: If it is damaged, with the line.
    """
    return _parse(_read(path), path)


def _parse(text: str, path: Path, line: int | None = None) -> Any:
    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"'{twice}' occurs twice: remove one of them", path, line)
        return result

    try:
        return json.loads(text, object_pairs_hook=table)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated string")
        what = "breaks off" if cut else f"not JSON ({error.msg})"
        raise DataError(
            f"{what} at column {error.colno}: fix or download it again",
            path,
            line or error.lineno,
        ) from error
    except (ValueError, RecursionError) as error:  # numbers too long, tables too deep
        raise DataError(f"not JSON of this kind ({error})", path, line) from error


def read_json_lines(path: Path) -> Iterator[Record]:
    """Parse a file with one JSON table a line; blank lines are skipped."""
    for line, text in read_lines(path):
        yield Record(_parse(text, path, line), path, line=line)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line from 1, text without surrounding blanks) of the lines that are not blank."""
    for line, text in enumerate(io.StringIO(_read(path)), start=1):
        if text.strip():
            yield line, text.strip()


def read_rows(
    path: Path, columns: Sequence[str] = (), *, names: Sequence[str] = (), delimiter: str = ","
) -> Iterator[Record]:
    """Parse a table whose columns are found by name.

    Args:
        path: The file.
        columns: Columns that must be in its header; others may be, in any order.
        names: Names of all columns, for a file without header.
        delimiter: Between fields.

    Raises:
        DataError: At a row with too few or too many fields.
    """
    reader = csv.reader(io.StringIO(_read(path), newline=""), delimiter=delimiter, strict=True)
    try:
        header = list(names) or [name.strip() for name in next(reader, [])]
        if missing := [name for name in columns if name not in header]:
            raise DataError(
                f"no column {' or '.join(repr(name) for name in missing)} in the header "
                f"{_shorten(','.join(header))}; wrong file?",
                path,
                1,
            )
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{len(row)} of {len(header)} fields: fix or remove the row",
                    path,
                    reader.line_num,
                )
            yield Record(dict(zip(header, row, strict=True)), path, line=reader.line_num)
    except csv.Error as error:
        raise DataError(f"not a table ({error}): fix the row", path, reader.line_num) from error


def entries(table: Any, path: Path, what: str) -> list[Record]:
    """Return the entries of a table of tables, each with its key; messages name `what`."""
    values = Record(table, path).values
    return [Record(value, path, f"{what} '{key}'", key=key) for key, value in values.items()]


def unique(records: Iterable[Record], what: str, key: Callable[[Record], K]) -> dict[K, Record]:
    """Return records in order by their `key`, called `what` in the message, which must be unique.

    Raises:
        DataError: At the first record whose key occurred before.
    """
    found: dict[K, Record] = {}
    for record in records:
        if (value := key(record)) in found:
            raise record.error(f"{what} {value!r} occurs twice: remove one of them")
        found[value] = record
    return found


def read_video_ids(path: Path) -> list[str]:
    """Read a list with one video id a line, perhaps below the header `video_id`."""
    rows = read_rows(path, names=("video_id",))
    return [
        name for name in unique(rows, "video", lambda r: r.text("video_id")) if name != "video_id"
    ]


def _shorten(value: Any, longest: int = 60) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(value) if len(text) <= longest else f"'{text[: longest - 3]}...'"
