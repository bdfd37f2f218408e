"""How fast random windows leave the feature store, beside `np.load(..., mmap_mode="r")` per video.

    python bench/feature_store.py [--videos 2000] [--json]

Windows of 32 x 512 float16 (32 KiB), as in training. Warm: CPU time, everything in the page cache.
Cold: wall time, the pages of the files dropped before (they are clean, so the kernel obeys);
read-ahead and the disk decide it. The floor is a bare `os.preadv` of the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from videoclip.data.feature_store import FeatureSpec, FeatureStore

RESULTS = Path(__file__).resolve().parents[1] / "bench" / "results"
SPEC = FeatureSpec(512, 1.0, "bench", False, "")
LENGTH, BATCH = 32, 512
Window = tuple[str, int, int]


def make(folder: Path, num_videos: int) -> tuple[FeatureStore, float]:
    """Write a store and one .npy per video; return the CPU milliseconds per append."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "npy").mkdir(parents=True)
    rng = np.random.default_rng(0)
    store = FeatureStore.create(folder / "store", SPEC)
    appending = 0.0
    for number in range(num_videos):
        rows = rng.standard_normal((int(rng.integers(200, 600)), SPEC.dim), np.float32)
        rows = rows.astype(np.float16)
        start = time.process_time()
        store.append(f"v{number}", rows)
        appending += time.process_time() - start
        np.save(folder / "npy" / f"v{number}.npy", rows)
    return store, 1000 * appending / num_videos


def draw(store: FeatureStore, number: int) -> list[Window]:
    rng = np.random.default_rng(1)
    windows = []
    ids = store.video_ids
    for video_id in (ids[i] for i in rng.integers(0, len(ids), number)):
        start = int(rng.integers(0, store.num_features(video_id) - LENGTH + 1))
        windows.append((video_id, start, start + LENGTH))
    return windows


def read_store(store: FeatureStore, windows: list[Window]) -> None:
    for start in range(0, len(windows), BATCH):
        store.read_windows(windows[start : start + BATCH])


def read_npy(folder: Path, windows: list[Window]) -> None:
    for video_id, start, stop in windows:
        np.array(np.load(folder / "npy" / f"{video_id}.npy", mmap_mode="r")[start:stop])


def read_bare(store: FeatureStore, windows: list[Window]) -> None:
    """The same bytes from the same places by system calls alone."""
    row_bytes = 2 * SPEC.dim
    first_rows = dict(
        zip(
            store.video_ids,
            np.cumsum([0, *map(store.num_features, store.video_ids)])[:-1].tolist(),
            strict=True,
        )
    )
    offsets = [(first_rows[video_id] + start) * row_bytes for video_id, start, _ in windows]
    buffer = np.empty((LENGTH, SPEC.dim), np.float16)
    handle = os.open(store.folder / "features.bin", os.O_RDONLY)
    for offset in offsets:
        os.preadv(handle, [buffer], offset)
    os.close(handle)


def drop_pages(folder: Path) -> None:
    """Make the kernel forget the files, as after a restart."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def rate(work: Callable[[], None], number: int, clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return number / (clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=RESULTS / "feature_store")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    store, append_ms = make(arguments.folder, arguments.videos)
    windows = draw(store, 20_000)
    tasks: dict[str, Callable[[list[Window]], None]] = {
        "store": lambda some: read_store(store, some),
        "np.load mmap": lambda some: read_npy(arguments.folder, some),
        "bare preadv": lambda some: read_bare(store, some),
    }
    warm = dict.fromkeys(tasks, 0.0)
    for _ in range(arguments.rounds):
        for name, task in tasks.items():
            reads = rate(lambda: task(windows), len(windows), time.process_time)  # noqa: B023
            warm[name] = max(warm[name], reads)
    few = windows[:2000]
    cold = {}
    for name, task in tasks.items():
        drop_pages(arguments.folder)
        cold[name] = rate(lambda: task(few), len(few), time.perf_counter)  # noqa: B023
    result = {
        "videos": arguments.videos,
        "window": [LENGTH, SPEC.dim],
        "warm_windows_per_core_second": warm,
        "cold_windows_per_second": cold,
        "append_cpu_ms": append_ms,
    }
    shutil.rmtree(arguments.folder)
    (RESULTS / "feature_store.json").write_text(json.dumps(result, indent=2))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{arguments.videos} videos, windows of {LENGTH} x {SPEC.dim} float16")
    print(f"  {'':<14}{'warm/core-s':>14}{'over np.load':>14}{'cold/s':>10}{'over np.load':>14}")
    for name in tasks:
        print(
            f"  {name:<14}{warm[name]:>14,.0f}{warm[name] / warm['np.load mmap']:>13.1f}x"
            f"{cold[name]:>10,.0f}{cold[name] / cold['np.load mmap']:>13.1f}x"
        )
    print(f"append: {append_ms:.1f} CPU ms per video of 400 features, on the disk when it returns")


if __name__ == "__main__":
    main()
