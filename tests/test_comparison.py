"""Runs and evaluations side by side, from folders, files and results."""

import json

import pytest

from videoclip.cli import main
from videoclip.comparison import compare
from videoclip.errors import ConfigError, DataError
from videoclip.training.run import RunResult

RESULT = {
    "benchmark": "csv",
    "model": "starter",
    "settings": {"ties": "unbiased"},
    "measures": {"R@1": {"value": 0.25, "interval": [0.1, 0.4]}},
}


def run_folder(folder, lr, losses, evaluation=None):
    folder.mkdir()
    config = {"name": "tiny", "optim": {"lr": lr}, "frozen": ["text_encoder."], "epochs": 2}
    (folder / "model").mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    log = [{"update": i, "epoch": 2, "loss": loss} for i, loss in enumerate(losses, 1)]
    log.append({"update": len(losses), "validation_loss": losses[-1] + 1})
    if evaluation:
        log += [{"update": 0, "evaluation": {"R@1": 0.0}}, {"update": 9, "evaluation": evaluation}]
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    return folder


@pytest.fixture
def runs(tmp_path):
    first = run_folder(tmp_path / "first", 1e-3, [4.0, 2.0, 1.0], {"R@1": 0.5})
    return first, run_folder(tmp_path / "second", 1e-4, [float(i) for i in range(100, 0, -1)])


def test_settings_that_differ_and_results_are_found(runs):
    comparison = compare(runs)
    assert comparison.settings == {"optim.lr": (1e-3, 1e-4)}
    assert comparison.results == {
        "updates": (3.0, 100.0),
        "loss": (1.0, 1.0),
        "lowest validation loss": (2.0, 2.0),
        "R@1": (0.5, None),
    }
    assert len(comparison.runs[1].curve) == 40 and comparison.runs[1].curve[-1] == (100, 1.5)
    lines = str(comparison).splitlines()
    assert lines[0].split() == [str(run) for run in runs]
    assert [line.split() for line in lines if "R@1" in line or "optim.lr" in line] == [
        ["R@1", "0.5", "-"],
        ["optim.lr", "0.001", "0.0001"],
    ]


def test_evaluations_and_results_of_runs_are_compared_too(runs, tmp_path):
    file = tmp_path / "result.json"
    file.write_text(json.dumps(RESULT))
    result = RunResult(runs[0] / "model", 3, 1.0, 1.0, None, {}, {})
    comparison = compare([file, result])
    assert comparison.results["R@1"] == (0.25, 0.5)
    assert comparison.settings["ties"] == ("unbiased", None)
    with pytest.raises(DataError, match="evaluations have no losses to draw"):
        compare([file, file]).save_picture(tmp_path / "x.svg")
    compare([file, file]).save_page(tmp_path / "x.html")
    assert "R@1" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_losses_are_drawn(runs, tmp_path, suffix, start):
    path = tmp_path / f"losses.{suffix}"
    compare(runs).save_picture(path)
    with pytest.raises(DataError, match="cannot be written"):
        compare(runs).save_picture(path / f"below_a_file.{suffix}")
    assert path.read_bytes().startswith(start)


def test_the_command_prints_a_table_or_json(runs, tmp_path, capsys):
    names = [str(run) for run in runs]
    assert main(["compare", *names, "--picture", str(tmp_path / "losses.svg")]) == 0
    assert "settings that differ" in capsys.readouterr().out
    assert (tmp_path / "losses.svg").is_file()
    assert main(["compare", *names, "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<td>  optim.lr</td><td>0.001</td>" in page and page.count("<svg") == 1
    capsys.readouterr()
    assert main(["compare", *names, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == {"optim.lr": [1e-3, 1e-4]}


def test_the_loss_is_the_last_one_as_a_run_reports_it(runs):
    result = RunResult(runs[1] / "model", 100, 1.0, 1.0, None, {}, {})
    assert compare([result, runs[0]]).results["loss"] == (result.loss, 1.0)


def test_a_run_that_is_not_finished_is_marked(runs, capsys):
    first, second = map(str, runs)
    (runs[0] / "model").rmdir()
    assert main(["compare", first, second]) == 0
    assert capsys.readouterr().out.splitlines()[0].split("  ")[-2:] == [
        f"{first} (not finished)",
        second,
    ]
    config = json.loads((runs[1] / "config.json").read_text())
    (runs[1] / "config.json").write_text(json.dumps({**config, "epochs": 3}))  # being extended
    assert main(["compare", first, second, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [run["finished"] for run in found] == [False, False]


def test_equal_settings_have_no_heading(tmp_path, capsys):
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    assert main(["compare", *[str(tmp_path / "result.json")] * 2]) == 0
    out = capsys.readouterr().out
    assert "settings that differ" not in out and "R@1" in out


@pytest.mark.parametrize("names", [[], ["one"]])
def test_fewer_than_two_runs_are_wrong_usage(names, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", *names])
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "name at least two runs or results" in error


def test_what_cannot_be_compared_is_one_line(runs, tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        compare(runs[:1])
    lists = tmp_path / "list.json"
    lists.write_text("[1, 2]")
    for path in (tmp_path, tmp_path / "none", runs[0] / "log.jsonl", lists):
        with pytest.raises(DataError, match="neither a run folder nor a result"):
            compare([path, runs[0]])
    with pytest.raises(ConfigError, match=r"\.svg or \.png"):
        compare(runs).save_picture(tmp_path / "losses.pdf")
