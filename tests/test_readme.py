"""What the README shows, works."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from videoclip.cli import _parse
from videoclip.demo.run import sample_clips

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    command
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    for command in line.split(" > ")[0].split(" | ")
    if re.search(r"\bvideoclip ", command)
]


def test_python_runs_and_prints_what_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bikes = next(path for path in sample_clips() if path.stem == "bikes")
    shutil.copy(bikes, tmp_path)
    (block,) = (block for kind, block in BLOCKS if kind == "python")
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    shown = re.search(r"# \[(-?[\d.]+) (-?[\d.]+)\]", block)
    printed = [float(x) for x in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    assert printed == pytest.approx([float(x) for x in shown.groups()], abs=0.02)
    assert repr(names["video"]) in block
    assert str(names["text"].shape) in block


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line, monkeypatch):
    words = shlex.split(line, comments=True)
    name, *arguments = words[words.index("videoclip") + 1 :]
    assert callable(_parse(name, arguments).run)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE):
        assert f"\n{target}: " in makefile


def test_continuous_integration_runs_the_test_command():
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").rstrip().endswith("make test")


def test_linked_files_exist():
    for link in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / link).is_file(), link
