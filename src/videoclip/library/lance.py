"""A library in tables of LanceDB, for object storage and for several machines.

`videos` has one row a video, its narration and metadata included, so that a video is committed
whole; `vectors-N` has the windows, under a key that each embedding of a video draws for itself;
`facts` is what the library is. The catalogue is read into SQLite in memory, which then answers: so
filters, narration search and their order are those of every other library.

Rows are numbers of this process alone: the windows of each key it has met, one key after another.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from videoclip.data.subtitles import Cue
from videoclip.errors import DataError
from videoclip.library.catalog import Catalog, IndexedVideo
from videoclip.types import BoolArray, FloatArray, IntArray

__all__ = ["LanceStorage", "has_library"]

MOST_KEYS = 512
"""Videos that a search is told to keep to; of more, hits are left out afterwards."""
TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
OWN = ("id", "first_row")
"""Columns of `IndexedVideo` that mean something in this process only."""
COLUMNS = {
    field.name: TYPES[str(field.type).removesuffix(" | None")]
    for field in fields(IndexedVideo)
    if field.name not in OWN
}
VIDEOS = pa.schema(
    [*COLUMNS.items(), ("key", pa.string()), ("cues", pa.string()), ("metadata", pa.string())]
)
FACTS = pa.schema([("key", pa.string()), ("value", pa.string())])


def has_library(address: str) -> bool:
    """Whether there is a library at what LanceDB connects to."""
    return "facts" in lancedb.connect(address).list_tables().tables


class _Keys:
    """Which rows of this process are the windows of which key."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.key: dict[int, str] = {}
        self.num_rows = 0

    def first_of(self, key: str, count: int) -> int:
        """First row of a key's windows; new keys get the next ones."""
        if key not in self.first:
            self.first[key], self.key[self.num_rows] = self.num_rows, key
            self.num_rows += count
        return self.first[key]


class LanceStorage:
    """A library in LanceDB; see `storage.Storage`.

    Args:
        address: What LanceDB connects to.
        folder: Folder on this machine, for locks and frozen features.
        must_exist: Whether a missing library is an error.

    Raises:
        DataError: If it is missing.
    """

    def __init__(self, address: str, folder: Path, must_exist: bool = False) -> None:
        self.folder = folder
        self._db = lancedb.connect(address)
        if must_exist and not has_library(address):
            raise DataError("no library here: make one with `videoclip index`", address)
        folder.mkdir(parents=True, exist_ok=True)
        self._keys = _Keys()
        self.catalog: Catalog = LanceCatalog(self._db, self._keys)
        self._vectors: LanceVectors | None = None

    def vectors(self) -> LanceVectors:
        """The table of vectors that the catalogue names now."""
        facts = self.catalog.facts()
        name = Path(facts["vectors"]).stem
        if self._vectors is None or self._vectors.name != name:
            self._vectors = LanceVectors(self._db, name, int(facts["dim"]), self._keys)
        return self._vectors

    def compact(self, videos: Sequence[IndexedVideo]) -> None:
        """Delete the windows of keys that no video owns; nobody else may be writing."""
        self.vectors().keep({self._keys.key[video.first_row] for video in videos})


