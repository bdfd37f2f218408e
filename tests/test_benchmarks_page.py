"""The page on benchmarks names tests, benchmarks and recipes that exist."""

import re
from pathlib import Path

import pytest

from videoclip.benchmarks import load_benchmarks
from videoclip.recipes import FINETUNING

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", TEXT))))
def test_every_test_exists(name):
    path, function = name.split("::")
    assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")


def test_every_benchmark_has_a_row():
    rows = [line.split("|")[1:] for line in TEXT.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(load_benchmarks())
    assert all(name in TEXT for name in FINETUNING)
