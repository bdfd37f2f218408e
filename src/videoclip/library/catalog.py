"""The catalogue: what a library knows about its videos, in SQLite beside the file of vectors.

    videos      one row per video: file identity, length, and which rows of vectors are its windows
    metadata    the user's own keys and values
    cues        the narration, and `cues_text`, its full-text index
    passages    embeddings of consecutive cues, to find what is said in other words
    facts       about the whole library: model fingerprint, window lengths, name of the vector file

One writer at a time (the library's lock); any number of readers, which it never blocks (WAL).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from videoclip.data.captions import Cue
from videoclip.errors import DISK_ADVICE, DataError, IndexMismatchError
from videoclip.library.exact import HalfArray
from videoclip.library.filters import Condition, Value
from videoclip.library.vectors import REBUILD, MatrixStore
from videoclip.types import IntArray, RealArray

if TYPE_CHECKING:
    from videoclip.library.lance import LanceVectors

VectorStore: TypeAlias = "MatrixStore | LanceVectors"

FIRST_FILES = ("catalog.sqlite", "vectors-0.f16", "background-0.npz", "lock", "locks/*.lock")
"""Files that a library without videos may have, beside stores of features."""
SCHEMA_VERSION = 4
REPAIR = "compute them again with `videoclip index VIDEOS --library L --repair`"
EMPTY = f"the library's catalogue is empty: restore catalog.sqlite from a copy, or {REBUILD}"
APPLICATION_ID = 0x76636C70  # "vclp"

PASSAGES = """CREATE TABLE passages (
    video INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE, start REAL NOT NULL,
    end REAL NOT NULL, vector BLOB NOT NULL)"""
SCHEMA = (
    "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE videos (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, content_hash TEXT NOT NULL, duration REAL NOT NULL, width INTEGER,
    height INTEGER, frame_rate REAL, num_features INTEGER NOT NULL, first_row INTEGER NOT NULL,
    num_windows INTEGER NOT NULL, narration_path TEXT, narration_mtime_ns INTEGER,
    added TEXT NOT NULL, checksum INTEGER, record_checksum INTEGER)""",
    "CREATE INDEX videos_by_content ON videos(content_hash)",
    """CREATE TABLE metadata (
    video INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE, key TEXT NOT NULL, value,
    PRIMARY KEY (video, key)) WITHOUT ROWID""",
    """CREATE TABLE cues (
    id INTEGER PRIMARY KEY, video INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
    start REAL NOT NULL, end REAL NOT NULL, text TEXT NOT NULL)""",
    "CREATE INDEX cues_by_video ON cues(video, start)",
    """CREATE VIRTUAL TABLE cues_text USING fts5(text, content='cues', content_rowid='id',
    tokenize='porter unicode61 remove_diacritics 2')""",
    """CREATE TRIGGER cue_added AFTER INSERT ON cues BEGIN
    INSERT INTO cues_text(rowid, text) VALUES (new.id, new.text); END""",
    """CREATE TRIGGER cue_removed AFTER DELETE ON cues BEGIN
    INSERT INTO cues_text(cues_text, rowid, text) VALUES ('delete', old.id, old.text); END""",
    PASSAGES,
    "CREATE INDEX passages_by_video ON passages(video, start)",
)
UPGRADES = {
    2: ("ALTER TABLE videos ADD COLUMN checksum INTEGER",),
    3: ("ALTER TABLE videos ADD COLUMN record_checksum INTEGER",),
    4: SCHEMA[-2:],
}
"""Statements that make a catalogue of the version before one of this version; new columns are null
and new tables empty for the videos that were there before."""

PRIOR_CUES = 50
"""Cues without any term that are added to all libraries, since in a few cues every word is rare."""
PASSAGE_SECONDS = 8.0
"""Longest pause between cues of one passage."""

