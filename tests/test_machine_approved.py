"""Files, errors, processes and what is said about a machine and its folders, as approved."""

import importlib.util
import json
import os
import pickle
import re
import shutil
import sqlite3
import sys
import warnings
from collections import namedtuple
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests import approved
from tests.library.colours import ColourEmbedder, write_video
from tests.model.tiny_models import make_model
from videoclip import doctor, errors, files, info, processes
from videoclip.ablation.runs import MEASURED_FILE
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.frame_store import FrameSpec, FrameStore
from videoclip.library import storage
from videoclip.library.library import VideoLibrary
from videoclip.pretrained import known
from videoclip.synthetic.world import SyntheticConfig
from videoclip.synthetic.write import write_world


def calls_of(disk_calls):
    """The calls so far: kind, name, and of a folder its content."""
    found = []
    for kind, name, content in disk_calls:
        shown = content if isinstance(content, (str, list)) else f"{len(content)} bytes"
        found.append(
            [
                kind,
                name.replace(str(os.getpid()), "PID"),
                str(shown).replace(str(os.getpid()), "PID"),
            ]
        )
    del disk_calls[:]
    return found


def test_files(tmp_path, disk_calls, monkeypatch):
    found, folder = {}, tmp_path / "f"
    num_open = len(list(Path("/dev/fd").iterdir()))

    def keep(name, call):
        found[name] = [approved.outcome(call), calls_of(disk_calls)]

    keep("bytes", lambda: files.write_bytes(folder / "deep/a.bin", b"abc"))
    keep("again", lambda: files.write_text(folder / "deep/a.bin", "é\n"))
    keep("json", lambda: files.write_json(folder / "a.json", {"b": [1, "ü"], "a": None}))
    keep("state", lambda: files.write_state(folder / "s.json", {"x": 1.5, "y": (1, 2)}))
    keep(
        "read", lambda: [files.read_json(folder / name) for name in ("a.json", "s.json", "no.json")]
    )

    def fails():
        with files.atomic_file(folder / "a.json") as partial_file:
            partial_file.write_text("half")
            raise ValueError("in the middle")

    keep("failed", fails)

    def fill(name, more=""):
        with files.atomic_folder(folder / name) as part:
            (part / "in").mkdir()
            (part / "in/x").write_text(name + more)
            if more == "fail":
                raise ValueError("in the middle")

    keep("folder", lambda: fill("run"))
    keep("replaced", lambda: fill("run", " two"))
    keep("folder failed", lambda: fill("run", "fail"))
    keep("deeper folder", lambda: fill("one/two/three"))
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    keep("by renames", lambda: fill("run", " three"))
    (folder / "run").rename(folder / ".run.old")
    (folder / ".run.partial").mkdir()
    keep("restored", lambda: fill("run", "fail"))
    keep(
        "checksums",
        lambda: files.write_checksums(folder, ["a.json", "s.json"], {"s.json": "0" * 64}, kind="x"),
    )
    keep("verified one", lambda: files.verify_checksums(folder, "copy it", only="a.json"))
    keep("verified the other", lambda: files.verify_checksums(folder, "copy it", only="s.json"))
    keep("verified", lambda: files.verify_checksums(folder, "copy it"))
    (folder / "a.json").unlink()
    keep("missing", lambda: files.verify_checksums(folder, "copy it"))
    keep("no checksums", lambda: files.verify_checksums(tmp_path, "copy it"))
    (folder / "checksums.json").write_text("{}")
    keep("no digests", lambda: files.verify_checksums(folder, "copy it"))
    keep("output", lambda: files.write_output(folder / "o.txt", "text"))
    keep("not a folder", lambda: files.write_output(folder / "o.txt/x", b"x"))
    content = {
        name: (folder / name).read_bytes() for name in ("deep/a.bin", "s.json", "o.txt", "run/in/x")
    }
    states = ['{"a": 1, "crc32": 5}', '{"a": 1}', "[1]", "{", "[" * 5000, '{"crc32": 1}']
    approved.check(
        "files",
        {
            "calls": found,
            "content": content,
            "left": sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")),
            "states": [approved.outcome(partial(files.parse_state, text)) for text in states],
            "sealed": files.seal({"b": 1, "a": (1, "ü")}),
            "numbers as names": files.parse_state(json.dumps(files.seal({"a": {10: 1, 9: 2}}))),
            "open": len(list(Path("/dev/fd").iterdir())) - num_open,
            "damaged": approved.outcome(partial(files.read_json, folder / "run/in/x", "do this")),
            "digest": files.sha256(folder / "o.txt"),
        },
        TMP=tmp_path,
    )


