"""What a command hands to the function that does its work, and what it makes of the result.

The functions are replaced here, so that every option is compared with what arrives.
"""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from videoclip.cli import main
from videoclip.cli.pretrain import Pretrain, parse
from videoclip.config import RUN_CONFIG_VERSION, PretrainConfig, load_run_config
from videoclip.errors import DISK_ADVICE, DataError
from videoclip.library.search import SearchOptions
from videoclip.training.run import RunResult
from videoclip.zeroshot.confidence import LEVELS
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.results import Answer, Timeline

MOMENTS = [
    Moment(Path(f"/v/{level}.mp4"), 1.0, 2.5, "cut", 2.0, 0.5, 3.0, level) for level in LEVELS
]


class Calls(list):
    """Arguments of calls, by position and then by name."""

    def to(self, result=None):
        def function(*arguments, **named):
            self.append((*arguments, named) if named else arguments)
            return result(*arguments, **named) if callable(result) else result

        return function


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def run(capsys):
    def run(line, *more):
        status = main([*line.split(), *map(str, more)])
        return status, *capsys.readouterr()

    return run


class Library:
    """A library with these answers for each query."""

    def __init__(self, calls, answers, report=None):
        self.calls, self.answers, self.report = calls, answers, report

    def __len__(self):
        return 3

    def __repr__(self):
        return "VideoLibrary()"

    def search_many(self, queries, settings, *, where):
        self.calls.append(("search", queries, settings, where))
        return self.answers[: len(queries)]

    def search_like(self, path, settings, *, where):
        self.calls.append(("like", path, settings, where))
        return self.answers[0]

    def update(self, videos, **options):
        self.calls.append(("update", videos, options))
        return self.report


@pytest.fixture
def library(calls, monkeypatch):
    """Function of answers: a library that has them is opened, whatever is named."""

    def library(*answers, report=None):
        @contextmanager
        def open_library(*arguments, **named):
            calls.append(("open", *arguments, named))
            yield Library(calls, list(answers), report)

        monkeypatch.setattr("videoclip.library.library.VideoLibrary.open", open_library)
        calls.clear()

    return library


@pytest.mark.parametrize(
    ("found", "least", "required"),
    [
        ([], "none", True),
        (["none"], "none", True),
        (["none"], "none", False),
        (["low", "none"], "none", True),
        (["medium", "none"], "medium", True),
        (["medium", "low"], "high", True),
        (["medium", "low"], "high", False),
        (["high", "low"], "low", True),
    ],
)
def test_the_status_of_a_search_is_that_of_its_surest_moment(library, run, found, least, required):
    library([MOMENTS[LEVELS.index(level)] for level in found])
    status, out, _ = run(
        f"search red --min-confidence {least} --paths", *["--require-match"] * required
    )
    kept = [level for level in found if LEVELS.index(level) >= LEVELS.index(least)]
    assert out == "".join(dict.fromkeys(f"/v/{level}.mp4\n" for level in kept))
    matches = any(level != "none" for level in kept)
    assert status == (3 if required and not matches else 0)


def test_every_option_of_a_search_arrives(library, run, calls, tmp_path, monkeypatch):
    library([MOMENTS[3]], [], [MOMENTS[1], MOMENTS[3]])
    line = "search two words --library L -k 7 --offset 2 --vision 0.5 --speech 0.25 --json"
    line += " --where duration>3 --model M --device cpu --rerank-top 4"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")  # so that it is restored
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    status, out, _ = run(line)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"  # its matrix products are small
    wanted = SearchOptions(top_k=7, offset=2, vision=0.5, speech=0.25, rerank_top=4)
    changed = {f.name for f in fields(wanted) if getattr(wanted, f.name) != f.default}
    opened = ("open", "L", "M", "cpu", {"must_exist": True})
    assert len(changed) == 5 and status == 0
    assert calls == [opened, ("search", ["two words"], wanted, "duration>3")]
    assert json.loads(out)["query"] == "two words"
    (tmp_path / "queries.txt").write_text("one\n\ntwo words\nthree\n")
    calls.clear()
    status, out, _ = run("search --json --require-match --queries", tmp_path / "queries.txt")
    texts = ["one", "two words", "three"]
    opened = ("open", "library", None, "auto", {"must_exist": True})
    assert calls == [opened, ("search", texts, SearchOptions(), None)] and status == 0
    found = [(one["query"], [row["path"] for row in one["moments"]]) for one in json.loads(out)]
    assert found == [
        ("one", ["/v/high.mp4"]),
        ("two words", []),
        ("three", ["/v/low.mp4", "/v/high.mp4"]),
    ]
    calls.clear()
    assert run("search", "dog.mp4")[0] == 0  # one word may be anything
    calls.clear()
    run("search -k 3 --where duration>3 --like a.mp4")
    assert calls[1] == ("like", Path("a.mp4"), SearchOptions(top_k=3), "duration>3")


