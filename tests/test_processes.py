import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.library.colours import write_video
from videoclip.processes import map_in_processes, without_main_module

ROOT = Path(__file__).resolve().parents[1]

SLEEP_IN_WORKERS = """
import os, sys, time
from pathlib import Path
from videoclip.processes import map_in_processes

def sleep(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    list(map_in_processes(sleep, sys.argv[1:] * 2, 2))
"""


SCRIPT_WITHOUT_GUARD = """
import multiprocessing
from videoclip.processes import without_main_module

print("script", flush=True)
with without_main_module():
    process = multiprocessing.get_context("spawn").Process(target=print, args=("process",))
    process.start()
process.join()
"""
LIBRARY_WITHOUT_GUARD = """
from tests.library.colours import ColourEmbedder
from videoclip import VideoLibrary

print("script")
print(VideoLibrary("library", ColourEmbedder()).update("videos", num_workers=2))
"""


def run_script(folder, text):
    """Output of a script, whose errors are part of it."""
    (folder / "script.py").write_text(text)
    path = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_script_without_guard_runs_once(tmp_path):
    main = sys.modules["__main__"]
    assert run_script(tmp_path, SCRIPT_WITHOUT_GUARD) == "script\nprocess\n"
    with without_main_module():
        assert sys.modules["__main__"] is not main
    assert sys.modules["__main__"] is main


@pytest.mark.slow
def test_a_library_is_updated_by_a_script_without_guard(tmp_path):
    for name in "abcd":
        write_video(tmp_path / "videos" / f"{name}.mp4", ["red"] * 3)
    assert run_script(tmp_path, LIBRARY_WITHOUT_GUARD) == "script\n4 added\n"


def test_results_come_in_order_from_any_number_of_processes():
    for num_workers in (0, 1, 2):
        assert list(map_in_processes(abs, [-3, 2, -1], num_workers)) == [3, 2, 1]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script, working = tmp_path / "script.py", tmp_path / "working"
    script.write_text(SLEEP_IN_WORKERS)
    working.mkdir()
    process = subprocess.Popen([sys.executable, str(script), str(working)])
    deadline = time.monotonic() + 30
    while len(pids := list(working.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(Path("/proc", pid.name).exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(pids) == 2
    assert not any(Path("/proc", pid.name).exists() for pid in pids)
