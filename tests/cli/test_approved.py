"""What commands print, write and end with, line by line, compared with what was approved."""

import ast
import inspect
import io
import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import approved
from tests.features.toy_backbones import MeanColour
from tests.library.colours import ColourEmbedder, write_video
from videoclip import doctor
from videoclip.cli import COMMANDS, demo, extract, main, options, results, usage
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.embedding import Embedder
from videoclip.errors import DataError, show_warning
from videoclip.features import backbones, contained
from videoclip.pretrained import known
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.results import Timeline

SPOKEN = "WEBVTT\n\n00:21.000 --> 00:24.000\nChopping onions\n"


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """A function that runs lines in a folder with videos, and returns what a terminal shows."""
    monkeypatch.setattr(Embedder, "from_pretrained", lambda model, device, **more: ColourEmbedder())
    monkeypatch.setattr(backbones, "load_backbone", lambda *names: MeanColour())
    monkeypatch.setattr(contained, "_reads_here", True)
    for name in ("default_model", "present_models", "other_models"):
        monkeypatch.setattr(known, name, {"default_model": lambda: "starter"}.get(name, dict))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    write_video(tmp_path / "v" / "a.mp4", ["red"] * 10 + ["blue"] * 12 + ["green"] * 10)
    write_video(tmp_path / "v" / "b b.mp4", ["black"] * 20 + ["yellow"] * 5 + ["black"] * 10)
    (tmp_path / "v" / "b b.vtt").write_text(SPOKEN)

    def run(lines, stdin=""):
        shown = []
        for line in lines.strip().splitlines():
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            try:
                status = main(shlex.split(line))
            except SystemExit as ended:
                status = ended.code
            out, err = capsys.readouterr()
            shown += [f"$ {line}", *out.splitlines(), *(f"! {text}" for text in err.splitlines())]
            shown += [f"= {status}"] if status else []
        text = "\n".join(shown) + "\n"
        text = re.sub(r"\d+x real time", "Nx real time", text)
        text = re.sub(r"; see (videoclip [a-z ]+) --help", "; help", text)
        return re.sub(r"-?\d+\.\d{5,}", lambda match: f"{float(match[0]):.4g}", text)

    return run


def test_a_library(shell, tmp_path):
    (tmp_path / "t.csv").write_text("video,camera\na.mp4,left\n")
    (tmp_path / "q.txt").write_text("yellow\n\nred, then green\n")
    (tmp_path / "one.txt").write_text("yellow\n")
    (tmp_path / "labels.csv").write_text(
        "query,video,start,end,wrong\nyellow,b b,20,25,\nred,,,,\nblue,a.mp4,0,5,yes\n"
    )
    (tmp_path / "bad.mp4").write_text("x")
    shown = shell(
        """
search red
index v bad.mp4 --workers 0 --metadata t.csv
index v --workers 0 --json
search red
search yellow chopping onions -k 2 --explain
search yellow --vision 0.5 --speech 0 --offset 1 -k 2 --where "duration > 1"
search chopping onions --vision 0 --paths
search blue --csv -k 2
search "red, then blue" -k 1 --json
search --queries q.txt -k 1
search --queries one.txt -k 1 --json --min-confidence high
search --like v/a.mp4 -k 1
search red --where "camera = 'right'"
search red --where "path like 'a.mp4'" --require-match
search zzz qqq --min-confidence high --require-match
search red --where "nothing = 1"
search red --exact -k 1 --rerank-top 3
search red --html page.html -k 1
search yellow -k 1 --thumbnails thumbs --csv
search red --open 99
search --fit labels.csv
search yellow -k 1
info library
info library --json
info library --verify
index v/a.mp4 --library L2 --model starter --workers 0 --whole-hash
index v --library L2 --prune --repair --fast --workers 0
index nowhere --workers 0
index v --store lance
"""
    )
    files = sorted(path.name for path in (tmp_path / "thumbs").iterdir())
    approved.check("cli-library", f"{shown}{files}\n", TMP=tmp_path)


