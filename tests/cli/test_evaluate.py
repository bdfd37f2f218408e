"""`videoclip evaluate` as a user runs it."""

import csv
import json

import numpy as np
import pytest

from videoclip.cli import main
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.evaluation import trial


class AxisBackbone:
    """Texts and features are the same two axes."""

    name = "axes"
    spec = FeatureSpec(2, 1.0, "axes", True, "none")

    def features_for(self, path):
        raise AssertionError("evaluations read stores")

    def embed_text(self, texts):
        return np.array([[1.0, 0.0] if "onion" in text else [0.0, 1.0] for text in texts])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "load_backbone", lambda name, device: AxisBackbone())
    with FeatureStore.create(tmp_path / "store", AxisBackbone.spec) as store:
        store.append("kitchen", np.eye(2)[[0, 0, 0, 1, 1]])
    (tmp_path / "own.csv").write_text(
        "video,start,end,text\nkitchen,0,3,chop the onion\nkitchen,3,5,plant\nshed,,,saw\n"
    )
    return tmp_path


def run(folder, *more):
    options = {"--model": "frames", "--features": folder / "store", "--num-resamples": 10}
    arguments = [str(part) for option in options.items() for part in option]
    annotations = str(folder / "own.csv")
    return main(["evaluate", "csv", "--annotations", annotations, *arguments, *map(str, more)])


def test_a_table_on_stdout(folder, capsys):
    assert run(folder) == 0
    out, err = capsys.readouterr()
    assert out.startswith("csv: text-to-video and video-to-text retrieval")
    assert "mean of axes frames" in out and "1 left out (shed)" in out
    assert err == ""


def test_json_rows_and_page(folder, capsys):
    page, rows = folder / "page.html", folder / "rows.csv"
    assert run(folder, "--json", "--per-video", rows, "--html", page, "--ties", "released") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["measures"]["text-to-video R@1"]["value"] == 1.0
    assert values["settings"]["ties"] == "released"
    assert values["missing"] == [{"video_id": "shed", "reason": "no features"}]
    with rows.open() as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["chop the onion", "plant"]
    assert page.read_text().startswith("<!doctype html>")


def test_progress_is_drawn_on_a_terminal(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(folder) == 0
    assert capsys.readouterr().err == "\r2 of 2 examples\n"


def test_errors_take_one_line(folder, capsys):
    (folder / "own.csv").write_text("video,start,end,text\nkitchen,3\n")
    assert run(folder) == 1
    assert capsys.readouterr().err == (
        f"videoclip: error: {folder / 'own.csv'}:2: 2 of 4 fields: fix or remove the row\n"
    )
