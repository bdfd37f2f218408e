"""Progress on a terminal, in a file or hidden; curves in a tracker, or a line without one."""

import io
import sys
from types import SimpleNamespace

import pytest

from videoclip.errors import MissingExtraError
from videoclip.training import logging
from videoclip.training.logging import ProgressLine, tracker

ENTRY = {"update": 50, "epoch": 2, "loss": 1.2345, "pairs_per_second": 321.0}


def shown(monkeypatch, terminal=False, visible=True):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressLine(100, 10, visible) as line:
        line.print_line("precision [bf16]")
        line.show_update(ENTRY)
        line.show_update(ENTRY)
    return stream.getvalue()


def test_a_file_gets_a_line_now_and_then(monkeypatch):
    assert shown(monkeypatch) == "precision [bf16]\n"
    monkeypatch.setattr(logging, "SECONDS_BETWEEN_LINES", 0.0)
    first, line, _ = shown(monkeypatch).splitlines()
    assert first == "precision [bf16]"
    assert line.startswith("update 50/100  epoch 2  loss 1.234  321 pairs/s  about 0 min left")


@pytest.mark.parametrize("terminal", [True, False])
def test_hidden_is_silent(monkeypatch, terminal):
    monkeypatch.setattr(logging, "SECONDS_BETWEEN_LINES", 0.0)
    assert shown(monkeypatch, terminal, visible=False) == ""


def test_a_terminal_gets_a_live_line(monkeypatch):
    output = shown(monkeypatch, terminal=True)
    assert "precision [bf16]" in output and "50/100" in output and "loss 1.234" in output


STARTED = {"update": 0, "evaluation": {"R@1": 0.5}}
UPDATED = {"update": 3, "epoch": 1, "loss": 2.0}


def test_every_number_becomes_a_point_in_tensorboard(monkeypatch, tmp_path):
    points, made, closed = [], [], []
    writer = SimpleNamespace(
        add_scalar=lambda *point: points.append(point),
        flush=lambda: None,
        close=lambda: closed.append(True),
    )

    def make(folder, purge_step):
        made.append((folder, purge_step))
        return writer

    module = SimpleNamespace(SummaryWriter=make)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with tracker("tensorboard", tmp_path, {}) as on_log:
        assert not made  # a run that is refused leaves no folder
        on_log(STARTED)
        on_log(UPDATED)
    assert points == [("R@1", 0.5, 0), ("loss", 2.0, 3)]
    assert made == [(str(tmp_path / "tensorboard"), 0)]  # what was drawn from there on is redrawn
    assert closed == [True]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_every_number_becomes_a_point_of_a_named_run(monkeypatch, tmp_path, name, capsys):
    calls = []

    def call(*arguments):
        print("a word of its own")
        calls.extend(arguments)

    run = SimpleNamespace(log=lambda numbers, step: call((numbers, step)))
    module = SimpleNamespace(
        init=lambda **settings: call(settings) or run, finish=lambda: call("finished")
    )
    monkeypatch.setitem(sys.modules, name, module)
    with tracker(name, tmp_path / "first", {"epochs": 2}) as on_log:
        on_log(STARTED)
        on_log(UPDATED)
    assert calls == [
        {"project": "videoclip", "name": "first", "config": {"epochs": 2}},
        ({"R@1": 0.5}, 0),
        ({"loss": 2.0}, 3),
        "finished",
    ]
    assert capsys.readouterr().out == ""  # results alone go there


def test_the_real_tensorboard_writes_curves(tmp_path):
    pytest.importorskip("tensorboard")
    with tracker("tensorboard", tmp_path, {}) as on_log:
        on_log(UPDATED)
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_the_real_wandb_accepts_a_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with tracker("wandb", tmp_path, {"epochs": 2}) as on_log:
        on_log(UPDATED)
    assert list(tmp_path.glob("wandb/offline-run-*"))


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_without_a_tracker_its_extra_is_named(monkeypatch, tmp_path, name):
    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None
    )
    with (
        pytest.raises(MissingExtraError, match=rf"videoclip\[{name}\]"),
        tracker(name, tmp_path, {}),
    ):
        pass
    with tracker(None, tmp_path, {}) as on_log:
        assert on_log is None
