import os
import signal
import threading
import time
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from tests.features.toy_backbones import SPEC, MeanColour, OnGpu, Unpicklable
from tests.make_video import write_video
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.features import contained, extract, workers
from videoclip.features.extract import (
    compute_features,
    extract_features,
    find_videos,
    name_videos,
)
from videoclip.features.video_file import NO_VIDEOS
from videoclip.features.workers import Computed, Failed


@pytest.fixture
def store(tmp_path):
    with FeatureStore.create(tmp_path / "store", SPEC) as store:
        yield store


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, seconds in [("a", 2), ("b", 3), ("c", 1)]:
        write_video(folder / f"{name}.mp4", seconds * 10)
    return folder


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path):
    hidden = [".hidden.mp4", ".trash/a.mp4", "sub/.trash/more/b.mp4"]
    for name in ["b.mp4", "a.MKV", "sub/c.webm", *hidden, "notes.txt", "d.mp4/e.mov"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dead.mp4").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    named = [tmp_path / "notes.txt", str(tmp_path / "b.mp4")]
    found, failed = find_videos([tmp_path, *named])
    assert find_videos([tmp_path, *named, tmp_path]) == (found, failed)  # a folder given twice
    names = [str(file.path.relative_to(tmp_path)) for file in found]
    assert names == ["a.MKV", "b.mp4", "d.mp4/e.mov", "notes.txt", "sub/c.webm"]
    assert failed == {tmp_path / "dead.mp4": "a link to a file that does not exist"}
    status = (tmp_path / "a.MKV").stat()
    assert (found[0].size, found[0].mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert find_videos([tmp_path / "empty"]) == (
        [],
        {tmp_path / "empty": NO_VIDEOS},
    )
    assert find_videos([tmp_path / "none.mp4"]) == ([], {tmp_path / "none.mp4": "no such file"})


def test_ids_are_stems_unless_they_clash():
    paths = ["v/a.mp4", "v/x/b.mp4", "v/y/b.mp4", "v/c.mp4", "v/c.mkv", "v/1/z/d.m", "v/2/z/d.m"]
    assert list(name_videos([Path(path) for path in paths]).values()) == [
        *("a", "x/b", "y/b", "c.mp4", "c.mkv", "1/z/d", "2/z/d"),
    ]
    assert name_videos([Path("a.b.mp4"), Path("a.b.mp4")]) == {Path("a.b.mp4"): "a.b"}


WAYS = pytest.mark.parametrize(
    ("backbone", "num_workers"),
    [(MeanColour(), 0), (MeanColour(), 2), (OnGpu(), 2)],
    ids=["here", "processes", "threads"],
)


@WAYS
def test_every_video_ends_in_the_store_or_in_the_list(
    store, videos, tmp_path, backbone, num_workers
):
    (videos / "text.mp4").write_text("not a video")
    write_video(videos / "nan.mp4", 10)
    (tmp_path / "empty").mkdir()
    steps, seconds = [], []
    report = extract_features(
        [videos, tmp_path / "none.mp4", tmp_path / "empty"],
        store,
        backbone,
        num_workers=num_workers,
        on_progress=lambda *step: steps.append(step),
        on_video_seconds=seconds.append,
    )
    assert sorted(report.done) == sorted(store.video_ids) == ["a", "b", "c"]
    assert report.skipped == ()
    assert report.video_seconds == 6.0
    assert {path.name: reason for path, reason in report.failed.items()} == {
        "text.mp4": "not a video, or damaged (Invalid data found when processing input)",
        "nan.mp4": "cannot add 'nan': features that are not finite, or too large for float16",
        "none.mp4": "no such file",
        "empty": NO_VIDEOS,
    }
    assert store.num_features("b") == 3
    assert steps[0] == (0, 7)
    assert steps[-1] == (7, 7)
    assert sorted(steps) == steps
    assert seconds == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]  # nan.mp4 is computed, then refused
    assert str(report).startswith("3 added (6 s of video, ")
    assert str(report).endswith("x real time), 0 already there, 4 failed")
    again = extract_features([videos], store, MeanColour(), num_workers=0)
    assert again.done == ()
    assert sorted(again.skipped) == ["a", "b", "c"]


def test_workers_compute_what_this_process_computes(store, videos, tmp_path):
    extract_features([videos], store, MeanColour(), num_workers=0)
    with FeatureStore.create(tmp_path / "other", SPEC) as other:
        extract_features([videos], other, MeanColour())
        for name in "abc":
            np.testing.assert_array_equal(store.read(name), other.read(name))


def test_a_killed_worker_costs_one_video(store, videos):
    for name in ("killed", "bug"):
        write_video(videos / f"{name}.mp4", 10)
    report = extract_features([videos], store, MeanColour(), num_workers=2)
    assert sorted(report.done) == ["a", "b", "c"]
    assert {path.stem: reason for path, reason in report.failed.items()} == {
        "killed": "its worker process died (SIGKILL; out of memory?)",
        "bug": "its worker process died (exit status 3; its last output is above)",
    }


def test_workers_that_cannot_start_say_so(videos):
    with pytest.raises(ConfigError, match="cannot start: call this under `if __name__"):
        list(compute_features(Unpicklable, [videos / "a.mp4"], videos / "locks", num_workers=1))


@pytest.mark.parametrize("backbone", [MeanColour(), OnGpu()], ids=["processes", "threads"])
def test_an_interrupt_stops_the_workers_and_keeps_what_is_done(store, videos, backbone):
    write_video(videos / "slow.mp4", 10)

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        extract_features([videos], store, backbone, num_workers=2, on_progress=interrupt)
    assert time.monotonic() - started < 50
    assert sorted(store.video_ids) == ["a", "b", "c"]
    store.verify()


def test_a_worker_serves_until_the_other_side_is_gone(videos, monkeypatch):
    """The loop of a worker, here instead of in a process of its own."""
    import pickle

    ours, theirs = Pipe()
    events, chunks = [], []

    def drive():
        assert ours.recv() is True
        for path in (videos / "c.mp4", videos / "none.mp4"):
            ours.send(path)
            while isinstance(event := ours.recv(), int):
                chunks.append(event)
            events.append(event)
        ours.close()

    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(contained, "_reads_here", False)  # what `_serve` changes is undone
    driver = threading.Thread(target=drive)
    driver.start()
    workers._serve(theirs, pickle.dumps(partial(extract._compute_one, MeanColour())), 1)
    driver.join()
    computed, failed = events
    assert isinstance(computed, Computed)
    assert computed.features.dtype == np.float16  # half as much for a day of video
    assert computed.features.shape == (1, 3)
    assert chunks == [1]
    assert failed == Failed(videos / "none.mp4", "no such file")


def test_two_processes_share_one_store(store, videos):
    """Here two threads: locks and stores of their own keep them apart like processes."""
    for number in range(8):
        write_video(videos / f"{number}.mp4", 10)
    reports = []

    def extract():
        with FeatureStore.open(store.folder) as own:
            reports.append(extract_features([videos], own, MeanColour(), num_workers=0))

    threads = [threading.Thread(target=extract) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = reports
    assert sorted(first.done + second.done) == sorted([*"01234567", *"abc"])
    assert len(first.skipped + second.skipped) == 11 and not first.failed | second.failed
    store.refresh()
    store.verify()


def test_another_backbone_is_refused(tmp_path, videos):
    spec = FeatureSpec(3, 1.0, "colours", False, "2")
    with (
        FeatureStore.create(tmp_path / "store", spec) as store,
        pytest.raises(IndexMismatchError, match="fingerprint '2', not '1'"),
    ):
        extract_features([videos], store, MeanColour())


def test_a_full_disk_ends_it(store, videos, monkeypatch):
    def full(handle, data, offset):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DataError, match="No space left"):
        extract_features([videos], store, MeanColour(), num_workers=0)


def test_a_negative_number_of_workers_is_refused(store, videos):
    with pytest.raises(ConfigError, match="num_workers must not be negative"):
        extract_features([videos], store, MeanColour(), num_workers=-1)


@WAYS
def test_any_failure_of_one_file_is_its_reason(store, videos, backbone, num_workers):
    write_video(videos / "broken.mp4", 10)
    os.mkfifo(videos / "pipe.mp4")
    report = extract_features([videos], store, backbone, num_workers=num_workers)
    assert sorted(report.done) == ["a", "b", "c"]
    assert {path.stem: reason for path, reason in report.failed.items()} == {
        "broken": "cannot be read (a bug of two lines)",
        "pipe": "not a regular file (a pipe, socket or device)",
    }


def test_a_worker_without_progress_is_ended(store, videos, monkeypatch):
    monkeypatch.setattr(workers, "MAX_SILENCE", 3.0)
    write_video(videos / "slow.mp4", 10)
    report = extract_features([videos], store, MeanColour(), num_workers=2)
    assert sorted(report.done) == ["a", "b", "c"]
    assert list(report.failed) == [videos / "slow.mp4"]
    assert "without progress" in report.failed[videos / "slow.mp4"]
