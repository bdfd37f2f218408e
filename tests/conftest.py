"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

# Time is measured under bench/; a busy machine must not fail a test. `make test` tries the same
# examples each time, so that it passes or fails for a reason; `make test-all` explores others.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("gate")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers, annotations and clips; it lies beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"reference folder {SHARED} is absent")
    return SHARED
