"""`index`, `search`, `segment`, `localize`, `ask`, `cut` and `export`, as a user runs them."""

import csv
import io
import json
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.library.colours import ColourEmbedder, write_video
from tests.make_video import write_video as make_video
from videoclip.cli import main
from videoclip.cli.results import FoundOutput
from videoclip.embedding import Embedder
from videoclip.errors import CheckpointError
from videoclip.library.library import stored_facts
from videoclip.library.storage import open_catalog
from videoclip.zeroshot.moments import Moment


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two videos, in which the starter model knows colours."""
    monkeypatch.setattr(Embedder, "from_pretrained", lambda model, device: ColourEmbedder(model))
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v" / "a.mp4", ["red"] * 10 + ["blue"] * 12 + ["green"] * 10)
    write_video(tmp_path / "v" / "b.mp4", ["black"] * 20 + ["yellow"] * 5 + ["black"] * 10)
    (tmp_path / "v" / "b.vtt").write_text("WEBVTT\n\n00:21.000 --> 00:24.000\nChopping onions\n")
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    def run_command(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run_command


@pytest.fixture
def indexed(folder, run):
    assert run("index", "v", "--library", "L", "--workers", 0)[0] == 0
    return folder


def test_index_says_what_it_did(folder, run):
    status, out, err = run("index", "v", "--library", "L", "--workers", 0)
    line = "videoclip: model: starter (no stronger one is here; see `videoclip models`)\n"
    assert (status, err) == (0, line) and out.startswith("2 added\nVideoLibrary('L', 2 videos")
    (folder / "v" / "broken.mp4").write_text("text")
    status, out, err = run("index", "v", "--library", "L", "--workers", 0, "--json")
    report = json.loads(out)
    assert status == 1 and report["unchanged"] == 2 and len(report["failed"]) == 1
    assert "not indexed: " in err and "broken.mp4: not a video" in err
    status, _, err = run("index", "v", "--library", "L", "--model", "other")
    assert status == 1 and "--model other --rebuild" in err and err.count("\n") == 1
    (folder / "model").mkdir()
    run("index", "v", "--library", "L2", "--workers", 0, "--model", "model")
    assert stored_facts("L2")["model"] == str(folder / "model")


def test_search_prints_a_table_json_csv_or_paths(indexed, run):
    status, out, err = run("search", "yellow", "--library", "L", "-k", 1)
    assert status == 0 and "b.mp4" in out and "“Chopping onions”" in out and err == ""
    _, out, _ = run("search", "yellow", "--library", "L", "--json", "--thumbnails", "pictures")
    answer = json.loads(out)
    assert answer["query"] == "yellow" and answer["moments"][0]["video_id"] == "b"
    assert (indexed / answer["moments"][0]["thumbnail"]).read_bytes()[:2] == b"\xff\xd8"
    _, out, _ = run("search", "yellow", "--library", "L", "--csv", "-k", 1)
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["query"] == "yellow" and float(row["start"]) == answer["moments"][0]["start"]
    _, out, _ = run("search", "yellow", "--library", "L", "--paths")
    assert out.splitlines()[0] == str(indexed / "v" / "b.mp4")


def test_search_takes_many_queries_a_clip_filters_and_pages(indexed, run):
    (indexed / "queries.txt").write_text("red\n\nyellow\n")
    _, out, _ = run("search", "--queries", "queries.txt", "--library", "L", "--json")
    assert [answer["query"] for answer in json.loads(out)] == ["red", "yellow"]
    assert json.loads(out)[0]["moments"][0]["video_id"] == "a"
    _, out, _ = run("search", "--queries", "queries.txt", "--library", "L", "-k", 1)
    assert "\nred\n" in out and "\nyellow\n" in out
    write_video(indexed / "clip.mp4", ["yellow"] * 4)
    _, out, _ = run("search", "--like", "clip.mp4", "--library", "L", "--json")
    assert json.loads(out)["moments"][0]["video_id"] == "b"
    where = ("--where", "path like '%a.mp4'")
    _, out, _ = run("search", "yellow", "--library", "L", "--paths", *where)
    assert out.splitlines() == [str(indexed / "v" / "a.mp4")]
    _, first, _ = run("search", "red", "--library", "L", "--csv", "-k", 2)
    _, second, _ = run("search", "red", "--library", "L", "--csv", "-k", 1, "--offset", 1)
    assert first.splitlines()[2] == second.splitlines()[1]


def test_search_says_when_nothing_matches(indexed, run):
    status, _, err = run("search", "pink", "--library", "L", "--where", "duration > 1000")
    assert status == 0 and "no moments to search" in err
    required = ("--where", "duration > 1000", "--require-match")
    assert run("search", "pink", "--library", "L", *required)[0] == 3
    assert run("search", "red", "--library", "L", "--require-match")[0] == 0


def test_search_explains_strengths_and_names_doubt(indexed, run):
    _, out, err = run("search", "chopping onions", "--library", "L", "--explain", "-k", 2)
    lines = out.splitlines()
    assert "narration +" in lines[1] and "(all words)" in lines[1] and "frames " in lines[3]
    assert len(lines) == 4 and "nearest" not in err
    _, out, _ = run("search", "chopping onions", "--library", "L", "--json")
    first, *others = json.loads(out)["moments"]
    assert first["narration_strength"] > 0 and first["strength"] >= max(
        first["visual_strength"], first["narration_strength"]
    )
    assert all(moment["narration_strength"] is None for moment in others)
    levels = ["none", "low", "medium", "high"]
    for query in ("red", "a zebra", "chopping onions"):
        _, out, _ = run("search", query, "--library", "L", "--json")
        found = [levels.index(moment["confidence"]) for moment in json.loads(out)["moments"]]
        assert found == sorted(found, reverse=True)
        for least in levels:
            least_flag = ("--min-confidence", least)
            _, out, err = run("search", query, "--library", "L", "--json", *least_flag)
            kept = json.loads(out)["moments"]
            assert len(kept) == sum(level >= levels.index(least) for level in found)


def test_export_and_cut_leave_out_moments_of_lower_confidence(indexed, run):
    _, out, _ = run("search", "red", "--library", "L", "--json")
    (indexed / "red.json").write_text(out)
    high = [m for m in json.loads(out)["moments"] if m["confidence"] == "high"]
    _, out, _ = run("export", "red.json", "--format", "json", "--min-confidence", "high")
    assert len(json.loads(out)) == len(high) < 10
    _, out, err = run("cut", "red.json", "--min-confidence", "high", "--json")
    assert len(json.loads(out)) == len(high), err


@pytest.mark.parametrize(
    ("confidence", "message"),
    [("none", "nothing here looks like that"), ("low", "not sure; the nearest"), ("medium", "")],
)
def test_words_for_confidence(confidence, message, capsys):
    FoundOutput().print(
        [[Moment(Path("v.mp4"), 1, 2, confidence=confidence)]], ["q"], as_list=False
    )
    err = capsys.readouterr().err
    assert message in err and bool(err) == bool(message)


def test_an_index_that_fails_wholly_leaves_no_library(folder, run):
    (folder / "broken.mp4").write_text("text")
    assert run("index", "broken.mp4", "--library", "new", "--workers", 0)[0] == 1
    assert run("index", "v", "--library", "new", "--metadata", "absent.csv")[0] == 1
    assert not (folder / "new").exists()
    assert run("search", "red", "--library", "new", "--model", "x")[0] == 1
    assert not (folder / "new").exists()


def test_search_says_that_a_library_is_empty(indexed, run):
    for video in (indexed / "v").glob("*.mp4"):
        video.unlink()
    run("index", "v", "--library", "L", "--prune")
    for arguments in (["red"], ["--fit", "labels.csv"]):
        status, out, err = run("search", *arguments, "--library", "L")
        assert (status, out) == (1, "") and err.count("\n") == 1
        assert (
            "L: the library is empty: add videos with `videoclip index VIDEOS --library L`" in err
        )


@pytest.mark.parametrize("model", ["models/mine", "/models/mine"])
def test_a_moved_model_is_named_with_its_library(indexed, run, monkeypatch, model):
    def from_pretrained(name, device):
        if name == model:
            raise CheckpointError("not a local folder, and the download from the hub failed")
        return ColourEmbedder("starter")

    with closing(open_catalog("L")) as catalog, catalog.writing():
        catalog.set_facts({"model": model})
    monkeypatch.setattr(Embedder, "from_pretrained", from_pretrained)
    for arguments in (["search", "red"], ["index", "v", "--workers", 0]):
        status, _, err = run(*arguments, "--library", "L")
        assert status == 1 and err.count("\n") == 1 and "name the folder where it is now" in err
        assert f"L: the library was made with model {model}, which is not there" in err
        assert ("the hub" in err) == (model == "models/mine") and "--model" in err
        assert run(*arguments, "--library", "L", "--model", "elsewhere")[0] == 0


def test_search_is_fitted_to_labels(indexed, run):
    rows = "red,a.mp4\nyellow,b.mp4\na castle,\na zebra,\n"
    (indexed / "labels.csv").write_text("query,video\n" + rows)
    status, out, _ = run("search", "--fit", "labels.csv", "--library", "L")
    assert status == 0 and "high from" in out and "correct answers: 2" in out


def test_a_fit_is_undone(indexed, run):
    before = run("search", "yellow", "--library", "L")
    (indexed / "labels.csv").write_text("query,video\nyellow,\nblue,a.mp4\n")
    assert run("search", "--fit", "labels.csv", "--library", "L")[0] == 0
    assert run("search", "yellow", "--library", "L") != before
    default = "thresholds: high from 2.10, medium from 1.70, low from 0.00\n"
    assert run("search", "--undo-fit", "--library", "L") == (0, default, "")
    assert run("search", "yellow", "--library", "L") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--library", "nowhere"], "make one with `videoclip index`"),
        (["--queries", "absent.txt", "--library", "L"], "cannot be read"),
        (["--queries", "empty.txt", "--library", "L"], "no queries in this file"),
        (["red", "--library", "L", "--where", "durtion > 3"], "perhaps you meant 'duration'"),
        (["red", "--library", "L", "--model", "other"], "--rebuild"),
    ],
)
def test_mistakes_in_a_search_are_one_line(indexed, run, arguments, message):
    (indexed / "empty.txt").touch()
    status, out, err = run("search", *arguments)
    assert status == 1 and out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], [""], ["x", "--queries", "q.txt"], ["--like", "x", "y"]])
def test_a_search_without_one_query_is_wrong_usage(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(["search", *arguments])
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    ways = "a query in words, --like FILE, --queries FILE, --fit FILE, --undo-fit"
    assert f"give one of: {ways}" in err


def test_a_query_needs_no_quotes(indexed, run):
    quoted = run("search", "a yellow thing", "--library", "L", "--json")
    assert json.loads(quoted[1])["query"] == "a yellow thing"
    assert run("search", "a", "yellow", "thing", "--library", "L", "--json") == quoted


def test_names_of_files_cannot_control_a_terminal_or_a_spreadsheet(folder, run, monkeypatch):
    (folder / "v/b.mp4").rename(folder / "v/=b\x1b[2J\n.mp4")
    run("index", "v", "--library", "L", "--workers", 0)
    _, out, _ = run("search", "yellow", "--library", "L", "--paths")
    assert "=b\x1b[2J\n.mp4" in out
    _, out, _ = run("search", "yellow", "--library", "L", "--csv", "-k", 1)
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["video_id"].startswith("'=b")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for form in ((), ("--paths",)):
        _, out, _ = run("search", "yellow", "--library", "L", "-k", 1, *form)
        assert "=b\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}.mp4" in out
        assert out.count("\n") == 1


def test_segment_writes_a_timeline_in_every_form(folder, run):
    (folder / "labels.txt").write_text("green\nred\nblue\nwhite\n")
    files = [f"--{kind}={name}" for kind, name in FILES.items()]
    status, out, err = run("segment", "v/a.mp4", "--labels", "labels.txt", *files)
    assert status == 0 and "not found: white" in err
    rows = [line.split() for line in out.splitlines()]
    assert [row[-1] for row in rows] == ["red", "blue", "green"]
    assert rows[0][0] == "0:00.0-0:10.0" and rows[2][0] == "0:22.0-0:32.0"
    assert (folder / "t.png").read_bytes()[1:4] == b"PNG"
    drawn = (folder / "t.svg").read_text()
    assert drawn.count('<g class="plays"') == 3
    assert 'src="v/a.mp4"' in (folder / "t.html").read_text()
    assert (folder / "t.csv").read_text().splitlines()[2].split(",")[1:4] == [
        "10.000",
        "22.000",
        "blue",
    ]
    assert "00:00:10.000 --> 00:00:22.000\nblue" in (folder / "t.vtt").read_text()
    assert (folder / "t.txt").read_text() == "0:00 red\n0:10 blue\n0:22 green\n"


FILES = {
    "png": "t.png",
    "svg": "t.svg",
    "html": "t.html",
    "csv": "t.csv",
    "vtt": "t.vtt",
    "chapters": "t.txt",
}


def test_labels_may_be_saved_by_any_editor(folder, run):
    (folder / "labels.txt").write_bytes("green\r\nred\r\n".encode("utf-16"))
    _, out, _ = run("segment", "v/a.mp4", "--labels", "labels.txt", "--json")
    assert json.loads(out)["labels"] == ["green", "red"]


def test_localize_finds_steps_in_order(folder, run):
    steps = ["--step", "green", "--step", "red", "--step", "blue"]
    _, out, _ = run("localize", "v/a.mp4", *steps, "--json")
    timeline = json.loads(out)
    assert [span["label"] for span in timeline["spans"]] == ["red", "blue"]
    assert timeline["missing"] == ["green"]
    _, out, _ = run("localize", "v/a.mp4", *steps, "--any-order", "--json")
    assert json.loads(out)["missing"] == []
    assert run("localize", "v/a.mp4", "--step", "white", "--require-match")[0] == 3
    status, _, err = run("localize", "v/a.mp4", "--steps", "absent.txt")
    assert status == 1 and "cannot be read" in err
    status, _, err = run("localize", "v/a.mp4")
    assert status == 1 and "no texts" in err
    status, _, err = run("localize", "v/a.mp4", "--step", "red", "--svg", "v/a.mp4/t.svg")
    assert status == 1 and "cannot be written" in err


def test_ask_chooses_an_answer(folder, run):
    status, out, _ = run("ask", "v/b.mp4", "which colour flashes?", "--choices", "red", "yellow")
    assert status == 0 and "yellow" in out.splitlines()[0]
    _, out, _ = run("ask", "v/b.mp4", "", "--choices", "red", "yellow", "--json")
    answer = json.loads(out)
    assert answer["text"] == "yellow" and 20 <= answer["best"] < 25
    assert sum(answer["probabilities"]) == pytest.approx(1.0)
    with pytest.raises(SystemExit, match="2"):
        run("ask", "v/b.mp4", "", "--choices", "red")
    assert run("ask", "v/b.mp4", "", "--choices", "red", "red")[0] == 1


def test_moments_go_on_to_clips_and_edit_lists(indexed, run, monkeypatch):
    _, moments, _ = run("search", "yellow", "--library", "L", "--json", "-k", 1)
    (indexed / "m.json").write_text(moments)
    status, out, _ = run("cut", "m.json", "--out", "clips", "--padding", "0.5")
    (clip,) = out.splitlines()
    assert status == 0 and clip.startswith("clips/001_b_") and clip.endswith("_yellow.mp4")
    give(monkeypatch, moments)
    _, out, _ = run("cut", "-", "--out", "one.mp4", "--fast", "--json")
    assert json.loads(out)[0]["clip"] == "one.mp4" and (indexed / "one.mp4").exists()
    assert run("cut", "v/a.mp4", "--start", 1, "--end", 2, "--out", "c.mp4")[:2] == (0, "c.mp4\n")
    _, out, _ = run("export", "m.json", "--format", "edl", "--rate", "29.97")
    assert "FCM: DROP FRAME" in out and "* FROM CLIP NAME: b.mp4" in out
    _, out, _ = run(
        "export", "m.json", "--format", "edl", "--rate", "29.97", "--timecode", "non-drop"
    )
    assert "FCM: NON-DROP FRAME" in out
    give(monkeypatch, moments)
    assert run("export", "-", "--format", "vtt", "--video", "b", "--out", "m.vtt")[0] == 0
    assert (indexed / "m.vtt").read_text().startswith("WEBVTT")


def give(monkeypatch, text):
    """Make a text, or bytes, standard input."""
    content = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))


@pytest.mark.parametrize("command", ["segment", "localize"])
def test_timelines_go_on_to_clips_and_every_format(folder, run, monkeypatch, command):
    flag = {"segment": "--label", "localize": "--step"}[command]
    texts = [word for label in ("red", "white", "blue", "green") for word in (flag, label)]
    _, timeline, _ = run(command, "v/a.mp4", *texts, "--json")
    begun = {
        "csv": "path,start,end,name,confidence,is_deleted\nv/a.mp4,0.000,10.000,red,",
        "json": '[\n  {\n    "video_id": "a"',
        "edl": "TITLE: videoclip\nFCM: NON-DROP FRAME\n\n001  AX",
        "fcpxml": '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>',
        "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\nred",
        "youtube": "0:00 red\n0:10 blue\n0:22 green\n",
    }
    for form, start in begun.items():
        give(monkeypatch, timeline)
        status, out, err = run("export", "-", "--format", form)
        assert (status, err) == (0, "") and out.startswith(start), form
    give(monkeypatch, timeline)
    status, out, _ = run("cut", "-", "--fast", "--padding", 1, "--json")
    spans = [(clip["start"], clip["end"]) for clip in json.loads(out)]
    assert status == 0
    # From the keyframe before, a second earlier and a second later, but within the video.
    assert [end for _, end in spans] == [11.0, 23.0, 32.0]
    assert [start <= wanted for (start, _), wanted in zip(spans, (0, 9, 21), strict=True)]


def test_an_edit_list_of_different_frame_rates_is_written(folder, run):
    rows = [{"path": f"{rate}.mp4", "start": 0, "end": 1, "frame_rate": rate} for rate in RATES]
    (folder / "m.json").write_text(json.dumps(rows))
    status, out, err = run("export", "m.json", "--format", "edl", "--out", "m.edl")
    assert (status, out, err.count("\n")) == (0, "", 1)
    assert err.startswith("videoclip: the frame rates of the videos are 24, 25, 30; took 25")
    assert "* FROM CLIP NAME: 24.mp4" in (folder / "m.edl").read_text()


RATES = (30, 25, 24, 25)

BAD_MOMENTS = {
    "nothing": "{}",
    "text": '"moments"',
    "no path": '[{"start": 0, "end": 1}]',
    "no end": '[{"path": "a.mp4", "start": 0}]',
    "NaN": '[{"path": "a.mp4", "start": NaN, "end": 1, "frame_rate": 25}]',
    "infinite": '[{"path": "a.mp4", "start": 0, "end": 1e999, "frame_rate": 25}]',
    "huge": '[{"path": "a.mp4", "start": 0, "end": ' + 400 * "9" + "}]",
    "reversed": '[{"path": "a.mp4", "start": 3, "end": 1}]',
    "path": '[{"path": 3, "start": 0, "end": 1}]',
    "confidence": '[{"path": "a.mp4", "start": 0, "end": 1, "confidence": ["high"]}]',
    "deep": 200_000 * "[",
    "deep objects": 480 * '{"a": [' + 480 * "]}",
    "bytes": b"\xff\xfe\xe9\x00\x81",
    "empty": "",
}


@pytest.mark.parametrize("command", ["cut", "export"])
@pytest.mark.parametrize("content", BAD_MOMENTS)
def test_other_input_is_one_line(folder, run, monkeypatch, command, content):
    give(monkeypatch, BAD_MOMENTS[content])
    options = ("--format", "edl", "--out", "m.edl") if command == "export" else ()
    status, out, err = run(command, "-", *options)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("videoclip: error: standard input") and len(err) < 400
    assert not (folder / "m.edl").exists() and not (folder / "clips").exists()


@pytest.mark.parametrize("span", [("nan", 3), (1, "nan"), (1, "inf"), (-1, 3), (2, 1)])
def test_a_span_that_is_none_is_wrong_usage(folder, capsys, span):
    with pytest.raises(SystemExit, match="2"):
        main(["cut", "v/a.mp4", f"--start={span[0]}", f"--end={span[1]}"])
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("videoclip cut: error: ")
    assert not (folder / "clips").exists()


def test_mistakes_in_cutting_are_said(indexed, run):
    (indexed / "none.json").write_text('{"path": "v/a.mp4", "spans": []}')
    status, _, err = run("cut", "none.json")
    assert status == 1 and "no moments to cut" in err
    status, _, err = run("cut", "v/a.mp4")
    assert status == 1 and "give --start and --end" in err
    (indexed / "m.json").write_text('[{"path": "gone.mp4", "start": 0, "end": 1}]')
    status, _, err = run("cut", "m.json")
    assert status == 1 and "not cut: gone.mp4" in err
    status, _, err = run("export", "m.json", "--format", "edl", "--timecode", "drop")
    assert status == 1 and "choose one with --rate" in err


COMMANDS = {
    "segment": ("--labels", "labels.txt"),
    "localize": ("--steps", "labels.txt"),
    "ask": ("what is shown?", "--choices", "red", "blue"),
}


def odd_videos(folder):
    """Videos as phones and cameras make them, all red."""
    red = np.zeros((48, 80, 3), dtype=np.uint8)
    red[..., 0] = 220
    upright = make_video(folder / "rotated.mp4", [red] * 60, rotation=90)
    odd = make_video(folder / "odd.mkv", [red[:33, :47]] * 60, codec="ffv1", pix_fmt="bgr0")
    deep = make_video(
        folder / "10bit.mkv", [red] * 60, codec="libx265", pix_fmt="yuv420p10le", rate=10
    )
    times = [3 * i if i < 20 else 60 + i for i in range(40)]
    variable = make_video(folder / "variable.mp4", [red] * 40, times=times)
    return [upright, odd, deep, variable]


@pytest.mark.parametrize("command", COMMANDS)
def test_videos_of_every_kind_are_understood(folder, run, command):
    (folder / "labels.txt").write_text("red\nblue\n")
    for path in odd_videos(folder):
        status, out, err = run(command, path, *COMMANDS[command], "--json")
        assert (status, err) == (0, ""), path
        found = json.loads(out)
        assert "red" in json.dumps(found), path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", ["text", ""])
def test_what_is_no_video_is_one_line(folder, run, command, content):
    (folder / "labels.txt").write_text("red\nblue\n")
    (folder / "notes.mp4").write_text(content)
    status, out, err = run(command, folder / "notes.mp4", *COMMANDS[command])
    assert (status, out, err.count("\n")) == (1, "", 1) and "notes.mp4" in err
    status, _, err = run(command, folder / "absent.mp4", *COMMANDS[command])
    assert (status, err.count("\n")) == (1, 1) and "absent.mp4" in err


def test_moments_of_deleted_files_are_marked(indexed, run, monkeypatch):
    assert "(deleted;" not in run("search", "red", "--library", "L")[1]
    (indexed / "v" / "a.mp4").unlink()
    marked = {"a.mp4": True, "b.mp4": False}
    for line in run("search", "red", "--library", "L")[1].splitlines():
        name = "a.mp4" if "a.mp4" in line else "b.mp4"
        assert ("deleted; `videoclip index --prune` drops it" in line) == marked[name]
    text = run("search", "red", "--library", "L", "--json")[1]
    found = json.loads(text)["moments"]
    table = csv.DictReader(io.StringIO(run("search", "red", "--library", "L", "--csv")[1]))
    give(monkeypatch, text)
    exported = csv.DictReader(io.StringIO(run("export", "-", "--nearest")[1]))
    for rows, gone in ((found, True), (list(table), "True"), (list(exported), "True")):
        assert {row["is_deleted"] == gone for row in rows} == {True, False}
        assert all((row["is_deleted"] == gone) == marked[Path(row["path"]).name] for row in rows)
