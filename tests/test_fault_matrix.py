"""Every command that writes, with a fault at random writes: the same command then ends unbroken."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli import test_finetune, test_pretrain
from tests.faulty import Fault, run_command
from tests.library.colours import write_video
from tests.training.labelled_world import labelled_world, untrained
from tests.training.tiny_corpus import SPEC, THINGS, tokenizer
from videoclip.data.feature_store import FeatureStore
from videoclip.library.library import VideoLibrary

QUICK = ("prepare", "extract", "index", "export", "cut")
COMMANDS = (*QUICK, "pretrain", "finetune")
KILLS = ("SIGKILL", "SIGTERM", "SIGINT", "power")
PROMPT = 10.0
"""Seconds within which an interrupted command ends: it takes less than two, but machines differ."""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Everything the commands read, outside the folders they write to."""
    folder = tmp_path_factory.mktemp("given")
    for number, colours in enumerate((["red", "blue"], ["green"], ["white", "red", "black"])):
        path = write_video(folder / "videos" / f"{number}.mp4", colours * 3)
        path.with_suffix(".vtt").write_text(
            f"WEBVTT\n\n00:00.000 --> 00:02.000\nchop onion {number}\n"
        )
    tokenizer().save(folder)
    with FeatureStore.create(folder / "store", SPEC) as store:
        rng = np.random.default_rng(0)
        for thing in THINGS:
            store.append(thing, rng.normal(size=(30, SPEC.dim)))
    starts = [0.0, 5.0, 10.0]
    spans = {"start": starts, "end": [s + 4 for s in starts]}
    captions = {thing: spans | {"text": [f"now the {thing}"] * 3} for thing in THINGS}
    (folder / "captions.json").write_text(json.dumps(captions))
    world = folder / "world"
    untrained(labelled_world(world, num_videos=12)).save_pretrained(world / "model")
    moments = [
        {"path": str(folder / "videos" / f"{i}.mp4"), "start": 0.5, "end": 2.0} for i in (0, 2)
    ]
    (folder / "moments.json").write_text(json.dumps(moments))
    return folder


def arguments(name, given):
    """The command line of each command; it writes to the current folder."""
    videos = [given / "videos"]
    if name == "prepare":
        return [name, *videos, "--out", "captions"]
    if name == "extract":
        return [name, *videos, "--features", "store", "--workers", 0]
    if name == "index":
        return [name, *videos, "--library", "library", "--workers", 0]
    if name == "export":
        return [name, given / "moments.json", "--out", "moments.csv"]
    if name == "cut":
        return [name, given / "moments.json", "--out", "clips"]
    if name == "pretrain":
        options = test_pretrain.OPTIONS | {"save-every-updates": 2}
        places = ["--data", given / "captions.json", "--features", given / "store"]
        command = [name, "tiny", *places, "--out", "run", "--vocabulary", given / "vocab.txt"]
    else:
        options = test_finetune.OPTIONS | {"epochs": 1}
        world = given / "world"
        places = ["--model", world / "model", "--features", world / "store"]
        places += ["--annotations", world / "annotations" / "youcook2"]
        command = [name, "youcook2", *places, "--out", "run"]
    return command + [part for option, value in options.items() for part in (f"--{option}", value)]


def result(name, folder):
    """What a command has written, as far as it must be the same after a fault."""
    if name == "extract":
        with FeatureStore.open(folder / "store") as store:
            return {video: store.read(video).tobytes() for video in store.video_ids}
    if name == "index":
        from tests.library.colours import ColourEmbedder

        with VideoLibrary(folder / "library", ColourEmbedder()) as library:
            return [
                [(v.path, v.duration, v.num_windows, v.checksum) for v in library.videos()],
                [m.as_dict() for m in library.search("red onion", speech=1)],
            ]
    if name in ("pretrain", "finetune"):
        weights = (folder / "run" / "model" / "model.safetensors").read_bytes()
        log = map(json.loads, (folder / "run" / "log.jsonl").read_text().splitlines())
        return weights, [(entry["update"], entry["loss"]) for entry in log if "loss" in entry]
    files = [path for path in sorted(folder.rglob("[!.]*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def unbroken(given, tmp_path_factory):
    """By command: how it ends without a fault, what it writes, and its largest file."""
    known = {}

    def end(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            ended = run_command(arguments(name, given), folder)
            assert ended.status == 0, ended.err
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            known[name] = ended.num_events, result(name, folder), max(sizes)
        return known[name]

    return end


def survives(name, kind, seed, given, unbroken, folder):
    num_events, expected, largest = unbroken(name)
    chance = random.Random(f"{name} {kind} {seed}")
    at = int(2 ** chance.uniform(0, np.log2(largest))) if kind == "disk" else 0
    ended = run_command(
        arguments(name, given), folder, Fault(kind, at or chance.randint(1, num_events))
    )
    if kind in ("SIGKILL", "power"):
        assert ended.status == -signal.SIGKILL
    elif kind == "disk":
        assert ended.status == 1, ended
        assert ended.err and "Traceback" not in ended.err, ended.err
        for line in ended.err.splitlines():
            assert len(line) < 1000
    else:
        assert ended.status == 130 and "Traceback" not in ended.err, ended
        assert ended.seconds < PROMPT
    again = run_command(arguments(name, given), folder)
    assert again.status == 0, (ended, again)
    assert result(name, folder) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in QUICK for kind in (*KILLS, "disk")]
    + [("pretrain", "power"), ("pretrain", "disk")],
)
def test_after_a_fault_the_same_command_ends_unbroken(name, kind, given, unbroken, tmp_path):
    survives(name, kind, 0, given, unbroken, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", [*KILLS, "disk"])
@pytest.mark.parametrize("name", COMMANDS)
def test_after_any_fault_the_same_command_ends_unbroken(
    name, kind, seed, given, unbroken, tmp_path
):
    survives(name, kind, seed, given, unbroken, tmp_path)


SLOW_WORKERS = """
import signal
from tests.features.toy_backbones import MeanColour
from videoclip.__main__ import run
from videoclip.features import backbones

backbones.load_backbone = lambda *_: MeanColour()
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in jobs
    run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_command(number, tmp_path):
    for name in ("slow1", "slow2", "slow3"):  # each takes a minute
        write_video(tmp_path / "videos" / f"{name}.mp4", ["red"])
    script = tmp_path / "script.py"
    script.write_text(SLOW_WORKERS)
    options = ["extract", "videos", "--features", "s", "--workers", "2"]
    command = [sys.executable, str(script), *options]
    root = str(Path(__file__).parents[1])
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            command, cwd=tmp_path, stderr=err, env=os.environ | {"PYTHONPATH": root},
            start_new_session=True,
        )  # fmt: skip
        try:
            while len(members := session(process.pid)) < 3:
                assert process.poll() is None, (tmp_path / "err").read_text()
                time.sleep(0.05)
            time.sleep(1.0)
            started = time.monotonic()
            process.send_signal(number)
            process.wait(60)
            while session(process.pid) and time.monotonic() < started + PROMPT:
                time.sleep(0.02)
            assert not session(process.pid), members
            assert time.monotonic() - started < PROMPT
        finally:
            process.kill()
    is_killed = number == signal.SIGKILL
    assert process.returncode == (-signal.SIGKILL if is_killed else 130)
    assert (tmp_path / "err").read_text() == ("" if is_killed else "videoclip: interrupted\n")


def session(leader):
    """The living processes of a session, but for the tracker of resources."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            line = os.fsdecode((stat.parent / "cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] != "Z" and "resource_tracker" not in line:
            found.append(line)
    return found
