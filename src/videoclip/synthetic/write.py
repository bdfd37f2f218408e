"""A whole world on disk: videos with subtitles beside them, and annotations.

Each video is written on its own and appears whole or not at all, so an interrupted run continues
where it stopped and a world can grow.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from videoclip.config import from_dict, to_dict
from videoclip.errors import ConfigError, DataError
from videoclip.files import (
    CHECKSUMS_FILE,
    atomic_folder,
    parse_state,
    read_json,
    read_regular,
    write_checksums,
    write_state,
    write_text,
)
from videoclip.processes import map_in_processes
from videoclip.synthetic.annotate import annotation_files
from videoclip.synthetic.narrate import narrate, webvtt
from videoclip.synthetic.render import write_video
from videoclip.synthetic.world import SyntheticConfig, SyntheticVideo, SyntheticWorld
from videoclip.types import OnProgress

_CONFIG_FILE = "world.json"
ADVICE = "delete it and run the same `videoclip synth` again"
"""What to do with a damaged file."""


@dataclass(frozen=True)
class SyntheticSummary:
    """What a world on disk contains; `num_written` of its videos were written by this call.

    `num_held_out_shown` of the steps shown are held-out combinations; `seconds` is the length of
    all videos together.
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
    config: SyntheticConfig,
    num_videos: int,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> SyntheticSummary:
    """Write the first `num_videos` videos of a world, with subtitles and annotations.

    `folder` gets `videos/*.mp4` and `videos/*.vtt`, `annotations/` in the formats of the
    benchmarks (see `annotate`), `world.json`, the configuration, and checksums of all files.
    Existing videos are kept.

    Args:
        folder: Where to write; made if absent.
        config: The world.
        num_videos: How many videos.
        workers: Processes that render; one per core by default.
        on_progress: Called with (videos done, videos in all) after each video.

    Raises:
        ConfigError: If `num_videos` is not positive.
        DataError: If the folder holds another world.
    """
    folder = Path(folder)
    videos = write_texts(folder, config, num_videos)
    missing = [v for v in videos if not (folder / v.file).exists()]
    workers = min(workers or os.cpu_count() or 1, len(missing))
    written = map_in_processes(
        partial(_write_one, folder, config), missing, workers if workers > 1 else 0
    )
    for done, _ in enumerate(written, start=num_videos - len(missing) + 1):
        if on_progress:
            on_progress(done, num_videos)
    _add_checksums(folder, {v.file for v in missing})
    shown = [s for v in videos for s in v.shown]
    return SyntheticSummary(
        folder=folder,
        num_videos=num_videos,
        num_test=sum(v.split == "test" for v in videos),
        num_written=len(missing),
        num_steps_shown=len(shown),
        num_held_out_shown=sum(s.step.held_out for s in shown),
        seconds=round(sum(v.duration for v in videos), 2),
    )


def write_texts(
    folder: Path | str, config: SyntheticConfig, num_videos: int
) -> list[SyntheticVideo]:
    """Write subtitles, annotations and configuration of a world, but no videos; see `write_world`.

    Returns:
        The scenarios of the videos, in order.
    """
    folder = Path(folder)
    if num_videos < 1:
        raise ConfigError(f"a world needs at least one video, got {num_videos}")
    path = folder / _CONFIG_FILE
    if not path.exists():
        write_state(path, to_dict(config))
    elif read_world(folder).config != config:
        raise DataError("the folder holds a world with other settings; choose another folder", path)
    world, written = SyntheticWorld(config), set()
    videos = [world.video(index) for index in range(num_videos)]
    for video in videos:
        path = (folder / video.file).with_suffix(".vtt")
        if not path.exists():
            write_text(path, webvtt(narrate(video, world), config.rolling_captions))
            written.add(path.relative_to(folder).as_posix())
    with atomic_folder(folder / "annotations") as partial_folder:
        for name, text in annotation_files(world, videos).items():
            path = partial_folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    _add_checksums(folder, written)
    return videos


def _add_checksums(folder: Path, written: set[str]) -> None:
    """List the SHA-256 of all files; those listed before and not `written` keep theirs."""
    files = [path for part in ("videos", "annotations") for path in (folder / part).rglob("[!.]*")]
    names = {path.relative_to(folder).as_posix() for path in files if path.is_file()}
    listed = read_json(folder / CHECKSUMS_FILE, ADVICE).get("sha256", {})
    known = {n: s for n, s in listed.items() if n.startswith("videos/") and n not in written}
    write_checksums(folder, sorted({*names, *known}), known)


def read_world(folder: Path | str) -> SyntheticWorld:
    """Return the world that a folder was written from.

    Raises:
        DataError: If the folder holds none.
    """
    path = Path(folder) / _CONFIG_FILE
    if not path.is_file():
        raise DataError("no synthetic world here; make one with 'videoclip synth'", path)
    try:
        return SyntheticWorld(from_dict(SyntheticConfig, parse_state(read_regular(path))))
    except (ValueError, ConfigError) as error:
        raise DataError(f"not the configuration of a world: {error}", path) from error


def _write_one(folder: Path, config: SyntheticConfig, video: SyntheticVideo) -> None:
    write_video(video, config, folder / video.file)