@dataclass(frozen=True)
class Report:
    failed: dict
    added: int = 3

    def __str__(self):
        return "what was done"

    def as_dict(self):
        return {"added": self.added}


FAILED = {"x.mp4": "not a video", "y.mp4": "no such file"}


@pytest.mark.parametrize("failed", [{}, FAILED])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_index_extract_and_prepare_do_with_their_reports(
    library, run, calls, monkeypatch, tmp_path, failed, as_json
):
    report, switch = Report(failed), ["--json"] * as_json
    library(report=report)
    status, out, err = run(
        "index v w --library L --model M --frames-per-second 2 --metadata m.csv --store lance"
        " --prune --repair --rebuild --whole-hash --fast --workers 3 --cluster h:1 --device cpu",
        *switch,
    )
    opening = {"rebuild": True, "store": "lance", "frames_per_second": 2.0}
    updating = {
        "prune": True,
        "repair": True,
        "metadata": Path("m.csv"),
        "features": None,
        "whole_hash": True,
        "fast": True,
        "num_workers": 3,
        "cluster": "h:1",
        "on_progress": None,
    }
    assert calls == [
        ("open", "L", "M", "cpu", opening),
        ("update", (Path("v"), Path("w")), updating),
    ]
    lines = [f"{path}: {reason}\n" for path, reason in failed.items()]
    assert status == bool(failed)
    assert err == "".join(f"videoclip: not indexed: {line}" for line in lines)
    if as_json:
        assert json.loads(out) == {"failed": failed, "added": 3}
    else:
        assert out == "what was done\nVideoLibrary()\n"

    calls.clear()
    backbone = SimpleNamespace(spec="spec")
    loading, storing = Calls(), Calls()

    @contextmanager
    def store(*arguments):
        storing.append(arguments)
        yield "store"

    monkeypatch.setattr("videoclip.features.backbones.load_backbone", loading.to(backbone))
    monkeypatch.setattr("videoclip.data.feature_store.FeatureStore.open_or_create", store)
    monkeypatch.setattr("videoclip.features.extract.extract_features", calls.to(report))
    status, out, err = run(
        "extract v w --features F --backbone B --frames-per-second 2 --device cpu --workers 3"
        " --cluster h:1",
        *switch,
    )
    assert loading == [("B", "cpu", 2.0)] and storing == [(Path("F"), "spec")]
    how = {"num_workers": 3, "cluster": "h:1", "on_progress": None, "on_video_seconds": None}
    assert calls == [((Path("v"), Path("w")), "store", backbone, how)]
    assert (status, err) == (bool(failed), "".join(f"videoclip: failed: {line}" for line in lines))
    assert json.loads(out) == {"added": 3} if as_json else out == "F: what was done\n"

    noisy = calls.to(lambda *_, **more: print("lost a worker") or report)
    monkeypatch.setattr("videoclip.features.extract.extract_features", noisy)
    _, again, err = run("extract v --features F", *switch)
    assert again == out and err.startswith("lost a worker\n")

    calls.clear()
    monkeypatch.setattr("videoclip.preparation.prepare_videos", calls.to(report))
    status, out, err = run("prepare v w --out O --format tar --asr tiny --device cpu", *switch)
    how = {"format": "tar", "speech_model": "tiny", "device": "cpu", "on_progress": None}
    assert calls == [((Path("v"), Path("w")), Path("O"), how)]
    assert (status, err) == (bool(failed), "".join(f"videoclip: failed: {line}" for line in lines))
    assert json.loads(out) == {"added": 3} if as_json else out == "what was done\n"


