"""Bring a library up to date: find what changed, embed only that, commit video by video.

A kill at any moment is harmless: features and vectors are on the disk before the catalogue names
them, and the catalogue's commit is all or nothing. Vectors that were not followed by a commit
belong to no video, and compaction drops them.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock

from videoclip.data.captions import Cue, join_cues
from videoclip.data.feature_store import FeatureStore
from videoclip.data.subtitles import pair_subtitles, read_subtitles
from videoclip.embedding import Embedder, WindowConfig, window_spans
from videoclip.errors import DataError, DecodeError, VideoCLIPError
from videoclip.features.backbones import Backbone
from videoclip.features.contained import probe
from videoclip.features.decode import VideoInfo
from videoclip.features.extract import VideoFile, compute_features, find_videos, name_videos
from videoclip.features.frame_backbone import with_keyframes
from videoclip.features.video_file import NO_VIDEOS, os_reason
from videoclip.features.workers import Computed, Failed
from videoclip.files import atomic_folder
from videoclip.library.catalog import Catalog, IndexedVideo, Passage
from videoclip.library.metadata import Values, metadata_of
from videoclip.library.vectors import to_half, with_biases
from videoclip.types import FloatArray, OnProgress, RealArray

SAMPLED_BYTES = 1 << 20
"""Read at each end of a file for its quick content hash, and as much in all between them."""
NUM_SAMPLES = 64
"""Places between the ends: a copy or download in progress may have the ends before the middle."""
MAX_PASSAGE_SECONDS, MAX_PAUSE_SECONDS = 8.0, 2.0
"""Longest passage of several cues that is embedded at once, and longest pause within it: about two
sentences."""
MIN_PASSAGE_LIMIT = 100
"""Passages that every narration may have; more than these and one a second are no speech."""
DISK_ERRORS = (OSError, sqlite3.OperationalError)


@dataclass(frozen=True)
class UpdateReport:
    """What an update did, as paths.

    Attributes:
        added: New videos.
        changed: Videos whose content changed; embedded again.
        moved: New paths of known videos.
        narrated: Videos of which only the subtitles changed.
        unchanged: Number of videos that did not change.
        removed: Videos dropped because their file is gone (`prune`), or because their record was
            damaged and they are not under the paths (`repair`).
        missing: Videos kept although their file is gone.
        failed: Reason for each path that could not be indexed.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    narrated: list[str] = field(default_factory=list)
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def changed_library(self) -> bool:
        """Whether anything in the library is different now."""
        return bool(self.added or self.changed or self.moved or self.narrated or self.removed)

    def __str__(self) -> str:
        """List the counts that are not zero."""
        counts = {
            "added": len(self.added),
            "changed": len(self.changed),
            "moved": len(self.moved),
            "with new narration": len(self.narrated),
            "unchanged": self.unchanged,
            "removed": len(self.removed),
            "missing (drop them with --prune)": len(self.missing),
            "failed": len(self.failed),
        }
        parts = [f"{count} {what}" for what, count in counts.items() if count]
        return ", ".join(parts) or "nothing to do"


