"""A whole world on disk: videos with subtitles beside them, and the truth.

Every video is written by itself and appears whole or not at all, so an interrupted run continues
where it stopped and a world can grow.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from videoclip.config import from_dict, to_dict
from videoclip.errors import ConfigError, DataError
from videoclip.synthetic.annotate import truth
from videoclip.synthetic.narrate import narrate, webvtt
from videoclip.synthetic.render import write_video
from videoclip.synthetic.settings import WorldConfig
from videoclip.synthetic.world import World, WorldVideo

__all__ = ["WorldSummary", "read_world", "write_words", "write_world"]

_WORLD_FILE = "world.json"


@dataclass(frozen=True)
class WorldSummary:
    """What `write_world` did.

    Attributes:
        folder: Where the world lies.
        num_videos: Videos of the world, written now or before.
        num_test: How many of them are test videos.
        num_written: Videos written by this call.
        num_steps_shown: Steps shown in all videos.
        num_held_out_shown: How many of those are held-out combinations.
        seconds: Length of all videos together.
    """

    folder: Path
    num_videos: int
    num_test: int
    num_written: int
    num_steps_shown: int
    num_held_out_shown: int
    seconds: float


def write_world(
    folder: Path | str,
    config: WorldConfig,
    num_videos: int,
    num_processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WorldSummary:
    """Write the first `num_videos` videos of a world, their subtitles and the truth about them.

    `folder` gets `videos/*.mp4` and `videos/*.vtt`, `annotations/` in the formats of the
    benchmarks (see `annotate`) and `world.json`, the configuration. What is there is kept.

    Args:
        folder: Where to write; made if absent.
        config: The world.
        num_videos: How many videos.
        num_processes: Processes that render; every core by default.
        progress: Called with (videos done, videos in all) after each.

    Raises:
        ConfigError: If `num_videos` is not positive.
        DataError: If the folder holds another world.
    """
    folder = Path(folder)
    videos = write_words(folder, config, num_videos)
    waiting = [v.index for v in videos if not _video_path(folder, v.video_id).exists()]
    done = num_videos - len(waiting)
    for _ in _each(partial(_write_one, folder, config), waiting, num_processes):
        done += 1
        if progress:
            progress(done, num_videos)
    shown = [s for v in videos for s in v.shown]
    return WorldSummary(
        folder=folder,
        num_videos=num_videos,
        num_test=sum(v.split == "test" for v in videos),
        num_written=len(waiting),
        num_steps_shown=len(shown),
        num_held_out_shown=sum(s.step.held_out for s in shown),
        seconds=round(sum(v.duration for v in videos), 2),
    )


def write_words(folder: Path | str, config: WorldConfig, num_videos: int) -> list[WorldVideo]:
    """Write everything of a world but its pictures: what is said and what is true.

    Args:
        folder: Where to write; made if absent.
        config: The world.
        num_videos: How many videos.

    Returns:
        The scenarios, in order.

    Raises:
        ConfigError: If `num_videos` is not positive.
        DataError: If the folder holds another world.
    """
    folder = Path(folder)
    if num_videos < 1:
        raise ConfigError(f"a world needs at least one video, got {num_videos}")
    _claim(folder, config)
    (folder / "videos").mkdir(exist_ok=True)
    world = World(config)
    videos = [world.video(index) for index in range(num_videos)]
    for video in videos:
        path = _video_path(folder, video.video_id).with_suffix(".vtt")
        if not path.exists():
            _write_text(path, webvtt(narrate(video, world), config.rolling_captions))
    _write_truth(folder, truth(world, videos))
    return videos


def read_world(folder: Path | str) -> World:
    """Return the world that a folder was written from.

    Raises:
        DataError: If the folder holds none.
    """
    path = Path(folder) / _WORLD_FILE
    if not path.is_file():
        raise DataError("no synthetic world here; make one with 'videoclip synth'", path)
    try:
        return World(from_dict(WorldConfig, json.loads(path.read_text())))
    except (json.JSONDecodeError, ConfigError) as error:
        raise DataError(f"not the configuration of a world: {error}", path) from error


def _claim(folder: Path, config: WorldConfig) -> None:
    """Write the configuration into a new folder, or see that it is the same in an old one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _WORLD_FILE
    if not path.exists():
        _write_text(path, json.dumps(to_dict(config), indent=1) + "\n")
    elif read_world(folder).config != config:
        raise DataError("the folder holds a world of other settings; choose another folder", path)


def _each(
    write: Callable[[int], None], indices: list[int], num_processes: int | None
) -> Iterable[None]:
    num_processes = min(num_processes or os.cpu_count() or 1, len(indices))
    if num_processes <= 1:
        yield from map(write, indices)
        return
    context = multiprocessing.get_context("spawn")  # never fork a process that may hold threads
    with ProcessPoolExecutor(num_processes, context) as pool:
        yield from pool.map(write, indices)


@lru_cache(maxsize=1)
def _world(config: WorldConfig) -> World:
    return World(config)


def _write_one(folder: Path, config: WorldConfig, index: int) -> None:
    video = _world(config).video(index)
    write_video(video, config, _video_path(folder, video.video_id))


def _write_truth(folder: Path, files: dict[str, str]) -> None:
    """Write all annotations aside and put them in the place of the old ones."""
    aside = folder / f".annotations.{os.getpid()}.part"
    for name, text in files.items():
        path = aside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    shutil.rmtree(folder / "annotations", ignore_errors=True)
    aside.replace(folder / "annotations")


def _video_path(folder: Path, video_id: str) -> Path:
    return folder / "videos" / f"{video_id}.mp4"


def _write_text(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with aside.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