def test_what_index_does_without_a_model_and_with_features(library, run, calls, monkeypatch):
    library(report=Report({}))
    monkeypatch.setattr("videoclip.data.feature_store.FeatureStore.open", lambda path: ("f", path))
    run("index v --library L --model M --prune w")  # paths on both sides of an option
    assert calls[1][1] == (Path("v"), Path("w"))
    calls.clear()
    kinds = {"new": None, "old": "sqlite"}
    monkeypatch.setattr("videoclip.library.storage.kind_of", kinds.get)
    monkeypatch.setattr("videoclip.pretrained.known.default_model", lambda: "best")
    status, _, err = run("index v --library new --features F")
    assert calls[0][1:3] == ("new", "best") and calls[1][2]["features"] == ("f", Path("F"))
    assert status == 0 and err == (
        "videoclip: model: best (the best one here; see `videoclip models`)\n"
    )
    for line, model in (
        ("index v --library old", None),
        ("index v --library new --model M", "M"),
        ("index v --library old --model M --rebuild", "M"),
    ):
        calls.clear()
        assert run(line)[::2] == (0, "")
        assert calls[0][2] == model and calls[1][2]["features"] is None


@pytest.fixture
def embedders(monkeypatch):
    """Models that are loaded are their name and device."""
    monkeypatch.setattr("videoclip.cli.options.load_embedder", lambda *how: how)


@pytest.mark.parametrize("moments", [(), tuple(MOMENTS[2:])])
def test_segment_localize_and_ask(embedders, run, calls, monkeypatch, tmp_path, moments):
    timeline = Timeline(Path("/v/a.mp4"), 9.0, 25.0, ("cut", "fry"), moments, 1.5)
    monkeypatch.setattr("videoclip.zeroshot.results.segment", calls.to(timeline))
    monkeypatch.setattr("videoclip.zeroshot.results.localize", calls.to(timeline))
    (tmp_path / "texts").write_text("pour\n")
    more = ["--threshold", "0.5", "--model", "M", "--device", "cpu"]
    status, out, err = run(
        "segment a.mp4 --label cut --label fry --switch-cost 3 --labels", tmp_path / "texts", *more
    )
    texts = ["cut", "fry", "pour"]
    how = {"threshold": 0.5, "switch_cost": 3.0}
    assert calls == [(Path("a.mp4"), texts, ("M", "cpu"), how)] and status == 0
    lines = [f"      0:01.0-0:02.5  {m.confidence:>6}   0.500  cut" for m in moments]
    assert out.splitlines() == lines
    missing = ["not found: fry"] if moments else ["not found: cut, fry"]
    last = "threshold: z-score 1.5, relative to unrelated texts (--threshold)"
    assert err.splitlines() == [*missing, last]
    for order in True, False:
        for required in [], ["--require-match"]:
            calls.clear()
            switches = required + ["--any-order"] * (not order)
            status, *_ = run("localize a.mp4 --step cut --step fry", *more, *switches)
            how = {"ordered": order, "threshold": 0.5}
            assert calls == [(Path("a.mp4"), ["cut", "fry"], ("M", "cpu"), how)]
            assert status == (3 if required and not moments else 0)
    chosen = Answer(Path("/v/a.mp4"), "what?", ("x", "y"), 1, (0.1, 0.3), (0.25, 0.75), 65.0)
    calls.clear()
    monkeypatch.setattr("videoclip.zeroshot.results.answer", calls.to(chosen))
    status, out, _ = run("ask a.mp4 what? --choices x y", *more[2:])
    assert calls == [(Path("a.mp4"), "what?", ("x", "y"), ("M", "cpu"))] and status == 0
    assert out.splitlines() == [" 75.0%  y  (best seen at 1:05.0)", " 25.0%  x"]
    assert json.loads(run("ask a.mp4 what? --json --choices x y")[1])["chosen"] == 1
    tied = replace(chosen, chosen=0, probabilities=(0.5, 0.5))
    monkeypatch.setattr("videoclip.zeroshot.results.answer", calls.to(tied))
    assert run("ask a.mp4 what? --choices x y")[1].startswith(" 50.0%  x  (best")