@dataclass
class Indexer:
    """One update of a library.

    Attributes:
        catalog: Of the library.
        unrelated: (Q, E) embeddings of scenes, for the biases of windows.
        lock: Held while vectors and the catalogue are written.
        windows: The library's window lengths.
        embedder: Embeds windows.
        fast: Whether features are computed from keyframes.
        stores: The library's own stores of features that are open, by folder.
        given: Features that were extracted before, by the ids of `name_videos`.
        whole_hash: Whether content hashes cover whole files.
        num_workers: Processes that decode; see `extract_features`.
        cluster: Address of a Ray cluster that decodes; see `extract_features`.
        on_progress: Called with the number of videos done and to do.
        report: Results so far.
    """

    catalog: Catalog
    unrelated: FloatArray
    lock: FileLock
    windows: WindowConfig
    embedder: Embedder
    fast: bool
    stores: dict[Path, FeatureStore]
    given: FeatureStore | None
    whole_hash: bool
    num_workers: int | None
    cluster: str | None
    on_progress: OnProgress
    report: UpdateReport = field(default_factory=UpdateReport)
    _files: dict[Path, VideoFile] = field(default_factory=dict)
    _contents: dict[Path, str] = field(default_factory=dict)
    _recognised: list[str] = field(default_factory=list)  # files that were moved or touched
    _forgotten: list[str] = field(default_factory=list)  # files whose records were damaged
    _num_done: int = 0
    _num_videos: int = 0

    def update(
        self, paths: Sequence[Path | str], prune: bool, metadata: Mapping[str, Values], repair: bool
    ) -> UpdateReport:
        """Run the update; see `VideoLibrary.update`."""
        if repair:
            self._forget_damaged()
        files, failed = find_videos(paths)
        self._files = {file.path: file for file in files}
        self.report.failed.update({str(path): reason for path, reason in failed.items()})
        with self.catalog.reading():
            known = {video.path: video for video in self.catalog.videos()}
        different = [file for file in files if not _is_same(known.get(str(file.path)), file)]
        changed = {str(file.path) for file in different}
        same = [known[path] for path in map(str, self._files) if path not in changed]
        self._num_videos = len(different)
        self.on_progress(0, len(different))
        self._index([file.path for file in different if not self._skips_embedding(file)])
        recognised = filter(None, map(self.catalog.find, self._recognised))
        self._refresh_narration([*same, *recognised])
        self._drop_missing(paths, prune)
        self.report.removed.extend(p for p in self._forgotten if Path(p) not in self._files)
        if metadata:
            self._set_metadata(metadata)
        num_narrated = len({video.path for video in same}.intersection(self.report.narrated))
        return replace(self.report, unchanged=len(same) - num_narrated)

    @cached_property
    def _backbone(self) -> Backbone:
        backbone = self.embedder.backbone
        return with_keyframes(backbone) if self.fast else backbone

    @cached_property
    def _own_features(self) -> FeatureStore:
        """The library's own store of the backbone's features, by content."""
        spec = self._backbone.spec
        usual = spec.features_per_second == 1.0
        rate = "" if usual else f"-{spec.features_per_second:g}"
        folder = self.catalog.folder / f"features-{spec.fingerprint[:16]}{rate}"
        if folder not in self.stores:
            self.stores[folder] = FeatureStore.open_or_create(folder, spec)
        return self.stores[folder]

    @cached_property
    def _subtitles(self) -> Mapping[Path, Path | None]:
        return pair_subtitles(list(self._files))

    @cached_property
    def _given_ids(self) -> dict[Path, str]:
        """Ids in `given` of the videos that it has."""
        if self.given is None:
            return {}
        names = name_videos(list(self._files))
        return {path: name for path, name in names.items() if name in self.given}

    def _forget_damaged(self) -> None:
        """Forget damaged records and features; videos with damaged vectors count as changed."""
        with self.lock, self.catalog.writing():
            paths = {video.id: video.path for video in self.catalog.videos()}
            damaged_keys = self.catalog.damaged_records(paths)
            self.catalog.remove(damaged_keys)
            self._forgotten = [paths[key] for key in damaged_keys]
            for video in self.catalog.damaged(self.catalog.videos()):
                self.catalog.change(video.id, size=-1, content_hash="")
        store = self._own_features
        if damaged := store.damaged():
            with self.lock, atomic_folder(store.folder) as folder:
                whole = FeatureStore.create(folder, store.spec)
                for video_id in (name for name in store.video_ids if name not in damaged):
                    whole.append(video_id, store.read(video_id))
            self.stores[store.folder] = FeatureStore.open(store.folder)
            del self._own_features

    def _skips_embedding(self, file: VideoFile) -> bool:
        """Whether a file need not be embedded: it was moved or touched, or is unreadable."""
        path = str(file.path)
        try:
            content = content_hash(path, self.whole_hash)
        except DecodeError as error:
            self._fail(file.path, error)
            self._count()
            return True
        self._contents[file.path] = content
        known = self.catalog.find(path)
        if known and known.content_hash == content:
            moved = known
        else:
            twins = () if known else self.catalog.with_content(content)
            gone = [twin for twin in twins if not Path(twin.path).exists()]
            if not gone:
                return False
            moved = gone[0]
            self.report.moved.append(path)
        with self.catalog.writing():
            self.catalog.change(moved.id, path=path, size=file.size, mtime_ns=file.mtime_ns)
        self._recognised.append(path)
        self._count()
        return True

    def _index(self, paths: Sequence[Path]) -> None:
        """Embed videos and commit each, together with other processes that update the library."""

        def must_compute(path: Path) -> bool:
            """Embed a video whose features exist already; return whether they do not."""
            with self.catalog.reading():
                video = self.catalog.find(str(path))
            if not _is_same(video, self._files[path]):  # else another process has indexed it
                features = self._stored_features(path)
                if features is None:
                    return True
                with self._listing_errors(path):
                    self._embed(path, features, probe(path))
            self._count()
            return False

        for result in compute_features(
            lambda: self._backbone,
            paths,
            self.catalog.folder / "locks",
            must_compute,
            self.num_workers if len(paths) > 1 else 0,
            self.cluster,
        ):
            if isinstance(result, Failed):
                self.report.failed[str(result.path)] = result.reason
            else:
                self._keep_and_embed(result)
            self._count()

    def _count(self) -> None:
        self._num_done += 1
        self.on_progress(self._num_done, self._num_videos)

    def _fail(self, path: Path, error: VideoCLIPError) -> None:
        self.report.failed[str(path)] = str(error).removeprefix(f"{path}: ")

    @contextmanager
    def _listing_errors(self, path: Path) -> Iterator[None]:
        """List an error as the reason why a video failed; a full disk concerns all videos."""
        try:
            yield
        except VideoCLIPError as error:
            if isinstance(error, DataError) and isinstance(error.__cause__, DISK_ERRORS):
                raise
            self._fail(path, error)

    def _stored_features(self, path: Path) -> RealArray | None:
        """Read features (T, D) that were given or that the library has kept; None: neither."""
        if self.given is not None and path in self._given_ids:
            return self.given.read(self._given_ids[path])
        store, content = self._own_features, self._contents[path]
        return store.read(content) if content in store else None

    def _keep_and_embed(self, computed: Computed) -> None:
        """Store the features of a video by content, then embed it.

        They take some percent of the video's size and save decoding when a better model is trained
        or a copy is added.
        """
        store, content = self._own_features, self._contents[computed.path]
        with self._listing_errors(computed.path):
            with self.lock:
                store.refresh()
                if content in store:  # of another process, or of an interrupted update
                    features = store.read(content)
                else:
                    features = computed.features
                    store.append(content, features)
            self._embed(computed.path, features, computed.info)

    def _embed(self, path: Path, features: RealArray, info: VideoInfo) -> None:
        """Embed the windows of a video and commit it."""
        file, rate = self._files[path], self.embedder.config.features_per_second
        spans = window_spans(len(features), rate, self.windows)
        vectors = self.embedder.embed_windows(features, spans)
        if int(self.catalog.facts()["dim"]) > vectors.shape[1]:
            vectors = with_biases(vectors, self.unrelated)
        narration = self._narration(path, info.duration)
        narration_path, narration_mtime_ns, cues, passages = narration
        with self.lock:
            first_row = self.catalog.vectors().append(vectors)  # on the disk before the commit
            video = IndexedVideo(
                path=str(path),
                size=file.size,
                mtime_ns=file.mtime_ns,
                content_hash=self._contents[path],
                duration=info.duration,
                width=info.width,
                height=info.height,
                frame_rate=info.frame_rate,
                num_features=len(features),
                first_row=first_row,
                num_windows=len(spans),
                narration_path=narration_path,
                narration_mtime_ns=narration_mtime_ns,
                added=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            )
            video = replace(video, checksum=video.checksum_of(to_half(vectors, path)))
            with self.catalog.writing():
                known = self.catalog.find(video.path)
                self.catalog.add(video, cues, passages)
        (self.report.changed if known else self.report.added).append(video.path)

    def _narration(
        self, video: Path, duration: float
    ) -> tuple[str | None, int | None, list[Cue], list[Passage]]:
        """Return a video's narration: its file, the time of its last change, cues and passages."""
        path = self._subtitles[video]
        if path is None:
            return None, None, [], []
        try:
            mtime_ns, cues = _mtime_ns(path), read_subtitles(path)
            return str(path), mtime_ns, cues, self._passages(path, cues, duration)
        except DataError as error:
            self._fail(path, error)
            return None, None, [], []

    def _passages(self, path: Path, cues: Sequence[Cue], duration: float) -> list[Passage]:
        """Embed a narration passage by passage, but for those without words or after the video."""
        during = [cue for cue in cues if cue.start < duration]
        joined = join_cues(during, MAX_PASSAGE_SECONDS, MAX_PAUSE_SECONDS)
        spoken = [cue for cue in joined if re.search(r"\w", cue.text)]
        if len(spoken) > MIN_PASSAGE_LIMIT + duration:
            raise DataError(f"has {len(spoken):,} passages in {duration:.1f} s of video", path)
        if not spoken:
            return []
        vectors = self.embedder.embed_text([cue.text for cue in spoken]).astype(np.float16)
        return [Passage(c.start, c.end, v) for c, v in zip(spoken, vectors, strict=True)]

    def _refresh_narration(self, videos: Sequence[IndexedVideo]) -> None:
        """Read the narration of unchanged videos again where the subtitle file is another."""
        for video in videos:
            beside = self._subtitles[Path(video.path)]
            now = (str(beside), _mtime_ns(beside)) if beside else (None, None)
            if now != (video.narration_path, video.narration_mtime_ns):
                narration = self._narration(Path(video.path), video.duration)
                path, mtime_ns, cues, passages = narration
                if path is None and video.narration_path is None:
                    continue  # unreadable before and after
                with self.catalog.writing():
                    self.catalog.change(video.id, narration_path=path, narration_mtime_ns=mtime_ns)
                    self.catalog.set_narration(video.id, cues, passages)
                self.report.narrated.append(video.path)

    def _drop_missing(self, paths: Sequence[Path | str], prune: bool) -> None:
        """Report, or drop, the videos in readable folders of `paths` whose file is gone."""
        roots = {os.path.abspath(path) for path in paths}  # noqa: PTH100 - links stay links
        unread = {path for path, reason in self.report.failed.items() if reason != NO_VIDEOS}
        gone = []
        for video in self.catalog.videos():
            path = Path(video.path)
            if path in self._files:
                continue
            folders = set(map(str, path.parents))
            is_inside = video.path in roots or not roots.isdisjoint(folders)
            if is_inside and unread.isdisjoint(folders) and not path.exists():
                gone.append(video)
        if prune and gone:
            with self.lock, self.catalog.writing():
                self.catalog.remove(video.id for video in gone)
        (self.report.removed if prune else self.report.missing).extend(v.path for v in gone)

    def _set_metadata(self, metadata: Mapping[str, Values]) -> None:
        with self.lock, self.catalog.writing():
            for path, values in metadata_of(metadata, map(str, self._files)).items():
                if video := self.catalog.find(path):
                    self.catalog.set_metadata(video.id, values)


def content_hash(path: Path | str, whole: bool = False) -> str:
    """Digest of a file's content, by which a moved file is recognised.

    By default the size, a mebibyte at each end, where containers have their index, and samples
    between them are hashed. `whole` reads everything.

    Raises:
        DecodeError: If the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{size} {'whole' if whole else 'ends'} ".encode())
            if not whole and size > 3 * SAMPLED_BYTES:
                digest.update(file.read(SAMPLED_BYTES))
                length, between = SAMPLED_BYTES // NUM_SAMPLES, size - 2 * SAMPLED_BYTES
                for number in range(NUM_SAMPLES):
                    file.seek(SAMPLED_BYTES + (between - length) * number // (NUM_SAMPLES - 1))
                    digest.update(file.read(length))
                file.seek(-SAMPLED_BYTES, os.SEEK_END)
            hashlib.file_digest(file, lambda: digest)  # the rest of it
    except OSError as error:
        raise DecodeError(os_reason(Path(path), error), path) from error
    return digest.hexdigest()


def _is_same(video: IndexedVideo | None, file: VideoFile) -> bool:
    """Whether a file is known and has not changed."""
    return video is not None and (video.size, video.mtime_ns) == (file.size, file.mtime_ns)


def _mtime_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
