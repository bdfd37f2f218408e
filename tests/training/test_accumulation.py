"""Several batches in one update: the mean of their gradients, on two processes, after a break."""

import functools
import json
from dataclasses import replace

import pytest
import torch

from tests.model.tiny_models import TINY, make_model, make_text, make_video
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from tests.two_ranks import on_two_ranks
from videoclip.config import OptimConfig, PretrainConfig
from videoclip.distributed import World
from videoclip.model.batch import Batch
from videoclip.training import pretrain as module
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.run_folder import read_log
from videoclip.training.trainer import Trainer

pretrain = functools.partial(module.pretrain, tokenizer=tokenizer(), show_progress=False)
BATCHES = [Batch(*make_video([3, 5, 2 + i], 6), *make_text([4, 1 + i, 6], 7)) for i in range(3)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


def quiet(**changes):
    """A run without dropout, in which one process and two can agree."""
    config = tiny_config(**changes)
    return replace(config, model=replace(config.model, dropout=0.0))


def test_the_gradient_is_the_mean_of_the_batches_gradients():
    optim = OptimConfig(optimizer="adamw", clip_norm=0.0)
    config = PretrainConfig(optim=optim, accumulate_batches=3)
    model = make_model(replace(TINY, dropout=0.0))
    trainer = Trainer(ContrastiveLoss(model, config.loss), config, World(), 10)
    report = trainer.step(*BATCHES)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    expected, losses = {}, []
    for batch in BATCHES:
        alone = make_model(replace(TINY, dropout=0.0)).train()
        loss = ContrastiveLoss(alone, config.loss)(batch, World())
        loss.backward()
        losses.append(loss.detach())
        for name, p in alone.named_parameters():
            if p.grad is not None:
                expected[name] = expected.get(name, 0) + p.grad / 3
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
    assert report.loss == pytest.approx(float(sum(losses)) / 3, rel=1e-5)
    assert report.num_pairs == 9
    assert (trainer.position.update, trainer.position.batch) == (1, 3)


def test_every_batch_has_dropout_of_its_own():
    config = PretrainConfig(accumulate_batches=2)
    drawn = []

    class Recorder(Trainer):
        def forward_backward(self, batch, number, *, sync):
            drawn.append((number, sync))
            return torch.zeros(())

    trainer = Recorder(ContrastiveLoss(make_model(), config.loss), config, World(), 10)
    trainer.step(*BATCHES[:2])
    trainer.step(BATCHES[2])  # what was left of an epoch
    trainer.step(*BATCHES[:2])
    assert drawn == [(0, False), (1, True), (2, True), (4, False), (5, True)]


def weights(run):
    return torch.nn.utils.parameters_to_vector(
        module.VideoCLIP.from_pretrained(run / "model").parameters()
    )


def test_two_batches_on_one_process_are_one_on_each_of_two(corpus, tmp_path):
    config = quiet(epochs=3, plan=replace(tiny_config().plan, videos_per_batch=3))
    pretrain(replace(config, accumulate_batches=2), corpus, tmp_path / "one")

    def work(world):
        pretrain(config, corpus, tmp_path / "two", world=world)

    on_two_ranks(work, tmp_path)
    losses = [
        [entry["loss"] for entry in read_log(tmp_path / run) if "loss" in entry]
        for run in ("one", "two")
    ]
    assert len(losses[0]) == 6
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_on_two_processes_gradients_are_averaged_once_an_update(corpus, tmp_path):
    config = quiet(epochs=2, plan=replace(tiny_config().plan, videos_per_batch=3))
    pretrain(replace(config, accumulate_batches=4), corpus, tmp_path / "one")

    def work(world):
        pretrain(replace(config, accumulate_batches=2), corpus, tmp_path / "two", world=world)

    on_two_ranks(work, tmp_path)
    torch.testing.assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_a_broken_run_ends_with_the_same_bits_and_the_rest_of_an_epoch_counts(corpus, tmp_path):
    config = tiny_config(epochs=3, accumulate_batches=2, save_every_updates=1)
    config = replace(config, plan=replace(config.plan, videos_per_batch=4))  # 3 batches: 2 and 1
    pretrain(config, corpus, tmp_path / "unbroken")
    steps = [entry for entry in read_log(tmp_path / "unbroken") if "loss" in entry]
    assert [entry["update"] for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1]["lr"] < steps[3]["lr"]  # the schedule knows of six updates, not nine

    def stop(entry):
        if entry["update"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, corpus, tmp_path / "run", on_log=stop)
    pretrain(config, corpus, tmp_path / "run")
    assert torch.equal(weights(tmp_path / "run"), weights(tmp_path / "unbroken"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["accumulate_batches"] == 2
