"""The page of the demo, and the whole demo, as `make demo` runs it, and run again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.make_video import write_video
from videoclip.demo import (
    MEASURES,
    QUERIES,
    DemoReport,
    DemoRun,
    format_scores,
    render_report,
    sample_clips,
)
from videoclip.output.clip import write_thumbnail
from videoclip.training.run import RunResult
from videoclip.zeroshot.moments import Moment


def make_run(name, after):
    before = dict(zip(MEASURES, (0.02, 0.1, 30.0), strict=True))
    result = RunResult(
        model_folder=Path("model"),
        num_updates=3,
        seconds=1.0,
        loss=1.0,
        validation_loss=None,
        before=before,
        after=dict(zip(MEASURES, after, strict=True)),
    )
    return DemoRun(name, (3.0, 2.0, 1.0), result)


def make_moment(path, confidence):
    return Moment(
        path=path,
        start=0.0,
        end=2.0,
        best=1.0,
        similarity=0.3,
        strength=4.0,
        confidence=confidence,
        has_all_words=False,
        words="",
        duration=3.0,
        frame_rate=10.0,
    )


@pytest.fixture
def report(tmp_path):
    moment = make_moment(write_video(tmp_path / "a<b.mp4"), "high")
    nothing = make_moment(moment.path, "none")
    picture = write_thumbnail(moment, tmp_path)
    report = DemoReport(num_candidates=41)
    report.stages = [("look & learn", 1.25)]
    report.runs = [
        make_run("overlap", (0.5, 0.75, 2.0)),
        make_run("aligned", (0.25, 0.5, 4.0)),
    ]
    report.searches = {
        "a <red> ball": [(moment, picture)],
        "an elephant": [(nothing, picture)],
    }
    return report


def test_the_page_has_stages_scores_and_curves(report):
    page = render_report(report)
    assert "look &amp; learn <small>(1.2 s)" in page
    assert "among 41" in page
    row = f"<td>{MEASURES[0]}</td><td>2.0 %</td><td>25.0 %</td><td>50.0 %</td>"
    assert row in page
    assert f"<td>{MEASURES[2]}</td><td>30</td><td>4</td><td>2</td>" in page
    assert page.count("stroke: #0072b2") == 2 and page.count("stroke: #e69f00") == 2  # and legend
    assert page.count("data:image/jpeg;base64,") == 2


def test_the_page_escapes_texts_and_says_if_nothing_matches(report):
    page = render_report(report)
    assert "a &lt;red&gt; ball" in page and "a&lt;b.mp4" in page and "<red>" not in page
    assert page.count("Nothing matches") == 1
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # self-contained


def test_scores_in_a_line(report):
    line = format_scores(report.runs[0])
    assert line == "R@1 2.0 % before, 50.0 % after, R@5 10.0 % before, 75.0 % after"


def test_sample_clips_are_there():
    assert [path.name for path in sample_clips() if path.is_file()] == [
        "bigbuckbunny.mp4",
        "bikes.mp4",
        "carphone_pristine.mp4",
    ]


@pytest.mark.slow
def test_the_quick_demo_learns_finds_and_continues(tmp_path):
    command = [sys.executable, "-m", "videoclip", "demo", "--quick", "--out", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "overlap: R@1" in first.stdout and "aligned: R@1" in first.stdout
    page = (tmp_path / "report.html").read_text()
    for query, video in zip(
        QUERIES, ("bigbuckbunny", "bikes", "carphone_pristine", ""), strict=True
    ):
        sure = f"“{query}”: {video}.mp4 .*\\((high|medium)\\)"
        assert re.search(sure if video else f"“{query}”: nothing here", first.stderr)
    assert page.count("<h3>") == 4 and page.count("data:video/mp4;base64,") >= 3
    log = tmp_path / "quick" / "overlap" / "log.jsonl"
    entries = log.read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[:2] == first.stdout.splitlines()[:2]
    assert log.read_text() == entries  # nothing was trained twice
