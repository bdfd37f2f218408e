"""Frozen features on disk: one append-only float16 file with a checked index, read by `pread`.

A store is a folder:

    store.json     what the features are (`FeatureSpec`); written last, so it marks a whole store
    features.bin   rows of D float16, one video after the other
    names.bin      video ids, UTF-8, one after the other
    index.bin      a record of 32 bytes per video: where its rows and its name are, and checksums

A video counts once its record is there, and the record is written after the rows and the name it
points to have reached the disk. So a crash at any moment loses at most the video in hand, and
readers, which read nothing beyond the index, never see half a video. Several processes may append
at once (a lock makes them take turns) and any number may read; `refresh` reads what others added.
"""

import os
import struct
import weakref
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from videoclip.config import from_dict
from videoclip.data.sources import address_of, read_bytes
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.files import open_regular, parse_state, read_regular, write_state

FORMAT = 1
"""Layout of a store's files; another number is refused."""
REMEDY = "restore the folder from a copy, or delete it and extract again"
RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)  # Linux: read only what is in memory

RECORD = struct.Struct("<QIIQI")
"""First row, number of rows, crc32 of the rows; first byte of the name, number of bytes."""
CHECKSUM = struct.Struct("<I")
"""crc32 of the record and the name."""
RECORD_BYTES = RECORD.size + CHECKSUM.size


