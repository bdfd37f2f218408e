"""TensorBoard: curves where it is installed, one clear line where it is not."""

import sys
from types import SimpleNamespace

import pytest

from videoclip.errors import MissingExtraError
from videoclip.training.tensorboard import tensorboard_curves


def test_every_number_becomes_a_point(monkeypatch, tmp_path):
    points, made = [], []
    writer = SimpleNamespace(add_scalar=lambda *point: points.append(point), flush=lambda: None)

    def make(folder, purge_step):
        made.append((folder, purge_step))
        return writer

    module = SimpleNamespace(SummaryWriter=make)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    watch = tensorboard_curves(tmp_path)
    assert not made  # a run that is refused leaves no folder
    watch({"update": 0, "evaluation": {"R@1": 0.5}})
    watch({"update": 3, "epoch": 1, "loss": 2.0})
    assert points == [("R@1", 0.5, 0), ("loss", 2.0, 3)]
    assert made == [(str(tmp_path), 0)]  # what was drawn from there on is drawn anew


def test_without_it_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"videoclip\[tensorboard\]"):
        tensorboard_curves(tmp_path)
