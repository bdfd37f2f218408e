"""Fine-tuning as a whole: it learns each task, chooses without the test, and continues."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.training.labelled_world import labelled_world, open_validation, untrained
from tests.two_ranks import on_two_ranks
from videoclip.config import EvaluateConfig, OptimConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.distributed import World
from videoclip.errors import CheckpointError, ConfigError, DataError
from videoclip.evaluation import evaluate
from videoclip.files import read_json
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import FINETUNING
from videoclip.training.finetune import finetune, num_held_out
from videoclip.training.run_folder import RunFolder, read_log
from videoclip.training.trainer import Trainer

OPTIM = OptimConfig(
    optimizer="adamw", lr=2e-3, warmup_updates=10, schedule="cosine", total_updates=0
)
TEST_PARTS = {"coin_texts": "coin", "msrvtt_qa": "msrvtt_mc", "csv": "test.csv"}
TRAINING_PARTS = {"msrvtt_qa": "msrvtt", "csv": "train.csv"}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tokenizer = labelled_world(folder)
    open_validation(folder)
    return folder, tokenizer


def recipe(name, **changes):
    config = FINETUNING[name]()
    return replace(
        config,
        optim=OPTIM,
        precision="fp32",
        validation_videos=8,
        pairs_per_batch=16,
        texts_per_clip=min(2, config.texts_per_clip),
        evaluate=EvaluateConfig(num_resamples=5, background=config.evaluate.background),
        **changes,
    )


def run(told, folder, config, **more):
    source, tokenizer = told
    annotations, part = source / "annotations", TRAINING_PARTS.get(config.name)
    return finetune(
        config,
        more.pop("model", None) or untrained(tokenizer),
        source / "store",
        annotations / TEST_PARTS.get(config.name, config.name),
        folder,
        training_annotations=annotations / part if part else None,
        show_progress=False,
        **more,
    )


@pytest.mark.parametrize(
    ("name", "epochs", "measure", "gain"),
    [
        ("youcook2", 3, "text-to-video R@10", 0.3),
        ("msrvtt", 6, "text-to-video R@5", 0.2),
        ("msrvtt_qa", 3, "accuracy", 0.3),
        ("csv", 3, "text-to-video R@10", 0.3),
        ("crosstask", 2, "average recall", 0.4),
        ("coin", 2, "frame accuracy", 0.4),
        ("coin_texts", 2, "frame accuracy", 0.4),
    ],
)
def test_every_task_is_learned_and_carries_over_to_the_test(
    told, tmp_path, name, epochs, measure, gain
):
    result = run(told, tmp_path, recipe(name, epochs=epochs))
    assert result.after[measure] > result.before[measure] + gain
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert all(count > 0 for what, count in facts["data"].items() if what != "fingerprint")


@pytest.fixture(scope="module")
def headed(told, tmp_path_factory):
    """A short COIN run, given a store that is open already."""
    source, tokenizer = told
    folder, coin = tmp_path_factory.mktemp("headed"), source / "annotations" / "coin"
    with FeatureStore.open(source / "store") as store:
        config = recipe("coin", epochs=1)
        return finetune(config, untrained(tokenizer), store, coin, folder, show_progress=False)


def test_a_head_is_kept_with_the_model_and_belongs_to_its_labels(told, headed, tmp_path):
    source, tokenizer = told
    coin, store = source / "annotations" / "coin", source / "store"
    again = evaluate("coin", headed.model_folder, store, coin, recipe("coin").evaluate)
    assert {m.name: m.value for m in again.outcome.measures} == headed.after
    assert again.outcome.settings["labels by"] == "the model's head"
    # The head's classes are known by their texts.
    other = json.loads((coin / "COIN.json").read_text())
    for video in other["database"].values():
        for segment in video["annotation"]:
            segment["label"] += " slowly"
    (tmp_path / "COIN.json").write_text(json.dumps(other))
    with pytest.raises(ConfigError, match=r"classes, which are not the \d+ labels here"):
        evaluate("coin", headed.model_folder, store, tmp_path)
    # A head without weights, or weights without a head, is no model.
    beheaded = shutil.copytree(headed.model_folder, tmp_path / "beheaded")
    settings = json.loads((beheaded / "config.json").read_text())
    (beheaded / "config.json").write_text(json.dumps({**settings, "classes": []}))
    with pytest.raises(CheckpointError, match="classifier"):
        VideoCLIP.from_pretrained(beheaded)
    with pytest.raises(ConfigError, match="no classes"):
        untrained(tokenizer).classify_features(np.zeros((3, 24)))


def test_a_head_may_be_fine_tuned_further(told, headed, tmp_path):
    again = run(told, tmp_path, recipe("coin", epochs=1), model=headed.model_folder)
    assert again.before == headed.after


@pytest.mark.parametrize("name", ["msrvtt", pytest.param("crosstask", marks=pytest.mark.slow)])
def test_a_broken_run_ends_with_the_same_bits(told, tmp_path, monkeypatch, name):
    config = recipe(name, epochs=2 if name == "msrvtt" else 1, save_every_updates=7)
    config = replace(config, optim=replace(OPTIM, ema_decay=0.9))
    whole = run(told, tmp_path / "whole", config)
    step, calls = Trainer.step, []

    def breaks_once(self, batch):
        calls.append(1)
        if len(calls) == whole.num_updates - 2:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", breaks_once)
    with pytest.raises(KeyboardInterrupt):
        run(told, tmp_path / "broken", config)
    broken = run(told, tmp_path / "broken", config)
    weights = [r.model_folder / "model.safetensors" for r in (whole, broken)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert (whole.before, whole.after) == (broken.before, broken.after)
    assert len(calls) < 2 * whole.num_updates


def test_the_epoch_with_the_lowest_validation_loss_is_kept(told, tmp_path):
    # A learning rate that only rises spoils the model after the first epoch.
    optim = replace(OPTIM, lr=0.3, warmup_updates=200)
    result = run(told, tmp_path, replace(recipe("youcook2", epochs=5), optim=optim))
    losses = [e["validation_loss"] for e in read_log(tmp_path) if "validation_loss" in e]
    assert len(losses) == 5 and losses.index(min(losses)) < 4
    assert result.validation_loss == min(losses)
    config, facts = read_json(tmp_path / "config.json"), read_json(tmp_path / "facts.json")
    with RunFolder(tmp_path, config, facts) as files:
        best = files.best().folder / "model" / "model.safetensors"
    assert best.read_bytes() == (result.model_folder / "model.safetensors").read_bytes()


def test_the_same_command_twice_trains_once(told, tmp_path):
    config = recipe("csv", epochs=1)
    first = run(told, tmp_path, config)
    assert run(told, tmp_path, config) == first
    with pytest.raises(ConfigError, match="pairs_per_batch: 16 -> 8"):
        run(told, tmp_path, replace(config, pairs_per_batch=8))
    with pytest.raises(ConfigError, match=r"facts|start"):
        run(told, tmp_path, config, model=untrained(told[1], normalize=False))


def test_at_most_a_tenth_of_few_videos_is_held_out(told, tmp_path, capsys):
    assert [num_held_out(67, n) for n in (1333, 670, 100, 12, 2, 1)] == [67, 67, 10, 1, 1, 0]
    assert num_held_out(0, 100) == 0
    source, tokenizer = told
    config = replace(recipe("coin", epochs=1), validation_videos=99)
    finetune(
        config,
        untrained(tokenizer),
        source / "store",
        source / "annotations" / "coin",
        tmp_path,
    )
    data = json.loads((tmp_path / "facts.json").read_text())["data"]
    assert data["held-out videos"] == (data["videos"] + data["held-out videos"]) // 10
    assert "held out for validation, at most a tenth, instead of 99" in capsys.readouterr().err


def test_what_cannot_be_fine_tuned(told, tmp_path):
    source, tokenizer = told
    test = source / "annotations" / "test.csv"
    with pytest.raises(DataError, match="not in the test"):
        finetune(recipe("csv"), untrained(tokenizer), source / "store", test, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"but there are 99 processes"):
        run(told, tmp_path / "coin", recipe("coin"), world=World(0, 99))
    with pytest.raises(ConfigError, match=r"but there are 99 processes"):
        run(told, tmp_path / "csv", recipe("csv"), world=World(0, 99))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csv", "coin"])
def test_two_processes_fine_tune_together(told, tmp_path, name):
    config = recipe(name, epochs=1)

    def work(processes):
        result = run(told, tmp_path / "run", config, world=processes)
        return {"loss": result.loss, "updates": result.num_updates}

    on_two_ranks(work, tmp_path)
    alone = run(told, tmp_path / "alone", config)
    steps = [entry for entry in read_log(tmp_path / "run") if "loss" in entry]
    assert len(steps) == alone.num_updates // 2
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_bf16_is_measured_for_windows_too(told, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "videoclip.training.run.bf16_pays", lambda step, _: bool(step("bf16") < 1e9)
    )
    run(told, tmp_path, replace(recipe("coin_texts", epochs=1), precision="auto"))
    assert json.loads((tmp_path / "facts.json").read_text())["precision"] == "bf16"