@dataclass(frozen=True)
class FeatureSpec:
    """What features are, stored beside them and checked wherever they are used.

    Attributes:
        dim: Width D of one feature.
        features_per_second: Rate; feature i stands for seconds [i / rate, (i + 1) / rate).
        backbone: Name of the frozen backbone that made them, as `load_backbone` takes it.
        normalized: Whether each feature has L2 norm 1.
        fingerprint: Identifies the backbone's weights and preprocessing.
    """

    dim: int
    features_per_second: float
    backbone: str
    normalized: bool
    fingerprint: str

    def __post_init__(self) -> None:
        if self.dim < 1 or not 0 < self.features_per_second < float("inf") or not self.backbone:
            raise ConfigError("features need a positive width, a positive rate and a backbone")

    def differences(self, other: Self) -> str:
        """Return where two specs differ, as "dim 512, not 1280; ..."; empty if they agree."""
        return "; ".join(
            f"{f.name} {getattr(self, f.name)!r}, not {getattr(other, f.name)!r}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        )


class FeatureStore:
    """The features of many videos. Make one with `create`, `open` or `open_or_create`.

    Reading is safe from threads, from forked processes and, by pickling, from spawned ones.

    Attributes:
        folder: Folder of the store.
        spec: What its features are.
    """

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.folder = folder
        self.spec = spec
        self._row_bytes = spec.dim * 2
        self._positions: dict[str, int] = {}  # numbers of the videos, by id
        self._entries = array("Q")  # three per video: a million in 24 MB, not 200 as objects
        self._verified = bytearray()  # 1 by video whose checksum was compared in this process
        self._num_rows = self._name_bytes = 0
        self._open_features()
        self.refresh()

    def _open_features(self) -> None:
        for name in ("index.bin", "names.bin"):  # which `refresh` opens again and again
            os.close(open_regular(self.folder / name))
        self._handle = open_regular(self.folder / "features.bin")
        self._close = weakref.finalize(self, os.close, self._handle)
        if hasattr(os, "posix_fadvise"):  # Linux
            # Windows are drawn at random: read-ahead would fetch megabytes that nobody needs.
            os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_RANDOM)

    @classmethod
    def create(cls, folder: str | Path, spec: FeatureSpec) -> Self:
        """Make an empty store.

        Raises:
            DataError: If there is one already, or the folder cannot be written.
        """
        folder = Path(folder)
        if (folder / "store.json").exists():
            raise DataError("there is a feature store here already", folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("features.bin", "names.bin", "index.bin"):
                (folder / name).touch()
            write_state(folder / "store.json", {"format": FORMAT, "spec": asdict(spec)})
        except OSError as error:
            raise DataError(f"cannot make a feature store: {error.strerror}", folder) from error
        return cls(folder, spec)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a store; one in object storage (s3://bucket/store) can only be read.

        Raises:
            DataError: If there is none or it is damaged; the message says what to do.
            MissingExtraError: If the package of an object storage is not installed.
        """
        folder = Path(folder)
        if address_of(folder) and cls is FeatureStore:
            from videoclip.data.remote_store import RemoteFeatureStore

            return RemoteFeatureStore.open(folder)  # type: ignore[return-value]
        if not cls._exists(folder):
            raise DataError("there is no feature store; 'videoclip extract' makes one", folder)
        spec = _read_spec(folder / "store.json")
        try:
            return cls(folder, spec)
        except OSError as error:
            raise DataError(f"cannot read it: {error.strerror}; {REMEDY}", folder) from error

    @classmethod
    def open_or_create(cls, folder: str | Path, spec: FeatureSpec) -> Self:
        """Open the store in a folder, or make it there.

        Raises:
            DataError: If it is damaged or cannot be made.
            IndexMismatchError: If it holds features of another spec.
        """
        if not (Path(folder) / "store.json").exists():
            return cls.create(folder, spec)
        store = cls.open(folder)
        if differences := store.spec.differences(spec):
            store.close()
            raise IndexMismatchError(
                f"{folder}: the store holds other features ({differences}); use another folder"
            )
        return store

    @classmethod
    def _exists(cls, folder: Path) -> bool:
        return (folder / "store.json").is_file()

    @property
    def video_ids(self) -> list[str]:
        """Ids of all videos, in the order in which they were appended."""
        return list(self._positions)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._positions

    def __len__(self) -> int:
        return len(self._positions)

    def __repr__(self) -> str:
        return (
            f"FeatureStore({str(self.folder)!r}, {len(self)} videos, {self.spec.backbone} "
            f"{self.spec.dim}-d at {self.spec.features_per_second:g}/s)"
        )

    @property
    def num_unfinished(self) -> int:
        """Features at the end of the file that no record names: appended when the process ended.

        The next append overwrites them. An index that lost its end leaves them behind, too.
        """
        return os.fstat(self._handle).st_size // self._row_bytes - self._num_rows

    def num_features(self, video_id: str) -> int:
        """Return the number of features of a video.

        Raises:
            DataError: If it is not in the store.
        """
        return self._find(video_id)[1]

    def checksum(self, video_id: str) -> int:
        """Return the stored checksum of a video's features."""
        return self._find(video_id)[2]

    def read(
        self, video_id: str, start: int = 0, stop: int | None = None
    ) -> npt.NDArray[np.float16]:
        """Read rows [start, stop) of a video; the first time, or all of it, compare its checksum.

        Returns:
            (stop - start, D) float16; fewer rows where the video ends before.

        Raises:
            DataError: If the video is not in the store or its bytes are damaged.
        """
        first_row, length, _ = self._find(video_id)
        first, last, _ = slice(start, stop).indices(length)
        number = self._positions[video_id]
        if self._verified[number] and last - first < length:
            rows = np.empty((max(0, last - first), self.spec.dim), dtype=np.float16)
            self._fill(rows, first_row + first)
            return rows
        rows = np.empty((length, self.spec.dim), dtype=np.float16)
        self._fill(rows, first_row)
        self._check_sum(video_id, rows.data)
        self._verified[number] = 1
        return rows[first:last]

    def read_windows(
        self, windows: Sequence[tuple[str, int, int]]
    ) -> list[npt.NDArray[np.float16]]:
        """Read many (video_id, start, stop) windows, each within its video, at full speed.

        The first time that a video is read, all of it is, to compare its checksum.

        Returns:
            An array (stop - start, D) float16 for each window, in order.

        Raises:
            DataError: If a video is not in the store or damaged, or a window reaches beyond its
                end.
        """
        firsts, lengths = [], []
        for video_id, start, stop in windows:
            first_row = self._check_window(video_id, start, stop)
            if not self._verified[self._positions[video_id]]:
                self.read(video_id)
            firsts.append(first_row + start)
            lengths.append(stop - start)
        # One allocation for all: many small ones cost more than the reading.
        rows = np.empty((sum(lengths), self.spec.dim), dtype=np.float16)
        stops = list(accumulate(lengths))
        arrays = [rows[stop - length : stop] for stop, length in zip(stops, lengths)]
        missing = [
            (window, first)
            for window, first in zip(arrays, firsts)
            if not self._fill_from_memory(window, first)
        ]
        # What is not in memory is requested all at once: disks are fast with many requests.
        if hasattr(os, "posix_fadvise"):
            for window, first in missing:
                offset = first * self._row_bytes
                os.posix_fadvise(self._handle, offset, window.nbytes, os.POSIX_FADV_WILLNEED)
        for window, first in missing:
            self._fill(window, first)
        return arrays

    def append(self, video_id: str, features: npt.ArrayLike) -> None:
        """Add a video; it is on the disk when this returns.

        Args:
            video_id: Not yet in the store.
            features: (T, D) finite numbers, T >= 1; kept as float16.

        Raises:
            DataError: If the video is there already, the array does not fit the store, or writing
                fails. The store is unchanged then.
        """
        from filelock import FileLock  # slow to import, and readers do without

        rows = self._checked(video_id, features)
        # File names that are not UTF-8 keep their bytes, as in Python's own file functions.
        name = video_id.encode("utf-8", "surrogateescape")
        try:
            with FileLock(self.folder / ".lock", poll_interval=0.005):
                self.refresh()
                if video_id in self:
                    raise DataError(f"'{video_id}' is in the store already", self.folder)
                entry = (self._num_rows, len(rows), zlib.crc32(rows.data))
                record = RECORD.pack(*entry, self._name_bytes, len(name))
                record += CHECKSUM.pack(zlib.crc32(record + name))
                # The record points to the rows and the name: they must be on the disk before it.
                offset = self._num_rows * self._row_bytes
                _write_at(self.folder / "features.bin", rows.data, offset)
                _write_at(self.folder / "names.bin", name, self._name_bytes)
                _write_at(self.folder / "index.bin", record, len(self) * RECORD_BYTES)
                self._add(name, entry)
        except OSError as error:
            raise DataError(f"cannot add '{video_id}': {error.strerror}", self.folder) from error

    def refresh(self) -> None:
        """Read what other processes have appended since.

        Raises:
            DataError: If the store is damaged. An unfinished record at the end is ignored: a crash
                leaves one behind, and the next append overwrites it.
        """
        path = self.folder / "index.bin"
        records = self._read_from(path, len(self) * RECORD_BYTES)
        base = self._name_bytes
        names = self._read_from(self.folder / "names.bin", base)
        num_whole = len(records) // RECORD_BYTES
        for number in range(num_whole):
            record = records[number * RECORD_BYTES : (number + 1) * RECORD_BYTES]
            if number == num_whole - 1 and not any(record):
                break  # a power cut after the file grew and before the record was written
            first, length, checksum, start, num_bytes = RECORD.unpack_from(record)
            name = names[start - base : start - base + num_bytes]
            (own,) = CHECKSUM.unpack_from(record, RECORD.size)
            if own != zlib.crc32(record[: RECORD.size] + name) or first != self._num_rows:
                raise DataError(f"record {len(self)} is damaged; {REMEDY}", path)
            self._add(name, (first, length, checksum))
        found = self._features_bytes() // self._row_bytes
        if found < self._num_rows:
            raise DataError(
                f"it ends after {found} of {self._num_rows} features; {REMEDY}",
                self.folder / "features.bin",
            )

    def damaged(self) -> list[str]:
        """Read everything; return the ids of the videos whose checksums are wrong."""
        damaged = []
        for video_id in self.video_ids:
            try:
                self.read(video_id)
            except DataError:
                damaged.append(video_id)
        return damaged

    def verify(self) -> None:
        """Read everything; `DataError` at the first video whose checksum is wrong."""
        for video_id in self.video_ids:
            self.read(video_id)

    def trust(self) -> None:
        """Compare no checksums of the videos that are there, as another process does so."""
        self._verified[:] = b"\1" * len(self)

    def close(self) -> None:
        """Close the file; the store cannot be read any more."""
        self._close()
        self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.folder, bytes(self._verified))

    def _find(self, video_id: str) -> tuple[int, int, int]:
        """Return first row, number of rows and checksum of a video; raise a DataError if absent."""
        if video_id not in self._positions:
            raise DataError(f"there is no video '{video_id}' in the store", self.folder)
        at = 3 * self._positions[video_id]
        first, length, checksum = self._entries[at : at + 3]
        return first, length, checksum

    def _check_window(self, video_id: str, start: int, stop: int) -> int:
        """Return the first row of a video, or raise a DataError if it has no such window."""
        first_row, length, _ = self._find(video_id)
        if not 0 <= start <= stop <= length:
            raise DataError(
                f"window [{start}, {stop}) is not within the {length} features of '{video_id}'",
                self.folder,
            )
        return first_row

    def _check_sum(self, video_id: str, rows: bytes | memoryview) -> None:
        if zlib.crc32(rows) != self.checksum(video_id):
            raise DataError(f"the features of '{video_id}' are damaged; {REMEDY}", self.folder)

    def _add(self, name: bytes, entry: tuple[int, int, int]) -> None:
        """Add a video whose record is on the disk: first row, number of rows, checksum."""
        self._positions[name.decode("utf-8", "surrogateescape")] = len(self)
        self._entries.extend(entry)
        self._verified.append(0)
        self._name_bytes += len(name)
        self._num_rows += entry[1]

    def _features_bytes(self) -> int:
        """Return the size of the file of features."""
        return os.fstat(self._handle).st_size

    def _read_from(self, path: Path, offset: int) -> bytes:
        """Return a file from some byte on."""
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()

    def _fill(self, rows: npt.NDArray[np.float16], first: int) -> None:
        """Read rows from the file, starting with row `first`."""
        if os.preadv(self._handle, [rows.data], first * self._row_bytes) != rows.nbytes:
            raise DataError(f"it has become shorter; {REMEDY}", self.folder / "features.bin")

    def _fill_from_memory(self, rows: npt.NDArray[np.float16], first: int) -> bool:
        """Read rows if they are in the page cache; return whether they were."""
        if not RWF_NOWAIT:
            return False
        try:
            offset = first * self._row_bytes
            return os.preadv(self._handle, [rows.data], offset, RWF_NOWAIT) == rows.nbytes
        except OSError:  # not in memory, or not supported by the file system
            return False

    def _checked(self, video_id: str, features: npt.ArrayLike) -> npt.NDArray[np.float16]:
        """Return features as float16; raise a DataError if they do not fit the store."""
        given = np.asarray(features)
        if not video_id:
            problem = "an empty video id"
        elif given.ndim != 2 or given.shape[1] != self.spec.dim or not len(given):
            problem = f"features of shape {given.shape} instead of (T, {self.spec.dim})"
        else:
            with np.errstate(over="ignore"):
                rows = np.ascontiguousarray(given, dtype=np.float16)
            if np.isfinite(rows).all():
                return rows
            problem = "features that are not finite, or too large for float16"
        raise DataError(f"cannot add '{video_id}': {problem}", self.folder)


def _reopen(store: type[FeatureStore], folder: Path, verified: bytes) -> FeatureStore:
    """Open a store in another process, which need not compare checksums again."""
    opened = store.open(folder)
    opened._verified[: len(verified)] = verified
    return opened


def _read_spec(path: Path) -> FeatureSpec:
    try:
        content = parse_state(read_bytes(path) if address_of(path) else read_regular(path))
        version = content["format"]
        if version == FORMAT:
            return from_dict(FeatureSpec, content["spec"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"this does not describe features ({error})", path) from error
    raise DataError(f"format {version} is not known; this version reads {FORMAT}", path)


def _write_at(path: Path, data: bytes | memoryview, offset: int) -> None:
    """Write into a file and wait until the bytes are on the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        rest = memoryview(data).cast("B")
        while rest:
            written = os.pwrite(handle, rest, offset)
            rest, offset = rest[written:], offset + written
        os.fsync(handle)
    finally:
        os.close(handle)
