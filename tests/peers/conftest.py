"""Other packages that measure the same; installed by `make test-all`."""

import warnings

import pytest


@pytest.fixture(scope="session")
def peer():
    """Import a module of a peer, or skip the test: peers warn while they are imported."""

    def peer(module):
        name = module.partition(".")[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip(module, reason=f"{name} is not installed: `make test-all`")

    return peer
