from __future__ import annotations

import hashlib

import pytest

from videoclip.errors import ConfigError, DataError
from videoclip.synthetic.world import SyntheticConfig, SyntheticWorld
from videoclip.synthetic.write import read_world, write_world

CONFIG = SyntheticConfig(
    seed=1, pixels=32, steps_per_video=(1, 2), step_seconds=(2.0, 3.0), gap_seconds=(0.5, 1.0)
)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_world_is_written_whole_and_the_same_by_any_number_of_processes(tmp_path):
    seen = []
    on_progress = lambda done, total: seen.append((done, total))  # noqa: E731
    alone = write_world(tmp_path / "a", CONFIG, 5, workers=1, on_progress=on_progress)
    assert seen == [(i, 5) for i in range(1, 6)]
    write_world(tmp_path / "b", CONFIG, 5, workers=2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    videos = [SyntheticWorld(CONFIG).video(i) for i in range(5)]
    assert (alone.num_videos, alone.num_written, alone.num_test) == (5, 5, 1)
    assert alone.num_steps_shown == sum(len(v.shown) for v in videos)
    assert alone.seconds == pytest.approx(sum(v.duration for v in videos))
    names = {path.name for path in (tmp_path / "a" / "videos").iterdir()}
    assert names == {f"{v.video_id}.{kind}" for v in videos for kind in ("mp4", "vtt")}


def test_a_world_continues_grows_and_is_never_cut(tmp_path):
    write_world(tmp_path, CONFIG, 2, workers=1)
    first = digests(tmp_path)
    (tmp_path / "videos" / "video00001.mp4").unlink()  # as if interrupted
    (tmp_path / "videos" / "video00001.vtt").unlink()
    assert write_world(tmp_path, CONFIG, 2, workers=1).num_written == 1
    assert digests(tmp_path) == first
    seen = []
    more = write_world(
        tmp_path, CONFIG, 3, workers=1, on_progress=lambda *counts: seen.append(counts)
    )
    assert (more.num_written, seen) == (1, [(3, 3)])
    grown = digests(tmp_path)
    assert {name for name in first if name.startswith("videos/")} < set(grown)
    assert write_world(tmp_path, CONFIG, 2, workers=1).num_written == 0
    assert (tmp_path / "videos" / "video00002.mp4").exists()
    assert digests(tmp_path / "annotations") == {
        name.removeprefix("annotations/"): digest
        for name, digest in first.items()
        if name.startswith("annotations/")
    }


def test_a_folder_tells_its_world(tmp_path):
    write_world(tmp_path, CONFIG, 1, workers=1)
    assert read_world(tmp_path).video(7) == SyntheticWorld(CONFIG).video(7)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="at least one video, got 0"):
        write_world(tmp_path, CONFIG, 0)
    with pytest.raises(DataError, match="no synthetic world here"):
        read_world(tmp_path)
    write_world(tmp_path, CONFIG, 1, workers=1)
    with pytest.raises(DataError, match="holds a world with other settings; choose another folder"):
        write_world(tmp_path, SyntheticConfig(seed=2), 1)
    (tmp_path / "world.json").write_text('{"sed": 3}')
    with pytest.raises(DataError, match="unknown setting 'sed'; perhaps you meant 'seed'"):
        read_world(tmp_path)
    (tmp_path / "world.json").write_text("{")
    with pytest.raises(DataError, match=r"world\.json: not the configuration of a world"):
        read_world(tmp_path)
