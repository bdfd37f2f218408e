"""A library's calibration: what unrelated queries reach in it, kept up to date video by video.

The unrelated queries are scenes that hardly any library shows and common things, embedded once
into a file, and sentences of the library's own narration. Which sentences, in which videos they are
spoken, and the measured levels are facts in the catalogue. `calibration.npz` keeps the best scores
that the queries reach in each video, so that an update reads the vectors of new videos only;
without that file, everything is measured again.
"""

import base64
import hashlib
import json
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import numpy as np

from videoclip.embedding import Embedder
from videoclip.errors import DataError
from videoclip.files import atomic_file, open_regular, report_disk_errors
from videoclip.library.catalog import Catalog, IndexedVideo
from videoclip.library.exact import to_float32
from videoclip.types import FloatArray
from videoclip.zeroshot.confidence import NO_LEVELS, Levels, LibraryCalibration

NUM_SENTENCES = 48
"""Sentences of the narration, about as many as there are scenes."""
REMOVED = -2
"""Owner of a sentence whose video was removed; no video has this key."""
BEST_FILE = "calibration.npz"
LEVELS = "expected"
"""Name of the fact that has the levels of frames and narration."""
DAMAGED = (OSError, ValueError, KeyError, EOFError, TokenError, zlib.error, zipfile.BadZipFile)
"""Exceptions that reading a damaged file of arrays raises."""
_LOADING = threading.Lock()
"""Held while NumPy parses the header of a file: CPython 3.11 fails if two threads do so at once."""


class Unrelated(NamedTuple):
    """Embeddings of queries that have nothing to do with a library, by its model."""

    scenes: FloatArray
    """(S, E) of scenes that hardly any library shows."""
    things: FloatArray
    """(C, E) of common things."""


def load_calibration(
    unrelated: Unrelated, facts: Mapping[str, str], videos: Sequence[IndexedVideo]
) -> LibraryCalibration:
    """Return a library's calibration as it was last measured, from facts of its catalogue."""
    scenes, things = unrelated
    dim = scenes.shape[1]
    sentences, owners = np.zeros((0, dim), np.float32), np.zeros(0, np.int64)
    spoken = json.loads(facts.get("spoken", "{}"))
    if spoken.get("fingerprint") == facts["fingerprint"]:  # else of another model
        keys = {video.path: video.id for video in videos}
        packed = np.frombuffer(base64.b64decode(spoken["queries"]), dtype="<f2")
        sentences = packed.reshape(-1, dim).astype(np.float32)
        speakers = [keys.get(path, REMOVED) for path in spoken["videos"]]
        owners = np.array(speakers, dtype=np.int64)
    frames, narration = NO_LEVELS, NO_LEVELS
    if LEVELS in facts:
        frames, narration = (Levels(tuple(s), *rest) for s, *rest in json.loads(facts[LEVELS]))
    has_biases = int(facts["dim"]) > dim
    return LibraryCalibration(scenes, things, sentences, owners, has_biases, frames, narration)


def calibrate(
    catalog: Catalog,
    videos: Sequence[IndexedVideo],
    embedder: Embedder,
    unrelated: Unrelated,
    num_seconds: Callable[[IndexedVideo], int],
) -> dict[str, str]:
    """Measure what unrelated queries reach in a library.

    Vectors are read of those videos only that were not measured with the same queries before.

    Args:
        catalog: Of the library.
        videos: All of the catalogue.
        embedder: The library's model.
        unrelated: Embeddings of scenes and of common things.
        num_seconds: Returns the number of a video's shortest windows.

    Returns:
        The facts that have changed, for the catalogue.
    """
    facts, folder = catalog.facts(), catalog.folder
    new = {"spoken": _sentences(catalog, facts, videos, embedder)}
    calibration = load_calibration(unrelated, {**facts, **new}, videos)
    known = _read_best(folder / BEST_FILE, calibration.queries)
    best = {}
    for video in videos:
        key = _key(video, calibration)
        if key not in known:
            rows = catalog.vectors().read(video.first_row, video.num_windows)
            passages = to_float32(catalog.passages(unrelated.scenes.shape[1], video.id).vectors)
            known[key] = calibration.best_scores(rows, num_seconds(video), passages, video.id)
        best[key] = known[key]
    _write_best(folder / BEST_FILE, calibration.queries, best)
    fitted = calibration.fit(list(best.values()))
    new[LEVELS] = json.dumps([fitted.frames, fitted.narration])
    return {key: value for key, value in new.items() if facts.get(key) != value}


