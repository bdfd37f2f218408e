"""Founding a library, and telling whose it is: vectors of two models never meet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from videoclip.config import to_dict
from videoclip.embedding import Embedder
from videoclip.errors import IndexMismatchError
from videoclip.library.storage import Storage, open_storage
from videoclip.zeroshot.confidence import UNRELATED_QUERIES
from videoclip.zeroshot.windows import WindowConfig

__all__ = ["model_of", "settle"]


def model_of(library: Path | str) -> str:
    """The model a library says it was made with, as `Embedder.from_pretrained` takes it.

    Raises:
        DataError: If there is no library.
    """
    storage = open_storage(library, must_exist=True)
    try:
        return storage.catalog.facts().get("model", "")
    finally:
        storage.catalog.close()


def settle(
    address: str,
    storage: Storage,
    embedder: Embedder,
    windows: WindowConfig,
    model: str,
    rebuild: bool,
) -> None:
    """Make sure that a library is of this model; the caller holds its lock.

    Args:
        address: What the library is called.
        storage: The library, perhaps empty.
        embedder: The model.
        windows: Lengths of a new library.
        model: What to call the model.
        rebuild: Whether to start anew.

    Raises:
        IndexMismatchError: If it is of another model and is not to be rebuilt.
    """
    config, folder, catalog = embedder.config, storage.folder, storage.catalog
    wanted = {
        "fingerprint": embedder.fingerprint,
        "dim": str(config.hidden_size),
        "features_per_second": repr(config.features_per_second),
    }
    facts = catalog.facts()
    differing = [name for name, value in wanted.items() if facts.get(name) != value]
    if facts and differing and not rebuild:
        raise IndexMismatchError(
            f"{address}: made by model '{facts.get('model') or 'unknown'}', not by this "
            f"one ({differing[0]} {facts.get(differing[0])}, here {wanted[differing[0]]}): "
            f"search it with that model, or rebuild it with `videoclip index VIDEOS "
            f"--library {address} --model {model or 'MODEL'} --rebuild`"
        )
    if facts and not rebuild:
        if not (folder / facts["unrelated"]).exists():  # made on another machine
            np.save(folder / facts["unrelated"], embedder.embed_text(UNRELATED_QUERIES))
        return
    generation = int(facts.get("generation", "-1")) + 1
    unrelated = embedder.embed_text(UNRELATED_QUERIES)
    np.save(folder / f"background-{generation}.npy", unrelated)
    with catalog.writing():
        catalog.remove(video.id for video in catalog.videos())
        catalog.set_facts(
            {
                **wanted,
                "model": model,
                "windows": json.dumps(to_dict(windows)),
                "generation": str(generation),
                "vectors": f"vectors-{generation}.f16",
                "unrelated": f"background-{generation}.npy",
            }
        )