STOP_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "he", "her"}
    | {"his", "i", "in", "into", "is", "it", "its", "me", "my", "of", "on", "or", "our", "she"}
    | {"so", "some", "someone", "something", "that", "the", "their", "them", "then", "there"}
    | {"they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "will"}
    | {"with", "you", "your"}
)
"""Words of English that are not searched for in the narration."""


@dataclass(frozen=True)
class IndexedVideo:
    """One row of `videos`.

    Attributes:
        path: Absolute path of the file.
        size: Bytes.
        mtime_ns: Time of the last change, from the file system.
        content_hash: Hex digest of the content, by which a moved file is recognised.
        duration: Seconds.
        width: Pixels as shown; None where unknown.
        height: Pixels as shown.
        frame_rate: Frames per second on average.
        num_features: T; the windows follow from it and the library's window lengths.
        first_row: Row of the first window in the vector file.
        num_windows: W, in the order of `window_spans`.
        narration_path: File from which the narration was read.
        narration_mtime_ns: Time of that file's last change.
        added: ISO date and time, UTC, of indexing.
        id: Key in the catalogue; 0 before it is added.
        checksum: `checksum_of` its vectors; None if it is not known.
        record_checksum: Checksum of the other values, the narration and the metadata.
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
    checksum: int | None = None
    record_checksum: int | None = None

    @property
    def video_id(self) -> str:
        """The file's name without its extension."""
        return Path(self.path).stem

    def checksum_of(self, vectors: HalfArray) -> int:
        """Return the crc32 of vectors (W, E) as stored, and of what belongs to them in this row."""
        row = repr((self.content_hash, self.duration, self.num_features, self.num_windows))
        return zlib.crc32(vectors.data, zlib.crc32(row.encode()))


class Passage(NamedTuple):
    """Consecutive cues, from `start` to `end` seconds, and their embedding."""

    start: float
    end: float
    vector: HalfArray
    """(E,)"""


class Passages(NamedTuple):
    """The P passages of a video, or of all."""

    videos: IntArray
    """(P,) keys in the catalogue."""
    spans: RealArray
    """(P, 2) seconds."""
    vectors: HalfArray
    """(P, E)"""


class NarrationHit(NamedTuple):
    """Consecutive cues that contain rare words of a query, or mean the same as a query."""

    video: int
    """Key in the catalogue."""
    start: float
    """Seconds."""
    end: float
    is_complete: bool
    """Whether they contain every search term, in some inflection."""
    strength: float
    """Evidence that the query is spoken here, as a logarithm of odds."""


COLUMNS = tuple(field.name for field in fields(IndexedVideo) if field.name != "id")
RECORD = tuple(name for name in COLUMNS if name not in ("first_row", "record_checksum"))
"""What `record_checksum` covers of a row: rows of vectors have checksums of their own."""


