"""`videoclip extract`: features of videos, into a store."""

import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass

from videoclip.cli import options
from videoclip.errors import DataError


@dataclass(frozen=True)
class Extract:
    """Compute features of videos with a frozen backbone, into a feature store.

    The store is created if it does not exist. Videos that are in it already are skipped, so the
    same command continues an interrupted run. Files that cannot be read are listed at the end, and
    the exit status is then 1.
    """

    videos: options.Videos
    features: options.Features
    backbone: options.Backbone = options.BACKBONE
    frames_per_second: options.FramesPerSecond = None
    device: options.Device = options.AUTO
    workers: options.Workers = None
    cluster: options.Cluster = None
    json: options.Json = False

    def run(self) -> int:
        """Extract, and print a summary and the failed files."""
        from videoclip.data.feature_store import FeatureStore
        from videoclip.features.backbones import load_backbone
        from videoclip.features.extract import extract_features
        from videoclip.library.storage import kind_of

        if kind_of(self.features):
            raise DataError(
                "is a library; give the feature store a folder of its own", self.features
            )
        backbone = load_backbone(self.backbone, self.device, self.frames_per_second)
        line = _ProgressLine() if sys.stderr.isatty() else None
        with (
            FeatureStore.open_or_create(self.features, backbone.spec) as store,
            redirect_stdout(sys.stderr),  # where Ray reports lost workers
        ):
            report = extract_features(
                self.videos,
                store,
                backbone,
                num_workers=self.workers,
                cluster=self.cluster,
                on_progress=line.set_videos if line else None,
                on_video_seconds=line.set_seconds if line else None,
            )
        if line:
            print(file=sys.stderr)
        print(json.dumps(report.as_dict(), indent=2) if self.json else f"{self.features}: {report}")
        return options.print_failures(report.failed)


class _ProgressLine:
    """Prints "3 of 10 videos, 1,240 s of video, 35x real time" on stderr, and keeps it current."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._videos, self._speed = "", ""

    def set_videos(self, done: int, total: int) -> None:
        self._videos = f"{done:,} of {total:,} videos"
        self._print()

    def set_seconds(self, seconds: float) -> None:
        speed = seconds / (time.monotonic() - self._started)
        self._speed = f", {seconds:,.0f} s of video, {speed:,.0f}x real time"
        self._print()

    def _print(self) -> None:
        print(f"\r{self._videos}{self._speed}\x1b[K", end="", file=sys.stderr, flush=True)
