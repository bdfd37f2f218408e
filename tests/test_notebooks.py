"""The notebooks of examples/ run from their first cell to their last."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def cells_of(notebook, kind):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_there_is_one_for_each_tutorial():
    assert [notebook.stem for notebook in NOTEBOOKS] == [
        "evaluate_and_compare",
        "search_your_folder",
        "teach_it_your_narration",
    ]
    for notebook in NOTEBOOKS:
        compile("\n".join(cells_of(notebook, "code")), str(notebook), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in cells_of(notebook, "code"):
        exec(compile(cell, notebook.name, "exec"), names)
    assert capsys.readouterr().out
