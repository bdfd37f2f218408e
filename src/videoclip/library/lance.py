"""A library in tables of LanceDB, for object storage and for several machines.

`videos` has one row per video, with its narration and metadata, so that a video is committed as a
whole; `vectors-N` has the windows, under a random key for each embedding of a video; `facts` has
facts about the library. The catalogue is copied into SQLite in memory, so that filters and
narration search work as in every other library.

Row numbers are those of this process: the windows of each key it has met, one key after another.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from videoclip.data.captions import Cue
from videoclip.errors import DataError, one_line
from videoclip.library.catalog import REPAIR, Catalog, IndexedVideo, Passage
from videoclip.library.exact import HalfArray, highest, to_float32
from videoclip.library.vectors import REBUILD, to_half
from videoclip.types import BoolArray, FloatArray, IntArray

MAX_KEYS = 512
"""Keys named in one condition; a search that allows more filters its results afterwards."""
TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
COLUMNS = {
    field.name: TYPES[str(field.type).removesuffix(" | None")]
    for field in fields(IndexedVideo)
    # These have a meaning in this process only.
    if field.name not in ("id", "first_row")
}
OPTIONAL = {"checksum", "passages"} | {
    field.name for field in fields(IndexedVideo) if "None" in str(field.type)
}
"""Columns whose values may be missing."""
TEXTS = ("key", "cues", "passages", "metadata")
VIDEOS = pa.schema([*COLUMNS.items(), *((name, pa.string()) for name in TEXTS)])
_SOURCE = re.compile(r", /\S+\.rs:\d+:\d+")
"""Where in its own code LanceDB has failed."""
NAMES = "names of the facts"
FIRST_NAMES = '["dim", "fingerprint", "model", "unrelated", "vectors", "windows"]'
"""Facts that every library has, if those of a library of an earlier version are not listed."""
FAILURES = (RuntimeError, OSError, ValueError)
PANIC = "RustPanic"
"""Name of the error for a panic in LanceDB, as damaged tables cause; no module has its class."""
FACTS = pa.schema([("key", pa.string()), ("value", pa.string()), ("checksum", pa.int64())])


@contextmanager
def _report_errors() -> Iterator[None]:
    """Raise errors of LanceDB in the block, or in the decorated method, as a `DataError`."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, FAILURES) or type(error).__name__ == PANIC):
            raise
        raise DataError(
            f"LanceDB failed ({_SOURCE.sub('', one_line(error)):.200}): check the disk, the "
            "address and the connection; if "
            f"tables are damaged, {REBUILD}"
        ) from error


def has_library(address: str) -> bool:
    """Return whether there are the tables of a library."""
    with _report_errors():
        return "facts" in lancedb.connect(address).list_tables().tables


class _Keys:
    """Rows of this process, and the keys of the videos whose windows they are."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.key: dict[int, str] = {}
        self.video: dict[int, IndexedVideo] = {}
        self.num_rows = 0

    def first_row(self, key: str, count: int) -> int:
        """Return the first row of a key's windows; a new key gets the next rows."""
        if key not in self.first:
            self.first[key], self.key[self.num_rows] = self.num_rows, key
            self.num_rows += count
        return self.first[key]


