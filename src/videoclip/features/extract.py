"""From video files to features: find videos, name them, and compute the features of each.

Extraction into a store resumes, and a video that fails does not stop the others.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from videoclip.data.feature_store import FeatureStore
from videoclip.data.sources import ARCHIVE_SUFFIX, is_plain, list_files, status_of
from videoclip.errors import ConfigError, DataError, IndexMismatchError, VideoCLIPError
from videoclip.features.backbones import Backbone
from videoclip.features.cluster import run_on_cluster
from videoclip.features.contained import probe
from videoclip.features.video_file import NO_VIDEOS, NOT_REGULAR, os_reason, reading
from videoclip.features.workers import (
    Computed,
    Failed,
    Result,
    num_cores,
    run_in_threads,
    run_in_workers,
)
from videoclip.types import FloatArray, OnProgress

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
"""File name extensions of the videos that are looked for in folders."""


@dataclass(frozen=True)
class VideoFile:
    """A video file on the disk; an unchanged file has the same size and time.

    Attributes:
        path: Absolute path.
        size: Bytes.
        mtime_ns: Time of its last change.
    """

    path: Path
    size: int
    mtime_ns: int


def find_videos(
    paths: Iterable[Path | str], *, archives: bool = False
) -> tuple[list[VideoFile], dict[Path, str]]:
    """List the videos in folders and their subfolders, and the files that are named.

    In folders, hidden files and folders are left out, links to files are followed and links to
    folders are not, which could form a circle. A file that is named is listed whatever its name.

    Args:
        paths: Files and folders.
        archives: Whether to list the videos in tar archives, and in object storage, too.

    Returns:
        The files in order of path, and for each path that cannot be read the reason.
    """
    found: dict[str, VideoFile] = {}
    failed: dict[Path, str] = {}

    def list_stored(source: Path) -> None:
        """List the videos of an archive or address."""
        try:
            files = [f for f in list_files(source) if _is_video(f.name)]
            found.update({str(f): VideoFile(f, *vars(status_of(f)).values()) for f in files})
            if not files:
                failed[source] = "has no videos"
        except VideoCLIPError as error:
            failed[source] = str(error).removeprefix(f"{source}: ")

    def fail(error: OSError) -> None:
        path = Path(str(error.filename))
        failed[path] = os_reason(path, error)

    for given in paths:
        if archives and not is_plain(given):
            list_stored(Path(given))
            continue
        path = os.path.abspath(given)  # noqa: PTH100 - Path.resolve would follow links
        num_failed = len(failed)
        files = list(_videos_below(path, archives, fail)) if Path(path).is_dir() else [path]
        if not files and len(failed) == num_failed:
            failed[Path(path)] = NO_VIDEOS
        for file in files:
            if archives and file.lower().endswith(ARCHIVE_SUFFIX):
                list_stored(Path(file))
                continue
            try:
                file.encode()
                status = os.stat(file)  # noqa: PTH116 - speed
                if not stat.S_ISREG(status.st_mode):
                    failed[Path(file)] = NOT_REGULAR
                    continue
            except OSError as error:
                fail(error)
            except UnicodeEncodeError:
                readable = file.encode(errors="surrogateescape").decode(errors="backslashreplace")
                failed[Path(readable)] = "its name is not valid UTF-8; rename it"
            else:
                found[file] = VideoFile(Path(file), status.st_size, status.st_mtime_ns)
    return [found[path] for path in sorted(found)], failed


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")


def _videos_below(
    folder: str, archives: bool, on_error: Callable[[OSError], None]
) -> Iterator[str]:
    for current, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if _is_video(name) or (archives and name.lower().endswith(ARCHIVE_SUFFIX)):
                yield os.path.join(current, name)  # noqa: PTH118 - speed


def videos_in(folder: Path, *, archives: bool = False) -> list[Path]:
    """Return the paths of the videos in a folder; see `find_videos`.

    Raises:
        DataError: If there are none.
    """
    files, failed = find_videos([folder], archives=archives)
    if not files:
        raise DataError(next(iter(failed.values())), folder)
    return [file.path for file in files]


def name_videos(paths: Sequence[Path]) -> dict[Path, str]:
    """Give each file its video id: its name without suffix, as benchmarks and subtitles do.

    Files that share a stem get as many parent folders in front as make them unique ("a/clip",
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


def features_of(
    backbone: Backbone, path: Path, on_features: Callable[[int], None] = lambda num: None
) -> FloatArray:
    """Compute the features of one video, (T, D).

    Args:
        backbone: The frozen network.
        path: The video.
        on_features: Called with the number of new features of each chunk.

    Raises:
        DecodeError: If the video cannot be read.
    """
    # One growing buffer: a list of chunks, allocated between the large arrays of the network, would
    # fragment memory, by half a gigabyte for an hour of video.
    buffer = bytearray()
    with reading(path):
        for chunk in backbone.features_for(path):
            assert chunk.shape[1:] == (backbone.spec.dim,), f"features of shape {chunk.shape}"
            buffer += chunk.astype(np.float32).tobytes()
            on_features(len(chunk))
    return np.frombuffer(buffer, dtype=np.float32).reshape(-1, backbone.spec.dim)


def compute_features(
    load: Callable[[], Backbone],
    paths: Sequence[Path],
    locks_folder: Path,
    is_wanted: Callable[[Path], bool] = lambda path: True,
    num_workers: int | None = 0,
    cluster: str | None = None,
    on_features: Callable[[int], None] = lambda num: None,
) -> Iterator[Result]:
    """Compute the features of videos, yielding each as it comes.

    Processes on this and other machines share the work if they have the same `locks_folder`: each
    video is locked from `is_wanted` until the caller asks for the next result. Videos that another
    process has locked come last, when it has finished or died.

    Args:
        load: Returns the frozen network; called only if there are videos to compute.
        paths: The videos.
        locks_folder: Folder of lock files; made if missing.
        is_wanted: Called right before each video; False skips it.
        num_workers: As for `extract_features`.
        cluster: As for `extract_features`.
        on_features: Called in this process with the number of new features of each chunk, or of
            each video from a cluster.

    Raises:
        ConfigError: If `num_workers` is negative, or the processes or the cluster cannot start.
        MissingExtraError: If a cluster is given and Ray is not installed.
    """
    if num_workers is not None and num_workers < 0:
        raise ConfigError(f"num_workers must not be negative, got {num_workers}")
    busy: list[Path] = []

    def is_ours(path: Path) -> bool:
        if not locks.acquire(path):
            busy.append(path)
            return False
        if is_wanted(path):
            return True
        locks.release(path)
        return False

    with VideoLocks(locks_folder) as locks:
        while paths:
            ours = filter(is_ours, paths)
            if (first := next(ours, None)) is not None:
                todo = chain([first], ours)
                for result in _run(load(), todo, len(paths), num_workers, cluster, on_features):
                    yield result
                    locks.release(result.path)
            paths, busy = busy, []
            if paths:  # nothing is locked here now: processes cannot wait for each other
                locks.acquire(paths[0], wait=True)
                locks.release(paths[0])


def _run(
    backbone: Backbone,
    paths: Iterator[Path],
    num_videos: int,
    num_workers: int | None,
    cluster: str | None,
    on_features: Callable[[int], None],
) -> Iterator[Result]:
    """Compute features here, in workers or on a cluster; there are `num_videos`."""
    work = partial(_compute_one, backbone)
    uses_gpu = str(getattr(backbone, "device", "cpu")).startswith("cuda")
    if cluster is not None:
        return run_on_cluster(work, paths, num_videos, cluster, num_workers, uses_gpu, on_features)
    num_threads = 1
    if num_workers is None:
        num_workers = min(num_cores(), num_videos) if num_videos > 1 else 0
        num_threads = max(1, num_cores() // max(1, num_workers))  # more cores than videos
    if num_workers := min(num_workers, num_videos):
        if uses_gpu:
            return run_in_threads(work, paths, num_workers, on_features)
        return run_in_workers(work, paths, num_workers, num_threads, on_features)
    return (work(path, on_features) for path in paths)


def _compute_one(backbone: Backbone, path: Path, on_features: Callable[[int], None]) -> Result:
    try:
        with np.errstate(over="ignore"):  # the store refuses features that are infinite then
            features = features_of(backbone, path, on_features).astype(np.float16)
        return Computed(path, features, probe(path))
    except VideoCLIPError as error:
        return Failed(path, str(error).removeprefix(f"{path}: "))


@dataclass(frozen=True)
class ExtractReport:
    """The outcome for each video; `str()` is one line.

    Attributes:
        done: Ids of the videos whose features were added.
        skipped: Ids of the videos whose features were there already.
        failed: Reason in one line for each other file.
        seconds: Duration of the extraction.
        video_seconds: Seconds of video that the added features cover.
    """

    done: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[Path, str]
    seconds: float
    video_seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return asdict(self) | {"failed": {str(path): why for path, why in self.failed.items()}}

    def __str__(self) -> str:
        speed = self.video_seconds / self.seconds
        return (
            f"{len(self.done)} added ({self.video_seconds:.0f} s of video, {speed:.0f}x real time),"
            f" {len(self.skipped)} already there, {len(self.failed)} failed"
        )


def extract_features(
    videos: Iterable[str | Path],
    store: FeatureStore,
    backbone: Backbone,
    *,
    num_workers: int | None = None,
    cluster: str | None = None,
    on_progress: OnProgress | None = None,
    on_video_seconds: Callable[[float], None] | None = None,
) -> ExtractReport:
    """Add the features of videos to a store.

    Videos that are in the store already are skipped, so the same call continues an interrupted one.
    Each video is added whole or not at all; one that fails is listed with its reason. Several
    processes, also of machines that share the disk, may add to one store at once.

    Args:
        videos: Files and folders, archives and addresses too, see `find_videos`; ids are those of
            `name_videos`.
        store: Store to add to; its spec must be the backbone's.
        backbone: The frozen network.
        num_workers: Processes that compute, each on one core, or, if the network is on a GPU, that
            read videos for it; 0: this process, with all its threads; None: one per core, or this
            process if there is but one video.
        cluster: Address of a Ray cluster that computes instead: "local" (on this machine), "auto"
            (the cluster it belongs to) or HOST:PORT. `num_workers` are then workers of one CPU
            each, None or 0: one per CPU but one.
        on_progress: Called with the number of finished videos and of all videos.
        on_video_seconds: Called with the seconds of video that were computed so far, whenever there
            are more, so also within a video.

    Raises:
        ConfigError: If the processes or the cluster cannot start.
        IndexMismatchError: If the store holds other features than the backbone makes.
        MissingExtraError: If a cluster is given and Ray is not installed.
        DataError: If writing fails; what was added before stays.
    """
    if isinstance(store, (str, Path)) or isinstance(backbone, str):
        raise ConfigError(
            "store and backbone are objects, not names: load_backbone and "
            "FeatureStore.open_or_create make them"
        )
    if differences := store.spec.differences(backbone.spec):
        raise IndexMismatchError(f"{store.folder}: the store holds other features ({differences})")
    started = time.monotonic()
    files, unread = find_videos(videos, archives=True)
    names = name_videos([file.path for file in files])
    skipped = [path for path, name in names.items() if name in store]
    todo = [path for path, name in names.items() if name not in store]
    done: list[str] = []
    failed: dict[Path, str] = {}

    num_features = 0

    def report_progress() -> None:
        if on_progress is not None:
            on_progress(len(skipped) + len(done) + len(failed), len(names) + len(unread))

    def count_features(num: int) -> None:
        nonlocal num_features
        num_features += num
        if on_video_seconds is not None:
            on_video_seconds(num_features / backbone.spec.features_per_second)

    def is_missing(path: Path) -> bool:
        store.refresh()
        if names[path] not in store:
            return True
        skipped.append(path)  # another process has added it
        report_progress()
        return False

    report_progress()
    failed.update(unread)
    for result in compute_features(
        lambda: backbone,
        todo,
        store.folder / "locks",
        is_missing,
        num_workers,
        cluster,
        count_features,
    ):
        reason = result.reason if isinstance(result, Failed) else _add(store, names, result)
        if reason:
            failed[result.path] = reason
        else:
            done.append(names[result.path])
        report_progress()
    return ExtractReport(
        done=tuple(done),
        skipped=tuple(names[path] for path in skipped),
        failed=failed,
        seconds=time.monotonic() - started,
        video_seconds=sum(map(store.num_features, done)) / backbone.spec.features_per_second,
    )


def _add(store: FeatureStore, names: Mapping[Path, str], computed: Computed) -> str | None:
    """Append to the store; return the reason if the store refuses the features."""
    try:
        store.append(names[computed.path], computed.features)
    except DataError as error:
        if isinstance(error.__cause__, OSError):  # a full disk concerns every video to come
            raise
        return str(error).removeprefix(f"{store.folder}: ")
    return None


NUM_LOCKS = 4096
"""Lock files in a folder; two videos rarely share one, and then only wait for each other."""


class VideoLocks(ExitStack):
    """Locks on videos, by which processes that write to one folder share the work.

    Paths are hashed to a fixed number of lock files. The system releases the locks of a process
    that dies.

    Args:
        folder: Of the lock files; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._locks: dict[int, FileLock] = {}

    def _lock_of(self, path: Path) -> FileLock:
        digest = hashlib.blake2b(str(path).encode(), digest_size=8).digest()
        number = int.from_bytes(digest) % NUM_LOCKS
        if number not in self._locks:
            self._locks[number] = FileLock(self._folder / f"{number:04d}.lock")
            self.callback(self._locks[number].release, force=True)
        return self._locks[number]

    def acquire(self, path: Path, wait: bool = False) -> bool:
        """Lock a video and return whether that succeeded; `wait` for other processes."""
        try:
            self._lock_of(path).acquire(blocking=wait)  # counts, where two videos share a file
        except Timeout:
            return False
        return True

    def release(self, path: Path) -> None:
        """Unlock a video."""
        self._lock_of(path).release()
