"""`videoclip index`: add new and changed videos to a library."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["Index"]


@dataclass(frozen=True)
class Index:
    """Add new and changed videos to a library, so that `videoclip search` finds their moments.

    Only what changed is looked at again, so the same command keeps a library up to date. Subtitles
    beside a video (name.vtt, name.en.srt, ...) make its narration searchable. A file that cannot be
    read is listed at the end with its reason, everything else is indexed, and the status is 1.
    """

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Videos and folders of videos."""
    library: str
    """Folder of the library, or its address in object storage (s3://...); made if absent."""
    model: str | None = None
    """Model folder, hub id or "starter"; by default the library's own, "starter" for a new one."""
    metadata: Path | None = None
    """CSV or JSON with columns of yours, one row a video, for `search --where`."""
    features: Path | None = None
    """Feature store with these videos (`videoclip extract`); they are not decoded again."""
    store: Literal["sqlite", "lance"] | None = None
    """What a new library lies in: sqlite, or LanceDB as in object storage."""
    prune: bool = False
    """Drop videos under these paths whose file is gone."""
    rebuild: bool = False
    """Start anew with another model; nothing is decoded twice for the same backbone."""
    whole_hash: bool = False
    """Tell contents apart by whole files, not by their ends."""
    fast: bool = False
    """Look at keyframes only: quick, and seconds off where they are rare; docs/performance.md."""
    workers: int | None = None
    """Processes that decode; every core by default."""
    device: str = "cpu"
    """Torch device."""
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> int:
        """Update the library and print what changed."""
        from videoclip.data.feature_store import FeatureStore
        from videoclip.embedding import Embedder
        from videoclip.library.founding import model_of
        from videoclip.library.storage import is_library
        from videoclip.library.videolibrary import VideoLibrary

        known = model_of(self.library) if is_library(self.library) else ""
        model = self.model or known or "starter"
        embedder = Embedder.from_pretrained(model, self.device)
        live = sys.stderr.isatty()

        def progress(done: int, total: int, path: str) -> None:
            if live and total:
                line = f"\r{done} of {total} videos  {Path(path).name:.50}\x1b[K"
                print(line, end="\n" if done == total else "", file=sys.stderr, flush=True)

        features = FeatureStore.open(self.features) if self.features else None
        with VideoLibrary(
            self.library, embedder, model=model, rebuild=self.rebuild, store=self.store
        ) as library:
            report = library.update(
                self.videos,
                prune=self.prune,
                metadata=self.metadata,
                features=features,
                whole_hash=self.whole_hash,
                fast=self.fast,
                num_workers=self.workers,
                progress=progress,
            )
            said = repr(library)
        if self.json:
            print(json.dumps(dataclasses.asdict(report), indent=2))
        else:
            print(f"{report}\n{said}")
        for path, reason in report.failed.items():
            print(f"videoclip: not indexed: {path}: {reason}", file=sys.stderr)
        return 1 if report.failed else 0
