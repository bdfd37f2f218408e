"""The average of weights is what is validated, evaluated and saved, and survives a broken run."""

import functools
from dataclasses import replace

import pytest
import torch

from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from tests.two_ranks import on_two_ranks
from videoclip.distributed import World
from videoclip.model.videoclip import VideoCLIP
from videoclip.training import pretrain as module
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.narrated import NarratedSource
from videoclip.training.run_folder import TRAINED_FILE
from videoclip.training.trainer import Trainer

pretrain = functools.partial(module.pretrain, tokenizer=tokenizer(), show_progress=False)
DECAY = 0.8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


def averaging(**changes):
    config = tiny_config(**changes)
    return replace(
        config,
        optim=replace(config.optim, lr=0.01, ema_decay=DECAY),
        plan=replace(config.plan, videos_per_batch=3),
    )


@pytest.fixture
def logged(monkeypatch):
    """The trained weights, before the first update and after each."""
    weights, step = [], Trainer.step

    def copy(model):
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    def logging_step(self, *batches):
        if not weights:
            weights.append(copy(self.model))
        result = step(self, *batches)
        weights.append(copy(self.model))
        return result

    monkeypatch.setattr(Trainer, "step", logging_step)
    return weights


def average_of(logged):
    """The average by hand."""
    average = logged[0]
    for update, weights in enumerate(logged[1:]):
        decay = min(DECAY, (1 + update) / (10 + update))
        average = {name: decay * average[name] + (1 - decay) * weights[name] for name in average}
    return average


def assert_weights(model, expected):
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"accumulate_batches": 2}, {"chunk_pairs": 2}])
def test_the_model_is_the_average_of_the_logged_weights(corpus, tmp_path, logged, changes):
    config = averaging(epochs=3, validation_videos=2, frozen=("text_encoder.bert.",), **changes)
    evaluated = []

    def evaluate(embedder):
        evaluated.append({n: p.detach().clone() for n, p in embedder.model.named_parameters()})
        return {}

    result = pretrain(config, corpus, tmp_path / "run", evaluate=evaluate)
    expected, last = average_of(logged), logged[-1]
    assert not torch.allclose(expected["log_temperature"], last["log_temperature"], atol=1e-5)
    model = VideoCLIP.from_pretrained(result.model_folder)
    assert_weights(model, expected)
    assert all(torch.equal(p.detach(), evaluated[1][n]) for n, p in model.named_parameters())

    source = NarratedSource(config, corpus, "random", World())
    by_hand = replace(config, optim=replace(config.optim, ema_decay=0.0))
    trainer = Trainer(ContrastiveLoss(model, config.loss), by_hand, World(), 1)
    assert trainer.validation_loss(source.validation()) == result.validation_loss


def test_validation_leaves_the_trained_weights_alone(corpus, tmp_path, logged):
    plain = averaging(validation_videos=2, epochs=2)
    plain = replace(plain, optim=replace(plain.optim, ema_decay=0.0))
    pretrain(plain, corpus, tmp_path / "plain")
    without = logged[:]
    logged.clear()
    averaged = averaging(validation_videos=2, epochs=2, save_every_updates=3)
    pretrain(averaged, corpus, tmp_path / "averaged")
    assert len(without) == len(logged) == 9
    for a, b in zip(without, logged, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_broken_run_ends_with_the_same_bits(corpus, tmp_path):
    config = averaging(epochs=2, save_every_updates=3, validation_videos=2)
    whole = pretrain(config, corpus, tmp_path / "whole")

    def stop(entry):
        if entry["update"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, corpus, tmp_path / "run", on_log=stop)
    broken = pretrain(config, corpus, tmp_path / "run")
    assert broken.validation_loss == whole.validation_loss
    runs = tmp_path / "whole", tmp_path / "run"
    for name in ("model/model.safetensors", f"checkpoints/update-000008/{TRAINED_FILE}"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()
    newest = tmp_path / "run" / "checkpoints" / "update-000008" / "model" / "model.safetensors"
    assert newest.read_bytes() == (broken.model_folder / "model.safetensors").read_bytes()


def test_two_processes_have_the_average_of_one_and_continue_with_it(corpus, tmp_path):
    config = averaging(epochs=2, save_every_updates=3)
    config = replace(config, model=replace(config.model, dropout=0.0))
    one = pretrain(replace(config, accumulate_batches=2), corpus, tmp_path / "one")

    def work(world):
        pretrain(config, corpus, tmp_path / "two", world=world)

    on_two_ranks(work, tmp_path)
    expected = dict(VideoCLIP.from_pretrained(one.model_folder).named_parameters())
    model = VideoCLIP.from_pretrained(tmp_path / "two" / "model")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
    last = (tmp_path / "two" / "model" / "model.safetensors").read_bytes()
    checkpoints = tmp_path / "two" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["update-000003", "update-000004"]
    (checkpoints / "update-000004" / "COMPLETE").unlink()
    on_two_ranks(work, tmp_path)
    assert (tmp_path / "two" / "model" / "model.safetensors").read_bytes() == last
