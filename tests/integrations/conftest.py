"""An embedder whose videos and texts are few, and the libraries it is plugged into."""

from dataclasses import replace

import pytest

from tests.library.colours import NAMES, ColourBackbone
from tests.model.tiny_models import TINY, make_model
from tests.peers.conftest import peer as peer
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *NAMES, *(f"w{i}" for i in range(40))]


@pytest.fixture(scope="session")
def embedder():
    config = replace(TINY, backbone="colours", feature_dim=len(NAMES), normalize=True)
    return Embedder(make_model(config), Tokenizer(WORDS), "cpu", backbone=ColourBackbone())