def test_cut_pads_every_moment_and_lists_what_failed(run, calls, monkeypatch):
    clips = [(Path("o/1.mp4"), replace(MOMENTS[1], start=0.5, end=3.0))]

    def cut_moments(moments, out, failed, padding, *, fast):
        calls.append((moments, out, padding, fast))
        failed += errors
        yield from clips

    monkeypatch.setattr("videoclip.output.clip.cut_moments", cut_moments)
    errors = [DataError("no such file", "/v/x.mp4")]
    status, out, err = run("cut a.mp4 --start 0:08 --end 1:02:03.5 --padding 2 --fast --out o")
    assert calls == [([Moment(Path("a.mp4"), 8.0, 3723.5)], Path("o"), 2.0, True)]
    assert (status, out) == (1, "o/1.mp4\n")
    assert err == "videoclip: not cut: /v/x.mp4: no such file\n"
    errors.clear()
    status, out, err = run("cut a.mp4 --start 1 --end 2 --json")
    assert calls[1][1:] == (Path("clips"), 0.0, False) and (status, err) == (0, "")
    assert json.loads(out) == [{"clip": "o/1.mp4", "path": "/v/low.mp4", "start": 0.5, "end": 3.0}]


def test_export_takes_the_moments_of_one_video(run, calls, monkeypatch, tmp_path):
    moments = [Moment(Path(name), i, i + 1) for i, name in enumerate(("/v/a.mp4", "/w/b.mkv"))]
    moments.append(Moment(Path("/x/a.mp4"), 5, 6))
    reading = Calls()
    monkeypatch.setattr("videoclip.cli.export.read_matches", reading.to(moments))
    rates = Calls()
    monkeypatch.setattr("videoclip.output.edl.choose_rate", rates.to("rate"))
    monkeypatch.setattr("videoclip.output.formats.export_moments", calls.to("text\n"))
    for video, kept in (
        (None, moments),
        ("/v/a.mp4", moments[:1]),
        ("a.mp4", moments[::2]),
        ("a", moments[::2]),
        ("b", moments[1:2]),
    ):
        calls.clear()
        rates.clear()
        options = ["--video", video] if video else []
        status, out, _ = run(
            "export m.json --format edl --title T --rate 25 --timecode drop --nearest"
            " --min-confidence low",
            *options,
        )
        assert (status, out) == (0, "text\n")
        assert [call[:3] for call in rates] == [(kept, 25.0, True)]
        assert calls[0][:4] == (kept, "edl", "T", "rate")
    calls.clear()
    status, out, err = run("export m.json --nearest --min-confidence low --video c")
    assert (status, out, calls) == (1, "", []) and "unknown video 'c'; known: a.mp4, b.mkv" in err
    assert set(reading) == {(Path("m.json"), "low", True)}
    run("export m.json --timecode non-drop --format fcpxml --out", tmp_path / "out")
    assert rates[-1][:3] == (moments, None, False)
    assert (tmp_path / "out").read_text() == "text\n"
    rates.clear()
    run("export m.json")
    assert calls[-1][:4] == (moments, "csv", "videoclip", None) and rates == []
    assert reading[-1] == (Path("m.json"), "none", False)


@pytest.mark.parametrize("as_json", [False, True])
def test_info_and_doctor_report_what_is_broken(run, calls, monkeypatch, as_json):
    switch = ["--json"] * as_json
    for damaged in ["a.bin: damaged", "b.bin: damaged"], []:
        monkeypatch.setattr("videoclip.info.verify", calls.to(damaged))
        status, out, _ = run("info F --verify", *switch)
        assert calls.pop() == ("F",) and status == bool(damaged)
        lines = damaged or ["whole"]
        assert json.loads(out) == damaged if as_json else out.splitlines() == lines
    monkeypatch.setattr("videoclip.info.describe", calls.to({"kind": "store", "x": 3}))
    status, out, _ = run("info F", *switch)
    assert calls.pop() == ("F",) and status == 0
    facts = {"kind": "store", "x": 3}
    assert json.loads(out) == facts if as_json else out == "kind  store\nx     3\n"
    from videoclip.doctor import Check

    for states in ("ok", "missing"), ("ok", "broken", "ok"):
        checks = [Check(f"part {i}", state, "found", "mend it") for i, state in enumerate(states)]
        monkeypatch.setattr("videoclip.doctor.run_checks", calls.to(checks))
        status, out, _ = run("doctor --folder G --model M --device cpu", *switch)
        assert calls.pop() == (Path("G"), "M", "cpu") and status == ("broken" in states)
        if as_json:
            assert [row["state"] for row in json.loads(out)] == list(states)
        else:
            assert out == "".join(f"{check}\n" for check in checks)