def test_one_video(shell, tmp_path):
    (tmp_path / "s.txt").write_text(" red \n\ngreen\n")
    shown = shell(
        """
segment v/a.mp4 --label red --label green
segment v/a.mp4 --labels s.txt --threshold 2.5 --switch-cost 0 --json
segment v/a.mp4 --label "red, green"
segment v/a.mp4 --label "red, green" --labels s.txt --threshold 9
segment v/a.mp4
segment v/a.mp4 --labels no.txt
segment v/none.mp4 --label red
localize v/a.mp4 --step green --step red --step white
localize v/a.mp4 --steps s.txt --any-order --csv out.csv --vtt out.vtt --chapters out.txt
localize v/a.mp4 --step white --require-match
localize v/a.mp4 --steps - --threshold 9
segment v/a.mp4 --label blue --svg out.svg --png out.png --html out.html
ask v/a.mp4 "Which colour?" --choices red yellow blue
ask v/a.mp4 colour --choices red blue --json
ask v/a.mp4 colour --choices red
info v/a.mp4
info "v/b b.vtt"
info "v/b b.vtt" --json
info v
info nothing
info small
info starter
info v --verify
""",
        stdin="",
    )
    files = {
        name: (tmp_path / name).read_text().splitlines()
        for name in ("out.csv", "out.vtt", "out.txt")
    }
    sizes = sorted(path.name for path in tmp_path.glob("out.*"))
    approved.check("cli-video", f"{shown}{json.dumps(files, indent=1)}\n{sizes}\n", TMP=tmp_path)


def test_moments_to_files(shell, tmp_path):
    moments = [
        Moment(Path("v/a.mp4"), 1.0, 1.5, "one", confidence="high", frame_rate=8.0),
        Moment(Path("v/b b.mp4"), 2.0, 2.25, "two", confidence="low", frame_rate=8.0),
        Moment(Path("v/b b.mp4"), 3.0, 4.0, "three", confidence="none", frame_rate=8.0),
    ]
    rows = [moment.as_dict() for moment in moments]
    (tmp_path / "m.json").write_text(json.dumps(rows))
    (tmp_path / "none.json").write_text(json.dumps(rows[2:]))
    (tmp_path / "gone.json").write_text(json.dumps([rows[0] | {"path": "no.mp4"}, rows[0]]))
    shown = shell(
        """
export m.json
export m.json --nearest --video "b b" --format vtt
export m.json --min-confidence high --format json --out o.json
export m.json --format edl --rate 29.97 --timecode non-drop --title T
export m.json --format edl --timecode drop
export m.json --format youtube --video v/a.mp4
export none.json
export none.json --min-confidence low
export none.json --nearest --video other
export - --nearest
cut v/a.mp4 --start 0:01 --end 1.5 --out one.mp4
cut v/a.mp4 --start 1 --end 1.5 --out clips --fast --padding 0.5 --json
cut v/a.mp4 --start 0 --end 0.5 --out cut0
cut m.json --out cut
cut m.json --out cut2 --min-confidence high --json
cut gone.json --out cut3
cut none.json
cut v/a.mp4
cut v
cut m.txt
""",
        stdin=json.dumps(rows[:1]),
    )
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("c*/*"))
    approved.check("cli-moments", f"{shown}{files}\n", TMP=tmp_path)


def test_features_and_captions(shell, tmp_path):
    (tmp_path / "bad.mp4").write_text("x")
    shown = shell(
        """
extract v bad.mp4 --features F --workers 0 --json
extract v --features F --workers 0 --json
info F
info F --verify
index v --workers 0 --features F
extract v --features library --workers 0
prepare v --out C
prepare v bad.mp4 --out C --json --format json
"""
    )
    lines = [line for line in shown.splitlines() if '"seconds":' not in line]
    approved.check("cli-features", "\n".join(lines) + "\n", TMP=tmp_path)


def test_models_and_machine(shell, monkeypatch, tmp_path):
    checks = [
        doctor.Check("machine", "ok", "videoclip"),
        doctor.Check("decoder", "broken", "no", "install it"),
        doctor.Check("[x]", "absent", "for y", "pip"),
    ]
    monkeypatch.setattr(doctor, "run_checks", lambda *arguments: iter(checks[: len(arguments)]))
    import videoclip.cli.models as models

    present = {"clip-base": Path("/models/clip")}
    monkeypatch.setattr(models, "present_models", lambda: present)
    monkeypatch.setattr(models, "other_models", lambda: [("a/b", Path("/models/b"))])
    monkeypatch.setattr(models, "default_model", lambda: "openai/clip-vit-base-patch32")
    shown = shell("doctor\ndoctor --json\nmodels\nmodels --json")
    lines = shown.splitlines()
    approved.check("cli-models", "\n".join(lines[:60] + lines[-12:]) + "\n")