def _sentences(
    catalog: Catalog, facts: Mapping[str, str], videos: Sequence[IndexedVideo], embedder: Embedder
) -> str:
    """Return the fact about the sentences: those drawn before, or new ones.

    New sentences change the z-scores of all videos, so they are drawn only if a video that speaks
    one was moved or removed, if the narration has become twice or half as long, or while there are
    fewer of them than wanted.
    """
    spoken, num_cues = json.loads(facts.get("spoken", "{}")), catalog.num_cues()
    paths = {video.id: video.path for video in videos}
    if spoken.get("fingerprint") == facts["fingerprint"] and "cues" in spoken:
        is_full = len(spoken["videos"]) == NUM_SENTENCES
        is_similar = is_full and spoken["cues"] / 2 < num_cues < 2 * spoken["cues"]
        if (num_cues == spoken["cues"] or is_similar) and set(spoken["videos"]) <= {
            *paths.values()
        }:
            return facts["spoken"]
    cues = [(key, text) for key, text in catalog.sample_cues(NUM_SENTENCES) if key in paths]
    queries = embedder.embed_text([text for _, text in cues]) if cues else np.zeros((0, 0))
    return json.dumps(
        {
            "fingerprint": facts["fingerprint"],
            "videos": [paths[key] for key, _ in cues],
            "queries": base64.b64encode(queries.astype("<f2").tobytes()).decode(),
            "cues": num_cues,
        }
    )


def read_unrelated(path: Path) -> Unrelated:
    """Read the embedded scenes and common things.

    One of `DAMAGED` is raised if the file is damaged, or of a version with other common things.
    """
    if path.suffix != ".npz":  # which has checksums; the .npy of older libraries has not
        raise KeyError("common")
    # NumPy would leave a file that it opened itself open if that was cut off.
    with _LOADING, os.fdopen(open_regular(path), "rb") as file, np.load(file) as content:
        return Unrelated(content["queries"], content["common"])


def check_unrelated(path: Path) -> None:
    """Raise a `DataError` if the file of embedded scenes and common things is damaged."""
    try:
        read_unrelated(path)
    except DAMAGED as error:
        advice = "the next `videoclip index` or `videoclip search` computes it again"
        raise DataError(f"is damaged ({error}): {advice}", path) from error


def _key(video: IndexedVideo, calibration: LibraryCalibration) -> bytes:
    """Identify a video and its narration as embedded, and the sentences that are spoken in it."""
    own = np.flatnonzero(calibration.owners == video.id).tolist()
    stored = f"{video.content_hash} {video.added} {video.num_windows} {calibration.has_biases}"
    identity = f"{stored} {own} {video.path} {video.narration_path} {video.narration_mtime_ns}"
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest().encode()


def _read_best(path: Path, queries: FloatArray) -> dict[bytes, FloatArray]:
    """Read the best scores (2, Q) by video; none if they are of other queries or damaged."""
    try:
        with _LOADING, os.fdopen(open_regular(path), "rb") as file, np.load(file) as content:
            if np.array_equal(content["queries"], queries):
                return dict(zip(content["keys"].tolist(), content["best"], strict=True))
    except DAMAGED:
        pass  # measured again
    return {}


def _write_best(path: Path, queries: FloatArray, best: Mapping[bytes, FloatArray]) -> None:
    values = np.array(list(best.values()), dtype=np.float32)
    with report_disk_errors(path), atomic_file(path) as partial:
        np.savez(partial, queries=queries, keys=np.array(list(best), dtype="S32"), best=values)