class LanceCatalog(Catalog):
    """A catalogue kept in tables, and answered from SQLite in memory.

    Args:
        db: The connection.
        keys: Rows of this process.
    """

    def __init__(self, db: Any, keys: _Keys) -> None:
        super().__init__(":memory:")
        self._keys, self._mutex = keys, threading.RLock()
        self._videos = db.create_table("videos", schema=VIDEOS, exist_ok=True)
        self._facts = db.create_table("facts", schema=FACTS, exist_ok=True)
        self._known: tuple[int, int] | None = None
        self._stored: dict[int, str] = {}  # paths in the table, by key of the video
        self._db.execute("CREATE TEMP TABLE touched (id INTEGER PRIMARY KEY)")
        for table, column in (("videos", "id"), ("cues", "video"), ("metadata", "video")):
            for event, side in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
                self._db.execute(
                    f"CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON main.{table} BEGIN "
                    f"INSERT OR IGNORE INTO touched VALUES ({side}.{column}); END"
                )
        self._refresh()

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever anybody commits."""
        self._refresh()
        assert self._known is not None
        return self._known

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All or nothing for each video: what was touched goes to the tables at the end."""
        with self._mutex:
            self._refresh()
            with self._transaction():
                before = self.facts()
                yield
                num_commits = self._store_videos(), self._store_facts(before)
            assert self._known is not None
            mine = tuple(sum(pair) for pair in zip(self._known, num_commits, strict=True))
            now = self._videos.version, self._facts.version
            self._known = now if now == mine else None  # others have committed in between

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let everything read inside be of one moment: this one."""
        with self._mutex:
            self._refresh()
            yield

    def _refresh(self) -> None:
        """Read what others have committed."""
        with self._mutex:
            self._videos.checkout_latest()
            self._facts.checkout_latest()
            now = self._videos.version, self._facts.version
            if now == self._known:
                return
            with self._transaction():
                self._read_videos(self._videos.to_arrow().to_pylist())
                facts = self._facts.to_arrow().to_pylist()
                self.set_facts({row["key"]: row["value"] for row in facts})
                self._db.execute("DELETE FROM touched")
            self._known = now

    def _read_videos(self, rows: list[dict[str, Any]]) -> None:
        there = {row["path"] for row in rows}
        self.remove(key for key, path in self._stored.items() if path not in there)
        for row in rows:
            first_row = self._keys.first_of(row["key"], row["num_windows"])
            video = IndexedVideo(**{name: row[name] for name in COLUMNS}, first_row=first_row)
            key = self.add(video, [Cue(*cue) for cue in json.loads(row["cues"])])
            self.set_metadata(key, json.loads(row["metadata"]))
        self._stored = {video.id: video.path for video in self.videos()}

    def _store_videos(self) -> int:
        """Write the videos that this transaction touched, and return the number of commits."""
        touched = [key for (key,) in self._db.execute("SELECT id FROM touched")]
        if not touched:
            return 0
        videos = {video.id: video for video in self.videos()}
        rows = [self._row(videos[key]) for key in touched if key in videos]
        if rows:
            _merge(self._videos, "path", pa.Table.from_pylist(rows, schema=VIDEOS))
        now = {key: video.path for key, video in videos.items()}
        gone = set(self._stored.values()) - set(now.values())
        if gone:
            self._videos.delete(f"path IN ({', '.join(map(_quoted, sorted(gone)))})")
        self._stored = now
        self._db.execute("DELETE FROM touched")
        return bool(rows) + bool(gone)

    def _store_facts(self, before: Mapping[str, str]) -> int:
        """Write the facts that this transaction changed, and return the number of commits."""
        changed = [
            {"key": key, "value": value}
            for key, value in self.facts().items()
            if before.get(key) != value
        ]
        if changed:
            _merge(self._facts, "key", pa.Table.from_pylist(changed, schema=FACTS))
        return bool(changed)

    def _row(self, video: IndexedVideo) -> dict[str, Any]:
        cues = self._db.execute(
            "SELECT start, end, text FROM cues WHERE video = ? ORDER BY start, id", (video.id,)
        ).fetchall()
        return {
            **{name: value for name, value in asdict(video).items() if name in COLUMNS},
            "key": self._keys.key[video.first_row],
            "cues": json.dumps(cues),
            "metadata": json.dumps(self.metadata(video.id)),
        }


class LanceVectors:
    """The windows of a library in a table; see `VectorStore`. It looks at every one of them.

    Args:
        db: The connection.
        name: Of the table; made if absent.
        dim: Width E.
        keys: Rows of this process.
    """

    def __init__(self, db: Any, name: str, dim: int, keys: _Keys) -> None:
        self.name = name
        self.dim = dim
        self._keys = keys
        self._schema = pa.schema(
            [("key", pa.string()), ("window", pa.int32()), ("vector", pa.list_(pa.float16(), dim))]
        )
        self._table = db.create_table(name, schema=self._schema, exist_ok=True)

    def append(self, vectors: FloatArray) -> int:
        """Add vectors; see `VectorStore.append`. Several machines may do so at once."""
        key = secrets.token_hex(8)
        with np.errstate(over="ignore"):
            half = vectors.astype(np.float16)
        if not np.isfinite(half).all():
            raise DataError("an embedding is not finite, or beyond half precision", self.name)
        columns = [
            pa.array([key] * len(half)),
            pa.array(np.arange(len(half), dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), self.dim),
        ]
        self._table.add(pa.Table.from_arrays(columns, schema=self._schema))
        return self._keys.first_of(key, len(half))

    def read(self, first: int, count: int) -> FloatArray:
        """Return (count, E) float32 vectors from a row on; they are those of one video."""
        self._table.checkout_latest()
        rows = self._table.search().where(f"key = {_quoted(self._keys.key[first])}")
        found = rows.limit(count).to_arrow().sort_by("window")
        if found.num_rows != count:
            raise DataError(
                f"holds {found.num_rows} of the {count} vectors the catalogue knows of a video: "
                "rebuild the library with `videoclip index VIDEOS --library L --rebuild`",
                self.name,
            )
        return _matrix(found["vector"], self.dim)

    def search(
        self,
        queries: FloatArray,
        k: int,
        num_rows: int,
        allowed: BoolArray | None = None,
        *,
        exact: bool = False,
    ) -> tuple[FloatArray, IntArray]:
        """Find the rows most similar to each query; see `VectorStore.search`."""
        may = np.ones(num_rows, dtype=bool) if allowed is None else allowed
        k = min(k, int(np.count_nonzero(may)))
        self._table.checkout_latest()
        found = [self._nearest(query, k, may) for query in queries] if k else []
        if not found:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        similarities, rows = zip(*found, strict=True)
        return np.stack(similarities), np.stack(rows)

    def refresh_index(self, queries: FloatArray, num_rows: int) -> None:
        """Do nothing: every window is looked at."""

    def keep(self, keys: set[str]) -> None:
        """Delete the windows of all other keys."""
        self._table.checkout_latest()
        scan = self._table.search().where("window = 0").select(["key"])
        firsts = scan.limit(self._table.count_rows() + 1).to_arrow()
        others = sorted(set(firsts["key"].to_pylist()) - keys)
        for first in range(0, len(others), MOST_KEYS):
            some = ", ".join(map(_quoted, others[first : first + MOST_KEYS]))
            self._table.delete(f"key IN ({some})")

    def _nearest(self, query: FloatArray, k: int, may: BoolArray) -> tuple[FloatArray, IntArray]:
        """The k most similar rows that may be found."""
        keys = [key for first, key in self._keys.key.items() if first < len(may) and may[first]]
        wanted = k
        while True:
            search = self._table.search(query, vector_column_name="vector").distance_type("dot")
            search = search.bypass_vector_index().limit(wanted)
            if len(keys) <= MOST_KEYS:
                search = search.where(f"key IN ({', '.join(map(_quoted, keys))})", prefilter=True)
            hits = search.to_arrow()
            firsts = [self._keys.first.get(key, len(may)) for key in hits["key"].to_pylist()]
            rows = np.array(firsts, dtype=np.int64) + hits["window"].to_numpy()
            inside = rows < len(may)
            inside[inside] = may[rows[inside]]
            if inside.sum() >= k or hits.num_rows < wanted:
                break
            wanted *= 4  # many windows that no video owns, or that the filter leaves out
        similarities = _matrix(hits["vector"], self.dim)[inside] @ query
        order = np.argsort(-similarities, kind="stable")[:k]
        return similarities[order], rows[inside][order]


def _merge(table: Any, key: str, rows: Any) -> None:
    """Insert rows, or replace those of the same key, in one commit."""
    merge = table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all()
    merge.execute(rows)


def _matrix(column: Any, dim: int) -> FloatArray:
    """Vectors (n, E) of a column."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix: FloatArray = flat.astype(np.float32).reshape(-1, dim)
    return matrix


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
