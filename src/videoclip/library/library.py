"""VideoLibrary: a folder in which the moments of one's own videos can be searched.

catalog.sqlite     what is known about the videos, with narration and metadata (`catalog`)
vectors-N.f16      embeddings of their windows, one float16 matrix (`vectors`)
vectors-N.ivf      its approximate index, in a large library (`approximate`)
background-N.npz   embeddings of unrelated scenes and common things (`calibration`)
calibration.npz    what those reach in each video; computed again if it is missing
features-*/        frozen features of the videos decoded so far, by content
lock, locks/       locks of the processes that write
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from filelock import FileLock

from videoclip.config import from_dict, to_dict
from videoclip.data.captions import Cue
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import (
    Embedder,
    VideoEmbedding,
    WindowConfig,
    check_embedder,
    list_of,
)
from videoclip.errors import CheckpointError, ConfigError, DataError, IndexMismatchError
from videoclip.features.backbones import check_features, feature_differences
from videoclip.features.extract import features_of
from videoclip.files import atomic_file, report_disk_errors
from videoclip.library.calibration import (
    DAMAGED,
    LEVELS,
    Unrelated,
    calibrate,
    load_calibration,
    read_unrelated,
)
from videoclip.library.catalog import EMPTY, Catalog, IndexedVideo
from videoclip.library.filters import Condition, parse_filter
from videoclip.library.indexer import Indexer, UpdateReport
from videoclip.library.metadata import read_metadata
from videoclip.library.search import SearchOptions, Snapshot, find_moments, split_query
from videoclip.library.sequences import find_sequences
from videoclip.library.storage import StoreKind, kind_of, open_catalog
from videoclip.pretrained.known import default_model, full_name
from videoclip.types import FloatArray, OnProgress, RealArray
from videoclip.zeroshot.confidence import (
    COMMON_THINGS,
    NO_LEVELS,
    UNRELATED_QUERIES,
    Thresholds,
)
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.rerank import PairScorer

COMPACT_FROM = 10_000
"""Vectors of no video that are kept, or as many as there are vectors of videos if that is more."""


class VideoLibrary:
    """A folder in which the moments of one's own videos can be searched.

    Searching is safe from several threads, and while this or other processes update.

    Args:
        folder: The library; created if missing. If then no update adds a video, `close` removes
            it. An address of object storage, such as `s3://bucket/library`, uses LanceDB (extra
            `lance`).
        embedder: The model to index and search with.
        windows: Window lengths of a new library.
        model: Name of the model, stored with the library.
        rebuild: Empty the library if it was made by another model. Features of the same backbone
            are kept, so that no video is decoded again.
        store: Kind of a new library; see `storage`.

    Attributes:
        folder: On this machine: the library, or locks and features of one in object storage.
        address: The folder or address by which it was opened.
        embedder: The model it is indexed and searched with.

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
        check_embedder(embedder)
        self._catalog = open_catalog(folder, store)
        self.folder = self._catalog.folder
        self.address = str(folder)
        self.embedder = embedder
        lock = self.folder / "lock"
        if lock.is_symlink() or (lock.exists() and not lock.is_file()):
            self._catalog.close()
            raise DataError("not a regular file: delete it", lock)
        self._lock = FileLock(lock)
        self._is_new = self._keeps_empty = False
        self._stores: dict[Path, FeatureStore] = {}
        self._known: tuple[tuple[int, int], Snapshot] | None = None
        try:
            with nullcontext() if self._catalog.is_read_only else self._lock:
                self._initialise(windows or WindowConfig(), model, rebuild)
        except BaseException:
            self.close()
            raise
        facts = self._catalog.facts()
        self._windows = from_dict(WindowConfig, json.loads(facts["windows"]))
        if LEVELS not in facts:  # of an earlier version
            self._calibrate()
        self._keeps_empty = True

    @classmethod
    def open(
        cls,
        folder: Path | str,
        model: str | None = None,
        device: str = "auto",
        *,
        must_exist: bool = False,
        rebuild: bool = False,
        store: StoreKind | None = None,
        frames_per_second: float | None = None,
    ) -> Self:
        """Open a library with the model it was made with, or with a named one.

        Args:
            folder: The library, or its address in object storage.
            model: Model folder, hub id or "starter"; None: the library's own, and for a new library
                the best one present (`videoclip.pretrained.known.default_model`).
            device: Torch device to compute on.
            must_exist: Whether a missing library is an error.
            rebuild: As for the class.
            store: As for the class.
            frames_per_second: As for `Embedder.from_pretrained`; None: the library's own rate, and
                for a new library the model's.

        Raises:
            CheckpointError: If the model is not there.
            DataError: If the library is damaged, or missing and must exist.
            IndexMismatchError: If the library was made by another model.
        """
        facts = stored_facts(folder) if must_exist or kind_of(folder) else {}
        known = facts.get("model", "")
        name = full_name(model or known or default_model())
        if frames_per_second is None and not rebuild:
            frames_per_second = json.loads(facts.get("frames_per_second", "null"))
        rate: dict[str, Any] = (
            {} if frames_per_second is None else {"frames_per_second": frames_per_second}
        )
        try:
            embedder = Embedder.from_pretrained(name, device, **rate)
        except CheckpointError as error:
            if name != known or Path(known).is_dir():
                raise
            reason = "" if Path(known).is_absolute() else f" ({error})"
            raise CheckpointError(
                f"{folder}: the library was made with model {known}, which is not there{reason}: "
                "name the folder where it is now with --model"
            ) from error
        if Path(name).is_dir():  # so that a search from another folder finds it
            name = str(Path(name).resolve())
        library = cls(folder, embedder, model=name, rebuild=rebuild, store=store)
        stored = json.dumps(frames_per_second)
        if library._catalog.facts().get("frames_per_second", "null") != stored:
            with library._catalog.writing():
                library._catalog.set_facts({"frames_per_second": stored})
        return library

    def _initialise(self, windows: WindowConfig, model: str, rebuild: bool) -> None:
        """Set the facts of a new or emptied library, or check those of an existing one."""
        config, facts = self.embedder.config, self._catalog.facts()
        wanted = {
            "features_per_second": repr(config.features_per_second),
            "fingerprint": self.embedder.fingerprint,
        }
        # Each vector is followed by its bias; in libraries of earlier versions it is not.
        dim, dims = config.hidden_size, (config.hidden_size + 1, config.hidden_size)
        if facts and int(facts.get("dim", "0")) not in dims:
            wanted["dim"] = str(dim)
        if facts and not rebuild:
            for name, value in wanted.items():
                if facts.get(name) != value:
                    raise IndexMismatchError(
                        f"{self.address}: made by model '{facts.get('model') or 'unknown'}', not "
                        f"by this one ({name} {facts.get(name)}, here {value}): search it with "
                        f"that model, or rebuild it with `videoclip index VIDEOS "
                        f"--library {self.address} --model {model or 'MODEL'} --rebuild`"
                    )
            self._unrelated = self._load_unrelated(facts)
            return
        vectors = self.folder.glob("vectors-*.f16")
        if not facts and not rebuild and any(path.stat().st_size for path in vectors):
            raise DataError(EMPTY, self.address)  # what the user said about them is lost
        self._is_new = not facts
        generation = int(facts.get("generation", "-1")) + 1
        unrelated = f"background-{generation}.npz"
        self._unrelated = self._save_unrelated(unrelated)
        with self._catalog.writing():
            self._catalog.remove(video.id for video in self._catalog.videos())
            self._catalog.set_facts(
                {
                    **wanted,
                    "dim": str(dim + 1),
                    LEVELS: json.dumps([NO_LEVELS, NO_LEVELS]),
                    "calibrated": "[]",
                    "model": model,
                    "windows": json.dumps(to_dict(windows)),
                    "generation": str(generation),
                    "vectors": f"vectors-{generation}.f16",
                    "unrelated": unrelated,
                }
            )

    def _load_unrelated(self, facts: Mapping[str, str]) -> Unrelated:
        """Read the embedded scenes and common things, or embed them again."""
        path = self.folder / facts["unrelated"]
        try:
            return read_unrelated(path)
        except DAMAGED as error:  # or of an earlier version, or created on another machine
            if self._catalog.is_read_only:
                raise IndexMismatchError(
                    f"{self.address}: {path.name} is damaged or of an earlier version; search the "
                    "library once from where it can be written, which computes it again"
                ) from error
            path = path.with_suffix(".npz")
            unrelated = self._save_unrelated(path.name)
            with self._catalog.writing():
                self._catalog.set_facts({"unrelated": path.name})
            return unrelated

    def _save_unrelated(self, name: str) -> Unrelated:
        texts = (UNRELATED_QUERIES, COMMON_THINGS)
        scenes, things = (self.embedder.embed_text(some) for some in texts)
        unrelated = Unrelated(scenes, things)
        with report_disk_errors(self.address), atomic_file(self.folder / name) as partial:
            np.savez(partial, queries=scenes, common=things)
        return unrelated

    # --- content

    def __len__(self) -> int:
        return len(self._snapshot().videos)

    def __repr__(self) -> str:
        """Number of videos, hours and windows."""
        library = self._snapshot()
        hours = sum(video.duration for video in library.videos) / 3600
        return (
            f"VideoLibrary({self.address!r}, {len(library.videos)} videos, "
            f"{hours:.1f} h, {library.num_live} windows)"
        )

    @property
    def thresholds(self) -> Thresholds:
        """Least strengths of high, medium and low confidence."""
        return self._snapshot().thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds) -> None:
        with self._lock, self._catalog.writing():
            self._catalog.set_facts({"thresholds": json.dumps(to_dict(thresholds))})

    def reset_thresholds(self) -> None:
        """Return to the default thresholds, as before any were set or fitted."""
        with self._lock, self._catalog.writing():
            self._catalog.set_facts({"thresholds": "{}"})

    def videos(self, where: str | None = None) -> list[IndexedVideo]:
        """List the videos, or those that satisfy a filter (`filters`), in order of path.

        Raises:
            ConfigError: If the filter cannot be parsed.
        """
        with self._catalog.reading():
            videos = self._catalog.videos(self._condition(where))
            return sorted(videos, key=lambda video: video.path)

    def metadata(self, path: Path | str) -> dict[str, str | float | None]:
        """Return the user's metadata of a video."""
        with self._catalog.reading():
            video = self._find(path)
            return self._catalog.metadata(video.id) if video else {}

    @property
    def version(self) -> tuple[int, int]:
        """Two numbers that change whenever any process changes the library."""
        return self._catalog.version

    def narration(self, path: Path | str) -> list[Cue]:
        """Return the cues of a video in order of time; empty if it has none or is not indexed."""
        with self._catalog.reading():
            video = self._find(path)
            return self._catalog.cues(video.id) if video else []

    def embedded(self, path: Path | str) -> VideoEmbedding:
        """Return a video's embedding from the features kept by the library, or from its file.

        Raises:
            DecodeError: If it has to be decoded and cannot be read.
        """
        video, spec = self._find(path), self.embedder.backbone.spec
        with self._feature_stores() as stores:
            for store in stores:
                if video is not None and store.spec == spec and video.content_hash in store:
                    return self.embedder.embed_features(store.read(video.content_hash))
        return self.embedder.embed_video(path)

    @contextmanager
    def _feature_stores(self) -> Iterator[list[FeatureStore]]:
        """Open the library's stores of frozen features; after a rebuild only the model's."""
        with ExitStack() as stack:
            folders = sorted(self.folder.glob("features-*"))
            stores = [stack.enter_context(FeatureStore.open(folder)) for folder in folders]
            yield [s for s in stores if not feature_differences(self.embedder.config, s.spec)]

    def close(self) -> None:
        """Close the files; a library that this object made is removed if updates added no video."""
        self._stores.clear()
        is_void = self._is_new and not self._keeps_empty and not self._catalog.videos()
        self._is_new = False
        if is_void:
            self._catalog.delete()
        self._catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- indexing

    def update(
        self,
        paths: Iterable[Path | str] | Path | str,
        *,
        prune: bool = False,
        repair: bool = False,
        metadata: Path | str | None = None,
        features: FeatureStore | None = None,
        whole_hash: bool = False,
        fast: bool = False,
        num_workers: int | None = 0,
        cluster: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> UpdateReport:
        """Add new and changed videos; unchanged ones are not read again.

        A video that cannot be read is listed in the report and does not stop the others. The same
        call continues an interrupted one, and several processes may update one library at once.

        Args:
            paths: Videos and folders of videos.
            prune: Drop videos under these paths whose file is gone.
            repair: Compute again what is damaged, of the videos under these paths.
            metadata: CSV or JSON of the user's own columns; see `read_metadata`.
            features: Features extracted before (`extract_features`), used instead of decoding.
            whole_hash: Compare whole files, not only their ends.
            fast: Use the keyframe nearest to every second instead of the frame on screen.
            num_workers: Processes that compute; 0: this process; None: one per core. They are
                spawned: a script that defines the embedder's backbone itself guards its entry
                point with `if __name__ == "__main__"`.
            cluster: Address of a Ray cluster that decodes instead; see `extract_features`.
            on_progress: Called with the number of videos done and to do.

        Raises:
            ConfigError: If the model's backbone cannot work with keyframes, or the processes or
                the cluster cannot start.
            DataError: If the metadata cannot be read, or the disk is full.
            IndexMismatchError: If the features are not those of the model's backbone.
            MissingExtraError: If a cluster is given and Ray is not installed.
        """
        self._keeps_empty = False
        if features is not None:
            check_features(self.embedder.config, features.spec)
        indexer = Indexer(
            catalog=self._catalog,
            unrelated=self._unrelated.scenes,
            lock=self._lock,
            windows=self._windows,
            embedder=self.embedder,
            fast=fast,
            stores=self._stores,
            given=features,
            whole_hash=whole_hash,
            num_workers=num_workers,
            cluster=cluster,
            on_progress=on_progress or (lambda done, total: None),
        )
        table = read_metadata(metadata) if metadata is not None else {}
        places = [paths] if isinstance(paths, (str, Path)) else list(paths)
        report = indexer.update(places, prune, table, repair)
        if report.changed_library:
            self._is_new = False
        # Also videos of an update that was killed before it came here.
        if self._calibrated_videos() != self._catalog.facts().get("calibrated", "[]"):
            self._calibrate()
        library = self._snapshot()
        if library.num_rows - library.num_live > max(COMPACT_FROM, library.num_live):
            self.compact()
            library = self._snapshot()
        calibration = library.calibration
        queries = calibration.prepare(np.concatenate((calibration.scenes, calibration.sentences)))
        self._catalog.vectors().refresh_index(queries, library.num_rows)
        return report

    def _calibrate(self) -> None:
        """Measure what unrelated queries reach."""
        with self._lock:  # so that the last of several processes measures the videos of all
            state, videos = self._calibrated_videos(), self._snapshot().videos
            changed = calibrate(
                self._catalog, videos, self.embedder, self._unrelated, self._snapshot().num_seconds
            )
            changed["calibrated"] = state
            with self._catalog.writing():
                self._catalog.set_facts(changed)

    def _calibrated_videos(self) -> str:
        """Identify the videos and narrations that are measured; "[]" if there are none."""
        videos = self._snapshot().videos
        state = [(v.path, v.content_hash, v.added, v.narration_mtime_ns) for v in videos]
        return hashlib.sha256(repr(state).encode()).hexdigest() if state else "[]"

    def compact(self) -> None:
        """Drop the vectors that belong to no video; readers are not disturbed."""
        with self._lock:
            self._catalog.compact()

    # --- searching

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
        """Find the moments that show what a query describes, or whose narration contains it.

        Args:
            query: Free text. "A, then B" finds A that is followed by B in the same video; the
                moment lasts from the start of A to the end of B, and has both as its `parts`.
            top_k: Number of moments.
            where: Filter on videos, such as "duration > 60 and camera = 'left'".
            offset: Moments skipped before them, for paging.
            vision: Weight of the frames.
            speech: Weight of the narration.

        Returns:
            Moments, best first; their confidence is "none" where nothing in the library matches.

        Raises:
            ConfigError: If the filter cannot be parsed.
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
        """Search for several queries in one pass over the library; see `search`."""
        options, texts = options or SearchOptions(), list_of(str, queries, "queries")
        parts = {text: split_query(text) for text in texts}
        single = [text for text in texts if len(parts[text]) == 1]
        vectors = self.embedder.embed_text(single) if single else np.empty((0, 0), np.float32)
        answers = iter(self._search(single, vectors, options, where) if single else ())
        return [
            self._search_sequence(text, parts[text], options, where)
            if len(parts[text]) > 1
            else next(answers)
            for text in texts
        ]

    def _search_sequence(
        self, query: str, parts: Sequence[str], options: SearchOptions, where: str | None
    ) -> list[Moment]:
        """Return the moments of an ordered query.

        Raises:
            ConfigError: If the re-ranker is asked for, which compares with one text.
        """
        if options.rerank_top:
            raise ConfigError("the re-ranker does not compare ordered queries: set rerank_top to 0")
        library = self._snapshot()
        assert library.is_whole
        vectors = self.embedder.embed_text(list(parts))
        condition = self._condition(where)
        found = find_sequences(library, vectors, parts, query, options, condition)
        return found[options.offset :]

    def _condition(self, where: str | None) -> Condition | None:
        return parse_filter(where, self._catalog.metadata_keys()) if where else None

    def search_like(
        self,
        path: Path | str,
        options: SearchOptions | None = None,
        *,
        where: str | None = None,
    ) -> list[Moment]:
        """Find the moments that are similar to a video or an image.

        Raises:
            DecodeError: If it cannot be read.
        """
        features = features_of(self.embedder.backbone, Path(path))
        vector = self.embedder.embed_windows(features, [(0, len(features))])  # (1, E)
        return self._search([""], vector, options or SearchOptions(), where)[0]

    def search_span(
        self,
        path: Path | str,
        start: float,
        end: float,
        options: SearchOptions | None = None,
        *,
        where: str | None = None,
    ) -> list[Moment]:
        """Find the moments that are similar to a span of an indexed video, without decoding it.

        Raises:
            DataError: If the library has no such video.
        """
        library, video = self._snapshot(), self._indexed(path)
        row = video.first_row + library.nearest_window(video, start, end)
        vector = library.vectors.read(row, 1)[:, : self.embedder.config.hidden_size]  # no bias
        return self._search([""], vector, options or SearchOptions(), where)[0]

    def score_curve(self, query: str, path: Path | str) -> RealArray:
        """Return (T, 3) start, end and strength of a query in each second of an indexed video.

        Of an ordered query, the strength of the part that is strongest in a second.

        Raises:
            DataError: If the query has no words or the library has no such video.
        """
        library, video = self._snapshot(), self._indexed(path)
        vectors = self.embedder.embed_text(split_query(query))
        curves = [library.score_curve(video, vector) for vector in vectors]
        return np.asarray(np.max(curves, axis=0))

    def _find(self, path: Path | str) -> IndexedVideo | None:
        return self._catalog.find(str(Path(path).absolute()))

    def _indexed(self, path: Path | str) -> IndexedVideo:
        if (video := self._find(path)) is None:
            raise DataError("is not in the library: add it with `videoclip index`", path)
        return video

    def _search(
        self, texts: Sequence[str], vectors: FloatArray, options: SearchOptions, where: str | None
    ) -> list[list[Moment]]:
        library = self._snapshot()
        assert library.is_whole
        condition = self._condition(where)
        # Pages are cut at the end, so that they are the same as parts of one long list.
        top = options.rerank_top
        ranking = replace(options, offset=0, top_k=max(options.num_moments, top))
        answers = find_moments(library, vectors, texts, ranking, condition)
        if top:
            answers = [
                [*self._rerank(moments[:top], text), *moments[top:]]
                for text, moments in zip(texts, answers, strict=True)
            ]
        return [moments[options.offset : options.num_moments] for moments in answers]

    def _rerank(self, moments: Sequence[Moment], query: str) -> list[Moment]:
        """Order moments by the similarities of the model's re-ranker.

        Raises:
            ConfigError: If the query has no words or the model has no re-ranker.
            DataError: If the library has no features of a moment's video.
        """
        if not query:
            raise ConfigError(
                "the re-ranker compares words with video: search by words, or set rerank_top to 0"
            )
        with self._feature_stores() as stores:
            features = [moment_features(moment, stores, self._catalog) for moment in moments]
        scorer = PairScorer(self.embedder, [query], features)
        if not moments:
            return []
        clips = torch.arange(len(moments))
        towers = torch.tensor([moment.similarity for moment in moments])
        similarities = scorer(torch.zeros_like(clips), clips, towers)
        return [moments[i] for i in similarities.argsort(descending=True, stable=True).tolist()]

    def _snapshot(self) -> Snapshot:
        """Return the library as it is now; read again only after a process has committed."""
        version = self._catalog.version
        if self._known is None or self._known[0] != version:
            with self._catalog.reading():
                version = self._catalog.version
                facts, videos = self._catalog.facts(), self._catalog.videos()
            snapshot = Snapshot(
                catalog=self._catalog,
                vectors=self._catalog.vectors(),
                videos=videos,
                features_per_second=float(facts["features_per_second"]),
                windows=self._windows,
                calibration=load_calibration(self._unrelated, facts, videos),
                thresholds=from_dict(Thresholds, json.loads(facts.get("thresholds", "{}"))),
            )
            self._known = version, snapshot
        return self._known[1]


def moment_features(moment: Moment, stores: Sequence[FeatureStore], catalog: Catalog) -> RealArray:
    """Read the frozen features (T, D) of a moment from a library's stores.

    Raises:
        DataError: If none of them has its video.
    """
    video = catalog.find(str(moment.path))
    for store in stores:
        if video is not None and video.content_hash in store:
            rate = store.spec.features_per_second
            first = min(math.floor(moment.start * rate), video.num_features - 1)
            last = max(first + 1, math.ceil(moment.end * rate))
            return store.read(video.content_hash, first, min(last, video.num_features))
    raise DataError(
        "the library has no frozen features of this video, which the re-ranker needs: index it "
        "without --features",
        moment.path,
    )


def stored_facts(library: Path | str) -> dict[str, str]:
    """Return what is stored about a library as a whole, such as its "model".

    Raises:
        DataError: If there is no library.
    """
    with closing(open_catalog(library, must_exist=True)) as catalog:
        return catalog.facts()
