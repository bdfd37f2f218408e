"""The comparison with approved files notices what it is for, and the files stay small."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from tests import approved

VALUE = {"answers": [{"start": 1.5, "words": "Zwiebel 🧅"}, {"start": 2.0, "words": None}], "n": 2}


@dataclass
class Answer:
    start: float
    ids: frozenset[str]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A folder of approved files that has VALUE and a text."""
    monkeypatch.setattr(approved, "FOLDER", tmp_path / "approved")
    monkeypatch.setattr(approved, "approve", True)
    approved.check("value", VALUE)
    approved.check("text", "one\ntwo\n")
    monkeypatch.setattr(approved, "approve", False)
    return tmp_path / "approved"


def test_what_was_approved_passes(stored):
    approved.check("value", VALUE)
    approved.check("text", "one\ntwo\n")
    nearly = json.loads(json.dumps(VALUE).replace("1.5", "1.50001"))
    approved.check("value", nearly)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.5", "1.501", ".answers[0].start: 1.5 was approved, 1.501 came"),
        ("2.0", "2", ".answers[1].start: 2.0 was approved, 2 came"),
        ("null", '"null"', ".answers[1].words: None was approved, 'null' came"),
        ('"n": 2', '"n": 3', ".n: 2 was approved, 3 came"),
        ('"n": 2', '"n": true', ".n: 2 was approved, True came"),
        ('"n"', '"m"', ".: keys ['answers', 'n'] were approved, ['answers', 'm'] came"),
        ("2.0", "NaN", ".answers[1].start: 2.0 was approved, nan came"),
    ],
)
def test_what_differs_fails_with_its_path(stored, old, new, message):
    changed = json.loads(json.dumps(VALUE).replace(old, new))
    with pytest.raises(pytest.fail.Exception) as failed:
        approved.check("value", changed)
    assert str(failed.value) == f"value.json differs:\n{message}"


def test_missing_entries_lines_and_files_fail(stored):
    with pytest.raises(pytest.fail.Exception, match=r"answers: 2 entries were approved, 1 came"):
        approved.check("value", {**VALUE, "answers": VALUE["answers"][:1]})
    with pytest.raises(pytest.fail.Exception, match=r"\[1\]: 'two\\n' was approved, 'two' came"):
        approved.check("text", "one\ntwo")
    with pytest.raises(pytest.fail.Exception, match=r"other.json is not in tests/approved"):
        approved.check("other", VALUE)


def test_results_become_plain_data(tmp_path):
    answer = Answer(np.float32(1 / 3), frozenset({"b", "a"}))
    assert approved.plain([answer, np.zeros((1, 2), np.float16), ValueError("no"), b"\x00"]) == [
        {"Answer": {"start": 0.333333, "ids": ["a", "b"]}},
        {"float16 1x2": [[0.0, 0.0]]},
        "ValueError: no",
        "b'\\x00'",
    ]
    assert approved.replaced({f"{tmp_path}/a": [f"{tmp_path}"]}, str(tmp_path), "TMP") == {
        "TMP/a": ["TMP"]
    }
    assert approved.outcome(lambda: [][0]) == "IndexError: list index out of range"


def test_lines_are_json_of_a_readable_width():
    value = {"numbers": [1.5] * 100, "texts": ["long text " * 5] * 3, "empty": [], "one": {"a": 1}}
    lines = list(approved.lines(value))
    assert json.loads("\n".join(lines)) == value
    assert max(map(len, lines)) <= approved.WIDTH


def test_approved_files_stay_small():
    sizes = {path.name: path.stat().st_size for path in approved.FOLDER.glob("*")}
    assert {name: size for name, size in sizes.items() if size > 30_000} == {}
    assert sum(sizes.values()) <= 650_000
