"""Progress: a live line on a terminal, a line now and then in a file, nothing when hidden."""

import io
import sys

import pytest

from videoclip.training import progress
from videoclip.training.progress import ProgressLine

ENTRY = {"update": 50, "epoch": 2, "loss": 1.2345, "pairs_per_second": 321.0}


def shown(monkeypatch, terminal=False, visible=True):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressLine(100, 10, visible) as line:
        line.say("precision [bf16]")
        line.show(ENTRY)
        line.show(ENTRY)
    return stream.getvalue()


def test_a_file_gets_a_line_now_and_then(monkeypatch):
    assert shown(monkeypatch) == "precision [bf16]\n"
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    first, line, _ = shown(monkeypatch).splitlines()
    assert first == "precision [bf16]"
    assert line.startswith("update 50/100  epoch 2  loss 1.234  321 pairs/s  about 0 min left")


@pytest.mark.parametrize("terminal", [True, False])
def test_hidden_is_silent(monkeypatch, terminal):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    assert shown(monkeypatch, terminal, visible=False) == ""


def test_a_terminal_gets_a_live_line(monkeypatch):
    output = shown(monkeypatch, terminal=True)
    assert "precision [bf16]" in output and "50/100" in output and "loss 1.234" in output
