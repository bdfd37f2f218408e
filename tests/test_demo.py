"""The page of the demo, and the whole demo, as `make demo` runs it, and run again."""

import re
import subprocess
import sys
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.make_video import write_video
from videoclip import demo
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
        model_folder=Path(name, "model"),
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


def test_the_page_has_stages_scores_and_curves(report, monkeypatch):
    drawn, draw = [], demo.draw_losses
    monkeypatch.setattr(
        demo, "draw_losses", lambda runs: draw([drawn.append(r) or r for r in runs])
    )
    page = render_report(report)
    assert "look &amp; learn <small>(1.2 s)" in page
    assert "among 41" in page
    losses = [(1, 3.0), (2, 2.0), (3, 1.0)]  # by update
    assert drawn == [("overlap", losses, ()), ("aligned", losses, ())]
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


# --- the stages, with stand-ins for what takes long


def result_of(rows):
    measures = [SimpleNamespace(name=name, value=row) for name, row in zip(MEASURES, (0.1, 0.2, 9))]
    return SimpleNamespace(outcome=SimpleNamespace(rows=rows, measures=measures))


def ranked(*ranks):
    """Rows of an evaluation: sentence and rank; equal texts differ in their span."""
    return [
        {"text": text, "rank": rank, "video_id": f"v{i}", "start": 10.0 * i, "end": 10.0 * i + 12}
        for i, (text, rank) in enumerate(ranks)
    ]


BEFORE = ranked(("a", 3), ("b", 1), ("c", 9), ("c", 5), ("d", 2), ("e", 4), ("f", 7), ("g", 30))
AFTER = ranked(("a", 1), ("b", 1), ("c", 1), ("c", 1), ("d", 6), ("e", 1), ("f", 2), ("g", 1))


@pytest.fixture
def stores(monkeypatch):
    """Stores that are opened: a folder each."""

    @contextmanager
    def open_store(folder, *spec):
        yield (folder, *spec)

    opener = SimpleNamespace(open=open_store, open_or_create=open_store)
    monkeypatch.setattr(demo, "FeatureStore", opener)


@pytest.fixture
def cuts(monkeypatch):
    """Arguments of every clip that is cut."""
    cuts = []
    monkeypatch.setattr(demo, "cut_clip", lambda *arguments: cuts.append(arguments))
    return cuts


def test_sentences_whose_clip_became_the_first_are_wins(
    report, tmp_path, monkeypatch, stores, cuts
):
    asked = []

    def evaluate(*arguments):
        asked.append(arguments)
        return result_of(BEFORE if arguments[1] == "starter" else AFTER)

    monkeypatch.setattr(demo, "evaluate", evaluate)
    demo._find_wins(report, tmp_path)
    table, store = tmp_path / "world" / "annotations" / "test.csv", (tmp_path / "features",)
    assert asked == [("csv", model, store, table) for model in ("starter", Path("overlap/model"))]
    assert (report.num_higher, report.num_lower) == (6, 1)
    wins = [(win.text, win.before, win.after, win.clip.name) for win in report.wins]
    assert wins == [("g", 30, 1, "win-7.mp4"), ("c", 9, 1, "win-2.mp4"), ("e", 4, 1, "win-5.mp4")]
    video, moments = tmp_path / "world" / "videos", tmp_path / "moments"
    assert cuts == [
        (video / f"v{i}.mp4", 10.0 * i, 10.0 * i + demo.MAX_PLAYED, moments / f"win-{i}.mp4")
        for i in (7, 2, 5)
    ]
    before, after = ranked(("a", 3), ("b", 1), ("c", 2)), ranked(("a", 1), ("b", 1), ("c", 2))
    short = [row | {"end": row["start"] + 2} for row in before]
    monkeypatch.setattr(demo, "evaluate", lambda *a: result_of(short if "starter" in a else after))
    report.wins = []
    demo._find_wins(report, tmp_path)
    assert cuts[3:] == [(video / "v0.mp4", 0.0, 2.0, moments / "win-0.mp4")]
    assert [win.text for win in report.wins] == ["a"]  # the others rose no further
    assert (report.num_higher, report.num_lower) == (1, 0)


@pytest.mark.parametrize(("name", "strategy"), [("overlap", "overlapped"), ("aligned", "aligned")])
def test_a_run_of_the_demo_differs_in_its_clips_alone(
    tmp_path, monkeypatch, stores, name, strategy
):
    (tmp_path / "world" / "annotations").mkdir(parents=True)
    (tmp_path / "world" / "annotations" / "train_list.txt").write_text("v1\nv2\n")
    seen, asked, counts = [], [], []
    run = make_run(name, (0.5, 0.75, 2.0)).result

    def pretrain(config, corpus, out, *, evaluate, show_progress, on_log):
        seen.append((config, corpus, out, show_progress, evaluate("an embedder")))
        for entry in {"epoch": 1, "loss": 3.0}, {"update": 2}, {"epoch": 2, "loss": 2.0}:
            on_log(entry)
        return run

    threads = []
    monkeypatch.setattr(demo.torch, "set_num_threads", threads.append)
    monkeypatch.setattr(demo, "pretrain", pretrain)
    monkeypatch.setattr(demo, "evaluate", lambda *args: asked.append(args) or result_of([]))
    monkeypatch.setattr(
        demo, "NarratedCorpus", SimpleNamespace(from_folder=lambda *args: ("corpus", *args))
    )
    monkeypatch.setattr(demo, "starter_model", lambda: ("model", "tokenizer"))
    monkeypatch.setattr(demo, "read_log", lambda out: [{"loss": 3.0}, {"kept": 1}, {"loss": 2.0}])
    made = demo._train(name, tmp_path, 9, lambda done, total: counts.append((done, total)))
    assert made == DemoRun(name, (3.0, 2.0), run)
    assert threads == [1]
    [(config, corpus, out, show_progress, measures)] = seen
    plain = demo.starter()
    clips = replace(plain.clips, strategy=strategy)
    assert config == replace(plain, epochs=9, clips=clips, validation_share=0.0)
    store = (tmp_path / "features",)
    assert corpus == ("corpus", tmp_path / "world" / "videos", store, "tokenizer", ["v1", "v2"])
    assert (out, show_progress) == (tmp_path / name, False)
    assert measures == dict(zip(MEASURES, (0.1, 0.2, 9)))
    assert asked == [("csv", "an embedder", store, tmp_path / "world/annotations/test.csv")]
    assert counts == [(1, 9), (0, 9), (2, 9)]


