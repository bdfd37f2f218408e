"""The whole demo, as `make demo` runs it, and run again."""

import subprocess
import sys
from pathlib import Path

import pytest

from videoclip.demo.run import _in_parallel


def test_a_parallel_call_is_done_when_the_block_ends(tmp_path):
    with _in_parallel(Path.mkdir, tmp_path / "made"):
        pass
    assert (tmp_path / "made").is_dir()


@pytest.mark.slow
def test_the_quick_demo_learns_finds_and_continues(tmp_path):
    command = [sys.executable, "-m", "videoclip", "demo", "--quick", "--out", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "overlap: R@1" in first.stdout and "aligned: R@1" in first.stdout
    page = (tmp_path / "report.html").read_text()
    assert page.count("<h3>") == 5
    assert "bigbuckbunny.mp4" in page
    log = tmp_path / "quick" / "overlap" / "log.jsonl"
    entries = log.read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[:2] == first.stdout.splitlines()[:2]
    assert log.read_text() == entries  # nothing was trained twice
