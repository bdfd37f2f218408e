"""Annotation files of the public benchmarks as neutral examples.

A module of this package that defines `BENCHMARKS` adds its benchmarks; nothing else lists them
(docs/adding.md).
"""

import importlib
import pkgutil
from functools import cache

from videoclip.benchmarks.examples import Benchmark


@cache
def load_benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by the name a user types."""
    found: dict[str, Benchmark] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), "BENCHMARKS", {})
    return found
