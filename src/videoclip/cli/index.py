"""`videoclip index`: add new and changed videos to a library."""

import dataclasses
import json
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from videoclip.cli import options


@dataclass(frozen=True)
class Index:
    """Add new and changed videos to a library, in which `videoclip search` finds moments.

    Videos that did not change are skipped, so the same command keeps a library up to date.
    Subtitles beside a video (name.vtt, name.en.srt, ...) make its narration searchable. Files that
    cannot be read are listed at the end, and the exit status is then 1. With --features, videos in
    that store are not decoded again. A library keeps its model: --model is for a new one (by
    default the best one here, see `videoclip models`) or goes with --rebuild.
    """

    videos: options.Videos
    library: options.Library = options.LIBRARY
    model: options.Model = None
    frames_per_second: options.FramesPerSecond = None
    metadata: Annotated[Path | None, arg(metavar="FILE")] = None
    """CSV or JSON file with your own columns, one row per video, for `search --where`."""
    features: options.OptionalFeatures = None
    store: Literal["sqlite", "lance"] | None = None
    """How to store a new library: in SQLite (default) or in LanceDB (default in object storage)."""
    prune: bool = False
    """Remove videos under these paths whose file no longer exists."""
    repair: bool = False
    """Compute damaged vectors and features again, of the videos under these paths."""
    rebuild: bool = False
    """Rebuild the library with another model; features of the same backbone are kept."""
    whole_hash: bool = False
    """Recognise moved files by their whole content, instead of size, ends and samples."""
    fast: bool = False
    """Decode keyframes only: faster, but times may be wrong by seconds (docs/performance.md)."""
    workers: options.Workers = None
    cluster: options.Cluster = None
    device: options.Device = options.AUTO
    json: options.Json = False

    def run(self) -> int:
        """Update the library, and print what changed and which files failed."""
        from videoclip.data.feature_store import FeatureStore
        from videoclip.library.library import VideoLibrary
        from videoclip.library.storage import kind_of
        from videoclip.pretrained.known import default_model

        is_new = kind_of(self.library) is None
        model = default_model() if is_new and self.model is None else self.model
        features = FeatureStore.open(self.features) if self.features else None
        with (
            VideoLibrary.open(
                self.library,
                model,
                self.device,
                rebuild=self.rebuild,
                store=self.store,
                frames_per_second=self.frames_per_second,
            ) as library,
            redirect_stdout(sys.stderr),  # where Ray reports lost workers
        ):
            if model is not None and self.model is None:
                options.print_model(model)
            report = library.update(
                self.videos,
                prune=self.prune,
                repair=self.repair,
                metadata=self.metadata,
                features=features,
                whole_hash=self.whole_hash,
                fast=self.fast,
                num_workers=self.workers,
                cluster=self.cluster,
                on_progress=options.progress_line("videos"),
            )
            description = repr(library)
        if self.json:
            print(json.dumps(dataclasses.asdict(report), indent=2))
        else:
            print(f"{report}\n{description}")
        return options.print_failures(report.failed, "not indexed")
