"""Trouble in the middle of a run: one line, the last checkpoint intact, and the same call goes on.

The trouble is real: numbers that are none, files that may not grow, processes that are killed.
"""

import multiprocessing
import os
import resource
import signal

import pytest
import torch

from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.config import PlanConfig
from videoclip.errors import CheckpointError, VideoCLIPError
from videoclip.training.loop import Trainer
from videoclip.training.pretrain import pretrain
from videoclip.training.run import read_log


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


def train(config, corpus, folder):
    """Run, or go on; return the bytes of the weights."""
    pretrain(config, corpus, folder, tokenizer=tokenizer(), shown=False)
    return (folder / "model" / "model.safetensors").read_bytes()


def before_update(number, monkeypatch, trouble):
    """Let `trouble` come over a run before one of its updates, counted from 1."""
    step = Trainer.step

    def troubled(trainer, batch):
        if trainer.position.update == number - 1:
            trouble(trainer.model)
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "step", troubled)


def test_a_loss_that_stops_being_a_number_is_named_and_nothing_is_lost(
    corpus, tmp_path, monkeypatch
):
    config = tiny_config(epochs=4, save_every_updates=2)
    expected = train(config, corpus, tmp_path / "unbroken")

    def poison(model):  # as an update too large would
        model.video_encoder.mlp.linear1.weight.data[0, 0] = torch.nan

    with monkeypatch.context() as patch:
        before_update(6, patch, poison)
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
            before_update(6, patch, fill)
            with pytest.raises(CheckpointError, match=r"update 4 is intact") as caught:
                train(config, corpus, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert train(config, corpus, tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_is_one_line_and_nothing_is_lost(corpus, tmp_path, monkeypatch):
    plan = PlanConfig(kind="shuffled", videos_per_batch=1, num_candidates=8)
    config = tiny_config(plan=plan, save_every_updates=2, num_workers=1)  # 12 batches an epoch
    expected = train(config, corpus, tmp_path / "unbroken")

    def kill(_):  # it is two batches ahead
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        before_update(6, patch, kill)
        with pytest.raises(VideoCLIPError, match=r"prepares batches died.*num_workers") as caught:
            train(config, corpus, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "checkpoints" / "update-000004" / "COMPLETE").exists()
    assert train(config, corpus, tmp_path / "run") == expected