def test_serve_opens_the_library_with_its_settings(run, calls, library, monkeypatch, tmp_path):
    library()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v").mkdir()
    listening, running = Calls(), Calls()

    @contextmanager
    def listen(*address):
        listening.append(address)
        yield "server"

    monkeypatch.setattr("videoclip.web.app.listen", listen)
    monkeypatch.setattr("videoclip.web.app.address_of", lambda server: f"http://{server}")
    monkeypatch.setattr("videoclip.web.app.create_app", calls.to("app"))
    monkeypatch.setattr("videoclip.web.app.run", running.to())
    monkeypatch.delenv("VIDEOCLIP_TOKEN", raising=False)
    status, _, err = run(
        "serve v --library L --host 127.0.0.1 --port 0 --allow-host a --allow-host b --model M"
        " --device cpu"
    )
    (opened, (_, settings)) = calls
    assert opened == ("open", "L", "M", "cpu", {"must_exist": False}) and status == 0
    assert listening == [("127.0.0.1", 0)] and running == [("app", "server")]
    assert (settings.host, settings.token, settings.allowed_hosts) == (
        "127.0.0.1",
        None,
        ("a", "b"),
    )
    assert (settings.sources, settings.allow_upload) == ((Path("v").absolute(),), False)
    assert err == "VideoLibrary(): http://server\n"
    for line, must_exist in (("serve", True), ("serve --allow-upload", False)):
        calls.clear()
        run(line)
        assert calls[0] == ("open", "library", None, "auto", {"must_exist": must_exist})
        assert calls[1][1].allow_upload is not must_exist
    calls.clear()
    _, _, err = run("serve --host 0.0.0.0 --port 9")
    token = calls[1][1].token
    assert len(token) >= 32 and err.splitlines()[0] == f"token: {token}"
    monkeypatch.setenv("VIDEOCLIP_TOKEN", "")  # as if there were none
    assert run("serve --host 0.0.0.0 --port 9")[2].startswith("token: ")
    monkeypatch.setenv("VIDEOCLIP_TOKEN", "t" * 40)
    calls.clear()
    _, _, err = run("serve --host 0.0.0.0 --port 9")
    assert calls[1][1].token == "t" * 40 and "token" not in err
    assert listening[-1] == ("0.0.0.0", 9)
    calls.clear()
    tools = SimpleNamespace(run=running.to())
    monkeypatch.setattr("videoclip.integrations.mcp.create_server", calls.to(tools))
    assert run("serve --mcp --library L --model M --device cpu")[0] == 0
    assert calls[0] == ("open", "L", "M", "cpu", {"must_exist": True}) and running[-1] == ()


def test_evaluate_compare_and_convert(run, calls, monkeypatch, tmp_path):
    outcome = SimpleNamespace(rows=({"a": 1, "b": "x"},))

    class Result(SimpleNamespace):
        def to_dict(self):
            return {"measures": 1}

        def __str__(self):
            return "a table"

    result = Result(outcome=outcome)
    monkeypatch.setattr("videoclip.evaluation.evaluate", calls.to(result))
    monkeypatch.setattr("videoclip.evaluation.report.render_report", lambda made: f"<p>{made}")
    line = "evaluate msrvtt --features F --annotations A --model M --device cpu --seed 5"
    files = ["--per-video", tmp_path / "rows.csv", "--html", tmp_path / "page.html"]
    status, out, _ = run(line, *files)
    benchmark, model, features, annotations, config, on_progress, how = calls[0]
    assert (benchmark, model, features, annotations) == ("msrvtt", "M", Path("F"), Path("A"))
    assert (config.seed, on_progress, how) == (5, None, {"device": "cpu"})
    assert (status, out) == (0, "a table\n")
    assert (tmp_path / "rows.csv").read_text().split() == ["a,b", "1,x"]
    assert (tmp_path / "page.html").read_text() == "<p>a table"
    assert json.loads(run(line, "--json")[1]) == {"measures": 1}

    class Comparison(Result):
        def save_page(self, path):
            calls.append(("page", path))

        def save_picture(self, path):
            calls.append(("picture", path))

    calls.clear()
    monkeypatch.setattr("videoclip.comparison.compare", calls.to(Comparison()))
    monkeypatch.setattr("videoclip.paired.compare_examples", calls.to(Comparison()))
    assert run("compare a b c --picture p.svg --html p.html")[:2] == (0, "a table\n")
    paths = (Path("a"), Path("b"), Path("c"))
    assert calls == [(paths,), ("picture", Path("p.svg")), ("page", Path("p.html"))]
    calls.clear()
    assert json.loads(run("compare a.csv b.csv --html p.html --json")[1]) == {"measures": 1}
    assert calls == [(Path("a.csv"), Path("b.csv")), ("page", Path("p.html"))]
    assert run("compare a b --json")[0] == 0 and calls[2:] == [((Path("a"), Path("b")),)]

    class Made(SimpleNamespace):
        def as_dict(self):
            return {"kind": "bert"}

    calls.clear()
    monkeypatch.setattr("videoclip.conversion.convert", calls.to(Made()))
    status, out, _ = run("convert S F --as bert --vocabulary V --json")
    assert calls[0][:4] == (Path("S"), Path("F"), "bert", Path("V")) and status == 0
    assert json.loads(out) == {"kind": "bert"}


