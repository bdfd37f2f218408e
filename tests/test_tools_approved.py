"""Complete results of converting, preparing, comparing and demonstrating, with their messages."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests import approved
from tests.approved import outcome, summary
from tests.data.test_approved import WORDS, tree
from tests.model.test_approved import SETTINGS, mlp, named
from tests.test_comparison import RESULT, run_folder
from tests.test_demo import make_run
from tests.test_mmpt import PRETRAINING
from videoclip import comparison, demo, preparation
from videoclip.config import ConvertOptions, PretrainConfig, ReleasedSettings
from videoclip.conversion import convert
from videoclip.data.captions import Cue
from videoclip.data.feature_store import FeatureStore
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World, choose_device, joined
from videoclip.mmpt import read_project
from videoclip.paired import compare_examples
from videoclip.preparation import (
    CaptionReport,
    Prepared,
    assess,
    find_outliers,
    prepare_videos,
    warnings_of,
    write_captions,
    write_shards,
)
from videoclip.training.run import RunResult


def test_conversions(tmp_path):
    import pickle

    two = named("video_encoder.", 1, words=12) | mlp("video_encoder.")
    two |= named("text_encoder.", 2, bert="", words=12)
    one = named("mm_encoder.", 1) | mlp("mm_encoder.", dim=5)
    head = {"mm_encoder.classifier.weight": torch.ones(3, 16)}
    torch.save(two, tmp_path / "two.pt")
    torch.save(one | head, tmp_path / "one.pt")
    wide = named("mm_encoder.", 1) | mlp("mm_encoder.", dim=512)
    torch.save(wide, tmp_path / "wide.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "unknown.pt")
    Tokenizer(WORDS).save(tmp_path)
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    np.save(arrays / "a.mp4.npy", np.full((3, 4), 0.5, np.float32))
    np.save(arrays / "b.npy", np.full((2, 4), 0.5))
    (tmp_path / "captions.pkl").write_bytes(
        pickle.dumps({"v": {"start": [0, 1], "end": [1, 2], "text": ["a", "b"]}})
    )
    (tmp_path / "project.yaml").write_text(PRETRAINING)
    unit = ConvertOptions(backbone="clip", features_per_second=0.5, normalized=True)
    poses = ConvertOptions(backbone="poses", features_per_second=4.0)
    vocabulary = tmp_path / "vocab.txt"
    named_ids = ReleasedSettings(num_heads=4, max_video_tokens=9, max_text_tokens=11)
    calls = {
        "features": lambda out: convert(arrays, out, options=unit),
        "captions": lambda out: convert(tmp_path / "captions.pkl", out),
        "project": lambda out: convert(tmp_path / "project.yaml", out),
        "one": lambda out: convert(tmp_path / "one.pt", out, settings=SETTINGS, options=poses),
        "two": lambda out: convert(
            tmp_path / "two.pt", out, vocabulary=vocabulary, settings=named_ids, options=poses
        ),
        "wide": lambda out: convert(tmp_path / "wide.pt", out, settings=SETTINGS),
        "wide clip": lambda out: convert(
            tmp_path / "wide.pt", out, settings=SETTINGS, options=unit
        ),
        "unknown": lambda out: convert(tmp_path / "unknown.pt", out),
        "absent": lambda out: convert(tmp_path / "absent.pt", out),
        "s3d width": lambda out: convert(tmp_path / "one.pt", out, settings=SETTINGS),
        "ids": lambda out: convert(
            tmp_path / "two.pt", out, vocabulary=vocabulary, settings=SETTINGS
        ),
        "vocabulary": lambda out: convert(
            tmp_path / "one.pt", out, vocabulary=vocabulary, settings=named_ids, options=poses
        ),
        "no bert": lambda out: convert(tmp_path, out),
        "as bert": lambda out: convert(tmp_path / "two.pt", out, kind="bert"),
    }
    bert = tmp_path / "bert"
    Tokenizer(WORDS).save(bert)
    save_file(named("", 1, words=12), bert / "model.safetensors")
    (bert / "config.json").write_text('{"model_type": "bert", "num_attention_heads": 4}')
    tiny = ConvertOptions(recipe="crossmodal")
    calls["bert"] = lambda out: convert(bert, out, options=tiny)
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in ("model.safetensors", "config.json"):
        (bare / file).write_bytes((bert / file).read_bytes())
    calls["bert, its words elsewhere"] = lambda out: convert(
        bare, out, vocabulary=vocabulary, options=tiny
    )
    calls["no recipe"] = lambda out: convert(bert, out, options=ConvertOptions(recipe="tyny"))
    kinds = {
        "words": ("s3d_dict.npy",),
        "arrays beside weights": ("a.npy", "model.safetensors"),
        "arrays beside other weights": ("a.npy", "pytorch_model.bin"),
        "arrays beside words": ("a.npy", "s3d_dict.npy"),
        "text": ("a.txt",),
    }
    for name, files in kinds.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes((arrays / "b.npy").read_bytes())
        for kind in ("auto", "features") if name in ("words", "text") else ("auto",):
            calls[f"{name} as {kind}"] = lambda out, name=name, kind=kind: convert(
                tmp_path / name, out, kind=kind
            )
    found = {}
    for name, call in calls.items():
        made = outcome(lambda call=call, name=name: call(tmp_path / "out" / name))
        if not isinstance(made, str):
            lines = str(made).splitlines()
            made = [lines if name == "one" else lines[-2:], made.kind, sorted(made.as_dict())]
        found[name] = made
    found["existing"] = outcome(lambda: calls["one"](tmp_path / "out" / "one"))
    found["existing captions"] = outcome(lambda: calls["captions"](tmp_path / "out" / "captions"))
    np.save(arrays / "c.npy", np.ones((2, 4)))
    found["not unit"] = outcome(lambda: calls["features"](tmp_path / "out" / "features"))
    np.save(arrays / "c.npy", np.full((1, 4), 0.501))
    found["more features"] = str(calls["features"](tmp_path / "out" / "features"))
    found["files"] = tree(tmp_path / "out")
    with FeatureStore.open(tmp_path / "out" / "features") as store:
        found["store"] = [store.spec, store.video_ids]
    found["captions file"] = (tmp_path / "out" / "captions" / "captions.json").read_text()
    approved.check("conversions", found, TMP=tmp_path)


PROJECTS = {
    "fine-tuning": (
        "vtt.yaml",
        "fairseq:\n  batch_size: 64\n  lr: 1\n  adam_betas: '(0.9, 0.5)'\n  adam_eps: [1, 2]\n"
        "  seed: x\n"
        "  lr_scheduler: cosine\n  save_dir: a\nloss: T2VContraLoss\nmodel: MMFusionJoint\n"
        "retri_epoch: 3\nmax_len: 20\nmax_video_len: 16\nother: [1]\n",
    ),
    "coin": ("test_coin.yaml", "a: b\n"),
    "one beta": ("vtt.yaml", "adam_betas: '(0.9)'\n"),
    "questions": ("x.yaml", "data: vttqa.json\n"),
    "both ways": ("coin.yaml", "loss: MMContraLoss\nbatch_size: 3\nfp16: true\n"),
    "contradiction": ("how.yaml", "max_len: 600\nmax_video_len: 32\n"),
    "list": ("how.yaml", "- a\n"),
    "broken": ("how.yaml", "a: [\n"),
    "nothing included": ("how.yaml", "includes: other.yaml\n"),
    "tables for values": (
        "how.yaml",
        "includes: [base/one.yaml, base/three.yaml]\nfairseq:\n  lr:\n    a: 1\n",
    ),
    "itself": ("how.yaml", "includes: how.yaml\n"),
    "two files": ("how.yaml", "includes: [base/one.yaml, base/two.yaml]\nfairseq:\n  seed: 9\n"),
}


def test_projects(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "one.yaml").write_text("fairseq:\n  seed: 1\n  lr: 0.5\n")
    (tmp_path / "base" / "two.yaml").write_text("fairseq:\n  lr: 0.25\n  clip_norm: 3\n")
    (tmp_path / "base" / "three.yaml").write_text("fairseq: 3\n")
    found = {}
    for name, (file, text) in {"pre-training": ("p.yaml", PRETRAINING), **PROJECTS}.items():
        (tmp_path / file).write_text(text)
        made = outcome(lambda file=file: read_project(tmp_path / file))
        found[name] = (
            made
            if isinstance(made, str)
            else [
                made.config.name,
                isinstance(made.config, PretrainConfig),
                made.translated,
                made.untranslated,
            ]
        )
    approved.check("projects", found, TMP=tmp_path)


def test_prepared_captions(tmp_path, monkeypatch):
    videos = tmp_path / "videos"
    videos.mkdir()
    names = ("a.mp4", "b.mkv", "c.mp4", "d.mp4", "e.mp4", "f.mp4", "g.mp4")
    for name in names:
        (videos / name).write_bytes(b"video" * 10)
    (videos / "a.srt").write_text("00:01 --> 00:03\nhello\n\n00:03 --> 00:04\nhello there")
    (videos / "b.srt").write_text("no times")
    (videos / "d.srt").write_text("00:40 --> 00:41\none two three four five six")
    for name in "efg":
        (videos / f"{name}.srt").write_text("00:01 --> 00:09\nsome words here")
    (videos / "t.txt").write_text("")
    monkeypatch.setattr(preparation, "probe", lambda path: type("Info", (), {"duration": 10.0}))
    track = {"c": [Cue(2, 3, "inside")]}
    monkeypatch.setattr(preparation, "read_embedded_subtitles", lambda path: track.get(path.stem))
    found = {}
    for form in ("vtt", "json", "tar"):
        told = []
        report = prepare_videos(
            [videos], tmp_path / form, format=form, on_progress=lambda *p, told=told: told.append(p)
        )
        found[form] = [tree(tmp_path / form), told[-1], len(told)]
    found["table"] = str(report).splitlines()
    found["report"] = read = json.loads((tmp_path / "vtt" / "report.json").read_text())
    read["videos"] = {name: read["videos"][name] for name in ("a", "c", "d")}
    found["captions"] = (tmp_path / "json" / "captions.json").read_text()
    found["file of a"] = (tmp_path / "vtt" / "a.vtt").read_text()
    (videos / "c.mp4").unlink()
    track.clear()
    (videos / "n.mp4").write_bytes(b"v")
    monkeypatch.setattr(
        preparation, "load_recogniser", lambda *a: lambda path: [Cue(0, 1, f"heard {path.stem}")]
    )
    spoken = prepare_videos([videos / "n.mp4"], tmp_path / "s", speech_model="tiny")
    found["spoken"] = [spoken.prepared, spoken.captions]
    found["qualities"] = [
        assess([Cue(0, 4, "a b a b")], [Cue(0, 4, "a b"), Cue(3, 12, "c")], 10.0),
        assess([Cue(1, 1, "a")], [Cue(1, 1, "a")], 4.0),
    ]
    usual = found["qualities"][0]
    found["warnings"] = [
        warnings_of(type(usual)(**{**vars(usual), **changes}))
        for changes in (
            {},
            {"overrun": 1.5},
            {"overrun": 1.0, "coverage": 0.05},
            {"coverage": 0.049},
            {"words_per_second": 5.1},
        )
    ]
    found["outliers"] = [
        find_outliers(dict(zip("abcdef", offsets, strict=False)))
        for offsets in ((0, 1, 2, 3, 40), (0, 0, 0, 0, 5), (0, 0, 0, 0, -5.5, 6), (0, 90, 0, 0))
    ]
    late = CaptionReport(
        Path("out"),
        {
            n: Prepared("file", (Cue(0, 1, "x"),), type(usual)(**{**vars(usual), "offset": o}))
            for n, o in zip("abcde", (0, 0, 0, -9.6, 8.5), strict=True)
        },
        {Path("z"): "why"},
    )
    found["shifted"] = [late.warnings, str(late).splitlines()[-1]]
    sizes = {name: videos / name for name in ("a.mp4", "e.mp4", "f.mp4")}
    found["shards"] = write_shards(tmp_path / "shards", sizes, {"a.mp4": [Cue(0, 1, "x")]}, 60)
    write_captions(tmp_path / "c.json", {"ü": [Cue(0, 1.5, "ä")], "none": []})
    found["written"] = (tmp_path / "c.json").read_text()
    approved.check("prepared-captions", found, TMP=tmp_path)


def test_comparisons_of_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the width of columns depends on the paths
    tmp_path = Path()
    first = run_folder(tmp_path / "first", 1e-3, [4.0, 2.0, 1.0], {"R@1": 0.5, "R@1 low": 0.1})
    second = run_folder(tmp_path / "second", 1e-4, [*[3.0] * 49, 3.5])
    with (second / "log.jsonl").open("a") as file:
        for update, loss in ((25, 2.0), (50, 2.5)):
            print(json.dumps({"update": update, "epoch": 1, "validation_loss": loss}), file=file)
    (second / "model").rmdir()
    file = tmp_path / "result.json"
    file.write_text(json.dumps(RESULT))
    result = RunResult(first / "model", 3, 1.0, 1.0, None, {}, {})
    made = comparison.compare([result, second, file])
    for name in ("losses.svg", "losses.png", "page.html"):
        made.save_page(tmp_path / name) if name[0] == "p" else made.save_picture(tmp_path / name)
    page = (tmp_path / "page.html").read_text()
    (tmp_path / "bad.json").write_text("{}")
    found = {
        "table": str(made).splitlines(),
        "dict": {k: v for k, v in made.to_dict().items() if k != "runs"},
        "runs": [
            [r.label, len(r.curve), summary(np.array(r.curve or [0.0]))[1:], r.validation]
            for r in made.runs
        ],
        "page": [page.count("<tr"), page.count("<td"), page.count("<svg"), "not finished" in page],
        "legend": "not finished" in (tmp_path / "losses.svg").read_text(),
        "errors": [
            outcome(lambda: comparison.compare([first])),
            outcome(lambda: comparison.compare("ab")),
            outcome(lambda: comparison.compare([first, tmp_path / "none"])),
            outcome(lambda: comparison.compare([first, tmp_path / "bad.json"])),
            outcome(lambda: made.save_picture(tmp_path / "a.gif")),
            outcome(lambda: comparison.compare([file, file]).save_picture(tmp_path / "a.svg")),
            outcome(lambda: made.save_page(file / "a")),
        ],
    }
    approved.check("comparisons-of-runs", found)


def test_comparisons_of_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path = Path()
    head = "video_id,text,rank,IoU,right,similarity\n"
    rows = [
        (f"v{i // 3}", f"text {i % 5}", 1 + (7 * i) % 13, (i % 4) / 4, i % 3 == 0, 0.1)
        for i in range(24)
    ]
    changed = [
        (v, t, max(1, r - i % 3), iou * 0.9, not right, s)
        for i, (v, t, r, iou, right, s) in enumerate(rows)
    ]

    def write(name, rows, head=head):
        path = tmp_path / name
        path.write_text(head + "".join(",".join(map(str, row)) + "\n" for row in rows))
        return path

    first, second = write("a.csv", rows), write("b.csv", changed[2:])
    made = compare_examples(first, second, seed=1)
    made.save_page(tmp_path / "page.html")
    (tmp_path / "latin.csv").write_bytes(b"\xff\n")
    errors = {
        "absent": lambda: compare_examples(first, tmp_path / "none"),
        "latin": lambda: compare_examples(first, tmp_path / "latin.csv"),
        "short": lambda: compare_examples(first, write("s.csv", [("a", "b")])),
        "page": lambda: made.save_page(first / "page.html"),
        "quotes": lambda: compare_examples(first, write("q.csv", [('"a"b', *rows[0][1:])])),
        "other": lambda: compare_examples(first, write("o.csv", [("x", *rows[0][1:])])),
        "columns": lambda: compare_examples(
            *[write("c.csv", [("a", 1)], "video_id,similarity\n")] * 2
        ),
        "number": lambda: compare_examples(
            first, write("n.csv", [(*rows[0][:2], "x", *rows[0][3:])])
        ),
    }
    whole = made.to_dict()
    whole["changes"] = whole["changes"][:3]
    found = {
        "dict": whole,
        "text": str(made).splitlines()[:12],
        "page": (tmp_path / "page.html").read_text().count("<td"),
        "errors": {name: outcome(call) for name, call in errors.items()},
        "mean ranks": compare_examples(
            *[write("m.csv", [("a", "b", 3.0), ("a", "b", "inf")], "video_id,text,mean rank\n")] * 2
        ),
    }
    approved.check("comparisons-of-examples", found)


def test_a_demo_in_words():
    run = make_run("overlap", (0.5, 0.75, 2.0))
    approved.check(
        "demo-in-words",
        [demo.format_scores(run), demo.WORLD, [p.name for p in demo.sample_clips()]],
    )


def test_one_process(monkeypatch):
    world = World()
    rows = torch.arange(6.0).view(3, 2).requires_grad_()
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    found = {
        "places": [list(World(rank, 3).own_places(1, 3)) for rank in range(3)],
        "alone": [
            list(world.own_places(2, 5)),
            [world.on_main, World(1, 2).on_main],
            [world.broadcast("a"), world.gather(3), world.mean({"a": 2.0}), world.barrier()],
            [world.gather_rows(rows).requires_grad, world.gather_with_gradient(rows) is rows],
            [world.own_rows(4).start, world.own_rows(4).stop],
        ],
    }
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    monkeypatch.setattr(torch, "__version__", "9.9")
    found["devices"] = [
        choose_device("auto"),
        choose_device("cpu:0"),
        outcome(lambda: choose_device("cuda:1")),
    ]
    accelerator = torch.device("cuda")
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: accelerator
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    found["with two"] = [
        choose_device("cuda:1"),
        outcome(lambda: choose_device("cuda:2")),
        outcome(lambda: choose_device("tpu")),
    ]
    with joined("cpu") as alone:
        found["joined"] = [alone.rank, alone.size, str(alone.device)]
    with pytest.raises(RuntimeError, match="other"), joined("cpu"):
        raise RuntimeError("gloo of other things")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def enter():
        with joined("cpu"):
            pass

    found["no address"] = outcome(enter)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    found["no port"] = outcome(enter)
    approved.check("one-process", found)
