"""Bringing a library up to date: find out what changed, embed only that, commit video by video.

The order of events makes a kill at any moment harmless: features and vectors reach the disk before
the catalogue speaks of them, and the catalogue's commit is all or nothing. Vectors that no commit
followed belong to nobody until compaction leaves them out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from videoclip.data.feature_store import FeatureStore
from videoclip.data.subtitles import Cue, pair_subtitles, read_subtitles
from videoclip.embedding import Embedder
from videoclip.errors import DataError, DecodeError, VideoCLIPError
from videoclip.features.backbones import Backbone
from videoclip.features.decode import VideoInfo, probe
from videoclip.features.extract import (
    NO_VIDEOS,
    VideoFile,
    compute_features,
    find_videos,
    name_videos,
)
from videoclip.features.workers import Failed
from videoclip.library.catalog import Catalog, IndexedVideo
from videoclip.library.claims import Claims
from videoclip.library.identity import content_hash
from videoclip.library.metadata import Values, metadata_of
from videoclip.library.vectors import VectorStore
from videoclip.zeroshot.results import UpdateReport
from videoclip.zeroshot.windows import WindowConfig, window_spans

__all__ = ["Indexer", "Progress"]

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with videos done, videos to do, and the path done last."""

FeatureArray: TypeAlias = npt.NDArray[np.floating]


