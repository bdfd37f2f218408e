"""`videoclip finetune` as a user runs it, on a synthetic world with made-up features."""

import json

import pytest

from tests.training.labelled_world import labelled_world, untrained
from videoclip.cli import main

OPTIONS = {
    "validation-videos": 4,
    "pairs-per-batch": 16,
    "epochs": 2,
    "precision": "fp32",
    "optim.warmup-updates": 2,
    "optim.lr": 0.002,
    "evaluate.num-resamples": 5,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    untrained(labelled_world(folder, num_videos=30)).save_pretrained(folder / "model")
    return folder


def command(world, out, name, annotations, *more):
    places = ["--model", world / "model", "--features", world / "store", "--out", out]
    places += ["--annotations", world / "annotations" / annotations]
    options = [part for option, value in OPTIONS.items() for part in (f"--{option}", value)]
    return main([str(part) for part in ("finetune", name, *places, *options, *more)])


def test_before_and_after_in_a_table_then_again_as_json(world, tmp_path, capsys):
    assert command(world, tmp_path / "run", "youcook2", "youcook2") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "epoch with the lowest validation loss" in lines[0]
    assert lines[2].split() == ["before", "after", "published"]
    row = next(line for line in lines if line.startswith("text-to-video R@1 ")).split()
    assert row[-1] == "0.322" and "arXiv 2109.14084; 3,305 clips" in lines[-1]
    assert "validation loss" in err
    assert command(world, tmp_path / "run", "youcook2", "youcook2", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert f"{result['after']['text-to-video R@1']:.3f}" == row[-2]
    # What came out is a model like any other, and the run says what it is.
    assert main(["info", str(tmp_path / "run")]) == 0
    assert "fine-tuning run" in capsys.readouterr().out


def test_a_head_is_evaluated_by_its_folder(world, tmp_path, capsys):
    assert command(world, tmp_path, "coin", "coin", "--epochs", "1", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    places = ["--features", world / "store", "--annotations", world / "annotations" / "coin"]
    arguments = ["evaluate", "coin", "--model", tmp_path / "model", *places, "--json"]
    assert main([str(a) for a in arguments]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {name: m["value"] for name, m in again["measures"].items()} == result["after"]
    assert main(["info", str(tmp_path / "model")]) == 0
    assert "no classification head" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "coin_texts"),
        (["crosstak"], 2, "perhaps you meant 'crosstask'"),
        (["coin", "--head", "arms"], 2, "--head"),
    ],
)
def test_wrong_usage_is_answered_with_what_is_near(arguments, status, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["finetune", *arguments])
    output = capsys.readouterr()
    assert caught.value.code == status and words in output.out + output.err


def test_files_that_are_missing_are_one_line(world, tmp_path, capsys):
    assert command(world, tmp_path, "msrvtt", "coin") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "MSRVTT_train.9k.csv" in error and "put it there" in error


def test_one_training_video_is_enough(world, tmp_path, capsys):
    table = (world / "annotations" / "train.csv").read_text().splitlines()
    small = tmp_path / "small.csv"
    video = table[1].split(",")[0]
    small.write_text("\n".join([table[0], *(row for row in table if row.split(",")[0] == video)]))
    more = ["--training-annotations", small, "--validation-videos", "10"]
    assert command(world, tmp_path / "run", "csv", "test.csv", *more) == 0
    out, err = capsys.readouterr()
    assert "one training video: none is held out, so the last epoch is kept" in err
    assert "before" in out and "lowest validation loss" not in out
