"""Videos are read in a helper process, and whatever happens to it becomes one file's reason."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.features import hostile_readers
from tests.fork_server import run_script
from tests.library.colours import ColourBackbone, ColourEmbedder, write_video
from tests.make_video import numbered_picture
from tests.make_video import write_video as write_numbered
from videoclip.cli import main
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DecodeError, MissingExtraError
from videoclip.features import contained, decode
from videoclip.features.decode import Fit, Squash
from videoclip.features.extract import extract_features
from videoclip.features.video_file import MAX_MEMORY
from videoclip.library.library import VideoLibrary
from videoclip.zeroshot.results import answer, segment

ROOT = str(Path(__file__).parents[2])
CRASHED = "the process that read it died (SIGSEGV); copy or download it again"


@pytest.fixture
def video(tmp_path):
    return write_numbered(tmp_path / "video.mp4", 30)


@pytest.fixture(autouse=True)
def no_helpers():
    contained.stop_helpers()
    yield
    contained.stop_helpers()


def test_paths_are_relative_to_the_folder_of_now(video, monkeypatch):
    contained.probe(video)  # the helper starts in another folder
    monkeypatch.chdir(video.parent)
    assert contained.probe(video.name).num_frames == contained.probe(video).num_frames


def test_frames_are_those_of_decoding_here(tmp_path):
    still = [numbered_picture(number // 10) for number in range(40)]
    video = write_numbered(tmp_path / "still.mkv", still, times=[*range(39), 120])
    rule = Squash(20, 10)
    for per_second in (0.5, 2.0, 10.0):
        theirs = [
            (frame.display_size, frame.rotation, frame.rgb(rule), frame.rgb(), frame)
            for frame in contained.sample_frames(video, per_second)
        ]
        ours = list(decode.sample_frames(video, per_second))
        assert len(theirs) == len(ours)
        for (size, rotation, small, whole, _), frame in zip(theirs, ours, strict=True):
            assert (size, rotation) == (frame.display_size, frame.rotation)
            np.testing.assert_array_equal(small, frame.rgb(rule))
            np.testing.assert_array_equal(whole, frame.rgb())
        repeats = [a[-1] is b[-1] for a, b in pairwise(theirs)]
        assert repeats == [a is b for a, b in pairwise(ours)]
    assert any(repeats) and not all(repeats)
    assert contained.probe(video) == decode.probe(video)
    np.testing.assert_array_equal(
        contained.grab_frame(video, 1.0, Fit(16)), decode.grab_frame(video, 1.0, Fit(16))
    )
    assert len(contained._idle) == 1


def test_two_videos_are_read_at_once_and_one_is_left_early(video):
    pairs = zip(contained.sample_frames(video, 10), contained.sample_frames(video, 10), strict=True)
    first, second = next(pairs)
    assert (first.rgb() == second.rgb()).all()
    del pairs
    assert len(contained._idle) == 2
    assert len(list(contained.sample_frames(video, 10))) == 30
    frames = contained.sample_frames(video, 10)
    left = next(frames)
    next(frames)
    with pytest.raises(RuntimeError, match="before you ask for the next"):
        left.rgb()


def test_what_a_function_yields_takes_returns_and_raises_comes_through(video):
    counting = contained.stream(video, hostile_readers.count, video, 2)
    assert [next(counting), counting.send(3)] == [0, 3]
    with pytest.raises(StopIteration) as end:
        counting.send(4)
    assert end.value.value == "done"
    with pytest.raises(DecodeError, match=f"{video}: no$") as refused:
        contained.call(video, hostile_readers.refuse, video)
    assert refused.value.path == video
    with pytest.warns(UserWarning, match="beware"):
        helper = contained.call(video, hostile_readers.warn, video)
    assert helper == contained._idle[0].process.pid != os.getpid()


def test_what_a_helper_warns_of_comes_once_with_its_item(video):
    """Also if it is the last that its video gives; the next video has nothing to do with it."""
    helpers = set()
    for fails in (True, False, True):
        items = contained.stream(video, hostile_readers.warn_of_each, video, fails)
        for number in range(2):
            with pytest.warns(UserWarning) as warned:
                helpers.add(next(items))
            assert [str(one.message) for one in warned] == [f"item {number}"]
        if fails:
            with pytest.warns(UserWarning) as warned, pytest.raises(DecodeError):
                next(items)
            assert [str(one.message) for one in warned] == ["at the end"]
        else:
            assert list(items) == []
        assert contained.probe(video).num_frames == 30
    for _ in range(2):  # one that is left early
        items = contained.stream(video, hostile_readers.warn_of_each, video, False)
        with pytest.warns(UserWarning) as warned:
            helpers.add(next(items))
        assert [str(one.message) for one in warned] == ["item 0"]
        items.close()
    assert len(helpers) == len(contained._idle) == 1


def test_a_worker_that_reads_videos_itself_has_the_same_limits(video, monkeypatch):
    entered, limits = [], contained._limits
    monkeypatch.setattr(contained, "_reads_here", True)
    monkeypatch.setattr(
        contained, "_limits", lambda memory: entered.append(memory) or limits(memory)
    )
    assert contained.call(video, hostile_readers.warn_of_each, video, False) is not None
    assert entered == [MAX_MEMORY]
    counting = contained.stream(video, hostile_readers.count, video, 2, memory=7 << 30)
    assert [next(counting), counting.send(3)] == [0, 3]
    with pytest.raises(StopIteration) as end:
        counting.send(4)
    assert end.value.value == "done" and entered[1:] == [7 << 30] * 3
    entered.clear()
    frames = list(contained.sample_frames(video, 10))
    assert len(frames) > 3 and set(entered) == {MAX_MEMORY} and len(entered) > len(frames)
    assert not contained._idle  # no other process was used


def test_errors_survive_pickling():
    for error in (DecodeError("no", Path("a.mp4")), MissingExtraError("--cluster", "cluster")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_a_crash_is_the_reason_of_its_file_and_the_next_one_is_read(video):
    with pytest.raises(DecodeError) as crash:
        contained.call(video, hostile_readers.crash, video)
    assert str(crash.value) == f"{video}: {CRASHED}"
    assert contained.probe(video).num_frames == 30


def test_a_helper_that_died_while_idle_is_no_fault_of_the_next_video(video):
    contained.probe(video)
    helper = contained._idle[0].process
    helper.kill()
    os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
    assert contained.probe(video).num_frames == 30
    assert contained._idle[0].process is not helper


def test_a_crash_in_the_middle_of_a_video(video):
    contained.probe(video)
    helper = contained._idle[0].process
    frames = contained.sample_frames(video, 10)
    next(frames).rgb()
    helper.send_signal(signal.SIGSEGV)
    with pytest.raises(DecodeError, match="SIGSEGV"):
        list(frames)
    assert not contained._idle


def test_memory_is_limited(video, tmp_path):
    assert contained.call(video, hostile_readers.take_memory, video, 100 << 20) == 100 << 20
    with pytest.raises(DecodeError, match=f"{video}: needs more than 1 GiB of memory"):
        contained.call(video, hostile_readers.take_memory, video, MAX_MEMORY + (1 << 26))
    picture = np.full((1080, 1920, 3), 250, np.uint8)
    large = write_numbered(tmp_path / "large.mp4", [picture] * 2, rate=1)
    read = hostile_readers.read_pixels
    assert next(contained.stream(large, read, large)) > 240
    with pytest.raises(DecodeError, match=f"{large}: needs more than .* of memory"):
        next(contained.stream(large, read, large, memory=4 << 20))


def test_processor_time_is_limited(video):
    working = contained.stream(video, hostile_readers.work_for_long, video)
    next(working)
    with pytest.raises(DecodeError, match=r"died \(SIGXCPU; no progress in 120 s of work\)"):
        next(working)


def test_silence_is_limited(video, monkeypatch):
    contained.probe(video)
    monkeypatch.setattr(contained, "MAX_SILENCE", 0.3)
    with pytest.raises(DecodeError, match=f"{video}: ended after 300 s without progress"):
        contained.call(video, hostile_readers.sleep, video)


def test_a_helper_ends_with_a_killed_parent(video, tmp_path):
    script = """
        import sys
        from pathlib import Path
        from tests.features.hostile_readers import sleep_after_start
        from videoclip.features.contained import stream

        path = Path(sys.argv[1])
        sleeping = stream(path, sleep_after_start, path)
        print(next(sleeping), flush=True)
        next(sleeping)
        """
    command = [sys.executable, "-c", textwrap.dedent(script), str(video)]
    environment = os.environ | {"PYTHONPATH": ROOT}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        helper = int(parent.stdout.readline())
        parent.kill()
    limit = time.monotonic() + 10
    while is_alive(helper) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not is_alive(helper)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_fork_leaves_the_helper_to_its_parent(video):
    script = """
        import os, sys
        from videoclip.features import contained

        first = contained.probe(sys.argv[1])
        helper = contained._idle[0].process.pid
        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
        assert contained.probe(sys.argv[1]) == first
        assert (contained._idle[0].process.pid == helper) == bool(child)
        """
    assert run_script(textwrap.dedent(script), video) == (0, "")


# --- every door --------------------------------------------------------------------------------


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """A folder of two videos; whoever opens the one named "crash" is ended by a signal."""
    hook = """
        import os, signal, sys

        def crash(frame, event, arg):
            if event == "call" and frame.f_code.co_name == "open_container":
                if frame.f_locals["path"].name == "crash.mp4":
                    os.kill(os.getpid(), signal.SIGSEGV)

        if "videoclip.features.contained" in " ".join(sys.orig_argv):
            sys.setprofile(crash)
        """
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(textwrap.dedent(hook))
    monkeypatch.syspath_prepend(str(tmp_path / "hook"))
    for name in ("crash", "good"):
        write_video(tmp_path / "videos" / f"{name}.mp4", ["red", "blue"])
    return tmp_path / "videos"


def test_a_crash_at_any_door_names_the_file(crashing, tmp_path, capsys):
    bad, embedder = crashing / "crash.mp4", ColourEmbedder()
    with VideoLibrary(tmp_path / "library", embedder) as library:
        report = library.update(crashing, num_workers=0)
        assert (report.added, report.failed) == ([str(crashing / "good.mp4")], {str(bad): CRASHED})
        doors = [
            lambda: embedder.embed_video(bad),
            lambda: segment(bad, ["red", "blue"], embedder),
            lambda: answer(bad, "which?", ["red", "blue"], embedder),
            lambda: library.search_like(bad),
        ]
        for door in doors:
            with pytest.raises(DecodeError) as crash:
                door()
            assert str(crash.value) == f"{bad}: {CRASHED}"
    with FeatureStore.create(tmp_path / "store", ColourBackbone.spec) as store:
        extracted = extract_features([crashing], store, ColourBackbone(), num_workers=0)
    assert (extracted.done, extracted.failed) == (("good",), {bad: CRASHED})
    commands = [
        ["info", bad],
        ["cut", bad, "--start", "0", "--end", "1", "--out", tmp_path / "clip.mp4"],
        ["prepare", bad, "--out", tmp_path / "captions"],
    ]
    for command in commands:
        capsys.readouterr()
        assert main([*map(str, command)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if str(bad) in line and CRASHED in line], lines
        assert len(lines) == 1
