"""Tables, JSON, CSV and pages of a result."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from videoclip.benchmarks.examples import Baseline
from videoclip.errors import DataError
from videoclip.evaluation.outcome import (
    Bars,
    Confusion,
    Histogram,
    Measure,
    Missing,
    Outcome,
    Result,
    TimelinePlot,
)
from videoclip.evaluation.report import draw, render_report
from videoclip.files import write_output
from videoclip.output.figures import to_svg
from videoclip.output.formats import to_table

PLOTS = (
    Histogram("Ranks <1>", "rank", (1.0, 2.0, 5.0), {"texts": (3, 1)}),
    Histogram("Spread", "similarity", tuple(range(41)), {"a": (1,) * 40, "b": (0,) * 40}),
    Bars("Recall", ("Make Tea & Cake", "x" * 60), (0.25, 1.0)),
    Confusion("Labels", ("background", "cut", "other"), ((5, 0, 1), (0, 0, 0))),
    TimelinePlot(
        "One video",
        20.0,
        ((0.0, 3.0, "cut <it>"), (4.0, 90.0, "fry")),
        ((1.0, 2.0, "cut <it>"),),
    ),
    TimelinePlot("Many", 9.0, tuple((i, i + 1.0, f"label {i}" * 3) for i in range(9)), ()),
)
OUTCOME = Outcome(
    protocol="a made-up test",
    settings={"ties": "unbiased", "threshold": 0.123456789, "on": True, "off": False, "n": 7},
    measures=(Measure("accuracy", 0.5, 0.25, 0.75), Measure("MedR", 3.0, 2.5, 4.0, is_share=False)),
    baselines=(Baseline("random", {"accuracy": 0.1}, "by chance"),),
    num_examples=1234,
    num_videos=10,
    missing=tuple(Missing(f"v{i}", "no features") for i in range(7)),
    rows=({"video_id": "a, b", "rank": 1.0}, {"video_id": "c", "rank": 2.5}),
    plots=PLOTS,
)
RESULT = Result("made-up", "model 123", OUTCOME, (Baseline("paper", {"MedR": 9.0}, "a paper"),))


class Balanced(HTMLParser):
    """Fails on a tag that is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_table():
    assert str(RESULT) == "\n".join(
        [
            "made-up: a made-up test",
            "model 123; ties: unbiased, threshold: 0.123457, on: yes, off: no, n: 7; 1,234 examples"
            " in 10 videos, 7 left out (v0, v1, v2, v3, v4; --json lists all)",
            "",
            "          this model  95 % interval  random  paper",
            "accuracy        50.0   25.0 .. 75.0    10.0      -",
            "MedR             3.0     2.5 .. 4.0       -    9.0",
            "",
            "random: by chance",
            "paper: a paper",
        ]
    )
    whole = replace(RESULT, outcome=replace(OUTCOME, missing=()))
    assert "none left out" in str(whole)
    assert RESULT["MedR"] == 3.0


def test_json_has_everything():
    values = json.loads(json.dumps(RESULT.to_dict()))
    assert values["measures"]["accuracy"] == {"value": 0.5, "interval": [0.25, 0.75]}
    assert values["baselines"] == {"random": {"accuracy": 0.1}}
    assert values["published"] == {"paper": {"MedR": 9.0, "source": "a paper"}}
    assert len(values["missing"]) == 7
    assert values["settings"]["n"] == 7


@pytest.fixture(scope="module")
def page():
    return render_report(RESULT)


def test_the_page_stands_alone(page):
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    assert [tag for tag, _ in parser.seen].count("svg") == len(PLOTS)
    assert not [a for _, a in parser.seen if "src" in a or "href" in a]
    assert "cut &lt;it&gt;" in page and "<it>" not in page
    assert "<li>v6: no features</li>" in page
    complete = replace(RESULT, outcome=replace(OUTCOME, missing=(), plots=()))
    assert "Videos left out" not in render_report(complete)


def test_bars_stay_inside_the_picture():
    figure = draw(PLOTS[4])
    to_svg(figure, "")  # lays it out
    (axes,) = figure.axes
    boxes = [bar.get_window_extent() for bar in axes.patches]
    assert len(boxes) == 2 + 3
    assert all(0 <= box.x0 < box.x1 <= 720.1 for box in boxes)


def test_shapes_have_tooltips_and_texts_are_not_taken_for_formulas():
    pages = [to_svg(draw(plot), plot.title) for plot in PLOTS]
    assert "<title>texts, 2–4: 25.0% (1)</title>" in pages[0]
    assert "<title>Make Tea &amp; Cake: 25.0%</title>" in pages[2]
    assert "<title>background → other: 1 (16.7%)</title>" in pages[3]
    assert "<title>fry: 4.0 to 90.0 s</title>" in pages[4]
    assert "$5 to $6" in to_svg(draw(Bars("Prices", ("$5 to $6",), (0.5,))), "Prices")


def test_equal_data_give_equal_pages(page):
    assert render_report(RESULT) == page


def test_files(tmp_path, page):
    write_output(tmp_path / "rows.csv", to_table(OUTCOME.rows))
    assert (tmp_path / "rows.csv").read_text() == 'video_id,rank\n"a, b",1.0\nc,2.5\n'
    write_output(tmp_path / "rows.csv", to_table(()))
    assert (tmp_path / "rows.csv").read_text() == ""
    write_output(tmp_path / "report.html", page)
    assert (tmp_path / "report.html").read_text() == page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "rows.csv"]
    with pytest.raises(DataError, match=r"page\.html: cannot be written \(.+\)"):
        write_output(tmp_path / "rows.csv" / "page.html", page)


def test_a_video_left_out_for_two_reasons_is_one_video():
    reasons = ("no features", "features end before 9 s", "no features")
    twice = replace(OUTCOME, missing=tuple(Missing("v0", reason) for reason in reasons))
    assert replace(RESULT, outcome=twice).summary().endswith("10 videos, 1 left out (v0)")
    none = replace(RESULT, outcome=replace(OUTCOME, missing=()))
    assert none.summary().endswith("10 videos, none left out")