def test_the_stages_of_a_demo(report, tmp_path, monkeypatch, stores, cuts):
    called, lines = [], []

    def record(name, result=None):
        def work(*arguments, on_progress=None):
            called.append((name, *arguments))
            if on_progress is not None:
                on_progress(1, 5)  # too soon for a line
                clock[0] += demo.SECONDS_BETWEEN + 0.1
                on_progress(2, 5)
                on_progress(3, 5)
            return result

        return work

    found = {
        query: [replace(moment, confidence="high" if i == 0 else "none", start=1.0, end=20.0)]
        for i, query in enumerate(QUERIES[:3])
        for moment in [next(iter(report.searches.values()))[0][0]]
    }

    @contextmanager
    def library(folder, embedder):
        called.append(("library", folder, embedder))
        yield SimpleNamespace(
            update=record("update"), search=lambda query, top_k: found.get(query, [])[:top_k]
        )

    @contextmanager
    def worker_pool(num_workers):
        def submit(function, *arguments):
            future = Future()
            future.set_result(function(*arguments))
            return future

        called.append(("pool", num_workers))
        yield SimpleNamespace(submit=submit)

    clock = [5.0]

    def pass_a_second():
        clock[0] += 1.0
        return clock[0]

    def train(name, folder, epochs, on_progress=None):
        called.append(("train", name, folder, epochs, on_progress is not None))
        return make_run(name, (0.5, 0.75, 2.0))

    def find_wins(made, folder):
        called.append(("wins", len(made.runs), folder))
        made.wins = [demo.Win("chop", 7, 1, Path("c.mp4"))]

    monkeypatch.setattr(demo.time, "perf_counter", pass_a_second)
    monkeypatch.setattr(demo, "VideoLibrary", library)
    backbone = SimpleNamespace(spec="spec")
    monkeypatch.setattr(demo, "Embedder", SimpleNamespace(from_pretrained=lambda name: name))
    monkeypatch.setattr(demo, "write_thumbnail", lambda moment, folder: folder / "1.jpg")
    monkeypatch.setattr(demo, "write_world", record("world"))
    monkeypatch.setattr(demo, "load_backbone", lambda name: called.append(name) or backbone)
    monkeypatch.setattr(demo, "extract_features", record("extract"))
    monkeypatch.setattr(demo, "read_table", lambda path: called.append(path) or [1, 2, 3])
    monkeypatch.setattr(demo, "worker_pool", worker_pool)
    monkeypatch.setattr(demo, "_train", train)
    monkeypatch.setattr(demo, "_find_wins", find_wins)
    videos = [Path("x.mp4"), Path("y.mp4")]
    made = demo.run_demo(tmp_path, videos, 16, 60, lines.append)

    world, store = tmp_path / "world", (tmp_path / "features", "spec")
    assert called == [
        ("library", tmp_path / "library", "starter"),
        ("update", videos),
        ("world", world, demo.WORLD, 16),
        "starter",
        ("extract", [world / "videos"], store, backbone),
        world / "annotations" / "test.csv",
        ("pool", 1),
        ("train", "aligned", tmp_path, 60, False),
        ("train", "overlap", tmp_path, 60, True),
        ("wins", 2, tmp_path),
    ]
    assert [run.name for run in made.runs] == ["overlap", "aligned"] and made.num_candidates == 3
    [first, *others] = QUERIES
    assert [len(made.searches[query]) for query in QUERIES] == [1, 1, 1, 0]
    thumbnail = tmp_path / "moments" / "1.jpg"
    assert made.searches[first] == [(found[first][0], thumbnail)]
    assert cuts == [
        (found[first][0].path, 1.0, 1.0 + demo.MAX_PLAYED, thumbnail.with_suffix(".mp4"))
    ]
    assert f"      “{first}”: a<b.mp4 0:01.0-0:20.0 (high)" in lines
    for query in others:
        assert f"      “{query}”: nothing here looks like that" in lines
    assert "      “chop”: rank 7 before, 1 after" in lines
    assert f"      overlap: {format_scores(made.runs[0])}" in lines
    stages = [line for line in lines if line.startswith("[")]
    assert [line[:6] for line in stages] == [f"[{i}/6] "[:6] for i in range(1, 7)]
    assert stages[0] == "[1/6] index 2 real clips with a model that needs no training ..."
    assert "      done in 1.0 s" in lines and len(made.stages) == 6
    assert made.stages[1] == ("search them with 4 queries", 1.0)
    for unit in ("clips", "videos"):
        assert f"      2 of 5 {unit}" in lines and f"      1 of 5 {unit}" not in lines


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
