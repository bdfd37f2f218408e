import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same numbers whichever tests ran before it in the same process."""
    torch.manual_seed(0)