@dataclass
class Indexer:
    """One update of a library; made for it and thrown away.

    Attributes:
        folder: The library.
        lock: Its lock, under which rows and facts are written.
        catalog: Its catalogue.
        open_vectors: Gives its vector file as it is now; called under the lock.
        windows: Its window lengths.
        embedder: Embeds windows.
        backbone: Gives what featurises videos, loaded only if there are any to decode.
        given: Features extracted before, by the names of `name_videos`; asked before decoding.
        whole_hash: Whether to hash whole files to tell their contents apart.
        num_workers: Processes that decode, as for `extract_features`.
        report: What was done so far.
    """

    folder: Path
    lock: FileLock
    catalog: Catalog
    open_vectors: Callable[[], VectorStore]
    windows: WindowConfig
    embedder: Embedder
    backbone: Callable[[], Backbone]
    given: FeatureStore | None
    whole_hash: bool
    num_workers: int | None
    report: UpdateReport = field(default_factory=UpdateReport)
    _names: Mapping[Path, str] = field(default_factory=dict)
    _subtitles: Mapping[Path, Path | None] = field(default_factory=dict)
    _cache: FeatureStore | None = None

    def update(
        self,
        paths: Sequence[Path | str],
        prune: bool,
        metadata: Mapping[str, Values],
        progress: Progress,
    ) -> UpdateReport:
        """Do all of `VideoLibrary.update`; see there."""
        files, failed = find_videos(paths)
        self.report.failed.update({str(path): reason for path, reason in failed.items()})
        found = [file.path for file in files]
        self._names, self._subtitles = name_videos(found), pair_subtitles(found)
        with self.catalog.reading():
            known = {video.path: video for video in self.catalog.videos()}
        self._add_new_and_changed(
            [f for f in files if not _same(known.get(str(f.path)), f)], progress
        )
        paths_found = [str(path) for path in found]
        same = [known[p] for p, f in zip(paths_found, files, strict=True) if _same(known.get(p), f)]
        self._refresh_narration(same)
        self._drop_missing(paths, set(paths_found), prune)
        with self.lock, self.catalog.writing():
            for path, values in metadata_of(metadata, paths_found).items():
                if video := self.catalog.find(path):
                    self.catalog.set_metadata(video.id, values)
        return replace(self.report, unchanged=len(same) - len(self.report.narrated))

    def _add_new_and_changed(self, files: Sequence[VideoFile], progress: Progress) -> None:
        done = 0

        def step(path: str) -> None:
            nonlocal done
            done += 1
            progress(done, len(files), path)

        progress(0, len(files), "")
        with Claims(self.folder / "claims") as claims:
            mine = {str(f.path): f for f in files if claims.take(str(f.path))}
            self._index(mine, step)
            for file in files:  # that another process had in hand: it is done, or it died
                path = str(file.path)
                if path not in mine:
                    claims.take(path, wait=True)
                    self._index({path: file}, step)

    def _index(self, files: Mapping[str, VideoFile], step: Callable[[str], None]) -> None:
        """Index claimed files and tell of each."""
        contents: dict[str, str] = {}
        for path, file in files.items():
            try:
                content = content_hash(path, self.whole_hash)
            except DecodeError as error:
                self.report.failed[path] = _without_path(error, path)
            else:
                if not self._settled(file, content):
                    contents[path] = content
                    continue
            step(path)
        for path, features in self._features(contents):
            if isinstance(features, str):
                self.report.failed[path] = features
            else:
                try:
                    self._embed(files[path], contents[path], *features)
                except VideoCLIPError as error:
                    self.report.failed[path] = _without_path(error, path)
            step(path)

    def _settled(self, file: VideoFile, content: str) -> bool:
        """Whether a file needs no embedding: done by another process, touched only, or moved."""
        path = str(file.path)
        known = self.catalog.find(path)
        if _same(known, file):
            return True
        if known and known.content_hash == content:
            moved = known
        else:
            twins = self.catalog.with_content(content)
            gone = [twin for twin in twins if not known and not Path(twin.path).exists()]
            if not gone:
                return False
            moved = gone[0]
            self.report.moved.append(path)
        with self.catalog.writing():
            self.catalog.move(moved.id, path, file.size, file.mtime_ns)
        return True

    def _features(
        self, contents: Mapping[str, str]
    ) -> Iterator[tuple[str, tuple[FeatureArray, VideoInfo | None] | str]]:
        """Features (T, D) of each video, or the reason why there are none, as they come.

        The library keeps the features it computes, by content: they take some percent of the
        video's size and spare decoding when a better model is trained or a copy turns up.
        """
        fresh = []
        for path, content in contents.items():
            name = self._names[Path(path)]
            if self.given is not None and name in self.given:
                yield path, (self.given.read(name), None)
            elif content in self._kept():
                yield path, (self._kept().read(content), None)
            else:
                fresh.append(Path(path))
        events = compute_features(self.backbone(), fresh, self.num_workers) if fresh else ()
        for event in events:
            if isinstance(event, Failed):
                yield str(event.path), event.reason
            else:
                content = contents[str(event.path)]
                with self.lock:
                    self._kept().refresh()
                    if content not in self._kept():
                        self._kept().append(content, event.features)
                # As a later rebuild will read them, so that both give the same vectors.
                yield str(event.path), (self._kept().read(content), event.info)

    def _kept(self) -> FeatureStore:
        """The features this library keeps, of the backbone at hand."""
        if self._cache is None:
            spec = self.backbone().spec
            folder = self.folder / f"features-{spec.fingerprint[:16]}"
            self._cache = FeatureStore.open_or_create(folder, spec)
        return self._cache

    def _refresh_narration(self, videos: Sequence[IndexedVideo]) -> None:
        """Read the narration again wherever the subtitles beside a video are not those known."""
        for video in videos:
            beside = self._subtitles[Path(video.path)]
            now = (str(beside), _mtime_ns(beside)) if beside else (None, None)
            if now != (video.narration_path, video.narration_mtime_ns):
                path, mtime_ns, cues = self._narration(Path(video.path))
                if path is None and video.narration_path is None:
                    continue  # unreadable before and after
                with self.catalog.writing():
                    self.catalog.set_narration(video.id, path, mtime_ns, cues)
                self.report.narrated.append(video.path)

    def _drop_missing(self, paths: Sequence[Path | str], found: set[str], prune: bool) -> None:
        """Report, or drop, the videos under readable paths whose file is not there any more."""
        roots = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - links stay links
        unread = [path for path, why in self.report.failed.items() if why != NO_VIDEOS]
        gone = [
            video
            for video in self.catalog.videos()
            if video.path not in found
            and any(video.path == root or _is_below(video.path, root) for root in roots)
            and not any(_is_below(video.path, folder) for folder in unread)
            and not Path(video.path).exists()
        ]
        if prune:
            with self.lock, self.catalog.writing():
                self.catalog.remove(video.id for video in gone)
        (self.report.removed if prune else self.report.missing).extend(v.path for v in gone)

    def _embed(
        self, file: VideoFile, content: str, features: FeatureArray, info: VideoInfo | None
    ) -> None:
        """Embed a video and commit it."""
        path = file.path
        info = info or probe(path)
        rate = self.embedder.config.features_per_second
        spans = window_spans(len(features), rate, self.windows)
        vectors = self.embedder.embed_windows(features, [tuple(span) for span in spans.tolist()])
        narration_path, narration_mtime_ns, cues = self._narration(path)
        video = IndexedVideo(
            path=str(path),
            size=file.size,
            mtime_ns=file.mtime_ns,
            content_hash=content,
            duration=info.duration,
            width=info.width,
            height=info.height,
            frame_rate=info.frame_rate,
            num_features=len(features),
            first_row=0,
            num_windows=len(spans),
            narration_path=narration_path,
            narration_mtime_ns=narration_mtime_ns,
            added=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        )
        with self.lock:
            first_row = self.open_vectors().append(vectors)  # on the disk before the commit
            with self.catalog.writing():
                known = self.catalog.find(str(path))
                self.catalog.add(replace(video, first_row=first_row), cues)
        (self.report.changed if known else self.report.added).append(str(path))

    def _narration(self, video: Path) -> tuple[str | None, int | None, list[Cue]]:
        """Where the narration of a video lies, since when, and its cues."""
        path = self._subtitles[video]
        if path is None:
            return None, None, []
        try:
            return str(path), _mtime_ns(path), read_subtitles(path)
        except DataError as error:
            self.report.failed[str(path)] = _without_path(error, str(path))
            return None, None, []


def _same(video: IndexedVideo | None, file: VideoFile) -> bool:
    return video is not None and (video.size, video.mtime_ns) == (file.size, file.mtime_ns)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def _without_path(error: VideoCLIPError, path: str) -> str:
    return str(error).removeprefix(f"{path}: ")


def _mtime_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
