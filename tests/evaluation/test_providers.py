"""Models as evaluations see them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.model.tiny_models import TINY, make_model
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, IndexMismatchError
from videoclip.evaluation import providers

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(46))]
SPEC = FeatureSpec(12, 1.0, "test", True, "weights")


class TextBackbone:
    name = "test"
    spec = SPEC

    def features_for(self, path):
        raise AssertionError("evaluations read stores")

    def embed_text(self, texts):
        return np.array([[3.0 * ("cat" in t), 4.0] + [0.0] * 10 for t in texts])


class BlindBackbone:
    name = "blind"
    spec = SPEC

    def features_for(self, path):
        raise AssertionError("evaluations read stores")


def test_an_embedder_is_a_provider():
    embedder = Embedder(make_model(replace(TINY, backbone="test")), Tokenizer(WORDS))
    provider = providers.EmbedderProvider(embedder)
    features = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)
    provider.check(SPEC)
    assert embedder.fingerprint in provider.name
    assert provider.temperature == 1.0
    assert provider.embed_text(["w1", "w2"]).shape == (2, 16)
    assert provider.embed_windows(features, [(0, 3)]).shape == (1, 16)
    visible = provider.embed_seconds(features, attend_cls=True)
    hidden = provider.embed_seconds(features, attend_cls=False)
    assert visible.shape == hidden.shape == (20, 16)
    assert not np.allclose(visible, hidden)
    with pytest.raises(IndexMismatchError, match="do not fit the model"):
        provider.check(replace(SPEC, dim=13))


def test_frames_alone_are_a_baseline(monkeypatch):
    monkeypatch.setattr(providers, "load_backbone", lambda name: TextBackbone())
    provider = providers.FrameProvider("test")
    provider.check(SPEC)
    assert provider.name == "mean of test frames"
    np.testing.assert_allclose(provider.embed_text(["a cat"])[0][:2], [0.6, 0.8])
    features = np.eye(12)[[0, 0, 1]] * 7
    seconds = provider.embed_seconds(features, attend_cls=True)
    np.testing.assert_allclose(np.linalg.norm(seconds, axis=1), 1)
    pooled = provider.embed_windows(features, [(0, 2), (0, 3)])
    np.testing.assert_allclose(pooled[1][:2], np.array([2, 1]) / 5**0.5, rtol=1e-6)
    with pytest.raises(IndexMismatchError, match="of other weights than backbone 'test'"):
        provider.check(replace(SPEC, fingerprint="others"))


def test_frames_need_a_text_side(monkeypatch):
    monkeypatch.setattr(providers, "load_backbone", lambda name: BlindBackbone())
    with pytest.raises(ConfigError, match="backbone 'blind' has no text side"):
        providers.FrameProvider("blind")
