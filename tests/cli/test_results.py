"""What is printed of moments, line by line, on a terminal and elsewhere."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from videoclip.cli import results
from videoclip.cli.results import FoundOutput, Output, explanation, read_matches, read_texts
from videoclip.errors import DataError
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.results import Timeline


@pytest.fixture
def moments(tmp_path):
    (tmp_path / "a.mp4").write_text("")
    common = {"similarity": 0.25, "strength": 3.25, "visual_strength": 3.25}
    found = Moment(tmp_path / "a.mp4", 5.0, 70.5, best=6.0, confidence="high", **common)
    spoken = replace(
        found, words="w" * 70, narration_strength=-1.5, has_all_words=True, visual_strength=None
    )
    part = replace(found, label="cut\x1b[2J", confidence="low")
    gone = replace(found, path=tmp_path / "gone.mp4", parts=(part,), confidence="none")
    return [found, spoken, gone]


def show(moments, capsys, queries=("red",), answers=None, as_list=False, **options):
    answers = [moments] if answers is None else answers
    FoundOutput(**options).print(answers, queries, as_list=as_list)
    return capsys.readouterr()


def test_moments_line_by_line(moments, tmp_path, capsys):
    out, err = show(moments, capsys, explain=True)
    head = "high   0.250      0:05.0-1:10.5  "
    gone = "(deleted; `videoclip index --prune` drops it)"
    assert out.splitlines() == [
        f"  {head}{tmp_path / 'a.mp4'}",
        "        strength +3.2: frames +3.2",
        f"  {head}{tmp_path / 'a.mp4'}  “{'w' * 60}”",
        "        strength +3.2: narration -1.5 (all words)",
        f"  none   0.250      0:05.0-1:10.5  {tmp_path / 'gone.mp4'}  {gone}",
        "        low         0:05.0-1:10.5  cut\x1b[2J",
        "        strength +3.2: frames +3.2",
    ]
    assert err == ""
    assert explanation(replace(moments[1], has_all_words=False)).endswith("(some words)")
    both = explanation(replace(moments[1], visual_strength=-0.25))
    assert both == "strength +3.2: frames -0.2, narration -1.5 (all words)"


def test_moments_on_a_terminal(moments, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(results.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(results, "get_terminal_size", lambda: os.terminal_size((100, 9)))
    monkeypatch.chdir(tmp_path)
    out, err = show(moments, capsys, no_pictures=True)
    lines = out.splitlines()
    assert err == "   N  confidence  similarity               time  video\n"
    assert lines[0] == "   1  high             0.250      0:05.0-1:10.5  a.mp4"
    whole = f"   2{lines[0][4:]}  “{'w' * 60}”"
    assert lines[1] == f"{whole[:99]}…"
    assert lines[2].startswith("   3  none             0.250      0:05.0-1:10.5  gone.mp4  (dele")
    assert all(len(line) == 100 for line in lines[1:3])
    assert lines[3] == "        low         0:05.0-1:10.5  cut\N{REPLACEMENT CHARACTER}[2J"
    out, _ = show(
        [replace(moments[0], path=Path(f"/{'f' * 60}/name.mp4"))], capsys, no_pictures=True
    )
    (line,) = out.splitlines()
    assert "  …" in line and "ff/name.mp4" in line


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (None, "no moments to search or to show ("),
        ("none", "nothing here looks like that; the nearest moments are:"),
        ("low", "not sure; the nearest moments are:"),
        ("medium", ""),
        ("high", ""),
    ],
)
def test_doubt_is_printed_first(moments, capsys, level, line):
    found = [] if level is None else [replace(moments[0], confidence=level), moments[2]]
    _, err = show(found, capsys)
    assert err.startswith(line) and err.count("\n") == bool(line)


def test_answers_as_json_csv_and_paths(moments, capsys):
    answers, queries = [moments, [moments[0]]], ("red", "blue")
    out, _ = show(moments, capsys, json=True)
    rows = [moment.as_dict() for moment in moments]
    plain = json.loads(json.dumps(rows))
    assert json.loads(out) == {"query": "red", "moments": plain}
    out, _ = show(None, capsys, queries, answers, as_list=True, json=True)
    assert json.loads(out) == [
        {"query": "red", "moments": plain},
        {"query": "blue", "moments": plain[:1]},
    ]
    out, _ = show(None, capsys, queries, answers, csv=True)
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["query"] for row in table] == ["red"] * 3 + ["blue"]
    assert "parts" not in table[0] and table[3]["path"] == str(moments[0].path)
    out, _ = show(None, capsys, queries, answers, paths=True)
    assert out.splitlines() == [str(moments[0].path), str(moments[2].path)]
    out, _ = show(None, capsys, queries, answers)
    assert [line for line in out.splitlines() if len(line) < 9] == ["", "red", "", "blue"]


def test_what_is_opened(moments, tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "videoclip.output.player.play", lambda moment: opened.append(moment) or "played"
    )
    monkeypatch.setattr(
        "videoclip.output.player.open_file", lambda path: opened.append(path) or "shown"
    )
    answers = [moments[:1], moments[1:]]
    for number, index in ((0, 0), (1, 0), (2, 1), (3, 2)):
        _, err = show(None, capsys, ("a", "b"), answers, open=number)
        assert opened.pop() is moments[index] and err.splitlines()[-1] == "videoclip: played"
    with pytest.raises(DataError, match="no moment 4 to open; found: 3"):
        show(None, capsys, ("a", "b"), answers, open=4)
    monkeypatch.chdir(tmp_path)
    page = Path("page.html")
    _, err = show(moments[2:], capsys, html=page, open=0)
    assert opened.pop() == tmp_path / "page.html" and page.exists()
    assert err.splitlines()[-2:] == ["videoclip: page.html written", "videoclip: shown"]
    show(moments[2:], capsys, html=page, open=1)
    assert opened == [moments[2]]


def test_moments_that_match_too_little_are_counted(moments, tmp_path, capsys):
    file = tmp_path / "m.json"
    levels = ["none", "low", "medium", "high", "none"]
    rows = [replace(moments[0], confidence=level).as_dict() for level in levels]
    file.write_text(json.dumps({"moments": rows}))

    def read(least, nearest):
        kept = [moment.confidence for moment in read_matches(file, least, nearest)]
        return kept, capsys.readouterr().err

    few = "videoclip: left out {} of 5 moments, which do not match well enough ({})\n"
    assert read("none", True) == (levels, "")
    assert read("none", False) == (levels[1:4], few.format(2, "--nearest keeps them"))
    assert read("medium", False) == (levels[2:4], few.format(3, "--min-confidence medium"))
    assert read("medium", True) == (levels[2:4], few.format(3, "--min-confidence medium"))
    file.write_text(json.dumps({"moments": rows[:1]}))
    with pytest.raises(DataError, match=r"no moment matches well enough \(--nearest keeps them\)"):
        read("none", False)
    file.write_text(json.dumps({"moments": []}))
    assert read("none", False) == ([], "")


def test_texts_of_options_come_before_those_of_a_file(tmp_path):
    file = tmp_path / "texts"
    file.write_text("  three \n\n\tfour\n")
    assert read_texts(file, ["one", " ", "two "]) == ["one", "two ", "three", "four"]
    assert read_texts(None, ["one"]) == ["one"]
    file.write_text(" \n")
    for path, message in (
        (file, f"{file}: no labels in this file; write one per line"),
        (tmp_path / "none", "cannot be read .no such file.; it holds labels, one per line; or so"),
        (None, "no labels; or so"),
    ):
        with pytest.raises(DataError, match=message):
            read_texts(path, [], "labels", "; or so")
    with pytest.raises(DataError, match="no texts; name a file with one per line"):
        read_texts(None)


def test_every_file_of_a_timeline(moments, tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr("videoclip.output.timeline.grab_stills", lambda timeline: "stills")
    monkeypatch.setattr(
        "videoclip.output.timeline.draw_timeline", lambda *what: drawn.append(what) or "figure"
    )
    monkeypatch.setattr(
        "videoclip.output.figures.to_png", lambda figure: b"png of " + figure.encode()
    )
    monkeypatch.setattr("videoclip.output.figures.to_svg", lambda *what: f"svg of {what}")
    monkeypatch.setattr("videoclip.output.html.timeline_page", lambda *what: f"page of {what[1:]}")
    labelled = tuple(replace(moment, label="cut", path=tmp_path / "a.mp4") for moment in moments)
    timeline = Timeline(tmp_path / "a.mp4", 80.0, 25.0, ("cut",), labelled, 1.5)
    names = ("png", "svg", "html", "csv", "vtt", "chapters")
    for chosen in (*((name,) for name in names), names, ()):
        drawn.clear()
        Output(**{name: tmp_path / f"out.{name}" for name in chosen}).show(timeline, False)
        assert drawn == [(timeline, "stills")] * bool({"png", "svg", "html"} & set(chosen))
        written = {path.name: path.read_text() for path in tmp_path.glob("out.*")}
        assert set(written) == {f"out.{name}" for name in chosen}
        for path in tmp_path.glob("out.*"):
            path.unlink()
        if len(chosen) > 1:
            assert written["out.png"] == "png of figure"
            assert written["out.svg"] == "svg of ('figure', 'Timeline of a.mp4')"
            assert written["out.html"] == f"page of ('figure', {tmp_path / 'out.html'!r})"
            assert written["out.vtt"].startswith("WEBVTT") and "cut" in written["out.chapters"]
            assert written["out.csv"].count("\n") == 4
    out, _ = capsys.readouterr()
    assert out.splitlines()[-3:] == [
        "      0:05.0-1:10.5    high   0.250  cut",
        "      0:05.0-1:10.5    high   0.250  cut",
        "      0:05.0-1:10.5    none   0.250  cut",
    ]
