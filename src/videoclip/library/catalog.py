"""The catalogue: what a library knows of its videos, in SQLite, beside the file of vectors.

    videos      one row a video: file identity, length, and which rows of vectors are its windows
    metadata    the user's own keys and values
    cues        the narration, and `cues_text`, its full-text index
    facts       of the whole library: model fingerprint, window lengths, name of the vector file

One writer at a time (the library's lock), any number of readers that it never blocks (WAL).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from itertools import chain
from pathlib import Path

from videoclip.data.subtitles import Cue
from videoclip.errors import DataError, IndexMismatchError
from videoclip.library.narration import NarrationHit, words_that_matter
from videoclip.library.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, statements
from videoclip.library.where import Condition

__all__ = ["Catalog", "IndexedVideo"]


@dataclass(frozen=True)
class IndexedVideo:
    """One row of `videos`.

    Attributes:
        path: Absolute path of the file.
        size: Bytes.
        mtime_ns: Time of the last change, as the file system says it.
        content_hash: Hex digest of the content, by which a moved file is recognised.
        duration: Seconds.
        width: Pixels as shown; None where unknown.
        height: Pixels as shown.
        frame_rate: Frames per second on average.
        num_features: T; with the library's window lengths it fixes the windows.
        first_row: Row of the first window in the vector file.
        num_windows: W, in the order of `window_spans`.
        narration_path: Where the narration was read.
        narration_mtime_ns: Time of that file's last change.
        added: ISO date and time, UTC, of indexing.
        id: Key in the catalogue; 0 before it is added.
    """

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    duration: float
    width: int | None
    height: int | None
    frame_rate: float | None
    num_features: int
    first_row: int
    num_windows: int
    narration_path: str | None
    narration_mtime_ns: int | None
    added: str
    id: int = 0

    @property
    def video_id(self) -> str:
        """The file's name without its extension."""
        return Path(self.path).stem


COLUMNS = ", ".join(field.name for field in fields(IndexedVideo))


