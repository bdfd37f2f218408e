"""VideoLibrary: a folder that answers where, in one's own videos, something can be seen or heard.

catalog.sqlite     what is known of the videos, their narration and metadata (`catalog`)
vectors-N.f16      embeddings of their windows, one float16 matrix (`vectors`)
vectors-N.ivf      its approximate index, in a large library (`approximate`)
background.npy     embeddings of unrelated queries, which confidence is measured by
features-*/        frozen features of the videos decoded so far, by content
lock, claims/      what writing processes take turns by
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from videoclip.config import from_dict, to_dict
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder, check_features
from videoclip.errors import ConfigError
from videoclip.features.backbones import Backbone
from videoclip.features.extract import features_of
from videoclip.features.frame_backbone import KeyframeBackbone
from videoclip.library.background import load_background, measure_again
from videoclip.library.catalog import IndexedVideo
from videoclip.library.founding import settle
from videoclip.library.indexing import Indexer, Progress
from videoclip.library.metadata import read_metadata
from videoclip.library.search import SearchOptions, View, find_moments
from videoclip.library.second_look import look_again, read_moment
from videoclip.library.snapshot import Snapshot
from videoclip.library.storage import StoreKind, open_storage
from videoclip.library.where import parse_where
from videoclip.zeroshot.confidence import Thresholds
from videoclip.zeroshot.results import Moment, UpdateReport
from videoclip.zeroshot.windows import WindowConfig

__all__ = ["VideoLibrary"]

FloatArray = npt.NDArray[np.float32]
COMPACT_FROM = 10_000
"""Rows without an owner that are put up with, unless they are more than those with one."""


class VideoLibrary:
    """A folder with the moments of one's own videos.

    Searching is safe from several threads, and while this or other processes update.

    Args:
        folder: The library; made where there is none. An address of object storage, such as
            `s3://bucket/library`, is LanceDB's (extra `lance`).
        embedder: The model it is made and searched with.
        windows: Lengths to embed; of a new library only.
        model: What to tell `model_of`, for those who open the library later.
        rebuild: Start anew where the library belongs to another model; features computed by the
            same backbone are used again, so that nothing is decoded.
        store: What a new library lies in; see `storage`.

    Raises:
        IndexMismatchError: If the library was made by another model.
        DataError: If it is damaged.
    """

    def __init__(
        self,
        folder: Path | str,
        embedder: Embedder,
        *,
        windows: WindowConfig | None = None,
        model: str = "",
        rebuild: bool = False,
        store: StoreKind | None = None,
    ) -> None:
        self._storage = open_storage(folder, store)
        self.folder, self._catalog = self._storage.folder, self._storage.catalog
        self._address = str(folder)
        self._embedder = embedder
        self._lock = FileLock(self.folder / "lock")
        try:
            with self._lock:
                settle(
                    self._address,
                    self._storage,
                    embedder,
                    windows or WindowConfig(),
                    model,
                    rebuild,
                )
        except BaseException:
            self._catalog.close()
            raise
        self._windows = from_dict(WindowConfig, json.loads(self._catalog.facts()["windows"]))
        self._seen: tuple[tuple[int, int], View] | None = None

    # --- what is in it

    def __len__(self) -> int:
        return len(self.videos())

    def __repr__(self) -> str:
        """Say what it holds."""
        view = self._view()
        hours = sum(video.duration for video in view.snapshot.videos) / 3600
        return (
            f"VideoLibrary({self._address!r}, {len(view.snapshot.videos)} videos, "
            f"{hours:.1f} h, {view.snapshot.num_live} windows)"
        )

    @property
    def thresholds(self) -> Thresholds:
        """What strengths count as high, medium and low confidence."""
        return self._view().thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds) -> None:
        with self._lock, self._catalog.writing():
            self._catalog.set_facts({"thresholds": json.dumps(to_dict(thresholds))})

    def videos(self, where: str | None = None) -> list[IndexedVideo]:
        """List the videos, or those that satisfy a filter (`where`), in order of path."""
        with self._catalog.reading():
            condition = parse_where(where, self._catalog.metadata_keys()) if where else None
            return sorted(self._catalog.videos(condition), key=lambda video: video.path)

    def metadata(self, path: Path | str) -> dict[str, str | float | None]:
        """The user's metadata of a video."""
        with self._catalog.reading():
            video = self._catalog.find(str(Path(path).absolute()))
            return self._catalog.metadata(video.id) if video else {}

    def close(self) -> None:
        """Close the files."""
        self._catalog.close()

    def __enter__(self) -> VideoLibrary:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- keeping it up to date

    def update(
        self,
        paths: Iterable[Path | str] | Path | str,
        *,
        prune: bool = False,
        metadata: Path | str | None = None,
        features: FeatureStore | None = None,
        whole_hash: bool = False,
        fast: bool = False,
        num_workers: int | None = 0,
        progress: Progress | None = None,
    ) -> UpdateReport:
        """Add new and changed videos and leave the others alone.

        A video that cannot be read stands in the report and stops nothing. Interrupted, the same
        call goes on where it was; several processes may update one library at once.

        Args:
            paths: Videos and folders of videos.
            prune: Drop videos under these paths whose file is gone.
            metadata: CSV or JSON of the user's own columns; see `read_metadata`.
            features: Features extracted before (`extract_features`), used instead of decoding.
            whole_hash: Compare whole contents, not the ends of files only.
            fast: Look at the keyframe nearest to every second instead of its own picture.
            num_workers: Processes that decode videos; 0: this process; None: one per core. They are
                spawned: a script that uses them guards its entry point with
                `if __name__ == "__main__"`.
            progress: Called with videos done, videos to do, and the path done last.

        Raises:
            ConfigError: If the model's backbone cannot do with keyframes.
            DataError: If the metadata cannot be read.
            IndexMismatchError: If the features are not those of the model's backbone.
        """
        if features is not None:
            check_features(self._embedder.config, features.spec)
        indexer = Indexer(
            folder=self.folder,
            lock=self._lock,
            catalog=self._catalog,
            open_vectors=self._storage.vectors,
            windows=self._windows,
            embedder=self._embedder,
            backbone=partial(self._backbone, fast),
            given=features,
            whole_hash=whole_hash,
            num_workers=num_workers,
        )
        table = read_metadata(metadata) if metadata is not None else {}
        given = [paths] if isinstance(paths, (str, Path)) else list(paths)
        report = indexer.update(given, prune, table, progress or _silent)
        if report.added or report.changed or report.removed or report.narrated:
            self._measure_background()
        snapshot = self._view().snapshot
        if snapshot.num_rows - snapshot.num_live > max(COMPACT_FROM, snapshot.num_live):
            self.compact()
        view = self._view()
        self._storage.vectors().refresh_index(view.calibration.queries, view.snapshot.num_rows)
        return report

    def _backbone(self, fast: bool) -> Backbone:
        backbone = self._embedder.backbone
        return KeyframeBackbone(backbone) if fast else backbone

    def compact(self) -> None:
        """Drop the vectors that no video owns; readers are not disturbed."""
        with self._lock:
            self._storage.compact(self._view().snapshot)

    # --- answering

    def search(
        self,
        query: str,
        top_k: int = 10,
        *,
        where: str | None = None,
        offset: int = 0,
        vision: float = 1.0,
        speech: float = 1.0,
    ) -> list[Moment]:
        """Find the moments that show what a query says, or in which it is spoken of.

        Args:
            query: Free text.
            top_k: Moments to return.
            where: Filter on videos, as "duration > 60 and camera = 'left'".
            offset: Moments to leave out before them, for paging.
            vision: Weight of what is seen.
            speech: Weight of what is said.

        Returns:
            Moments, best first; confidence "none" where nothing in the library matches.

        Raises:
            ConfigError: If the filter cannot be read.
            DataError: If the query has no words.
        """
        options = SearchOptions(top_k=top_k, offset=offset, vision=vision, speech=speech)
        return self.search_many([query], options, where=where)[0]

    def search_many(
        self,
        queries: Sequence[str],
        options: SearchOptions | None = None,
        *,
        where: str | None = None,
    ) -> list[list[Moment]]:
        """Answer several queries in one pass over the library; see `search`."""
        vectors = self._embedder.embed_text(list(queries))
        return self._answer(list(queries), vectors, options or SearchOptions(), where)

    def search_like(
        self,
        path: Path | str,
        options: SearchOptions | None = None,
        *,
        where: str | None = None,
    ) -> list[Moment]:
        """Find the moments that look like a clip or a picture.

        Raises:
            DecodeError: If it cannot be read.
        """
        features = features_of(self._embedder.backbone, Path(path))
        vector = self._embedder.embed_windows(features, [(0, len(features))])  # (1, E)
        return self._answer([""], vector, options or SearchOptions(), where)[0]

    def _answer(
        self, texts: Sequence[str], vectors: FloatArray, options: SearchOptions, where: str | None
    ) -> list[list[Moment]]:
        view = self._view()
        condition = parse_where(where, self._catalog.metadata_keys()) if where else None
        # Paging comes last, after whatever is looked at again.
        wide = replace(options, offset=0, top_k=max(options.num_moments, options.rerank_top))
        answers = find_moments(view, vectors, texts, wide, condition)
        if options.rerank_top:
            answers = [self._again(*pair, options.rerank_top) for pair in zip(texts, answers)]
        return [moments[options.offset : options.num_moments] for moments in answers]

    def _again(self, query: str, moments: list[Moment], top: int) -> list[Moment]:
        """The best moments in the re-ranker's order, the others as they were."""
        if not query:
            raise ConfigError("the re-ranker compares words with video: search by words")
        features = [read_moment(self.folder, self._catalog, moment) for moment in moments[:top]]
        return [*look_again(moments[:top], query, self._embedder, features), *moments[top:]]

    # --- what answers are read from

    def _view(self) -> View:
        """The library as it is now; read again only after somebody has committed."""
        version = self._catalog.version
        if self._seen is None or self._seen[0] != version:
            with self._catalog.reading():
                version = self._catalog.version
                facts, videos = self._catalog.facts(), self._catalog.videos()
            rate = float(facts["features_per_second"])
            view = View(
                catalog=self._catalog,
                store=self._storage.vectors(),
                snapshot=Snapshot(videos, rate, self._windows),
                calibration=load_background(self.folder, facts, videos),
                thresholds=from_dict(Thresholds, json.loads(facts.get("thresholds", "{}"))),
            )
            self._seen = version, view
        return self._seen[1]

    def _measure_background(self) -> None:
        """Measure what unrelated queries reach in the library as it is now, and record it."""
        view = self._view()
        changed = measure_again(self.folder, view, self._embedder)
        if changed:
            with self._lock, self._catalog.writing():
                self._catalog.set_facts(changed)


def _silent(done: int, total: int, path: str) -> None:
    """Tell nobody."""
