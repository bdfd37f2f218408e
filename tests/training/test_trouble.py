"""Trouble in the middle of a run: one line, the last checkpoint intact, and the same call goes on.

The trouble is real: numbers that are none, files that may not grow, processes that are killed.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal

import pytest
import torch

from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.config import PlanConfig
from videoclip.errors import CheckpointError, DataError, VideoCLIPError
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import read_log
from videoclip.training.trainer import Trainer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


def train(config, corpus, folder):
    """Run, or go on; return the bytes of the weights."""
    pretrain(config, corpus, folder, tokenizer=tokenizer(), show_progress=False)
    return (folder / "model" / "model.safetensors").read_bytes()


def at_update(number, monkeypatch, trouble, *, after=False):
    """Let `trouble` come over a run before, or after, one of its updates, counted from 1."""
    step = Trainer.step

    def troubled(trainer, *batches):
        here = trainer.position.update == number - 1
        if here and not after:
            trouble(trainer.model)
        report = step(trainer, *batches)
        if here and after:
            trouble(trainer.model)
        return report

    monkeypatch.setattr(Trainer, "step", troubled)


def test_a_loss_that_stops_being_a_number_is_named_and_nothing_is_lost(
    corpus, tmp_path, monkeypatch
):
    config = tiny_config(epochs=4, save_every_updates=2)
    expected = train(config, corpus, tmp_path / "unbroken")

    def poison(model):  # as an update too large would
        model.video_encoder.mlp.linear1.weight.data[0, 0] = torch.nan

    with monkeypatch.context() as patch:
        at_update(6, patch, poison)
        with pytest.raises(VideoCLIPError, match=r"update 6: the loss is nan") as caught:
            train(config, corpus, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "checkpoints" / "update-000004" / "COMPLETE").exists()
    assert [e["update"] for e in read_log(tmp_path / "run") if "loss" in e] == [1, 2, 3, 4, 5]
    assert train(config, corpus, tmp_path / "run") == expected


def test_a_file_that_may_not_grow_is_one_line_and_nothing_is_lost(corpus, tmp_path, monkeypatch):
    config = tiny_config(epochs=4, save_every_updates=2)
    expected = train(config, corpus, tmp_path / "unbroken")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_):
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # the weights take more

    try:
        with monkeypatch.context() as patch:
            at_update(6, patch, fill)
            with pytest.raises(CheckpointError, match=r"update 4 is intact") as caught:
                train(config, corpus, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert train(config, corpus, tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_is_one_line_and_nothing_is_lost(corpus, tmp_path, monkeypatch):
    plan = PlanConfig(kind="shuffled", videos_per_batch=1, num_neighbours=8)
    config = tiny_config(plan=plan, save_every_updates=2, num_workers=1)  # 12 batches an epoch
    expected = train(config, corpus, tmp_path / "unbroken")

    def kill(_):  # it is two batches ahead
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        at_update(6, patch, kill)
        with pytest.raises(VideoCLIPError, match=r"prepares batches died.*workers") as caught:
            train(config, corpus, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "checkpoints" / "update-000004" / "COMPLETE").exists()
    assert train(config, corpus, tmp_path / "run") == expected


def overflow(model):
    model.text_encoder.bert.layers[0].feed_in.bias.data[0] = torch.inf


@pytest.mark.parametrize("update", [4, 8])  # 8: the last
def test_weights_that_overflowed_never_replace_good_ones(corpus, tmp_path, monkeypatch, update):
    config = tiny_config(epochs=4, save_every_updates=2, keep_checkpoints=1)
    expected = train(config, corpus, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        at_update(update, patch, overflow, after=True)
        with pytest.raises(VideoCLIPError, match=rf"update {update}: text_encoder.*feed_in\.bias"):
            train(config, corpus, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    assert train(config, corpus, tmp_path / "run") == expected


def test_a_validation_loss_that_is_no_number_ends_the_run(corpus, tmp_path, monkeypatch):
    config = tiny_config(epochs=4, validation_videos=2)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validation_loss", lambda *_: torch.nan)
        with pytest.raises(VideoCLIPError, match="update 2: the validation loss is nan"):
            train(config, corpus, tmp_path / "run")
    assert "NaN" not in (tmp_path / "run" / "log.jsonl").read_text()
    train(config, corpus, tmp_path / "run")


def test_a_damaged_checkpoint_says_what_to_remove(corpus, tmp_path):
    config = tiny_config(epochs=2)
    train(config, corpus, tmp_path)
    shutil.rmtree(tmp_path / "model")
    checkpoint = max((tmp_path / "checkpoints").iterdir())
    weights = checkpoint / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=rf"{checkpoint} is damaged.*remove it, and the run"):
        train(config, corpus, tmp_path)
    (checkpoint / "COMPLETE").write_text("")
    with pytest.raises(CheckpointError, match=rf"COMPLETE is damaged.*remove {checkpoint}, and"):
        train(config, corpus, tmp_path)


def test_a_plan_that_is_not_of_this_run_is_refused(corpus, tmp_path):
    train(tiny_config(save_every_updates=3), corpus, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "update-000004")  # the other is in the second epoch
    for groups in ([[0, 1]], [[0, 1], [2, 99]]):
        (tmp_path / "plans" / "epoch-002.json").write_text(
            json.dumps({"groups": groups, "leads": []})
        )
        with pytest.raises(DataError, match=r"epoch-002\.json: does not match this run's videos"):
            train(tiny_config(save_every_updates=3), corpus, tmp_path)


def test_what_a_killed_process_left_among_the_plans_is_cleared(corpus, tmp_path):
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / ".epoch-001.json.4711").write_text("half")
    train(tiny_config(), corpus, tmp_path)
    assert sorted(p.name for p in (tmp_path / "plans").iterdir()) == [
        "epoch-001.json",
        "epoch-002.json",
    ]
