"""Approximate search in a million windows of the synthetic world, beside exact search.

    videoclip synth WORLD --num-videos 120
    videoclip extract WORLD/videos --features FEATURES
    python bench/approximate.py WORLD FEATURES [--windows N] [--kinds]

The starter model embeds the world's videos second by second. Films are cut together from spans of
4 to 20 s of these videos, each with another phase, and a window is the mean of its seconds (the
tower also takes the mean, but embeds each window separately, which would take hours here). They
are stored in a library beside FEATURES, which is created once. Queries are sentences of the world's
narration; the index is tuned with unrelated scenes and other sentences, none of which is measured.
Recall is the share of the 10 most similar windows that is found. A search is complete, for 10
moments, except for embedding the query. `--kinds` compares kinds of index.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from search import video_of

from videoclip.data.feature_store import FeatureStore
from videoclip.data.subtitles import read_subtitles
from videoclip.embedding import Embedder, window_spans
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions
from videoclip.library.vectors import MatrixStore
from videoclip.zeroshot.confidence import UNRELATED_QUERIES

RESULTS = Path(__file__).parent / "results"
SECONDS_PER_FILM = 120
NUM_QUERIES, NUM_OTHERS, K = 200, 48, 10
NUM_CANDIDATES = 256
"""Candidates that an index returns for each query; they are then compared in float32."""


class CachedText:
    """Replaces the model: every text is embedded once."""

    fingerprint = "cached"

    def __init__(self, embedder: Embedder) -> None:
        self.config, self._embedder = embedder.config, embedder
        self._known: dict[str, np.ndarray] = {}

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return embeddings, computed at the first call for a text."""
        if new := [text for text in texts if text not in self._known]:
            self._known |= zip(new, self._embedder.embed_text(new), strict=True)
        return np.stack([self._known[text] for text in texts])


def films(videos: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Generate films (SECONDS_PER_FILM, E), each cut together from spans of many videos."""
    rng = np.random.default_rng(0)
    while True:
        stretches, missing = [], SECONDS_PER_FILM
        while missing > 0:
            video = videos[rng.integers(len(videos))]
            length = min(missing, int(rng.integers(4, 21)), len(video) - 1)
            start = int(rng.integers(0, len(video) - length))
            phase = rng.random()  # so that no two windows are equal
            stretch = video[start : start + length + 1]
            stretches.append((1 - phase) * stretch[:-1] + phase * stretch[1:])
            missing -= length
        yield np.concatenate(stretches)


def fill(library: VideoLibrary, embedder: Embedder, features: FeatureStore, count: int) -> None:
    """Add about that many windows to a library as an update would, but without files."""
    videos = [embedder.embed_features(features.read(name)).tokens for name in features.video_ids]
    starts, ends = window_spans(SECONDS_PER_FILM, 1.0).T
    store, catalog = library._catalog.vectors(), library._catalog
    with catalog.writing(), store.path.open("wb") as file:
        for number, film in enumerate(islice(films(videos), count // len(starts))):
            sums = np.concatenate((np.zeros((1, film.shape[1])), np.cumsum(film, axis=0)))
            vectors = sums[ends] - sums[starts]
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            file.write(vectors.astype(np.float16).tobytes())
            catalog.add(video_of(number, SECONDS_PER_FILM, len(starts)), [])


def sentences(world: Path) -> list[str]:
    """Draw different sentences of the narration of all videos."""
    said = {cue.text for path in sorted(world.glob("videos/*.vtt")) for cue in read_subtitles(path)}
    return np.random.default_rng(1).permutation(sorted(said))[: NUM_QUERIES + NUM_OTHERS].tolist()


def milliseconds(search: Callable[[str], object], texts: Sequence[str]) -> float:
    """Return the median time of single queries; see `bench/search.py` for the clock."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for text in texts:
        started = clock()
        search(text)
        times.append(1e3 * (clock() - started))
    return statistics.median(times)


def recall(store: MatrixStore, found: np.ndarray, queries: np.ndarray, exact: np.ndarray) -> float:
    """Return the share of the K nearest rows that was found; ties of the K-th count as well."""
    shares = []
    for rows, query, best in zip(found, queries, exact, strict=True):
        similarities = np.concatenate([store.read(row, 1) for row in rows[rows >= 0]]) @ query
        shares.append(min(np.count_nonzero(similarities >= best[K - 1] - 1e-5) / K, 1.0))
    return float(np.mean(shares))


def filtered_recall(library: VideoLibrary, queries: np.ndarray) -> float:
    """Return the recall of a search whose filter allows half of the videos."""
    store, snapshot = library._catalog.vectors(), library._snapshot()
    allowed = snapshot.allowed({video.id for video in snapshot.videos if video.width > 700})
    exact = store.search(queries, K, snapshot.num_rows, allowed, exact=True)[0]
    found = store.search(queries, K, snapshot.num_rows, allowed)[1]
    return recall(store, found, queries, exact)


def median_search(index: Any, queries: np.ndarray) -> float:
    """Return median CPU milliseconds of single queries, without comparing the candidates."""
    times = []
    for query in queries:
        started = time.process_time()
        index.search(query[None], NUM_CANDIDATES)
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times)


