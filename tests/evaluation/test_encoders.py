"""Models as evaluations see them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.model.tiny_models import TINY, make_model
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, IndexMismatchError
from videoclip.evaluation import encoders, evaluate
from videoclip.features.backbones import load_backbone

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
    encoder = encoders.EmbedderEncoder(embedder)
    features = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)
    encoder.check(SPEC)
    assert embedder.fingerprint in encoder.name
    assert encoder.temperature == 1.0
    assert encoder.embed_text(["w1", "w2"]).shape == (2, 16)
    assert encoder.embed_windows(features, [(0, 3)]).shape == (1, 16)
    visible = encoder.embed_seconds(features, attend_cls=True)
    hidden = encoder.embed_seconds(features, attend_cls=False)
    assert visible.shape == hidden.shape == (20, 16)
    assert not np.allclose(visible, hidden)
    with pytest.raises(IndexMismatchError, match="do not fit the model"):
        encoder.check(replace(SPEC, dim=13))


def test_frames_alone_are_a_baseline(monkeypatch):
    monkeypatch.setattr(encoders, "load_backbone", lambda name, device: TextBackbone())
    encoder = encoders.FrameEncoder("test")
    encoder.check(SPEC)
    assert encoder.name == "mean of test frames"
    np.testing.assert_allclose(encoder.embed_text(["a cat"])[0][:2], [0.6, 0.8])
    features = np.eye(12)[[0, 0, 1]] * 7
    seconds = encoder.embed_seconds(features, attend_cls=True)
    np.testing.assert_allclose(np.linalg.norm(seconds, axis=1), 1)
    pooled = encoder.embed_windows(features, [(0, 2), (0, 3)])
    np.testing.assert_allclose(pooled[1][:2], np.array([2, 1]) / 5**0.5, rtol=1e-6)
    with pytest.raises(
        IndexMismatchError, match="not extracted with the weights of backbone 'test'"
    ):
        encoder.check(replace(SPEC, fingerprint="others"))


def test_frames_have_neither_a_head_nor_a_reranker(monkeypatch):
    monkeypatch.setattr(encoders, "load_backbone", lambda name, device: TextBackbone())
    encoder = encoders.FrameEncoder("test")
    with pytest.raises(ConfigError, match="'mean of test frames' has no classes of its own"):
        encoder.classify_seconds(np.eye(12), attend_cls=False)
    with pytest.raises(ConfigError, match="'mean of test frames' has no re-ranker: set rerank_top"):
        encoder.pair_scorer(["a cat"], [np.eye(12)])


def test_frames_need_a_text_side(monkeypatch):
    monkeypatch.setattr(encoders, "load_backbone", lambda name, device: BlindBackbone())
    with pytest.raises(ConfigError, match="backbone 'blind' has no text encoder"):
        encoders.FrameEncoder("blind")


def test_frames_of_a_clip_folder_are_evaluated_like_a_model(tmp_path):
    """A tiny random CLIP as `transformers` writes it, from its folder to a table."""
    transformers = pytest.importorskip("transformers")
    from tests.features.tiny_image_models import clip, save

    transformers.set_seed(0)
    model, processor, dim = clip()
    (tmp_path / "clip").mkdir()
    name = f"image:{save(model.eval(), processor, tmp_path / 'clip')}"
    backbone = load_backbone(name)
    words = backbone.embed_text(["cut the onion", "stir the onion"])
    with FeatureStore.create(tmp_path / "store", backbone.spec) as store:
        # Videos whose frames are what a text means.
        for video_id, row in zip(("cutting", "stirring"), words, strict=True):
            store.append(video_id, np.repeat(row[None], 5, axis=0))
    table = tmp_path / "own.csv"
    table.write_text("video,text\ncutting,cut the onion\nstirring,stir the onion\n")
    result = evaluate("csv", "frames", tmp_path / "store", table, EvaluateConfig(num_resamples=5))
    assert result["text-to-video R@1"] == result["video-to-text R@1"] == 1.0
    assert (backbone.spec.dim, result.model) == (dim, f"mean of {name} frames")