WRONG = """
nothing
serch
find
v
-x
--version
help nothing
--help nothing
-h nothing
FIND
search
search a --like b
search a b.csv
search a dog.mp4
search --query dog
search dog --limit 5
search dog --topk 5
search dog -k 0
search dog -k two
search dog --top-k=
search dog --json=yes
search dog --json --csv
search dog --csv --paths
search dog --vision 0 --speech 0
search dog --min-confidence hi
search dog --min-confidence everything
search dog --open -3
index
index --library L
index v --recursive
index v --store sqllite
index v --workers -1
index v --frames-per-second 0
segment
segment v/a.mp4 red
segment v/a.mp4 v/b.mp4
segment v/a.mp4 --label
segment v/a.mp4 --threshold x
localize v/a.mp4 --ordered --step a
ask v/a.mp4
ask v/a.mp4 what --choices
ask v/a.mp4 what red blue
cut v/a.mp4 --start 5
cut v/a.mp4 --start 5 --end 2
cut v/a.mp4 --start 0:75 --end 0:80
cut v/a.mp4 --start abc --end 2
cut v/a.mp4 --start -1 --end 2
cut v/a.mp4 0:08 0:12
cut v/a.mp4 --duration 5
export m.json --rate 0
export m.json --format xml
serve --port 70000
serve v --mcp
compare a
compare a.csv b
extract v
prepare v --format srt
demo my.mp4
models clip
models v/a.mp4
models no.mp4
models json
doctor v/a.mp4 --device cpu
cut v/a.mp4 "v/b b.mp4" --start 0 --end 1
doctor --folder
info
info a b c.mp4
evaluate nothing --features F --annotations A
evaluate msrvtt
pretrain
pretrain smal --data d --out o
pretrain --data d small
pretrain -d x small
pretrain small --config x
pretrain small --optim.lr -1 --data d --out o
pretrain small --lr 1 --data d --out o
finetune msrvtt --batch-size 5
convert a
"""


def test_wrong_usage(shell, tmp_path):
    approved.check("cli-usage", shell(WRONG), TMP=tmp_path)