def test_errors(capsys):
    made = [
        errors.DataError("is odd"),
        errors.DataError("is odd", "f.txt"),
        errors.DataError("is odd", Path("f.txt"), 0),
        errors.DecodeError("is odd", "v.mp4"),
        errors.MissingExtraError("this", "web"),
        errors.ConfigError("wrong"),
    ]
    errors.show_warning("careful", UserWarning, "x.py", 3)
    unknown = [
        ("recipe", "smal", ["small", "paper"], ""),
        ("x", "ZZ", ["b", "a"], "p."),
        ("x", "LR", ["lr"], "o."),
    ]
    approved.check(
        "errors",
        {
            "texts": [str(error) for error in made],
            "attributes": [{k: str(v) for k, v in vars(error).items()} for error in made],
            "pickled": [repr(pickle.loads(pickle.dumps(error))) for error in made],
            "bases": [[base.__name__ for base in type(error).__mro__[1:3]] for error in made],
            "unknown": [errors.unknown(*names) for names in unknown],
            "printable": [errors.printable(text) for text in ("a\x1b\nb", "é🧅", "\udcff", 5)],
            "one line": [
                errors.one_line(e) for e in (ValueError(" a\n b "), KeyError(), OSError(5, "x"))
            ],
            "warning": capsys.readouterr().err,
            "advice": errors.DISK_ADVICE,
        },
    )


def test_processes(monkeypatch):
    main = sys.modules["__main__"]
    with processes.without_main_module():
        hidden = [sys.modules["__main__"] is main, sys.modules["__main__"].__name__]
        hidden.append(processes._main_is_hidden.locked())  # by one thread at a time
    started, ended = [], []
    monkeypatch.setattr(
        processes,
        "ProcessPoolExecutor",
        lambda *a, **o: started.append([a[0], a[1]._name, o["initializer"].__name__]),
    )
    monkeypatch.setattr(
        processes.multiprocessing, "get_context", lambda kind: SimpleNamespace(_name=kind)
    )
    processes.worker_pool(3)
    pools = []

    def pool(number):
        pools.append(number)
        return nullcontext(SimpleNamespace(map=map))

    with monkeypatch.context() as patch:
        patch.setattr(processes, "worker_pool", pool)
        mapped = {
            str(number): list(processes.map_in_processes(str, iter([1, 2]), number))
            for number in (None, 0, 1, 4)
        }
    parent = SimpleNamespace(join=lambda: ended.append("joined"))
    monkeypatch.setattr(processes.os, "_exit", ended.append)
    for one in (None, parent):
        monkeypatch.setattr(processes.multiprocessing, "parent_process", lambda one=one: one)
        processes._wait_for_parent()
    threads = []
    monkeypatch.setattr(
        processes.threading,
        "Thread",
        lambda **o: (
            threads.append([o["target"].__name__, o["daemon"]])
            or SimpleNamespace(start=lambda: threads.append("started"))
        ),
    )
    processes.end_with_parent()
    approved.check(
        "processes",
        {
            "main module": [hidden, sys.modules["__main__"] is main],
            "pool": started,
            "ended": ended,
            "threads": threads,
            "mapped": mapped,
            "pools": pools,
        },
    )


