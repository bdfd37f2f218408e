"""Freed memory is kept within the block and given back after it."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

from tests.fork_server import run_script
from videoclip.training.performance import keep_freed_memory

PROGRAM = """
from pathlib import Path
import numpy as np
from videoclip.training.performance import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
with keep_freed_memory() as kept:
    block = np.ones(64 << 20, dtype=np.uint8)
    del block
    within = resident() - before
print(kept, within > 32 << 20, resident() - before < 32 << 20)
"""
"""In a process of its own: what other tests have freed could serve this one."""


@pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")), reason="glibc only"
)
def test_a_freed_block_stays_until_the_end():
    assert run_script(PROGRAM) == (0, "True True True\n")


def test_without_glibc_nothing_changes(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    with keep_freed_memory() as kept:
        assert not kept