class LanceCatalog(Catalog):
    """A catalogue in tables, copied into SQLite in memory, with vectors in a table too.

    Args:
        address: What LanceDB connects to.
        folder: Folder on this machine, for locks and frozen features.
    """

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__(":memory:")
        self.folder = folder
        self._keys = _Keys()
        self._table: LanceVectors | None = None
        with _report_errors():
            self._connection = db = lancedb.connect(address)
            self._videos = _open_table(db, "videos", VIDEOS)
            self._facts = _open_table(db, "facts", FACTS)
        self._copied: tuple[int, int] | None = None  # versions of the tables
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
        """Two numbers that change whenever any machine commits."""
        self._refresh()
        assert self._copied is not None
        return self._copied

    def vectors(self) -> LanceVectors:
        """Return the table of vectors that the catalogue names now."""
        facts = self.facts()
        name = Path(facts["vectors"]).stem
        if self._table is None or self._table.name != name:
            self._table = LanceVectors(self._connection, name, int(facts["dim"]), self._keys)
        return self._table

    def delete(self) -> None:
        """Close a library that never had a video and delete it, whoever else has it open."""
        self._connection.drop_all_tables()
        super().delete()

    def compact(self) -> None:
        """Delete the windows of no video; no other machine may be writing."""
        self.vectors().keep({self._keys.key[video.first_row] for video in self.videos()})

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Run the block as one transaction; then write the videos and facts that it changed."""
        with self._mutex:
            self._refresh()
            with super().writing():
                facts = self.facts()
                yield
                num_commits = self._store_videos(), self._store_facts(facts)
            assert self._copied is not None
            expected = self._copied[0] + num_commits[0], self._copied[1] + num_commits[1]
            now = self._videos.version, self._facts.version
            self._copied = now if now == expected else None  # others have committed meanwhile

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read a consistent state inside the block, whatever others commit meanwhile."""
        with self._mutex:
            self._refresh()
            yield

    @_report_errors()
    def _refresh(self) -> None:
        """Copy the tables again if any machine has committed."""
        with self._mutex:
            self._videos.checkout_latest()
            self._facts.checkout_latest()
            now = self._videos.version, self._facts.version
            if now == self._copied:
                return
            with super().writing():
                self._copy_videos(_read_rows(self._videos, VIDEOS))
                self._copy_facts(_read_rows(self._facts, FACTS))
                self._db.execute("DELETE FROM touched")
            self._copied = now

    def _copy_videos(self, rows: list[dict[str, Any]]) -> None:
        paths = {row["path"] for row in rows}
        self.remove(key for key, path in self._stored.items() if path not in paths)
        for row in rows:
            first_row = self._keys.first_row(row["key"], row["num_windows"])
            # Tables of earlier versions have no checksums.
            values: dict[str, Any] = {name: row.get(name) for name in COLUMNS}
            video = IndexedVideo(**values, first_row=first_row)
            self._keys.video[first_row] = video
            damage = DataError(f"the record of {video.path} is damaged: {REBUILD}", "videos")
            try:
                passages = [
                    Passage(start, end, np.frombuffer(bytes.fromhex(vector), np.float16))
                    for start, end, vector in json.loads(row.get("passages") or "[]")
                ]
                key = self.add(video, [Cue(*cue) for cue in json.loads(row["cues"])], passages)
                self.set_metadata(key, json.loads(row["metadata"]))
            except (TypeError, ValueError) as error:
                raise damage from error
            if video.record_checksum not in (None, self.record_checksum(key)):
                raise damage
        self._stored = {video.id: video.path for video in self.videos()}

    def _copy_facts(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row.get("checksum") not in (None, _checksum_of(row["key"], row["value"])):
                raise DataError(f"the fact {row['key']} is damaged: {REBUILD}", "facts")
        # Each has its own checksum: several machines may write at once.
        facts = {row["key"]: row["value"] for row in rows if row["key"] != "checksum"}
        if facts:
            if lost := set(json.loads(facts.pop(NAMES, FIRST_NAMES))) - facts.keys():
                raise DataError(f"the facts {', '.join(sorted(lost))} are lost: {REBUILD}", "facts")
            self.set_facts(facts)

    def check(self, videos: Iterable[IndexedVideo]) -> None:
        """Do nothing: vectors are checked when they are read, as a search does not read all."""

    def check_records(self, keys: Iterable[int]) -> None:
        """Do nothing: records are checked when they are copied."""

    @_report_errors()
    def _store_videos(self) -> int:
        """Write the videos that this transaction changed; return the number of commits."""
        touched = [key for (key,) in self._db.execute("SELECT id FROM touched")]
        if not touched:
            return 0
        videos = {video.id: video for video in self.videos()}
        rows = [self._row(videos[key]) for key in touched if key in videos]
        _merge(self._videos, "path", rows, VIDEOS)
        stored = {key: video.path for key, video in videos.items()}
        gone = set(self._stored.values()) - set(stored.values())
        if gone:
            self._videos.delete(_is_in("path", sorted(gone)))
        self._stored = stored
        self._db.execute("DELETE FROM touched")
        return bool(rows) + bool(gone)

    @_report_errors()
    def _store_facts(self, before: Mapping[str, str]) -> int:
        """Write the facts that this transaction changed; return the number of commits."""
        facts = self.facts()
        changed = dict(facts.items() - before.items())
        if facts.keys() != before.keys():
            changed[NAMES] = json.dumps(sorted(facts.keys() - {"checksum"}))
        rows = [
            {"key": key, "value": value, "checksum": _checksum_of(key, value)}
            for key, value in changed.items()
            if key != "checksum"
        ]
        _merge(self._facts, "key", rows, FACTS)
        return bool(rows)

    def _row(self, video: IndexedVideo) -> dict[str, Any]:
        cues = [(cue.start, cue.end, cue.text) for cue in self.cues(video.id)]
        passages = self._db.execute(
            "SELECT start, end, hex(vector) FROM passages WHERE video = ? ORDER BY start, end",
            (video.id,),
        ).fetchall()
        return {
            **{name: value for name, value in asdict(video).items() if name in COLUMNS},
            "key": self._keys.key[video.first_row],
            "cues": json.dumps(cues),
            "passages": json.dumps(passages),
            "metadata": json.dumps(self.metadata(video.id)),
        }


class LanceVectors:
    """The windows of a library in a table, used like a `vectors.MatrixStore`.

    Args:
        db: The connection.
        name: Name of the table; created if missing.
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
        with _report_errors():
            self._table = db.create_table(name, schema=self._schema, exist_ok=True)

    @_report_errors()
    def append(self, vectors: FloatArray) -> int:
        """Add vectors; see `vectors.MatrixStore.append`. Several machines may do so at once."""
        key, half = secrets.token_hex(8), to_half(vectors, self.name)
        columns = [
            pa.array([key] * len(half)),
            pa.array(np.arange(len(half), dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), self.dim),
        ]
        self._table.add(pa.Table.from_arrays(columns, schema=self._schema))
        return self._keys.first_row(key, len(half))

    def read(self, first: int, count: int) -> FloatArray:
        """Return the vectors (count, E) of one video, given by its first row.

        Raises:
            DataError: If they are incomplete or damaged.
        """
        half, video = self.map_half(first, count), self._keys.video.get(first)
        if video and video.checksum not in (None, video.checksum_of(half)):
            raise DataError(f"the vectors of {video.path} are damaged: {REPAIR}", self.name)
        return to_float32(half)

    @_report_errors()
    def map_half(self, first: int, count: int) -> HalfArray:
        """Return the vectors of one video as they are stored, not compared with a checksum."""
        self._table.checkout_latest()
        rows = self._table.search().where(_is_in("key", [self._keys.key[first]]))
        found = rows.limit(count).to_arrow().sort_by("window")
        if found.num_rows != count:
            raise DataError(
                f"holds {found.num_rows} of the {count} vectors that the catalogue lists for a "
                f"video; {REBUILD}",
                self.name,
            )
        return self._half(found)

    @_report_errors()
    def search(
        self,
        queries: FloatArray,
        k: int,
        num_rows: int,
        allowed: BoolArray | None = None,
        *,
        exact: bool = False,
    ) -> tuple[FloatArray, IntArray]:
        """Find the rows most similar to each query; see `vectors.MatrixStore.search`."""
        mask = np.ones(num_rows, dtype=bool) if allowed is None else allowed
        k = min(k, int(np.count_nonzero(mask)))
        if k == 0 or len(queries) == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        self._table.checkout_latest()
        keys = [key for first, key in self._keys.key.items() if first < num_rows and mask[first]]
        condition = _is_in("key", keys) if len(keys) <= MAX_KEYS else None
        best = [self._nearest(query, k, mask, condition) for query in queries]
        return np.stack([pair[0] for pair in best]), np.stack([pair[1] for pair in best])

    def refresh_index(self, queries: FloatArray, num_rows: int) -> None:
        """Do nothing: every search is exact."""

    @_report_errors()
    def keep(self, keys: set[str]) -> None:
        """Delete the windows of all other keys."""
        self._table.checkout_latest()
        scan = self._table.search().where("window = 0").select(["key"])
        firsts = scan.limit(self._table.count_rows() + 1).to_arrow()
        others = sorted(set(firsts["key"].to_pylist()) - keys)
        for first in range(0, len(others), MAX_KEYS):
            self._table.delete(_is_in("key", others[first : first + MAX_KEYS]))

    def _nearest(
        self, query: FloatArray, k: int, allowed: BoolArray, condition: str | None
    ) -> tuple[FloatArray, IntArray]:
        """Return similarities and rows of the k most similar rows that are allowed."""
        limit = k
        while True:
            search = self._table.search(query, vector_column_name="vector").distance_type("dot")
            search = search.bypass_vector_index().limit(limit)
            if condition:
                search = search.where(condition, prefilter=True)
            found = search.to_arrow()
            unknown = len(allowed)
            firsts = [self._keys.first.get(key, unknown) for key in found["key"].to_pylist()]
            windows = found["window"].fill_null(-1).to_pylist()
            for first, window in zip(firsts, windows, strict=True):
                video = self._keys.video.get(first)
                if video and not 0 <= window < video.num_windows:
                    raise DataError(f"the vectors of {video.path} are damaged: {REPAIR}", self.name)
            rows = np.array(firsts, dtype=np.int64) + np.array(windows, dtype=np.int64)
            inside = rows < len(allowed)
            inside[inside] = allowed[rows[inside]]
            if inside.sum() >= k or found.num_rows < limit:
                return highest(to_float32(self._half(found)[inside]) @ query, rows[inside], k)
            limit *= 4  # many windows are not allowed

    def _half(self, table: Any) -> HalfArray:
        """Return the vectors (n, E) of a table."""
        flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.ascontiguousarray(flat, np.float16).reshape(-1, self.dim)


def _open_table(db: Any, name: str, schema: pa.Schema) -> Any:
    """Open a table, whatever columns an earlier version gave it, or create it."""
    try:
        return db.create_table(name, schema=schema, exist_ok=True)
    except ValueError:
        return db.open_table(name)


def _read_rows(table: Any, schema: pa.Schema) -> list[dict[str, Any]]:
    """Return all rows of a table.

    Raises:
        DataError: If a value is missing that every row has.
    """
    found = table.to_arrow()
    for name in set(schema.names) - OPTIONAL:
        if name not in found.column_names or found[name].null_count:
            raise DataError(f"a row lacks its {name}: {REBUILD}", table.name)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _merge(table: Any, key: str, rows: list[dict[str, Any]], schema: Any) -> None:
    """Insert rows, or replace those with the same key, in one commit; none if there are no rows."""
    if rows:
        for name in set(schema.names) - set(table.schema.names):  # written by an earlier version
            table.add_columns(schema.field(name))
        merge = table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all()
        merge.execute(pa.Table.from_pylist(rows, schema=schema))


def _checksum_of(key: str, value: str) -> int:
    return zlib.crc32(f"{key}={value}".encode())


def _is_in(column: str, values: Iterable[str]) -> str:
    """Return the condition that a column has one of some values."""
    quoted = ("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"
