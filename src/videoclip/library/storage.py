"""Where a library is stored: in SQLite beside a file of vectors, or in tables of LanceDB.

Both have the methods of `SqliteStorage`: a catalogue, the vectors whose rows it names, and a way to
drop rows that no video owns. LanceDB is for object storage (`s3://...`) and for several machines
that share a library; on one machine SQLite is faster and needs nothing installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from videoclip.errors import ConfigError, MissingExtraError
from videoclip.library.catalog import Catalog, IndexedVideo
from videoclip.library.vectors import MatrixStore

if TYPE_CHECKING:
    from videoclip.library.lance import LanceStorage, LanceVectors

StoreKind: TypeAlias = Literal["sqlite", "lance"]
CATALOG, LANCE = "catalog.sqlite", "lance"
"""Names inside a folder by which each kind of library is recognised."""


Storage: TypeAlias = "SqliteStorage | LanceStorage"
"""An open library of either kind."""
VectorStore: TypeAlias = "MatrixStore | LanceVectors"


class SqliteStorage:
    """A catalogue in SQLite beside one float16 matrix.

    Args:
        folder: The library, with its locks and frozen features; created if missing.
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
        """Return the vectors that the catalogue refers to now."""
        facts = self.catalog.facts()
        path = self.folder / facts["vectors"]
        if self._vectors is None or self._vectors.path != path:
            self._vectors = MatrixStore(path, int(facts["dim"]))
        return self._vectors

    def compact(self, videos: Sequence[IndexedVideo]) -> None:
        """Drop the vectors of all other videos; the caller holds the library's lock.

        Readers continue with the old file, which is deleted by the next compaction.
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
    """Open a library, or create it.

    Args:
        address: A folder, or an address such as `s3://bucket/library`, which LanceDB opens.
        kind: Kind of a new library in a folder; SQLite by default.
        must_exist: Whether a missing library is an error.

    Raises:
        ConfigError: If the library is of the other kind.
        DataError: If it is damaged, or is missing and must exist.
        MissingExtraError: If it needs LanceDB and that is not installed.
    """
    found = kind_of(address)
    if kind and found and kind != found:
        raise ConfigError(f"{address}: this library is stored in {found}, not in {kind}")
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
    """Return whether a library is in object storage instead of a folder."""
    return "://" in str(address)


def kind_of(address: Path | str) -> StoreKind | None:
    """Return how a library is stored; None if there is none yet."""
    if is_address(address) or (Path(address) / LANCE).is_dir():
        return "lance"
    return "sqlite" if (Path(address) / CATALOG).is_file() else None


def is_library(address: Path | str) -> bool:
    """Return whether there is a library."""
    if not is_address(address):
        return kind_of(address) is not None
    _check_lance(address)
    from videoclip.library.lance import has_library

    return has_library(str(address))


def _check_lance(address: Path | str) -> None:
    if importlib.util.find_spec("lancedb") is None:
        raise MissingExtraError(f"{address}: a library in LanceDB", "lance")
