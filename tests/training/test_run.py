"""What a run measures before it begins, and how many updates it has."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from videoclip.training import run
from videoclip.training.run_folder import RunFolder


class Batch:
    def to(self, device):
        return torch.ones(4, 3, device=device)


class Loss:
    """Remembers in which precision products were computed, and in which mode."""

    def __init__(self):
        self.model, self.seen = nn.Linear(3, 2), []
        self.model.eval()

    def __call__(self, batch, world):
        result = self.model(batch)
        self.seen.append((result.dtype, self.model.training, world.size))
        return result.float().sum()


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("wanted", ["auto", "fp32", "bf16"])
@pytest.mark.parametrize("compiling", ["auto", "on", "off"])
def test_precision_is_measured_once_if_it_is_not_chosen(
    tmp_path, monkeypatch, pays, wanted, compiling
):
    def bf16_pays(step, device):
        for precision in ("bf16", "fp32"):
            assert not step(precision).requires_grad
        return pays

    monkeypatch.setattr(run, "bf16_pays", bf16_pays)
    config = SimpleNamespace(precision=wanted, compile=compiling, frozen=())
    source, device = SimpleNamespace(sample=Batch), torch.device("cpu")
    chosen = wanted if wanted != "auto" else ("bf16" if pays else "fp32")
    with RunFolder(tmp_path, {}, {}, 1) as files:
        for is_first in (True, False):
            loss = Loss()
            found = run._choose_precision_and_compiling(config, source, loss, files, device)
            assert found == (chosen, compiling == "on")
            measured = [(torch.bfloat16, True, 1), (torch.float32, True, 1)]
            assert loss.seen == (measured if is_first and wanted == "auto" else [])
            assert all(parameter.grad is None for parameter in loss.model.parameters())
        assert files.facts.items() >= {"precision": chosen, "compiled": compiling == "on"}.items()


@pytest.mark.parametrize("accumulate", [1, 2, 5])
@pytest.mark.parametrize(
    ("epoch", "batch", "update"), [(1, 0, 0), (2, 3, 9), (3, 7, 20), (4, 0, 21)]
)
def test_updates_that_are_done_and_left(accumulate, epoch, batch, update):
    sizes = {1: 7, 2: 4, 3: 7}
    config = SimpleNamespace(epochs=3, accumulate_batches=accumulate)
    source = SimpleNamespace(num_batches=sizes.get)
    position = SimpleNamespace(epoch=epoch, batch=batch, update=update)
    left = 0
    for number, size in sizes.items():
        todo = list(range(size))[batch if number == epoch else 0 :] if number >= epoch else []
        left += len([todo[i : i + accumulate] for i in range(0, len(todo), accumulate)])
    assert run.num_updates(config, source, position) == update + left