class Catalog:
    """An open catalogue file, with the vectors that it refers to in files beside it.

    Args:
        path: The SQLite file; created if it does not exist.

    Raises:
        DataError: If the file is not a catalogue.
        IndexMismatchError: If it was written by another version of this schema.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.folder = self.path.parent
        self._matrix: MatrixStore | None = None
        self._checked: set[tuple[VectorStore, int, int | None]] = set()
        self._checked_records: set[tuple[int, int]] = set()
        # Autocommit, except inside `writing` and `reading`. SQLite serialises the statements of
        # threads, and the mutex their transactions, of which a connection has one at a time.
        self._mutex = threading.RLock()
        for file in (self.path, *self.folder.glob(f"{self.path.name}-*")):
            if file.exists() and not file.is_file():  # SQLite would wait for a pipe
                raise DataError("not a regular file: restore it from a copy", file)
        self.is_read_only = self.path.exists() and not os.access(self.folder, os.W_OK)
        address = f"{self.path.absolute().as_uri()}?immutable=1" if self.is_read_only else path
        try:
            self._db = sqlite3.connect(
                address, isolation_level=None, check_same_thread=False, timeout=30.0, uri=True
            )
        except sqlite3.OperationalError as error:
            raise DataError(f"cannot be opened ({error}); {DISK_ADVICE}", self.path) from error
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise DataError(f"not a library's catalogue ({error})", self.path) from error
        except (DataError, IndexMismatchError):
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        # NORMAL could lose the last commit in a power cut.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        with self._transaction("IMMEDIATE"):
            ((version,),) = self._rows("PRAGMA user_version")
            ((owner,),) = self._rows("PRAGMA application_id")
            if version == 0 and not self._rows("SELECT 1 FROM sqlite_master"):
                for statement in SCHEMA:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
                self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            elif owner != APPLICATION_ID:
                raise DataError("not a library's catalogue (another program's)", self.path)
            elif version > SCHEMA_VERSION:
                raise IndexMismatchError(
                    f"{self.path}: library of schema {version}, but this videoclip reads up to "
                    f"{SCHEMA_VERSION}: upgrade it with `pip install -U videoclip`"
                )
            elif version < SCHEMA_VERSION and self.is_read_only:
                if not self._rows("PRAGMA table_info(passages)"):
                    self._db.execute(PASSAGES.replace("CREATE", "CREATE TEMP", 1))
            elif version < SCHEMA_VERSION:
                self._upgrade(version)
            facts = self.facts() if owner == APPLICATION_ID else {}
            if facts.get("checksum", checksum := _checksum_of(facts)) != checksum:
                raise DataError(f"the catalogue's facts are damaged: {REBUILD}", self.path)

    def _upgrade(self, version: int) -> None:
        """Bring a catalogue of an earlier version up to date."""
        for later in range(version + 1, SCHEMA_VERSION + 1):
            for statement in UPGRADES[later]:
                self._db.execute(statement)
        for video in self.videos():
            if video.narration_path and not self.damaged_records([video.id]):
                # The next update reads and embeds it.
                sql = "UPDATE videos SET narration_mtime_ns = 0 WHERE id = ?"
                self._db.execute(sql, (video.id,))
                if video.record_checksum is not None:
                    self._seal(video.id)
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the file; further calls fail."""
        self._db.close()

    def delete(self) -> None:
        """Close a library that never had a video and delete it, unless it is open elsewhere."""
        self._db.execute("PRAGMA busy_timeout=0")
        try:
            self._db.execute("PRAGMA journal_mode=DELETE")  # fails if it has another connection
        except sqlite3.OperationalError:
            return
        self._db.close()
        stores = self.folder.glob("features-*/index.bin")
        for store in [store.parent for store in stores if not store.stat().st_size]:
            shutil.rmtree(store)  # it has no videos
        for file in [file for name in FIRST_FILES for file in self.folder.glob(name)]:
            file.unlink()
        for folder in (self.folder / "lance", self.folder / "locks", self.folder):
            with suppress(OSError):  # the user may have files there
                folder.rmdir()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn an error of SQLite into a `DataError` that says what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DataError(f"{error}; {DISK_ADVICE}", self.path) from error
        except sqlite3.ProgrammingError:  # not of the file, but a closed library, for example
            raise
        except sqlite3.DatabaseError as error:
            raise DataError(f"the catalogue is damaged ({error}): {REBUILD}", self.path) from error

    def _rows(self, sql: str, values: Sequence[Value | None] = ()) -> list[tuple[Any, ...]]:
        """Return the result of a query."""
        with self._reporting():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        with self._mutex, self._reporting():
            self._db.execute(f"BEGIN {kind}")
            with self._db:  # commits, or rolls back on any exception
                yield

    def writing(self) -> AbstractContextManager[None]:
        """Run the block as one transaction: commit at its end, roll back on any exception."""
        return self._transaction("IMMEDIATE")

    def reading(self) -> AbstractContextManager[None]:
        """Read a consistent state inside the block, whatever others commit meanwhile."""
        return self._transaction("DEFERRED")

    @property
    def version(self) -> tuple[int, int]:
        """Two numbers that change whenever any process commits."""
        ((others,),) = self._rows("PRAGMA data_version")
        return int(others), self._db.total_changes

    # --- facts of the whole library

    def facts(self) -> dict[str, str]:
        """Return all facts about the library."""
        return dict(self._rows("SELECT key, value FROM facts"))

    def set_facts(self, facts: Mapping[str, str]) -> None:
        """Set some facts and keep the others."""
        known = {**self.facts(), **facts}
        known["checksum"] = _checksum_of(known)
        self._db.executemany("REPLACE INTO facts VALUES (?, ?)", known.items())

    # --- videos

    def add(
        self, video: IndexedVideo, cues: Sequence[Cue], passages: Sequence[Passage] = ()
    ) -> int:
        """Add a video, or replace the one of that path, and return its key."""
        row = [getattr(video, name) for name in COLUMNS]
        marks = ", ".join("?" * len(row))
        updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
        (key,) = self._db.execute(
            f"INSERT INTO videos ({', '.join(COLUMNS)}) VALUES ({marks}) "
            f"ON CONFLICT(path) DO UPDATE SET {updates} RETURNING id",
            row,
        ).fetchone()
        self.set_narration(key, cues, passages)
        return int(key)

    def change(self, key: int, **values: str | int | None) -> None:
        """Set some columns of a video.

        Raises:
            DataError: If its record is damaged.
        """
        self._raise_if_damaged([key])
        names = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE videos SET {names} WHERE id = ?", (*values.values(), key))
        self._seal(key)

    def set_narration(self, key: int, cues: Sequence[Cue], passages: Sequence[Passage]) -> None:
        """Replace the narration of a video."""
        for table in ("cues", "passages"):
            self._db.execute(f"DELETE FROM {table} WHERE video = ?", (key,))
        self._db.executemany(
            "INSERT INTO passages VALUES (?, ?, ?, ?)",
            ((key, start, end, vector.tobytes()) for start, end, vector in passages),
        )
        self._db.executemany(
            "INSERT INTO cues (video, start, end, text) VALUES (?, ?, ?, ?)",
            ((key, cue.start, cue.end, cue.text) for cue in cues),
        )
        self._seal(key)

    def _seal(self, key: int) -> None:
        """Store the checksum of a video's record."""
        self._db.execute(
            "UPDATE videos SET record_checksum = ? WHERE id = ?", (self.record_checksum(key), key)
        )

    def record_checksum(self, key: int) -> int:
        """Return the crc32 of what the catalogue knows about a video, narration and metadata."""
        parts = [
            self._rows(query, (key,))
            for query in (
                f"SELECT {', '.join(RECORD)} FROM videos WHERE id = ?",
                "SELECT start, end, text FROM cues WHERE video = ? ORDER BY start, end, text",
                "SELECT key, value FROM metadata WHERE video = ? ORDER BY key",
            )
        ]
        passages = self._rows(
            "SELECT start, end, vector FROM passages WHERE video = ? ORDER BY start, end", (key,)
        )
        return zlib.crc32(repr([*parts, *passages]).encode())

    def remove(self, keys: Iterable[int]) -> None:
        """Remove videos with their cues and metadata."""
        self._db.executemany("DELETE FROM videos WHERE id = ?", ((key,) for key in keys))

    def videos(self, condition: Condition | None = None) -> list[IndexedVideo]:
        """List all videos, or those that satisfy a condition, in order of their first rows."""
        where = f"WHERE {condition.sql}" if condition else ""
        return self._select(f"{where} ORDER BY first_row", condition.values if condition else ())

    def find(self, path: str) -> IndexedVideo | None:
        """Return the video with a path, if there is one."""
        return next(iter(self._select("WHERE path = ?", (path,))), None)

    def with_content(self, content_hash: str) -> list[IndexedVideo]:
        """List the videos with a content hash, in order of path."""
        return self._select("WHERE content_hash = ? ORDER BY path", (content_hash,))

    def _select(self, clauses: str, values: Sequence[Value]) -> list[IndexedVideo]:
        with self._reporting():
            rows = self._db.execute(f"SELECT * FROM videos {clauses}", values)
            names = [column[0] for column in rows.description]
            return [IndexedVideo(**dict(zip(names, row, strict=True))) for row in rows]

    def keys(self, condition: Condition) -> set[int]:
        """Return the keys of the videos that satisfy a condition."""
        sql = f"SELECT id FROM videos WHERE {condition.sql}"
        return {key for (key,) in self._rows(sql, condition.values)}

    # --- vectors

    def vectors(self) -> VectorStore:
        """Return the vectors that the catalogue refers to now."""
        facts = self.facts()
        path = self.folder / facts["vectors"]
        if self._matrix is None or self._matrix.path != path:
            self._matrix = MatrixStore(path, int(facts["dim"]))
        return self._matrix

    def damaged(self, videos: Iterable[IndexedVideo]) -> list[IndexedVideo]:
        """Return the videos whose vectors differ from their checksums; each is read only once."""
        vectors, damaged = self.vectors(), []
        for video in videos:
            identity = vectors, video.first_row, video.checksum
            if video.checksum is None or identity in self._checked:
                continue
            rows = vectors.map_half(video.first_row, video.num_windows)
            if video.checksum_of(rows) == video.checksum:
                self._checked.add(identity)
            else:
                damaged.append(video)
        return damaged

    def check(self, videos: Iterable[IndexedVideo]) -> None:
        """Raise a `DataError` if vectors are `damaged`; the library is about to be searched."""
        if damaged := self.damaged(videos):
            raise DataError(
                f"the vectors of {len(damaged)} videos are damaged, such as {damaged[0].path}: "
                f"{REPAIR}",
                self.folder,
            )

    def damaged_records(self, keys: Iterable[int]) -> list[int]:
        """Return the keys of videos whose rows, narration or metadata differ from their checksums.

        Each is read only once, unless it changes.
        """
        damaged = []
        for key in keys:
            select = "SELECT record_checksum FROM videos WHERE id = ?"
            ((stored,),) = self._rows(select, (key,)) or [(None,)]
            if stored is None or (key, stored) in self._checked_records:
                continue
            if self.record_checksum(key) == stored:
                self._checked_records.add((key, stored))
            else:
                damaged.append(key)
        return damaged

    def check_records(self, keys: Iterable[int]) -> None:
        """Raise a `DataError` if records of videos are damaged; they are about to be shown."""
        with self.reading():
            self._raise_if_damaged(keys)

    def _raise_if_damaged(self, keys: Iterable[int]) -> None:
        if damaged := self.damaged_records(keys):
            ((path,),) = self._rows("SELECT path FROM videos WHERE id = ?", damaged[:1])
            raise DataError(
                f"what the catalogue holds about {len(damaged)} videos is damaged, such as "
                f"{path!r}: add them again with `videoclip index VIDEOS --library L --repair`, and "
                "with --metadata if they had some",
                self.path,
            )

    def verify(self) -> None:
        """Raise a `DataError` if the file, a record, an index or vectors are damaged."""
        with self._transaction("IMMEDIATE"):
            ((found,),) = self._rows("PRAGMA integrity_check(1)")
            self._db.execute("INSERT INTO cues_text(cues_text, rank) VALUES('integrity-check', 1)")
        if found != "ok":
            raise DataError(f"the catalogue is damaged ({found}): {REBUILD}", self.path)
        self.check_records([video.id for video in self.videos()])
        Catalog.check(self, self.videos())
        vectors = self.vectors()
        if isinstance(vectors, MatrixStore) and vectors.index.path.exists():
            vectors.index.verify()

    def compact(self) -> None:
        """Drop the vectors that belong to no video; the caller holds the library's lock.

        Readers continue with the old file, which is deleted by the next compaction.
        """
        generation = int(self.facts()["generation"]) + 1
        old, new = self.vectors(), self.folder / f"vectors-{generation}.f16"
        assert isinstance(old, MatrixStore)
        videos = self.videos()
        old.rewrite(new, [(video.first_row, video.num_windows) for video in videos])
        with self.writing():
            first_rows = accumulate((video.num_windows for video in videos), initial=0)
            for video, first_row in zip(videos, first_rows, strict=False):
                self._db.execute(
                    "UPDATE videos SET first_row = ? WHERE id = ?", (first_row, video.id)
                )
            self.set_facts({"generation": str(generation), "vectors": new.name})
        for file in self.folder.glob("vectors-*"):
            if file.stem not in (old.path.stem, new.stem):
                file.unlink()

    # --- the user's metadata

    def set_metadata(self, key: int, values: Mapping[str, str | float | None]) -> None:
        """Replace the user's metadata of a video.

        Raises:
            DataError: If its record is damaged.
        """
        self._raise_if_damaged([key])
        self._db.execute("DELETE FROM metadata WHERE video = ?", (key,))
        rows = ((key, name, value) for name, value in values.items())
        self._db.executemany("INSERT INTO metadata VALUES (?, ?, ?)", rows)
        self._seal(key)

    def metadata(self, key: int) -> dict[str, str | float | None]:
        """Return the user's metadata of a video."""
        return dict(self._rows("SELECT key, value FROM metadata WHERE video = ?", (key,)))

    def metadata_keys(self) -> list[str]:
        """List every metadata key that any video has."""
        return [key for (key,) in self._rows("SELECT DISTINCT key FROM metadata ORDER BY 1")]

    # --- narration

    def num_cues(self) -> int:
        """Count the cues of all videos."""
        ((count,),) = self._rows("SELECT count(*) FROM cues")
        return int(count)

    def cues(self, key: int) -> list[Cue]:
        """Return the narration of a video in order of time."""
        rows = self._rows(
            "SELECT start, end, text FROM cues WHERE video = ? ORDER BY start, id", (key,)
        )
        return [Cue(*row) for row in rows]

    def passages(self, dim: int, key: int | None = None) -> Passages:
        """Return the passages of a video in order of time, or those of all videos.

        Args:
            dim: Width E of their embeddings.
            key: Of the video; None: all.
        """
        where, values = ("WHERE video = ?", (key,)) if key is not None else ("", ())
        rows = self._rows(
            f"SELECT video, start, end, vector FROM passages {where} ORDER BY video, start, end",
            values,
        )
        videos = np.array([row[0] for row in rows], dtype=np.int64)
        spans = np.array([row[1:3] for row in rows], dtype=np.float64).reshape(-1, 2)
        vectors = np.frombuffer(b"".join(row[3] for row in rows), dtype=np.float16)
        return Passages(videos, spans, vectors.reshape(-1, dim))

    def words(self, key: int, start: float, end: float) -> str:
        """Return the narration in a span of a video."""
        rows = self._rows(
            "SELECT text FROM cues WHERE video = ? AND start < ? AND end > ? ORDER BY start",
            (key, end, start),
        )
        return " ".join(text for (text,) in rows)

    def sample_cues(self, number: int) -> list[tuple[int, str]]:
        """Draw cues of at least three words, in an order that depends on their keys alone.

        Returns:
            Key of the video and text of each.
        """
        return self._rows(
            "SELECT video, text FROM cues WHERE text LIKE '%_ _% _%' "
            "ORDER BY id * 2654435761 % 4294967296 LIMIT ?",  # Knuth's multiplicative hash
            (number,),
        )

    def spoken(
        self, query: str, limit: int, condition: Condition | None = None
    ) -> list[NarrationHit]:
        """Find where a query is spoken, strongest first.

        A term counts by its rarity, log(cues / cues with it): for a passage if it is spoken there,
        in some inflection, against it if it is not, so that common words alone have a negative
        strength. As the query is spoken in one of the videos whose passages are equally strong,
        the logarithm of their number counts against each.

        Args:
            query: Free text; only its `search_terms` count.
            limit: Maximum number of cues that are considered, those with the rarest terms first
                (BM25).
            condition: Videos to search; None: all.
        """
        terms = [f'"{term}"' for term in search_terms(query)]
        if not terms:
            return []
        inside = f"AND video IN (SELECT id FROM videos WHERE {condition.sql})" if condition else ""
        cues = self._rows(
            "SELECT cues.id, video, start, end FROM cues_text "
            "JOIN cues ON cues.id = cues_text.rowid "
            f"WHERE cues_text MATCH ? {inside} ORDER BY rank, cues.id LIMIT ?",
            (" OR ".join(terms), *(condition.values if condition else ()), limit),
        )
        if not cues:
            return []
        num_cues, rarities = self.num_cues(), []
        spoken: dict[int, set[int]] = {key: set() for key, *_ in cues}  # terms of each cue
        marks = ", ".join("?" * len(cues))
        for term, text in enumerate(terms):
            sql = "SELECT count(*) FROM cues_text WHERE cues_text MATCH ?"
            ((count,),) = self._rows(sql, (text,))
            rarities.append(math.log((num_cues + PRIOR_CUES) / (count + 0.5)))
            sql = f"SELECT rowid FROM cues_text WHERE cues_text MATCH ? AND rowid IN ({marks})"
            for (key,) in self._rows(sql, (text, *spoken)):
                spoken[key].add(term)
        hits = _join_cues(cues, spoken, rarities)
        return sorted(hits, key=lambda hit: -hit.strength)


