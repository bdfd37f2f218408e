import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from videoclip.processes import map_in_processes

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