def test_times_and_nearest_options():
    texts = [
        "8",
        "8.5s",
        ".5",
        "0:08",
        "1:02:03.5",
        "00:00:08,500",
        "-3",
        "5 sec",
        "1:60",
        "1:75:00",
    ]
    texts += ["", "x", "1:2:3:4", "59:59", "61:00", "8seconds"]
    flags = ["--top-k", "--library", "--json", "--labels", "--optim.lr", "--start", "--workers"]
    words = [
        "--limit",
        "--topk",
        "--lib",
        "--fmt",
        "--lr",
        "--from",
        "-j",
        "--x",
        "--limit=3",
        "--work_ers=2",
        "--",
        "--work_ers",
        "--l",
    ]
    many = ["search", "--query", "--jso", "v.mp4", "c.webm", "a.b", "words", "json", "top-k"]
    approved.check(
        "cli-options",
        {
            "times": {t: approved.outcome(lambda t=t: usage.seconds(t)) for t in texts},
            "nearest": {word: usage.nearest_flag(word, flags) for word in words},
            "unknown": [
                usage.unknown_arguments([word], flags, stray, takes_file=takes)
                for word in many
                for stray, takes in (("", False), ("do this", True))
            ],
        },
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal(tmp_path, monkeypatch, capsys):
    """What is shown where stdout and stderr are a terminal."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.mp4").write_text("")
    monkeypatch.setattr(results, "get_terminal_size", lambda: os.terminal_size((90, 9)))
    here = Moment(
        tmp_path / "in/deep/a.mp4", 1.0, 2.0, "x\x07y", confidence="medium", words="w " * 40
    )
    part = Moment(here.path, 1.0, 1.5, "p", confidence="low")
    far = Moment(
        Path("/somewhere/" + "long/" * 20 + "b.mp4"), 0.0, 3725.5, confidence="high", parts=(part,)
    )
    shown = {}
    for name, moments in {"none": [], "all": [here, far], "low": [part]}.items():
        out, err = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        results.FoundOutput(explain=True).print([moments], ["q"], as_list=False)
        shown[name] = [out.getvalue().splitlines(), err.getvalue().splitlines()]
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    line = options.progress_line("videos")
    for state in ((0, 0), (0, 1200), (3, 1200), (1200, 1200)):
        line(*state)
    ticks = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr(extract.time, "monotonic", lambda: next(ticks))
    progress = extract._ProgressLine()
    progress.set_videos(3, 1200)
    progress.set_seconds(1240.0)
    show_warning("careful", UserWarning, "file", 3)
    failures = options.print_failures({"a\x07": "why", "b": "so"}, "not indexed")
    shown["progress"] = [err.getvalue(), failures, options.print_failures({})]
    monkeypatch.undo()
    monkeypatch.setattr(results, "get_terminal_size", lambda: os.terminal_size((90, 9)))
    shown["no terminal"] = options.progress_line("videos")
    short = [Moment(here.path, start, start + 1.0, "cut", confidence="low") for start in (0, 3)]
    timeline = Timeline(here.path, 9.0, 25.0, ("cut",), tuple(short), 1.0)
    results.Output(chapters=tmp_path / "chapters").show(timeline, as_json=False)
    shown["chapters"] = [(tmp_path / "chapters").read_text(), capsys.readouterr().err]
    shown["fitted"] = [
        results._fit(Path(f"/{'long/' * 9}{name}.mp4"), " and more", used)
        for name in ("a", "n" * 50)
        for used in (50, 75, 200)
    ]
    shown["texts"] = [
        approved.outcome(lambda: results.read_texts(None, ["a", " "])),
        approved.outcome(lambda: results.read_texts(None, [], "queries")),
    ]
    approved.check("cli-terminal", shown, TMP=tmp_path)


def test_heartbeat(monkeypatch, capsys):
    """The elapsed time is printed while nothing else is."""
    monkeypatch.setattr(demo, "SILENT_SECONDS", 0.01)
    waited = []

    class Printed:
        def wait(self, seconds):
            waited.append(seconds)
            return len(waited) != 2

        set = clear = lambda self: None

    ended = SimpleNamespace(is_set=lambda: len(waited) >= 3, set=lambda: None)
    events = iter([Printed(), ended])
    monkeypatch.setattr(demo, "Event", lambda: next(events))
    monkeypatch.setattr(demo.time, "monotonic", lambda: 5.0)
    with demo._heartbeat() as say:
        while len(waited) < 3:
            pass
        say("done")
    approved.check("cli-heartbeat", [capsys.readouterr().err, waited])


def test_ends_of_commands(monkeypatch, capsys):
    """The exit status and the message of every way in which a command may end."""
    from videoclip.cli import models

    ends = {
        "our error": DataError("is odd", "file.txt", 3),
        "interrupted": KeyboardInterrupt(),
        "disk": OSError(28, "No space left on device", "x.bin"),
        "no name": OSError(5, "Input/output error"),
        "a file": FileExistsError(17, "File exists", "folder"),
        "not a folder": NotADirectoryError(20, "Not a directory", "a/b"),
        "a bug": OSError("no reason"),
    }
    found = {}
    for name, error in ends.items():
        for more in ([], ["--debug"]):
            if name == "interrupted" and more:
                continue

            def fail(self, error=error):
                raise error

            monkeypatch.setattr(models.Models, "run", fail)
            status = approved.outcome(lambda more=more: main(["models", *more]))
            found[" ".join([name, *more])] = [status, capsys.readouterr().err]

    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return 99

    closed = []
    monkeypatch.setattr(models.Models, "run", lambda self: 3)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Closed())
        patch.setattr(os, "dup2", lambda *handles: closed.append(handles[1]))
        found["its reader has stopped"] = [main(["models"]), closed]
    approved.check("cli-ends", found)


def test_which_model_is_taken(monkeypatch, capsys, tmp_path):
    """The model that is named, or the best one here, or that of features."""
    taken = []
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *names: taken.append(names))
    for best in ("starter", "own/er"):
        monkeypatch.setattr(known, "default_model", lambda best=best: best)
        for named in (None, "named"):
            options.load_embedder(named, "a device")
        options.print_model(best)
    for backbone in ("image:own/clip", "video:/a/folder:b", "starter", "s3d", "motion"):
        spec = FeatureSpec(
            dim=3,
            features_per_second=1.0,
            backbone=backbone,
            normalized=True,
            fingerprint="f",
        )
        FeatureStore.create(tmp_path / "store", spec).close()
        taken.append([backbone, options.model_of_features(None, tmp_path / "store")])
        shutil.rmtree(tmp_path / "store")
    taken.append(options.model_of_features("named", tmp_path / "no store"))
    taken.append(approved.outcome(lambda: options.model_of_features(None, tmp_path / "no store")))
    found = {"taken": taken, "said": capsys.readouterr().err}
    approved.check("cli-model-taken", found, TMP=tmp_path)


def test_every_option_of_a_command_is_read():
    """Which options a command does not read itself, but hands on with the others."""
    found = {}
    for name in COMMANDS:
        module = import_module(f"videoclip.cli.{name}")
        (command,) = (
            member
            for member in vars(module).values()
            if isinstance(member, type) and member.__name__.lower() == name
        )
        nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
        read = {
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
        found[name] = [one.name for one in fields(command) if one.name not in read]
    approved.check("cli-options-read", found)
