"""Where a library lies: SQLite beside a file of vectors, or tables of LanceDB.

Both give the same three things, and `VideoLibrary` asks for nothing else: a `Catalog`, a
`VectorStore` whose rows the catalogue names, and a way to drop rows that no video owns any more.
LanceDB is for object storage (`s3://...`) and for several machines at one library; on one machine
SQLite is quicker and needs nothing installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from videoclip.errors import ConfigError, MissingExtraError
from videoclip.library.catalog import Catalog, IndexedVideo
from videoclip.library.vectors import MatrixStore, VectorStore

__all__ = [
    "SqliteStorage",
    "Storage",
    "StoreKind",
    "is_address",
    "is_library",
    "kind_of",
    "open_storage",
]

StoreKind: TypeAlias = Literal["sqlite", "lance"]
CATALOG, LANCE = "catalog.sqlite", "lance"
"""What lies in a folder with a library of each kind."""


class Storage(Protocol):
    """An open library, whatever it lies in."""

    @property
    def folder(self) -> Path:
        """Folder on this machine, for locks and frozen features."""
        ...

    @property
    def catalog(self) -> Catalog:
        """What is known of the videos."""
        ...

    def vectors(self) -> VectorStore:
        """The vectors that the catalogue speaks of now."""
        ...

    def compact(self, videos: Sequence[IndexedVideo]) -> None:
        """Drop the vectors of all other videos; the caller holds the library's lock."""
        ...


class SqliteStorage:
    """A catalogue in SQLite beside one float16 matrix.

    Args:
        folder: The library; made if absent, unless `must_exist`.
        must_exist: Whether a missing library is an error.

    Raises:
        DataError: If it is not a library or is missing.
    """

    def __init__(self, folder: Path, must_exist: bool = False) -> None:
        if not must_exist:
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.catalog = Catalog(folder / CATALOG, must_exist)
        self._vectors: MatrixStore | None = None

    def vectors(self) -> MatrixStore:
        """The vector file the catalogue names now."""
        facts = self.catalog.facts()
        path = self.folder / facts["vectors"]
        if self._vectors is None or self._vectors.path != path:
            self._vectors = MatrixStore(path, int(facts["dim"]))
        return self._vectors

    def compact(self, videos: Sequence[IndexedVideo]) -> None:
        """Write the vectors anew without the rows that no video owns.

        Readers go on with the old file, which stays until the next compaction: by then nobody can
        be about to open it.
        """
        generation = int(self.catalog.facts()["generation"]) + 1
        old, new = self.vectors(), self.folder / f"vectors-{generation}.f16"
        old.rewrite(new, ((video.first_row, video.num_windows) for video in videos))
        with self.catalog.writing():
            first_row = 0
            for video in videos:
                self.catalog.set_first_row(video.id, first_row)
                first_row += video.num_windows
            self.catalog.set_facts({"generation": str(generation), "vectors": new.name})
        for file in self.folder.glob("vectors-*"):
            if file.stem not in (old.path.stem, new.stem):
                file.unlink()


def open_storage(
    address: Path | str, kind: StoreKind | None = None, must_exist: bool = False
) -> Storage:
    """Open a library.

    Args:
        address: A folder, or an address such as `s3://bucket/library`.
        kind: What a new library in a folder lies in; an address is always LanceDB's.
        must_exist: Whether a missing library is an error.

    Raises:
        ConfigError: If there is a library of the other kind.
        DataError: If there is none and must be, or it is damaged.
        MissingExtraError: If it takes LanceDB and that is not installed.
    """
    found = kind_of(address)
    if kind and found and kind != found:
        raise ConfigError(f"{address}: this library lies in {found}, not in {kind}")
    if (found or kind) != LANCE:
        return SqliteStorage(Path(address), must_exist)
    _check_lance(address)
    from videoclip.library.lance import LanceStorage

    if not is_address(address):
        return LanceStorage(str(Path(address) / LANCE), Path(address), must_exist)
    digest = hashlib.blake2b(str(address).encode(), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return LanceStorage(str(address), cache / "videoclip" / digest, must_exist)


def is_address(address: Path | str) -> bool:
    """Whether a library lies in object storage instead of a folder."""
    return "://" in str(address)


def kind_of(address: Path | str) -> StoreKind | None:
    """What a library lies in; None where there is none yet."""
    if is_address(address) or (Path(address) / LANCE).is_dir():
        return "lance"
    return "sqlite" if (Path(address) / CATALOG).is_file() else None


def is_library(address: Path | str) -> bool:
    """Whether there is a library."""
    if not is_address(address):
        return kind_of(address) is not None
    _check_lance(address)
    from videoclip.library.lance import has_library

    return has_library(str(address))


def _check_lance(address: Path | str) -> None:
    if importlib.util.find_spec("lancedb") is None:
        raise MissingExtraError(f"{address}: a library in LanceDB", "lance")