def test_doctor(tmp_path, monkeypatch):
    """Each check where it passes and where it fails."""
    import torch

    Usage = namedtuple("Usage", "free")
    outcomes = {}
    monkeypatch.setattr(doctor, "_multiply", lambda name: f"fast on {name}")
    monkeypatch.setattr(doctor, "_embed", lambda name, device: f"{name} on {device}")
    monkeypatch.setattr(doctor, "present_models", lambda: {"clip-base": tmp_path})
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.x")
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setattr(
        doctor.shutil, "disk_usage", lambda folder: Usage(7.6e9 if folder == tmp_path else 1)
    )
    monkeypatch.setattr(doctor, "default_model", lambda: "best/here")
    monkeypatch.setattr(doctor, "_decode", lambda: "decodes")
    origin = {"skvideo": None, "faiss": "x", "transformers": "x"}
    find = importlib.util.find_spec

    def find_spec(name, *more):
        if name in [module for module, _ in doctor.EXTRAS.values()] + ["sentence_transformers"]:
            return SimpleNamespace(origin=origin[name]) if name in origin else None
        return find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    origin["sentence_transformers"] = "x"
    outcomes["no model named"] = [str(check) for check in doctor.run_checks(tmp_path)][5:6]
    outcomes["all"] = [str(check) for check in doctor.run_checks(tmp_path, "some/model")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage(5e9))
    del origin["sentence_transformers"]

    def fail(*names):
        raise errors.MissingExtraError("the starter", "starter")

    monkeypatch.setattr(doctor, "_embed", fail)
    outcomes["with a GPU"] = [str(check) for check in doctor.run_checks(tmp_path, "starter")][1:8]
    outcomes["other model"] = [str(c) for c in doctor.run_checks(tmp_path, "x", "cuda")][1:5]
    outcomes["no folder"] = [
        re.sub(r"/tmp\w{8}'", "/FILE'", str(check))
        for check in doctor.run_checks(tmp_path / "no", "x", "cpu")
    ][5:6]
    monkeypatch.setattr(doctor.importlib, "import_module", lambda name: fail())
    outcomes["no torch"] = [str(check) for check in doctor.run_checks(tmp_path, "x")][1:]
    monkeypatch.undo()
    embedder = ColourEmbedder()
    embedder.embed_text = lambda text: np.full((1, 3), np.nan)
    monkeypatch.setattr("videoclip.embedding.Embedder.from_pretrained", lambda *names: embedder)
    with monkeypatch.context() as patch:
        patch.setattr(
            "videoclip.training.performance.matmul_peak",
            lambda device, precision: {"fp32": 1234.4e9, "bf16": 77e9}[precision],
        )
        outcomes["speed"] = doctor._multiply("cpu").rpartition(": ")[2]
    outcomes["not finite"] = approved.outcome(lambda: doctor._embed("x", "cpu"))
    embedder.embed_text = lambda text: np.array([[1.0, np.inf]])
    outcomes["infinite"] = approved.outcome(lambda: doctor._embed("x", "cpu"))
    network_disk = SimpleNamespace(
        execute=lambda sql: SimpleNamespace(fetchone=lambda: ("delete",)), close=lambda: None
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            doctor,
            "sqlite3",
            SimpleNamespace(
                connect=lambda path: network_disk, OperationalError=sqlite3.OperationalError
            ),
        )
        outcomes["a disk without logs"] = approved.outcome(lambda: doctor._write(tmp_path))
    outcomes["embeds"] = (
        setattr(embedder, "embed_text", lambda text: np.ones((1, 3))),
        doctor._embed("x", "cpu"),
    )[1]
    monkeypatch.setattr("videoclip.features.decode.sample_frames", lambda path, rate: [])
    outcomes["pixels"] = approved.outcome(doctor._decode).partition(" decodes")[1:]
    approved.check("doctor", outcomes, TMP=tmp_path)


