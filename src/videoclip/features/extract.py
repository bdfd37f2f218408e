"""Features of many videos into a store: resumes, and no video stops the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from videoclip.data.feature_store import FeatureStore
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.features.backbones import Backbone
from videoclip.features.workers import (
    Computed,
    Event,
    Failed,
    Stepped,
    compute_features,
    compute_in_workers,
    num_cores,
)

__all__ = [
    "VIDEO_SUFFIXES",
    "ExtractReport",
    "Progress",
    "extract_features",
    "find_videos",
    "name_videos",
]

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
"""What `find_videos` takes for a video in a folder."""


@dataclass(frozen=True)
class ExtractReport:
    """What became of each video.

    Attributes:
        done: Ids of the videos whose features were added.
        skipped: Ids of the videos whose features were there already.
        failed: The other files, each with its reason in one line.
        seconds: Time it took.
        video_seconds: Seconds of video that the added features cover.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[Path, str]
    seconds: float
    video_seconds: float


@dataclass(frozen=True)
class Progress:
    """How far an extraction is.

    Attributes:
        num_finished: Videos added, skipped or failed.
        num_videos: All of them.
        bytes_finished: Their size on disk, which foretells the time better than their number.
        bytes_total: Of all of them.
        video_seconds: Seconds of video computed so far.
    """

    num_finished: int
    num_videos: int
    bytes_finished: int
    bytes_total: int
    video_seconds: float


def find_videos(places: Iterable[str | Path]) -> list[Path]:
    """List the videos in folders, by suffix and in sorted order, and what else is named.

    Hidden files are left out. A file named outright is listed whatever it is, and so is a folder
    without videos: whoever reads it says what is wrong with it.
    """
    videos: dict[Path, None] = {}
    for place in map(Path, places):
        found = [
            path
            for path in sorted(place.rglob("*"))
            if path.suffix.lower() in VIDEO_SUFFIXES
            and not path.name.startswith(".")
            and not path.is_dir()
        ]
        videos.update(dict.fromkeys(found or [place]))
    return list(videos)


def name_videos(paths: Sequence[Path]) -> dict[Path, str]:
    """Give each file its video id: its name without suffix, as benchmarks and subtitles do.

    Files that share a stem get as many parent folders in front as tell them apart ("a/clip",
    "b/clip"); files that differ in nothing else keep their suffix ("clip.mkv", "clip.mp4").
    """
    by_stem: dict[str, list[Path]] = {}
    for path in dict.fromkeys(paths):
        by_stem.setdefault(path.stem, []).append(path)
    names: dict[Path, str] = {}
    for group in by_stem.values():
        twins = Counter(path.with_suffix("") for path in group)
        parts = [
            (path if twins[path.with_suffix("")] > 1 else path.with_suffix("")).parts
            for path in group
        ]
        depth = 1
        while len({part[-depth:] for part in parts}) < len(parts):
            depth += 1
        names |= {path: "/".join(part[-depth:]) for path, part in zip(group, parts, strict=True)}
    return {path: names[path] for path in dict.fromkeys(paths)}


def extract_features(
    videos: Iterable[str | Path],
    store: FeatureStore,
    backbone: Backbone,
    *,
    num_workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> ExtractReport:
    """Add the features of videos to a store.

    Videos that the store has are skipped, so the same call goes on where an interrupted one
    stopped. Each video is added whole or not at all; one that fails is listed with its reason.

    Args:
        videos: Files and folders, as `find_videos` takes them; ids are given by `name_videos`.
        store: Where features go; its spec must be the backbone's.
        backbone: The frozen network.
        num_workers: Processes that compute, each on one core; 0: this process, with all its
            threads; None: one per core, or this process if there is but one video.
        on_progress: Called whenever there is something new.

    Raises:
        IndexMismatchError: If the store holds other features than the backbone makes.
        DataError: If the disk refuses; what was added before stays.
    """
    if differences := store.spec.differences(backbone.spec):
        raise IndexMismatchError(f"{store.folder}: the store holds other features ({differences})")
    if num_workers is not None and num_workers < 0:
        raise ConfigError(f"num_workers must not be negative, got {num_workers}")
    started = time.monotonic()
    names = name_videos(find_videos(videos))
    skipped = [path for path, name in names.items() if name in store]
    todo = [path for path, name in names.items() if name not in store]
    progress = Progress(
        num_finished=len(skipped),
        num_videos=len(names),
        bytes_finished=sum(map(_size, skipped)),
        bytes_total=sum(map(_size, names)),
        video_seconds=0.0,
    )
    on_progress(progress)
    done: list[str] = []
    failed: dict[Path, str] = {}
    for event in _compute(backbone, todo, num_workers):
        if isinstance(event, Stepped):
            seconds = event.num_features / backbone.spec.features_per_second
            progress = replace(progress, video_seconds=progress.video_seconds + seconds)
        else:
            reason = event.reason if isinstance(event, Failed) else _add(store, names, event)
            if reason:
                failed[event.path] = reason
            else:
                done.append(names[event.path])
            progress = replace(
                progress,
                num_finished=progress.num_finished + 1,
                bytes_finished=progress.bytes_finished + _size(event.path),
            )
        on_progress(progress)
    return ExtractReport(
        done=tuple(done),
        skipped=tuple(names[path] for path in skipped),
        failed=failed,
        seconds=time.monotonic() - started,
        video_seconds=sum(map(store.num_features, done)) / backbone.spec.features_per_second,
    )


def _compute(backbone: Backbone, paths: Sequence[Path], num_workers: int | None) -> Iterator[Event]:
    """Choose between processes and this one."""
    num_threads = 1
    if num_workers is None:
        num_workers = min(num_cores(), len(paths))
        num_workers = 0 if num_workers < 2 else num_workers
        num_threads = max(1, num_cores() // max(1, num_workers))  # cores beyond the videos
    if num_workers and paths:
        yield from compute_in_workers(backbone, paths, num_workers, num_threads)
    else:
        for path in paths:
            yield from compute_features(backbone, path)


def _add(store: FeatureStore, names: Mapping[Path, str], computed: Computed) -> str | None:
    """Append to the store; return why the features are not fit for it, if so."""
    try:
        store.append(names[computed.path], computed.features)
    except DataError as error:
        if isinstance(error.__cause__, OSError):  # a full disk concerns every video to come
            raise
        return str(error).removeprefix(f"{store.folder}: ")
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
