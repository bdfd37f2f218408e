"""Approximate search in a million windows of the synthetic world, beside exact search.

    videoclip synth WORLD --videos 120
    videoclip extract WORLD/videos --store FEATURES
    python bench/approximate.py WORLD FEATURES [--windows N] [--kinds]

The starter model embeds the world's videos second by second; films are cut together from stretches
of 4 to 20 s of them, each out of phase, and a window is the mean of its seconds (the tower takes
the mean too, but sees each window by itself, which would take hours here). Queries are what is
said in the world. Recall is the share of the 10 most similar windows that is found. `--kinds`
compares
faiss's kinds of index.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np

from videoclip.data.feature_store import FeatureStore
from videoclip.data.subtitles import read_subtitles
from videoclip.embedding import Embedder
from videoclip.library.confidence import UNRELATED_QUERIES
from videoclip.library.vectors import MatrixStore
from videoclip.library.windows import window_spans

RESULTS = Path(__file__).parent / "results"
SECONDS_PER_FILM = 120
NUM_QUERIES, K = 200, 10
NUM_CANDIDATES = 320
"""Windows a library asks for to make 10 moments of; they are compared again exactly."""


def films(videos: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Endless films (SECONDS_PER_FILM, E), each cut from stretches of many videos."""
    rng = np.random.default_rng(0)
    while True:
        stretches, missing = [], SECONDS_PER_FILM
        while missing > 0:
            video = videos[rng.integers(len(videos))]
            length = min(missing, int(rng.integers(4, 21)), len(video) - 1)
            start = int(rng.integers(0, len(video) - length))
            phase = rng.random()  # so that no two windows are quite equal
            stretch = video[start : start + length + 1]
            stretches.append((1 - phase) * stretch[:-1] + phase * stretch[1:])
            missing -= length
        yield np.concatenate(stretches)


def make_windows(path: Path, embedder: Embedder, features: FeatureStore, count: int) -> None:
    """Write that many windows into a file of vectors."""
    videos = [embedder.embed_features(features.read(name)).tokens for name in features.video_ids]
    starts, ends = window_spans(SECONDS_PER_FILM, 1.0).T
    done = 0
    with path.with_suffix(".partial").open("wb") as file:
        for film in films(videos):
            sums = np.concatenate((np.zeros((1, film.shape[1])), np.cumsum(film, axis=0)))
            vectors = (sums[ends] - sums[starts])[: count - done]
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            file.write(vectors.astype(np.float16).tobytes())
            done += len(vectors)
            if done == count:
                break
    path.with_suffix(".partial").rename(path)


def sentences(world: Path) -> list[str]:
    """Different sentences said in the world, spread over its videos."""
    said = {cue.text for path in sorted(world.glob("videos/*.vtt")) for cue in read_subtitles(path)}
    return np.random.default_rng(1).permutation(sorted(said))[:NUM_QUERIES].tolist()


def milliseconds(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Median CPU time of one query after another."""
    times = []
    for query in queries:
        started = time.process_time()
        search(query[None])
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times)


def recall(store: MatrixStore, found: np.ndarray, queries: np.ndarray, exact: np.ndarray) -> float:
    """Share of the K rows found that are as similar as the K-th most similar one."""
    shares = []
    for rows, query, best in zip(found, queries, exact, strict=True):
        similarities = np.concatenate([store.read(row, 1) for row in rows]) @ query
        shares.append(min(np.count_nonzero(similarities >= best[K - 1] - 1e-5) / K, 1.0))
    return float(np.mean(shares))


def compare_kinds(store: MatrixStore, queries: np.ndarray, exact: np.ndarray) -> list[dict]:
    """Build each kind and search it as widely as 0.95 of the nearest rows takes."""
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
                "ms": round(
                    milliseconds(lambda q, i=index: i.search(q, NUM_CANDIDATES), queries), 2
                ),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--kinds", action="store_true")
    arguments = parser.parse_args()
    embedder = Embedder.from_pretrained("starter")
    path = arguments.features.with_name(f"windows-{arguments.windows}.f16")
    if not path.exists():
        with FeatureStore.open(arguments.features) as features:
            make_windows(path, embedder, features, arguments.windows)
    store = MatrixStore(path, embedder.config.hidden_size)
    queries = embedder.embed_text(sentences(arguments.world))
    exact = store.search(queries, K, store.num_rows, exact=True)[0]
    result: dict[str, object] = {"windows": store.num_rows, "queries": len(queries)}
    if arguments.kinds:
        result["kinds"] = compare_kinds(store, queries, exact)
    else:
        index_path = path.with_suffix(".ivf")
        if not index_path.exists():
            started = time.process_time()
            store.build_index(embedder.embed_text(list(UNRELATED_QUERIES)), store.num_rows)
            result["build CPU s"] = round(time.process_time() - started, 1)
        found = store.search(queries, K, store.num_rows)[1]
        result |= {
            "bytes a window": round(index_path.stat().st_size / store.num_rows),
            "recall@10": round(recall(store, found, queries, exact), 4),
            "lists probed": store._index()._index.nprobe,
            "ms, 10 windows": round(
                milliseconds(lambda q: store.search(q, K, store.num_rows), queries), 2
            ),
            f"ms, {NUM_CANDIDATES} windows": round(
                milliseconds(lambda q: store.search(q, NUM_CANDIDATES, store.num_rows), queries), 2
            ),
            "ms, exact": round(
                milliseconds(lambda q: store.search(q, K, store.num_rows, exact=True), queries), 1
            ),
        }
    RESULTS.mkdir(exist_ok=True)
    name = "approximate_kinds.json" if arguments.kinds else "approximate.json"
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
