"""Other packages that measure the same; installed by `make test-all`."""

import importlib
import importlib.util
import warnings

import pytest


@pytest.fixture(scope="session")
def peer():
    """Import a module of a peer; skip the test if the peer is absent, fail if it is broken.

    Peers warn while they are imported.
    """

    def peer(module):
        name = module.partition(".")[0]
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: `make test-all`")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)

    return peer
