"""Where a library is stored: in SQLite beside a file of vectors, or in tables of LanceDB.

Both are opened as a `Catalog`. LanceDB is for object storage (`s3://...`) and for several machines
that share a library; on one machine SQLite is faster and needs nothing installed.
"""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Literal, TypeAlias

from videoclip.errors import ConfigError, DataError, MissingExtraError
from videoclip.library.catalog import Catalog

StoreKind: TypeAlias = Literal["sqlite", "lance"]
CATALOG, LANCE = "catalog.sqlite", "lance"
"""Names inside a folder by which each kind of library is recognised."""

_OTHERS = {
    "store.json": "a feature store",
    "frames.json": "a frame store",
    "log.jsonl": "a run",
    "world.json": "a synthetic world",
    "config.json": "a model",
}
"""Folders in which no library is created, by the file that marks them. A run has a config too."""


def open_catalog(
    address: Path | str, kind: StoreKind | None = None, must_exist: bool = False
) -> Catalog:
    """Open a library, or create it.

    Args:
        address: A folder, or an address such as `s3://bucket/library`, which LanceDB opens.
        kind: Kind of a new library in a folder; SQLite by default.
        must_exist: Whether a missing library is an error.

    Raises:
        ConfigError: If the library is of the other kind.
        DataError: If it is damaged, is missing and must exist, or is a folder of another kind.
        MissingExtraError: If it needs LanceDB and that is not installed.
    """
    found, folder = kind_of(address), Path(address)
    if kind and found and kind != found:
        raise ConfigError(f"{address}: this library is stored in {found}, not in {kind}")
    if must_exist and not found:
        raise DataError("no library here: make one with `videoclip index`", address)
    if not found and not is_address(address):
        for marker, what in _OTHERS.items():
            if (folder / marker).exists():
                raise DataError(f"is {what}; give the library a folder of its own", address)
    if not is_address(address) and (found or kind) != LANCE:
        folder.mkdir(parents=True, exist_ok=True)
        return Catalog(folder / CATALOG)
    _check_lance(address)
    from videoclip.library.lance import LanceCatalog

    tables = str(folder / LANCE)
    if is_address(address):
        digest = hashlib.blake2b(str(address).encode(), digest_size=8).hexdigest()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        tables, folder = str(address), cache / "videoclip" / digest
    folder.mkdir(parents=True, exist_ok=True)
    return LanceCatalog(tables, folder)


def is_address(address: Path | str) -> bool:
    """Return whether a library is in object storage instead of a folder."""
    return "://" in str(address)


def kind_of(address: Path | str) -> StoreKind | None:
    """Return how a library is stored; None if there is none.

    Raises:
        MissingExtraError: If it is in object storage and LanceDB is not installed.
    """
    if is_address(address):
        _check_lance(address)
        from videoclip.library.lance import has_library

        return "lance" if has_library(str(address)) else None
    if (Path(address) / LANCE).is_dir():
        return "lance"
    return "sqlite" if (Path(address) / CATALOG).is_file() else None


def _check_lance(address: Path | str) -> None:
    if importlib.util.find_spec("lancedb") is None:
        raise MissingExtraError(f"{address}: a library in LanceDB", "lance")