def compare_kinds(store: MatrixStore, queries: np.ndarray, exact: np.ndarray) -> list[dict]:
    """Build each kind of index and search it at the setting that reaches a recall of 0.95."""
    matrix = store.read(0, store.num_rows)
    lists = 2 ** round(np.log2(2 * np.sqrt(len(matrix))))
    rows = []
    for kind in (f"IVF{lists},SQ8", f"IVF{lists},SQfp16", "HNSW16,SQ8"):
        index = faiss.index_factory(store.dim, kind, faiss.METRIC_INNER_PRODUCT)
        started = time.process_time()
        index.train(matrix)
        index.add(matrix)
        built = time.process_time() - started
        knob = "efSearch" if "HNSW" in kind else "nprobe"
        parameters = faiss.ParameterSpace()
        for value in 2 ** np.arange(0 if knob == "nprobe" else 5, 12):
            parameters.set_index_parameter(index, knob, int(value))
            reached = recall(store, index.search(queries, NUM_CANDIDATES)[1], queries, exact)
            if reached >= 0.95:
                break
        rows.append(
            {
                "kind": kind,
                "build CPU s": round(built, 1),
                "bytes a window": round(len(faiss.serialize_index(index)) / len(matrix)),
                knob: int(value),
                "recall": round(reached, 3),
                "ms": round(median_search(index, queries), 2),
            }
        )
    return rows


def measure(
    library: VideoLibrary, embedder: CachedText, said: list[str], kinds: bool
) -> dict[str, object]:
    """Build an index, or one of each kind, and search."""
    store = library._catalog.vectors()
    texts, num_rows = said[:NUM_QUERIES], library._snapshot().num_rows
    queries = embedder.embed_text(texts)
    exact = store.search(queries, K, num_rows, exact=True)[0]
    result: dict[str, object] = {"windows": num_rows, "queries": len(queries)}
    if kinds:
        return result | {"kinds": compare_kinds(store, queries, exact)}
    if not store.index.path.exists():
        others = embedder.embed_text([*UNRELATED_QUERIES, *said[NUM_QUERIES:]])
        started = time.process_time()
        store.build_index(others, num_rows)
        result["build CPU s"] = round(time.process_time() - started, 1)
    found = store.search(queries, K, num_rows)[1]
    near, all_rows = (SearchOptions(speech=0.0, exact=exact) for exact in (False, True))
    searches: dict[str, Callable[[str], object]] = {
        "approximate": lambda text: library.search_many([text], near),
        "filtered": lambda text: library.search_many([text], near, where="width > 700"),
        "exact": lambda text: library.search_many([text], all_rows),
    }
    numbers = torch.from_numpy(np.fromfile(store.path, dtype=np.float32))
    times = {name: milliseconds(search, texts) for name, search in searches.items()}
    times["reading once"] = milliseconds(lambda _: numbers.sum(), texts[:9])
    batch = milliseconds(lambda _: library.search_many(texts[:32], all_rows), texts[:5])
    return result | {
        "threads": torch.get_num_threads(),
        "bytes a window": round(store.index.path.stat().st_size / num_rows),
        "recall@10": round(recall(store, found, queries, exact), 4),
        "recall@10, filtered": round(filtered_recall(library, queries), 4),
        "lists probed": store.index.open().nprobe,
        "milliseconds": {name: round(value, 2) for name, value in times.items()},
        "filtered / approximate": round(times["filtered"] / times["approximate"], 2),
        "exact / reading once": round(times["exact"] / times["reading once"], 2),
        "32 exact queries / one": round(batch / times["exact"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--kinds", action="store_true")
    arguments = parser.parse_args()
    starter = Embedder.from_pretrained("starter")
    embedder = CachedText(starter)
    folder = arguments.features.with_name(f"library-{arguments.windows}")
    with VideoLibrary(folder, embedder) as library:
        if not library.videos():
            with FeatureStore.open(arguments.features) as features:
                fill(library, starter, features, arguments.windows)
        result = measure(library, embedder, sentences(arguments.world), arguments.kinds)
    RESULTS.mkdir(exist_ok=True)
    name = "approximate_kinds.json" if arguments.kinds else "approximate.json"
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