def test_info(tmp_path, monkeypatch):
    """What is said about each kind of folder, and what is found damaged in it."""
    monkeypatch.setattr(info, "present_models", lambda: {"clip-base": Path("/x")})
    make_model().save_pretrained(tmp_path / "model")
    spec = FeatureSpec(
        dim=3, features_per_second=1.0, backbone="b", normalized=True, fingerprint="x"
    )
    with FeatureStore.create(tmp_path / "store", spec) as store:
        store.append("a", np.ones((5, 3)))
        store.append("b", np.ones((2, 3)))
    FrameStore.open_or_create(tmp_path / "frames", FrameSpec(4, 6, 1.0, "squash"))
    small = SyntheticConfig(
        pixels=32, frames_per_second=2, steps_per_video=(1, 1), step_seconds=(1.0, 2.0)
    )
    write_world(tmp_path / "world", small, 1, 0, None)
    write_video(tmp_path / "v/a.mp4", ["red", "blue"])
    (tmp_path / "v/a.srt").write_text(
        "1\n00:00:00,000 --> 00:00:09,000\na b c\n\n2\n00:00:02,000 --> 00:00:05,000\nd\n"
    )
    (tmp_path / "v/none.srt").write_text("")
    with VideoLibrary(tmp_path / "library", ColourEmbedder(), model="m") as library:
        library.update(tmp_path / "v")
    run = tmp_path / "run"
    run.mkdir()
    entries = [{"update": 1, "loss": 2.0}, {"update": 2, "loss": 1.5}, {"validation_loss": 3.0}]
    (run / "log.jsonl").write_text("".join(json.dumps(files.seal(e)) + "\n" for e in entries))
    (run / "config.json").write_text('{"name": "small"}')
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "log.jsonl").write_text("")
    (tuned / "config.json").write_text('{"name": "x", "benchmark": "coin"}')
    (tuned / "model").mkdir()
    (tmp_path / "table").mkdir()
    (tmp_path / "table/table.json").write_text("[{}]")
    files.write_checksums(tmp_path / "table", ["table.json"])
    (tmp_path / "s3d").mkdir()
    (tmp_path / "s3d/words.txt").write_text("cut")
    (tmp_path / "s3d/config.json").write_text('{"backbone": "s3d", "num_words": 1}')
    (tmp_path / "empty").mkdir()
    names = [
        "model",
        "store",
        "frames",
        "world",
        "v/a.mp4",
        "v/a.srt",
        "library",
        "run",
        "tuned",
        "table",
    ]
    names += ["s3d", "empty", "absent", "v/none.srt"]
    described = {name: approved.outcome(partial(info.describe, tmp_path / name)) for name in names}
    described |= {
        name: approved.outcome(partial(info.describe, name))
        for name in ("starter", "small", "clip-base", "clip-large")
    }
    whole = {name: approved.outcome(partial(info.verify, tmp_path / name)) for name in names}
    whole["all"] = info.verify(tmp_path)

    for name in ("plans", "facts", "measured", "other world", "records", "config"):
        source = {"other world": "world", "records": "library", "config": "model"}.get(name, "run")
        shutil.copytree(tmp_path / source, tmp_path / name)
    (tmp_path / "plans/plans").mkdir()
    wrong_sum = '{"a": 1, "crc32": 5}'
    for name in ("plans/plans/1.json", "facts/facts.json", f"measured/{MEASURED_FILE}"):
        (tmp_path / name).write_text(wrong_sum)
    (tmp_path / "other world/world.json").write_text(wrong_sum)
    (tmp_path / "other world/checksums.json").unlink()
    with closing(sqlite3.connect(tmp_path / "records/catalog.sqlite")) as table, table:
        table.execute("UPDATE videos SET duration = 7")
    settings = files.read_json(tmp_path / "config/config.json")
    files.write_state(tmp_path / "config/config.json", settings | {"temperature": 0.5})
    files.write_json(tmp_path / "table/table.json", [{}, {}])
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    altered = {
        name: [
            approved.outcome(partial(one, tmp_path / name)) for one in (info.verify, info.describe)
        ]
        for name in ("records", "config", "table")
    }
    altered |= {
        name: approved.outcome(partial(info.verify, place))
        for name, place in {
            **{n: tmp_path / n for n in ("plans", "facts", "measured", "other world")},
            "an address": "s3://bucket/library",
        }.items()
    }
    monkeypatch.undo()

    def damage(name, position=-5):
        path = tmp_path / name
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    damage("model/model.safetensors")
    damage("store/features.bin", 3)
    damage("run/log.jsonl", 12)
    damage("library/background-0.npz", 2000)
    world_file = sorted((tmp_path / "world").rglob("*.mp4"))[0]
    damage(world_file.relative_to(tmp_path))
    (tmp_path / "library/catalog.sqlite-wal").unlink(missing_ok=True)
    damaged = {
        name: approved.outcome(partial(info.verify, tmp_path / name))
        for name in ("model", "store", "run", "library", "world")
    }
    with FeatureStore.create(tmp_path / "cut", spec) as store:
        store.append("a", np.ones((5, 3)))
        store.append("b", np.ones((1, 3)))
    index = tmp_path / "cut/index.bin"
    os.truncate(index, index.stat().st_size - 1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        info.describe(tmp_path / "cut")
    (tmp_path / "void").mkdir()
    from videoclip.library.catalog import Catalog

    Catalog(tmp_path / "void/catalog.sqlite").close()
    approved.check(
        "info",
        {
            "described": described,
            "whole": whole,
            "damaged": damaged,
            "altered": altered,
            "warnings": [str(one.message) for one in warned],
            "void": [
                approved.outcome(partial(f, tmp_path / "void"))
                for f in (info.describe, info.verify)
            ],
        },
        TMP=tmp_path,
    )


def test_known_models(tmp_path, monkeypatch):
    def folder(name, **contents):
        path = tmp_path / name
        path.mkdir(parents=True)
        for file, text in contents.items():
            (path / file.replace("__", ".")).write_text(text)
        return path

    index = '{"weight_map": {"a": "m1.safetensors", "b": "m2.safetensors"}}'
    folders = [
        folder("whole", config__json="{}", m__safetensors=""),
        folder("no config", m__safetensors=""),
        folder("no weights", config__json="{}"),
        folder("old", config__json="{}", pytorch_model__bin=""),
        folder(
            "parts", config__json="{}", m1__safetensors="", **{"m__safetensors__index__json": index}
        ),
        folder(
            "both",
            config__json="{}",
            m1__safetensors="",
            m2__safetensors="",
            pytorch_model__bin="",
            **{"m__safetensors__index__json": index},
        ),
    ]
    cache = tmp_path / "cache"
    two = '{"text_config": {}, "vision_config": {}}'
    places = {
        "openai/clip-vit-base-patch32": folder(
            "cache/models--openai--clip-vit-base-patch32", config__json=two, m__safetensors=""
        ),
        "a/b--c": folder("cache/models--a--b--c", config__json=two, m__safetensors=""),
        "a/own": folder(
            "cache/models--a--own",
            config__json='{"format": "videoclip-model-2"}',
            m__safetensors="",
        ),
        "a/text": folder(
            "cache/models--a--text", config__json='{"text_config": {}}', m__safetensors=""
        ),
        "a/half": folder("cache/models--a--half", config__json=two),
    }
    import huggingface_hub

    def cached(hub_id, file):
        return str(places[hub_id] / file) if hub_id in places else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    found = [known.default_model(), known.present_models(), list(known.other_models())]
    places.clear()
    monkeypatch.chdir(tmp_path)
    folder("clip-base")
    approved.check(
        "known-models",
        {
            "complete": {f.name: known.is_complete(f) for f in folders},
            "weights": {f.name: [p.name for p in known.weights_files(f)] for f in folders},
            "found": found,
            "none": [known.default_model(), known.present_models()],
            "names": [known.full_name(n) for n in ("clip-large", "clip-base", "a/b", Path("x"))],
            "aliases": known.ALIASES,
            "sizes": [round(model.download_gb, 2) for model in known.KNOWN],
        },
        TMP=tmp_path,
    )


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("VIDEOCLIP_S3D", raising=False)