class Catalog:
    """An open catalogue file.

    Args:
        path: The SQLite file; made where it does not exist, unless `must_exist`.
        must_exist: Whether a missing file is an error.

    Raises:
        DataError: If the file is not a catalogue or is missing.
        IndexMismatchError: If it was written by another version of this schema.
    """

    def __init__(self, path: Path | str, must_exist: bool = False) -> None:
        self.path = Path(path)
        if must_exist and not self.path.is_file():
            raise DataError("no library here: make one with `videoclip index`", self.path.parent)
        # Autocommit: transactions are begun by `writing` alone. SQLite itself serialises threads.
        self._db = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=30.0
        )
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise DataError(f"not a library's catalogue ({error})", self.path) from error
        except IndexMismatchError:
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        # NORMAL would lose the last commit at a power cut; an index is made once, so be safe.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            (owner,) = self._db.execute("PRAGMA application_id").fetchone()
            if version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in statements(SCHEMA):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            elif owner != APPLICATION_ID:
                raise sqlite3.DatabaseError("it belongs to another program")
            elif version != SCHEMA_VERSION:
                raise IndexMismatchError(
                    f"{self.path}: library of schema {version}, this is schema {SCHEMA_VERSION}: "
                    "rebuild it with `videoclip index VIDEOS --library L --rebuild`"
                )

    def close(self) -> None:
        """Close the file; further calls fail."""
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All or nothing: commit at the end, roll back on any exception."""
        with self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let everything read inside be of one moment, whatever others commit meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever anybody commits; what was read under an equal version still holds."""
        (others,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(others), self._db.total_changes

    # --- facts of the whole library

    def facts(self) -> dict[str, str]:
        """All facts of the library."""
        return dict(self._db.execute("SELECT key, value FROM facts"))

    def set_facts(self, facts: Mapping[str, str]) -> None:
        """Set facts; others stay."""
        self._db.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    # --- videos

    def add(self, video: IndexedVideo, cues: Sequence[Cue]) -> int:
        """Add a video, or replace the one of that path, and return its key."""
        row = astuple(video)[:-1]
        marks = ", ".join("?" * len(row))
        names = COLUMNS.removesuffix(", id")
        updates = ", ".join(f"{name} = excluded.{name}" for name in names.split(", "))
        (key,) = self._db.execute(
            f"INSERT INTO videos ({names}) VALUES ({marks}) "
            f"ON CONFLICT(path) DO UPDATE SET {updates} RETURNING id",
            row,
        ).fetchone()
        self._replace_cues(key, cues)
        return int(key)

    def move(self, key: int, path: str, size: int, mtime_ns: int) -> None:
        """Record where a known content lies now."""
        self._db.execute(
            "UPDATE videos SET path = ?, size = ?, mtime_ns = ? WHERE id = ?",
            (path, size, mtime_ns, key),
        )

    def set_first_row(self, key: int, first_row: int) -> None:
        """Record where a video's windows lie now."""
        self._db.execute("UPDATE videos SET first_row = ? WHERE id = ?", (first_row, key))

    def set_narration(
        self, key: int, path: str | None, mtime_ns: int | None, cues: Sequence[Cue]
    ) -> None:
        """Replace the narration of a video."""
        self._db.execute(
            "UPDATE videos SET narration_path = ?, narration_mtime_ns = ? WHERE id = ?",
            (path, mtime_ns, key),
        )
        self._replace_cues(key, cues)

    def remove(self, keys: Iterable[int]) -> None:
        """Forget videos with their cues and metadata."""
        self._db.executemany("DELETE FROM videos WHERE id = ?", ((key,) for key in keys))

    def videos(self, condition: Condition | None = None) -> list[IndexedVideo]:
        """List the videos that satisfy a condition, in order of their rows of vectors."""
        where = f"WHERE {condition.sql}" if condition else ""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM videos {where} ORDER BY first_row",
            condition.values if condition else (),
        )
        return [IndexedVideo(*row) for row in rows]

    def find(self, path: str) -> IndexedVideo | None:
        """The video at a path."""
        row = self._db.execute(f"SELECT {COLUMNS} FROM videos WHERE path = ?", (path,)).fetchone()
        return IndexedVideo(*row) if row else None

    def with_content(self, content_hash: str) -> list[IndexedVideo]:
        """The videos of that content."""
        sql = f"SELECT {COLUMNS} FROM videos WHERE content_hash = ? ORDER BY path"
        return [IndexedVideo(*row) for row in self._db.execute(sql, (content_hash,))]

    def keys(self, condition: Condition) -> set[int]:
        """Keys of the videos that satisfy a condition."""
        sql = f"SELECT id FROM videos WHERE {condition.sql}"
        return set(chain.from_iterable(self._db.execute(sql, condition.values).fetchall()))

    # --- the user's metadata

    def set_metadata(self, key: int, values: Mapping[str, str | float | None]) -> None:
        """Replace the user's metadata of a video."""
        self._db.execute("DELETE FROM metadata WHERE video = ?", (key,))
        rows = ((key, name, value) for name, value in values.items())
        self._db.executemany("INSERT INTO metadata VALUES (?, ?, ?)", rows)

    def metadata(self, key: int) -> dict[str, str | float | None]:
        """The user's metadata of a video."""
        return dict(self._db.execute("SELECT key, value FROM metadata WHERE video = ?", (key,)))

    def metadata_keys(self) -> list[str]:
        """Every key some video has."""
        return [key for (key,) in self._db.execute("SELECT DISTINCT key FROM metadata ORDER BY 1")]

    # --- narration

    def _replace_cues(self, key: int, cues: Sequence[Cue]) -> None:
        self._db.execute("DELETE FROM cues WHERE video = ?", (key,))
        self._db.executemany(
            "INSERT INTO cues (video, start, end, text) VALUES (?, ?, ?, ?)",
            ((key, cue.start, cue.end, cue.text) for cue in cues),
        )

    def words(self, key: int, start: float, end: float) -> str:
        """What is spoken in a span of a video."""
        rows = self._db.execute(
            "SELECT text FROM cues WHERE video = ? AND start < ? AND end > ? ORDER BY start",
            (key, end, start),
        )
        return " ".join(text for (text,) in rows)

    def sample_cues(self, number: int) -> list[tuple[int, str]]:
        """Draw cues of several words, the same ones as long as they are there: (video, text)."""
        rows = self._db.execute(
            "SELECT video, text FROM cues WHERE text LIKE '%_ _% _%' "
            "ORDER BY id * 2654435761 % 4294967296 LIMIT ?",  # Knuth's multiplicative hash
            (number,),
        )
        return rows.fetchall()

    def spoken(
        self, query: str, limit: int, condition: Condition | None = None
    ) -> list[NarrationHit]:
        """Find the cues that speak of a query, best first (BM25 over stemmed words).

        Args:
            query: Free text; anything but its words is ignored, stop words too.
            limit: Most hits returned.
            condition: Which videos to look in.
        """
        if not (quoted := [f'"{word}"' for word in words_that_matter(query)]):
            return []
        complete = {row[0] for row in self._match(" AND ".join(quoted), limit, condition)}
        hits = self._match(" OR ".join(quoted), limit, condition)
        return [NarrationHit(*hit[1:], is_complete=hit[0] in complete) for hit in hits]

    def _match(
        self, words: str, limit: int, condition: Condition | None
    ) -> list[tuple[int, int, float, float]]:
        """Rows (cue, video, start, end) of a full-text search, best first."""
        inside = f"AND video IN (SELECT id FROM videos WHERE {condition.sql})" if condition else ""
        values = condition.values if condition else ()
        return self._db.execute(
            "SELECT cues.id, video, start, end FROM cues_text JOIN cues ON cues.id = "
            f"cues_text.rowid WHERE cues_text MATCH ? {inside} ORDER BY rank, cues.id LIMIT ?",
            (words, *values, limit),
        ).fetchall()
