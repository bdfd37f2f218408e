"""`videoclip info`: say what a folder or file is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from videoclip.errors import DataError

__all__ = ["Info"]

Facts = dict[str, Any]


@dataclass(frozen=True)
class Info:
    """Say what a folder or file is, and what is in it.

    It knows models, stores of features and of frames, runs, ablations, libraries, synthetic worlds,
    videos and subtitles.
    """

    path: Annotated[str, tyro.conf.Positional]
    """What to look at; the address of a library, too."""
    json: bool = False
    """Print it as JSON."""

    def run(self) -> int:
        """Look and tell."""
        facts = describe(self.path)
        if self.json:
            print(json.dumps(facts, indent=2, default=str))
        else:
            width = max(map(len, facts))
            for name, value in facts.items():
                print(f"{name:<{width}}  {value}")
        return 0


def describe(path: Path | str) -> Facts:
    """Return what a path is, under "kind", and what is worth knowing of it.

    Raises:
        DataError: If it is nothing of ours.
    """
    from videoclip.library.storage import is_address

    if is_address(path):
        return _library(str(path))
    path = Path(path)
    if not path.exists():
        raise DataError("there is nothing of this name", path)
    if path.is_dir():
        for mark, tell in FOLDERS.items():
            if (path / mark).exists():
                return tell(path)
        raise DataError(
            "is no model, feature store, run, library or world; a folder of videos becomes one by "
            "'videoclip extract' or 'videoclip index'",
            path,
        )
    from videoclip.data.subtitles import SUBTITLE_SUFFIXES

    return _subtitles(path) if path.suffix.lower() in SUBTITLE_SUFFIXES else _video(path)


def _run(folder: Path) -> Facts:
    from videoclip.training.run_folder import read_log

    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    steps = [entry for entry in read_log(folder) if "loss" in entry]
    return {
        "kind": "fine-tuning run" if "benchmark" in settings else "pre-training run",
        "recipe": settings["name"],
        "updates": len(steps),
        "last loss": steps[-1]["loss"] if steps else None,
        "model": folder / "model" if (folder / "model").is_dir() else "not finished",
    }


def _store(folder: Path) -> Facts:
    from videoclip.data.feature_store import FeatureStore

    with FeatureStore.open(folder) as store:
        return {
            "kind": "feature store",
            "videos": len(store),
            "features": sum(map(store.num_features, store.video_ids)),
            **dataclasses.asdict(store.spec),
        }


def _frames(folder: Path) -> Facts:
    from videoclip.data.frame_store import FrameStore

    store = FrameStore.open(folder)
    return {
        "kind": "store of frames",
        "videos": len(store.video_ids),
        **dataclasses.asdict(store.frames),
    }


def _ablation(folder: Path) -> Facts:
    lines = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    return {"kind": "ablation", "rows": len(lines), "table": folder / "table.md"}


def _library(address: Path | str) -> Facts:
    from videoclip.library.storage import kind_of, open_storage

    storage = open_storage(address, must_exist=True)
    try:
        videos, facts = storage.catalog.videos(), storage.catalog.facts()
    finally:
        storage.catalog.close()
    return {
        "kind": "library",
        "lies in": kind_of(address),
        "videos": len(videos),
        "hours": round(sum(video.duration for video in videos) / 3600, 2),
        "model": facts["model"],
        "model fingerprint": facts["fingerprint"],
    }


def _world(folder: Path) -> Facts:
    from videoclip.synthetic.write import read_world

    world = read_world(folder)
    return {
        "kind": "synthetic world",
        "videos": len(list((folder / "videos").glob("*.mp4"))),
        **dataclasses.asdict(world.config),
    }


def _model(folder: Path) -> Facts:
    from videoclip.model.hub import load_config

    config = load_config(folder)
    return {
        "kind": "model",
        **dataclasses.asdict(config),
        "classes": f"{len(config.classes)} of a head" if config.classes else "no head",
    }


def _s3d(folder: Path) -> Facts:
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {"kind": "S3D weights", **settings}


def _video(path: Path) -> Facts:
    from videoclip.features.decode import probe

    return {"kind": "video", **dataclasses.asdict(probe(path))}


def _subtitles(path: Path) -> Facts:
    from videoclip.data.subtitles import read_subtitles

    cues = read_subtitles(path)
    return {
        "kind": "subtitles",
        "cues": len(cues),
        "words": sum(len(cue.text.split()) for cue in cues),
        "begins": cues[0].start if cues else None,
        "ends": max(cue.end for cue in cues) if cues else None,
    }


FOLDERS: dict[str, Callable[[Path], Facts]] = {
    "log.jsonl": _run,
    "store.json": _store,
    "frames.json": _frames,
    "catalog.sqlite": _library,
    "lance": _library,
    "table.json": _ablation,
    "world.json": _world,
    "words.txt": _s3d,
    "config.json": _model,
}
"""By the file that tells each kind; a run has a config too, so it comes first."""