@pytest.mark.parametrize("on_main", [True, False])
@pytest.mark.parametrize("as_json", [True, False])
def test_one_process_of_a_run_logs_and_prints(run, calls, monkeypatch, on_main, as_json):
    world = SimpleNamespace(on_main=on_main)

    @contextmanager
    def joined(device):
        calls.append(("joined", device))
        yield world

    @contextmanager
    def tracker(name, out, settings):
        calls.append((name, out, settings["epochs"]))
        yield "on_log"

    made = RunResult(Path("R/model"), 3, 1.25, 0.5, None, {}, {})
    monkeypatch.setattr("videoclip.distributed.joined", joined)
    monkeypatch.setattr("videoclip.training.logging.tracker", tracker)
    monkeypatch.setattr("videoclip.training.pretrain.pretrain", calls.to(made))
    line = "pretrain small --data D --out R --epochs 7 --tracker wandb --device cpu --extend"
    status, out, _ = run(line, *["--json"] * as_json)
    assert calls[:2] == [("joined", "cpu"), ("wandb" if on_main else None, Path("R"), 7)]
    shared = calls[2][3]
    assert (shared["world"], shared["on_log"], shared["extend"]) == (world, "on_log", True)
    assert shared["page"]
    text = "R/model: 3 updates in 1 s, loss 0.500\n"
    if not on_main:
        text = ""
    elif as_json:
        assert json.loads(out)["num_updates"] == 3
        text = out
    assert (status, out) == (0, text)


def test_finetune_takes_the_model_of_the_features(run, calls, monkeypatch):
    made = RunResult(Path("R/model"), 3, 1.25, 0.5, None, {}, {})
    monkeypatch.setattr("videoclip.training.finetune.finetune", calls.to(made))
    monkeypatch.setattr("videoclip.cli.finetune.model_of_features", lambda *names: names)
    status, *_ = run("finetune coin --features F --annotations A --out R --device cpu")
    assert status == 0 and calls[0][0].benchmark == "coin"
    assert calls[0][1:5] == ((None, Path("F")), Path("F"), Path("A"), Path("R"))
    assert calls[0][5]["training_annotations"] is None
    run("finetune coin --features F --annotations A --out R --training-annotations T --model M")
    assert calls[1][1] == ("M", Path("F")) and calls[1][5]["training_annotations"] == Path("T")


def test_a_run_is_summed_up_beside_what_was_published():
    class Published(Pretrain):
        def published(self):
            return SimpleNamespace(values={"R@1": 0.5}, note="by others")

    measures = {"R@1": 0.25, "MedR": 9.0}
    result = RunResult(Path("R/model"), 3, 1.25, 0.5, None, measures, measures)
    assert object.__new__(Published).summary(result).splitlines()[2:] == [
        "      before  after  published",
        "R@1    0.250  0.250      0.500",
        "MedR   9.000  9.000",
        "published: fine-tuned, by others",
    ]


