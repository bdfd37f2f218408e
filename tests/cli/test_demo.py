"""`videoclip demo` as a user runs it; the whole demo is in tests/demo/test_run.py."""

import pytest

from tests.demo.test_report import report  # noqa: F401
from tests.make_video import write_video
from videoclip.cli import main
from videoclip.demo import run


@pytest.fixture
def calls(report, monkeypatch):  # noqa: F811
    """What the command asks for, while the demo itself is replaced by its report."""
    calls = []

    def run_demo(folder, videos, size, on_message):
        calls.append((folder, videos, size))
        on_message("[1/5] working ...")
        return report

    monkeypatch.setattr(run, "run_demo", run_demo)
    return calls


def test_the_report_is_written_and_scores_are_printed(calls, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "out"), "--quick"]) == 0
    out, err = capsys.readouterr()
    assert calls == [(tmp_path / "out" / "quick", run.sample_clips(), run.QUICK)]
    assert "overlap: R@1 2.0 % before, 50.0 % after" in out and "report.html written" in out
    assert "[1/5] working" in err
    assert "<h2>Searches</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_own_videos_are_searched(calls, tmp_path):
    (tmp_path / "mine").mkdir()
    video = write_video(tmp_path / "mine" / "a.mp4")
    assert main(["demo", "--out", str(tmp_path / "out"), "--videos", str(video.parent)]) == 0
    assert calls == [(tmp_path / "out" / "full", [video], run.FULL)]
