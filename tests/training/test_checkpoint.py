"""Checkpoints: what is read back is what was written, and damage is named."""

import pytest
import torch

from tests.training.tiny_corpus import tiny_config, tokenizer
from videoclip.errors import CheckpointError
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.optim import build_optimizer
from videoclip.training.run_folder import Position, read_checkpoint, write_checkpoint


def trained(config, steps=2):
    model = VideoCLIP(config.model)
    optimizer = build_optimizer(model, config.optim)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return model, optimizer


def test_what_is_read_is_what_was_written(tmp_path):
    config = tiny_config()
    model, optimizer = trained(config)
    write_checkpoint(tmp_path, model, tokenizer(), optimizer, Position(5, 2, 3))
    other, other_optimizer = trained(config, steps=0)
    assert read_checkpoint(tmp_path, other, other_optimizer) == Position(5, 2, 3)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    before, after = optimizer.state_dict(), other_optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert before["state"].keys() == after["state"].keys()
    for index, entry in before["state"].items():
        for name, tensor in entry.items():
            assert torch.equal(tensor, after["state"][index][name])


@pytest.mark.parametrize("name", ["trainer.json", "optimizer.safetensors", "trained.safetensors"])
def test_damage_is_named(tmp_path, name):
    config = tiny_config()
    model, optimizer = trained(config)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    write_checkpoint(tmp_path, model, tokenizer(), optimizer, Position(), weights)
    assert read_checkpoint(tmp_path, model, optimizer, weights) == Position()
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(tmp_path, model, optimizer, weights)
