"""The files of docs/adding.md, put into a copy of the package, work from the command line."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork_server import run_script

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "adding.md"
COPY = """
import sys
for name in [*sys.modules]:
    if name.partition(".")[0] in ("tests", "videoclip"):
        del sys.modules[name]
sys.path.insert(0, sys.argv[1] + "/src")
"""
"""Lets the copy be imported where `videoclip` was."""
SCRIPT = r"""
import json, os
from pathlib import Path
import pytest
import videoclip
from videoclip.cli import main

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
root = Path(sys.argv[1])
assert Path(videoclip.__file__).is_relative_to(root)

def call(*arguments):
    assert main([str(a) for a in arguments]) == 0, arguments

call("synth", root / "world", "--num-videos", 3, "--workers", 0, "--pixels", 32,
     "--step-seconds", 3, 5, "--steps-per-video", 2, 3)
(root / "vocab.txt").write_text("\n".join(WORDS))
videos, run = root / "world" / "videos", root / "run"
call("extract", videos, "--features", root / "features", "--backbone", "colour", "--workers", 0)
call("pretrain", "tiny", "--data", videos, "--features", root / "features", "--out", run,
     "--vocabulary", root / "vocab.txt", "--model.vocab-size", len(WORDS), "--model.cls-id", 2,
     "--model.sep-id", 3, "--model.feature-dim", 3, "--model.backbone", "colour",
     "--model.hidden-size", 16, "--model.num-heads", 2, "--model.num-video-layers", 1,
     "--model.num-text-layers", 1, "--model.intermediate-size", 16,
     "--plan.videos-per-batch", 2, "--plan.num-neighbours", 2, "--epochs", 1, "--precision", "fp32",
     "--loss.kind", "margin")
examples = [{"videoID": f"video{i:05d}", "enCap": ["a red ball", "a box"]} for i in range(3)]
(root / "vatex_validation_v1.0.json").write_text(json.dumps(examples))
call("evaluate", "vatex", "--model", run / "model", "--features", root / "features",
     "--annotations", root)
plain = ["-c", os.devnull, "--rootdir", str(root), "--import-mode=importlib"]
assert pytest.main(["-q", "-p", "no:cacheprovider", *plain, str(root / "tests")]) == 0
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A folder with `src`, a copy of the package, and `tests`, with the files of the page added."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src", root / "src")  # with __pycache__, which stays valid
    blocks = re.findall(r"^`([\w/]+\.py)`\n\n```python\n(.*?)```$", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 6
    for name, content in blocks:
        path = root / name
        assert not path.exists(), f"{name} would replace a file"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_the_added_files_extract_train_and_evaluate_and_pass_their_tests(copy):
    status, output = run_script(COPY + SCRIPT, copy)
    assert status == 0, output
    assert "vatex" in output
    assert "3 passed" in output


def test_help_lists_the_added_names_without_torch(copy):
    script = """
import sys
from videoclip.cli import main
for arguments in (["evaluate", "--help"], ["pretrain", "tiny", "--help"], ["extract", "--help"]):
    try:
        main(arguments)
    except SystemExit as exit:
        assert exit.code == 0
assert "torch" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    output = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert "vatex" in output
    assert "margin" in output
    assert "colour" in output