def _join_cues(
    cues: Sequence[tuple[int, int, float, float]],
    spoken: Mapping[int, set[int]],
    rarities: Sequence[float],
) -> list[NarrationHit]:
    """Return the passages with terms of a query, each cue in at most one of them.

    Args:
        cues: Key, key of the video, start and end of each.
        spoken: Numbers of the terms that each cue contains, by its key.
        rarities: Of the terms.
    """
    of_video: dict[int, list[tuple[int, int, float, float]]] = {}
    for cue in cues:
        of_video.setdefault(cue[1], []).append(cue)
    passages = []
    for key, video, start, end in cues:
        # Neighbours, nearest first, each only if it adds a term.
        near = [cue for cue in of_video[video] if cue[0] != key]
        near = [cue for cue in near if max(start - cue[3], cue[2] - end) <= PASSAGE_SECONDS]
        near.sort(key=lambda cue: abs(cue[2] - start))
        terms, first, last = set(spoken[key]), start, end
        for other in near:
            if spoken[other[0]] - terms:
                terms |= spoken[other[0]]
                first, last = min(first, other[2]), max(last, other[3])
        strength = sum(rarity if term in terms else -rarity for term, rarity in enumerate(rarities))
        passages.append((strength, len(terms) == len(rarities), video, first, last))
    passages.sort(key=lambda passage: (-passage[0], passage[4] - passage[3]))
    num_videos = {
        strength: len({passage[2] for passage in passages if math.isclose(passage[0], strength)})
        for strength in {passage[0] for passage in passages}
    }
    hits: list[NarrationHit] = []
    taken: dict[int, list[tuple[float, float]]] = {video: [] for video in of_video}
    for strength, is_complete, video, first, last in passages:
        if all(first >= end or last <= start for start, end in taken[video]):
            taken[video].append((first, last))
            strength -= math.log(num_videos[strength])
            hits.append(NarrationHit(video, first, last, is_complete, strength))
    return hits


def _checksum_of(facts: Mapping[str, str]) -> str:
    """Return the crc32 of all facts but this one."""
    others = sorted((key, value) for key, value in facts.items() if key != "checksum")
    return str(zlib.crc32(repr(others).encode()))


def search_terms(query: str) -> list[str]:
    """Return the words of a query without repeats and stop words, or all if there are no others."""
    words = list(dict.fromkeys(re.findall(r"\w+", query.casefold())))
    return [word for word in words if word not in STOP_WORDS] or words