def test_printed_settings_are_those_that_a_run_takes(run, capsys, tmp_path):
    with pytest.raises(SystemExit, match="0"):
        main(["pretrain", "small", "--epochs", "7", "--print-config"])
    (tmp_path / "config.json").write_text(capsys.readouterr().out)
    assert json.loads((tmp_path / "config.json").read_text())["version"] == RUN_CONFIG_VERSION
    assert load_run_config(PretrainConfig, tmp_path / "config.json").epochs == 7
    places = ["--data", "D", "--out", "O"]
    made = parse(["--config", str(tmp_path / "config.json"), "--init-from", "M", *places])
    assert (made.config.name, made.config.epochs, made.init_from) == ("small", 7, "M")
    for model in ["--init-from", "M"], ["--init-from=M"]:  # then its recipe may be left out
        made = parse([*model, *places])
        assert (made.config.name, made.init_from) == ("starter", "M")


def test_ablate_and_synth(run, calls, monkeypatch, tmp_path):
    monkeypatch.setattr("videoclip.ablation.runs.run_ablation", calls.to())

    def write_report(out):
        for name in ("table.md", "table.json"):
            (out / name).write_text(f"{name}\n")

    monkeypatch.setattr("videoclip.ablation.table.write_report", write_report)
    status, out, _ = run(
        f"ablate {tmp_path} --name n --num-videos 7 --world.seed 5 --variants small paper"
        " --seeds 4 5 --workers 2"
    )
    folder, name, world, num_videos, how = calls[0]
    assert (folder, name, world.seed, num_videos) == (tmp_path, "n", 5, 7)
    how.pop("on_message")
    assert how == {"variants": ("small", "paper"), "seeds": (4, 5), "num_workers": 2}
    assert (status, out) == (0, "table.md\n")
    assert run(f"ablate {tmp_path} --json")[1] == "table.json\n"
    from videoclip.ablation.runs import VARIANTS

    assert calls[1][4]["variants"] == tuple(VARIANTS) and calls[1][4]["seeds"] == (1, 2, 3)
    listed = run(f"ablate {tmp_path} --list")[1].splitlines()
    assert [line.split()[0] for line in listed] == list(VARIANTS) and len(calls) == 2

    @dataclass
    class Summary:
        folder: Path = tmp_path
        num_videos: int = 9
        num_test: int = 2
        seconds: float = 90.0
        num_steps_shown: int = 40
        num_held_out_shown: int = 5

    calls.clear()
    monkeypatch.setattr("videoclip.synthetic.write.write_world", calls.to(Summary()))
    status, out, _ = run("synth O --num-videos 9 --seed 3 --workers 2")
    (arguments,) = calls
    assert (arguments[0], arguments[1].seed, *arguments[2:]) == (Path("O"), 3, 9, 2, None)
    assert out == (
        f"9 videos (2 for testing), 1.5 minutes, in {tmp_path / 'videos'}\n"
        "40 steps shown, 5 of them held-out combinations; annotations are in "
        f"{tmp_path / 'annotations'}\n"
    )
    assert json.loads(run("synth O --json")[1])["num_held_out_shown"] == 5


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("no such file", "/v/x.mp4"), 1, "error: /v/x.mp4: no such file"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            NotADirectoryError(20, "Not a directory", "/v/a/b"),
            1,
            f"error: /v/a/b: is a file, where a folder is needed; {DISK_ADVICE}",
        ),
        (
            FileExistsError(17, "File exists", "/v/a"),
            1,
            f"error: /v/a: is a file, where a folder is needed; {DISK_ADVICE}",
        ),
        (
            PermissionError(13, "Permission denied", "/v/a"),
            1,
            f"error: /v/a: Permission denied; {DISK_ADVICE}",
        ),
        (OSError(28, "No space left"), 1, f"error: No space left; {DISK_ADVICE}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_one_line_without_debug(run, monkeypatch, error, status, line):
    def fail(path):
        raise error

    monkeypatch.setattr("videoclip.info.describe", fail)
    assert run("info F") == (status, "", f"videoclip: {line}\n")
    if status == 1:
        for words in ("info F --debug", "--debug info F"):
            with pytest.raises(type(error)):
                run(words)
    bug = AttributeError("None has no x")
    monkeypatch.setattr("videoclip.info.describe", lambda path: (_ for _ in ()).throw(bug))
    with pytest.raises(AttributeError):
        run("info F")
