"""The trainer: modes, the temperature's floor, what it counts, when it saves."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from tests.two_ranks import on_two_ranks
from videoclip.config import OptimConfig, PretrainConfig
from videoclip.distributed import World
from videoclip.errors import VideoCLIPError
from videoclip.model.batch import Batch
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.trainer import Trainer, train_epoch

BATCH = Batch(*make_video([9, 3, 5], 9), *make_text([2, 0, 11], 11))


def trainer(model, **changes):
    # The run's own model settings are not read: the model brings its own.
    optim = OptimConfig(optimizer="adamw", lr=0.5, warmup_updates=0, schedule="constant")
    run = PretrainConfig(optim=optim, **changes)
    return Trainer(ContrastiveLoss(model, run.loss), run, World(), run_length=10)


def test_a_frozen_tower_has_no_dropout_and_everything_else_has():
    model = make_model(replace(TINY, num_cross_layers=1))
    ours = trainer(model, frozen=("text_encoder.",))
    assert model.video_encoder.training and model.reranker.training
    assert not model.text_encoder.training
    ours.validation_loss(iter([BATCH]))
    assert model.video_encoder.training and not model.text_encoder.training


def test_dropout_is_another_in_every_batch_part_and_process_and_the_same_again():
    def drawn(seed=0, rank=0, number=0, part=0):
        ours = trainer(make_model(), seed=seed)
        ours.world = replace(ours.world, rank=rank)
        return tuple(ours._call(torch.rand, 4, number=number, part=part).tolist())

    places = [{}, {"seed": 1}, {"rank": 1}, {"number": 1}, {"part": 1}, {"rank": 1, "part": 1}]
    assert len({drawn(**place) for place in places}) == len(places)
    assert [drawn(**place) for place in places] == [drawn(**place) for place in places]


def test_validation_changes_nothing():
    ours = trainer(make_model())
    before = {n: p.clone() for n, p in ours.model.named_parameters()}
    losses = [ours.validation_loss(iter([BATCH, BATCH])) for _ in range(2)]
    assert losses[0] == losses[1] == pytest.approx(ours.validation_loss(iter([BATCH])))
    assert all(torch.equal(p, before[n]) for n, p in ours.model.named_parameters())


def test_the_temperature_has_a_floor():
    model = make_model(replace(TINY, learn_temperature=True, temperature=0.02, normalize=True))
    ours = trainer(model)
    for _ in range(3):
        ours.step(BATCH)
    assert 0.01 < float(model.temperature.detach()) < 0.2  # free above the floor
    model.log_temperature.data.sub_(9.0)
    ours.step(BATCH)
    assert float(model.temperature.detach()) == pytest.approx(0.01)


def test_a_step_counts_real_positions():
    step = trainer(make_model()).step(BATCH)
    assert (step.num_pairs, step.num_tokens) == (3, 9 + 3 + 5 + 2 + 0 + 11 + 2 * 6)
    chunked = trainer(make_model(), chunk_pairs=2).step(BATCH)
    assert chunked.flops == pytest.approx(step.flops * 4 / 3)


def test_an_infinite_loss_leaves_the_weights_alone():
    ours = trainer(make_model())
    ours.model.text_encoder.bert.word_embeddings.weight.data[BATCH.text[0, 0]] = torch.inf
    before = {n: p.clone() for n, p in ours.model.named_parameters()}
    with pytest.raises(VideoCLIPError, match="update 1: the loss is nan"):
        ours.step(BATCH)
    assert all(torch.equal(p, before[n]) for n, p in ours.model.named_parameters())
    assert ours.position.update == 0


def test_an_epoch_logs_every_update_and_saves_in_between():
    ours, log, saved = trainer(make_model(), save_every_updates=2), [], []
    train_epoch(
        ours,
        iter([BATCH] * 4),
        log=log.append,
        save=lambda: saved.append(ours.position.update),
        num_batches=4,
    )
    assert [entry["update"] for entry in log] == [1, 2, 3, 4]
    assert saved == [2]  # the epoch's end is for whoever called
    assert all(0 <= entry["wait_share"] < 1 and entry["pairs_per_second"] > 0 for entry in log)


def test_a_step_counts_what_all_processes_do(tmp_path):
    model = make_model(replace(TINY, dropout=0.0))
    smaller = Batch(*make_video([4, 2], 4), *make_text([1, 3], 3))

    def step(batch, world):
        optim = OptimConfig(optimizer="adamw", warmup_updates=0, schedule="constant")
        run = PretrainConfig(optim=optim)
        loss = ContrastiveLoss(copy.deepcopy(model), run.loss)
        step = Trainer(loss, run, world, run_length=10).step(batch)
        return {"loss": step.loss, "counts": [step.num_pairs, step.num_tokens, step.flops]}

    alone = [step(batch, World()) for batch in (BATCH, smaller)]
    both = on_two_ranks(lambda world: step((BATCH, smaller)[world.rank], world), tmp_path)
    assert both[0] == both[1]
    assert both[0]["loss"] == pytest.approx((alone[0]["loss"] + alone[1]["loss"]) / 2, rel=1e-5)
    assert both[0]["counts"] == [a + b for a, b in zip(alone[0]["counts"], alone[1]["counts"])]
