"""`videoclip extract`: frozen features of videos, into a store."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from videoclip.features.extract import ExtractReport, Progress

__all__ = ["Extract"]


@dataclass(frozen=True)
class Extract:
    """Compute frozen features of videos into a store.

    Videos that the store has are skipped, so the same command goes on where it was interrupted.
    Files that cannot be read are listed at the end, and the exit status is then 1.
    """

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Video files, and folders to search for them."""
    store: Path
    """Folder of the feature store; made if absent."""
    backbone: str = "starter"
    """Which frozen network: starter, s3d, s3d:FOLDER, image:FOLDER_OR_HUB_ID, or a folder."""
    device: str = "cpu"
    """Torch device the network runs on, such as cpu or cuda."""
    workers: int | None = None
    """Processes; one per core by default, 0 for none but this one."""
    json: bool = False
    """Print the summary as JSON."""

    def run(self) -> int:
        """Extract, report, and return 1 if a video failed."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        from videoclip.data.feature_store import FeatureStore
        from videoclip.features.backbones import load_backbone
        from videoclip.features.extract import extract_features

        backbone = load_backbone(self.backbone, self.device)
        columns = (
            TextColumn("extract"),
            BarColumn(),
            TextColumn("{task.fields[num_finished]}/{task.fields[num_videos]} videos"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        with (
            FeatureStore.open_or_create(self.store, backbone.spec) as store,
            Bar(*columns, console=Console(stderr=True), transient=True) as bar,
        ):
            task = bar.add_task("extract", num_finished=0, num_videos=0, speed="")

            def show(progress: Progress) -> None:
                elapsed = bar.tasks[0].elapsed or 0.0
                speed = progress.video_seconds / elapsed if elapsed else 0.0
                bar.update(
                    task,
                    total=progress.bytes_total,
                    completed=progress.bytes_finished,
                    num_finished=progress.num_finished,
                    num_videos=progress.num_videos,
                    speed=f"{progress.video_seconds:.0f} s of video, {speed:.0f}x",
                )

            report = extract_features(
                self.videos, store, backbone, num_workers=self.workers, on_progress=show
            )
        if self.json:
            print(json.dumps(_as_dict(report), indent=2))
        else:
            print(_summary(report, self.store))
        for path, reason in report.failed.items():
            print(f"videoclip: failed: {path}: {reason}", file=sys.stderr)
        return 1 if report.failed else 0


def _as_dict(report: ExtractReport) -> dict[str, object]:
    failed = {str(path): reason for path, reason in report.failed.items()}
    return dataclasses.asdict(report) | {"failed": failed}


def _summary(report: ExtractReport, store: Path) -> str:
    speed = report.video_seconds / report.seconds
    added = f"{len(report.done)} added ({report.video_seconds:.0f} s of video, {speed:.0f}x)"
    return f"{store}: {added}, {len(report.skipped)} already there, {len(report.failed)} failed"
