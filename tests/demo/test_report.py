"""The demo's page shows the story it is given, and nothing it is not."""

from pathlib import Path

import pytest

from tests.make_video import write_video
from videoclip.demo.report import render
from videoclip.demo.story import MEASURES, Found, Stage, Story, Training, sample_clips, scores_line
from videoclip.output.thumbnails import write_thumbnail
from videoclip.training.train import RunResult
from videoclip.zeroshot.results import Moment


def make_training(name, after):
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
    return Training(name, (3.0, 2.0, 1.0), result)


def make_moment(path, confidence):
    return Moment(
        path=path,
        start=0.0,
        end=2.0,
        best=1.0,
        similarity=0.3,
        strength=4.0,
        confidence=confidence,
        is_spoken=False,
        words="",
        duration=3.0,
        frame_rate=10.0,
    )


@pytest.fixture
def story(tmp_path):
    moment = make_moment(write_video(tmp_path / "a<b.mp4"), "high")
    nothing = make_moment(moment.path, "none")
    picture = write_thumbnail(moment, tmp_path)
    story = Story(tmp_path, num_candidates=41)
    story.stages = [Stage("look & learn", 1.25)]
    story.trainings = [
        make_training("overlap", (0.5, 0.75, 2.0)),
        make_training("aligned", (0.25, 0.5, 4.0)),
    ]
    story.searches = [
        Found("a <red> ball", (moment,), (picture,)),
        Found("an elephant", (nothing,), (picture,)),
    ]
    return story


def test_the_page_says_what_happened(story):
    page = render(story)
    assert "look &amp; learn <small>(1.2 s)" in page
    assert "among 41" in page
    row = f"<td>{MEASURES[0]}</td><td>2.0 %</td><td>25.0 %</td><td>50.0 %</td>"
    assert row in page
    assert f"<td>{MEASURES[2]}</td><td>30</td><td>4</td><td>2</td>" in page
    assert page.count("<polyline") == 2
    assert page.count("data:image/jpeg;base64,") == 2


def test_the_page_escapes_and_admits_that_nothing_matches(story):
    page = render(story)
    assert "a &lt;red&gt; ball" in page and "a&lt;b.mp4" in page and "<red>" not in page
    assert page.count("Nothing here looks like that") == 1
    assert "http" not in page  # self-contained


def test_scores_in_a_line(story):
    line = scores_line(story.trainings[0])
    assert line == "R@1 2.0 % before, 50.0 % after, R@5 10.0 % before, 75.0 % after"


def test_sample_clips_are_there():
    assert [path.name for path in sample_clips() if path.is_file()] == [
        "bigbuckbunny.mp4",
        "bikes.mp4",
        "carphone_pristine.mp4",
    ]
