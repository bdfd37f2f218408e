"""Models, clips and features as evaluations see them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.model.tiny_models import TINY, make_model
from videoclip.benchmarks.examples import RetrievalExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, DataError, IndexMismatchError
from videoclip.evaluation import evaluate, trial
from videoclip.evaluation.trial import Clip
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
    encoder = trial.EmbedderEncoder(embedder)
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
    monkeypatch.setattr(trial, "load_backbone", lambda name, device: TextBackbone())
    encoder = trial.BackboneEncoder("test")
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
    monkeypatch.setattr(trial, "load_backbone", lambda name, device: TextBackbone())
    encoder = trial.BackboneEncoder("test")
    with pytest.raises(ConfigError, match="'mean of test frames' has no classes of its own"):
        encoder.classify_seconds(np.eye(12), attend_cls=False)
    with pytest.raises(ConfigError, match="'mean of test frames' has no re-ranker: set rerank_top"):
        encoder.pair_scorer(["a cat"], [np.eye(12)])


def test_frames_need_a_text_side(monkeypatch):
    monkeypatch.setattr(trial, "load_backbone", lambda name, device: BlindBackbone())
    with pytest.raises(ConfigError, match="backbone 'blind' has no text encoder"):
        trial.BackboneEncoder("blind")


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


def test_videos_without_features_are_listed_once(make_store):
    store = make_store({"a": ["cut"]})
    examples = [RetrievalExample(v, "x") for v in ("a", "b", "a", "b", "c")]
    present, missing = trial.with_features(examples, store)
    assert [e.video_id for e in present] == ["a", "a"]
    assert [(m.video_id, m.reason) for m in missing] == [("b", "no features"), ("c", "no features")]


def test_a_store_of_other_videos_is_refused(make_store):
    store = make_store({"a": ["cut"]})
    with pytest.raises(DataError, match="no features of any video of the benchmark, such as 'b'"):
        trial.with_features([RetrievalExample("b", "x")], store)
    with pytest.raises(DataError, match="the annotations are empty"):
        trial.with_features([], store)


@pytest.mark.parametrize(
    ("start", "end", "longest", "expected"),
    [
        (None, None, 0, (0, 20)),
        (None, None, 3, (0, 6)),
        (1.2, 2.6, 0, (2, 6)),
        (1.2, 9.0, 2, (2, 6)),
        (9.9, 30.0, 0, (19, 20)),
        (10.0, 12.0, 0, None),
        (1.0, 2.0, 0.1, (2, 3)),
    ],
)
def test_rows_of_a_span(make_store, start, end, longest, expected):
    store = make_store({"a": ["cut"] * 20}, rate=2.0)
    clip = trial.find_clip(store, "a", start, end, longest)
    assert clip == (None if expected is None else Clip("a", *expected))


def test_equal_texts_are_embedded_once():
    texts, place = trial.unique(["cut", "fry", "cut"])
    assert texts == ["cut", "fry"]
    assert place.tolist() == [0, 1, 0]


def test_clips_of_many_videos_are_embedded_in_parts(make_store, encoder, monkeypatch):
    monkeypatch.setattr(trial, "CLIPS_AT_ONCE", 2)
    store = make_store({"a": ["cut", "fry", "fry"], "b": ["pour"]})
    some = [Clip("a", 0, 1), Clip("b", 0, 1), Clip("a", 0, 3)]
    seen = []
    scored = trial.Trial(encoder, store, EvaluateConfig(), lambda *done: seen.append(done))
    got = scored.embed_clips(some)
    words = encoder.embed_text(["cut", "pour", "cut"])
    words[2] = (words[2] + 2 * encoder.embed_text(["fry"])[0]) / 3
    np.testing.assert_allclose(got, words, atol=1e-6)
    assert seen == [(2, 3), (3, 3)]
