"""Freed memory is kept within the block and given back after it."""

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from videoclip.training.memory import freed_memory_kept

BLOCK = 64 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")), reason="glibc only"
)
def test_a_freed_block_stays_until_the_end():
    ctypes.CDLL(None).malloc_trim(0)  # what earlier tests freed must not serve this one
    before = resident()
    with freed_memory_kept() as kept:
        assert kept
        block = np.ones(BLOCK, dtype=np.uint8)
        del block
        assert resident() - before > BLOCK // 2
    assert resident() - before < BLOCK // 2


def test_without_glibc_nothing_changes(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    with freed_memory_kept() as kept:
        assert not kept
