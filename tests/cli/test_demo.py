"""`videoclip demo` as a user runs it; the whole demo is in tests/test_demo.py."""

import threading
import time

import pytest

from tests.make_video import write_video
from tests.test_demo import report  # noqa: F401
from videoclip import demo
from videoclip.cli import demo as command
from videoclip.cli import main


@pytest.fixture
def calls(report, monkeypatch):  # noqa: F811
    """What the command asks for, while the demo itself is replaced by its report."""
    calls = []

    def run_demo(folder, videos, num_videos, epochs, on_message):
        calls.append((folder, videos, num_videos, epochs))
        on_message("[1/5] working ...")
        return report

    monkeypatch.setattr(demo, "run_demo", run_demo)
    return calls


def test_the_report_is_written_and_scores_are_printed(calls, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "out"), "--quick"]) == 0
    out, err = capsys.readouterr()
    assert calls == [(tmp_path / "out" / "quick", demo.sample_clips(), 16, 60)]
    assert "overlap: R@1 2.0 % before, 50.0 % after" in out and "report.html written" in out
    assert "[1/5] working" in err
    assert "<h2>Searches</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_own_videos_are_searched(calls, tmp_path):
    (tmp_path / "mine").mkdir()
    video = write_video(tmp_path / "mine" / "a.mp4")
    assert main(["demo", "--out", str(tmp_path / "out"), "--videos", str(video.parent)]) == 0
    assert calls == [(tmp_path / "out" / "full", [video], 64, 40)]


def test_time_is_printed_in_every_silence_and_in_no_other(monkeypatch, capsys):
    def wait_for(number):
        """Return the lines on stderr once there are so many."""
        nonlocal err
        for _ in range(2000):
            err += capsys.readouterr().err
            if err.count("\n") >= number:
                break
            time.sleep(0.005)
        return err.splitlines()

    err, num_threads = "", threading.active_count()
    monkeypatch.setattr(command, "SILENT_SECONDS", 0.02)
    with command._heartbeat() as print_line:
        assert wait_for(2)[:2] == ["      ... 0 s"] * 2
        print_line("loading")
        lines = wait_for(err.count("\n") + 3)
        assert set(lines[lines.index("loading") + 1 :]) == {"      ... 0 s"}
    assert threading.active_count() == num_threads
    monkeypatch.setattr(command, "SILENT_SECONDS", 60)
    capsys.readouterr()
    with command._heartbeat() as print_line:
        print_line("one")
    assert capsys.readouterr().err == "one\n"
