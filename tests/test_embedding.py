"""Embedder: batching and windows change nothing, and what does not belong together is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.model.tiny_models import TINY, make_model
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder, check_features
from videoclip.errors import CheckpointError, DataError, IndexMismatchError

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(46))]
CONFIG = replace(TINY, backbone="test", normalize=True)


def make_embedder(config=CONFIG, batch_size=3):
    return Embedder(make_model(config), Tokenizer(WORDS), batch_size=batch_size)


def make_features(num_features, seed=0):
    return np.random.default_rng(seed).normal(size=(num_features, 12)).astype(np.float32)


def test_texts_embed_alone_as_in_a_batch():
    embedder = make_embedder()
    texts = ["w1", "w2 w3 w4", "w5 w6", " ".join(f"w{i}" for i in range(30)), "unheard of"]
    together = embedder.embed_text(texts)
    assert together.shape == (5, 16)
    assert together.dtype == np.float32
    for text, embedding in zip(texts, together, strict=True):
        np.testing.assert_allclose(embedder.embed_text(text)[0], embedding, atol=1e-5)


def test_long_texts_are_cut_to_what_the_model_takes():
    embedder = make_embedder()
    words = [f"w{i}" for i in range(20)]
    cut = embedder.embed_text(" ".join(words[:11]))
    np.testing.assert_allclose(embedder.embed_text(" ".join(words)), cut, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("num_features", [1, 8, 9, 10, 13, 40])
def test_tokens_are_the_mean_over_the_windows_that_see_them(num_features, normalize):
    embedder = make_embedder(replace(CONFIG, normalize=normalize))
    features = make_features(num_features)
    seen = [[] for _ in range(num_features)]
    start = 0
    while True:
        clip = torch.from_numpy(features[None, start : start + 9])
        mask = torch.ones(clip.shape[:2], dtype=torch.bool)
        with torch.no_grad():
            tokens = embedder.model.video_tokens(clip, mask)[0].numpy()
        for offset, token in enumerate(tokens):
            seen[start + offset].append(token)
        if start + 9 >= num_features:
            break
        start += 4
    expected = np.stack([np.mean(tokens, axis=0) for tokens in seen])
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    result = embedder.embed_features(features)
    np.testing.assert_allclose(result.tokens, expected, atol=1e-5)
    assert result.duration == num_features
    assert repr(result) == f"VideoEmbedding({num_features} s, {num_features} x 16)"


def test_windows_embed_alone_as_in_a_batch_and_long_ones_by_pieces():
    embedder = make_embedder()
    features = make_features(25)
    spans = [(0, 4), (3, 12), (0, 1), (20, 25), (0, 25)]
    together = embedder.embed_windows(features, spans)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for span, embedding in zip(spans, together, strict=True):
        np.testing.assert_allclose(
            embedder.embed_windows(features, [span])[0], embedding, atol=1e-5
        )
    pieces = embedder.embed_windows(features, [(0, 9), (9, 17), (17, 25)]).mean(axis=0)
    np.testing.assert_allclose(together[-1], pieces / np.linalg.norm(pieces), atol=1e-5)


def test_bad_input_is_named():
    embedder = make_embedder()
    with pytest.raises(DataError, match="text 2 of 2 has no words"):
        embedder.embed_text(["w1", "  "])
    with pytest.raises(DataError, match="without features"):
        embedder.embed_features(make_features(0))
    with pytest.raises(DataError, match=r"features of shape \(3, 11\)"):
        embedder.embed_features(np.zeros((3, 11), np.float32))
    with pytest.raises(DataError, match="NaN"):
        embedder.embed_windows(np.full((3, 12), np.nan, np.float32), [(0, 2)])
    with pytest.raises(DataError, match="outside 3 features"):
        embedder.embed_windows(make_features(3), [(2, 4)])


def test_a_vocabulary_of_another_model_is_refused():
    with pytest.raises(CheckpointError, match="word pieces: 50 and 49"):
        Embedder(make_model(CONFIG), Tokenizer(WORDS[:-1]))


def test_features_of_another_kind_are_refused():
    spec = FeatureSpec(
        dim=12, features_per_second=1.0, backbone="test", normalized=True, fingerprint="x"
    )
    check_features(CONFIG, spec)
    with pytest.raises(IndexMismatchError, match="width 11, not 12; features per second 2"):
        check_features(CONFIG, replace(spec, dim=11, features_per_second=2.0))


def test_a_saved_embedder_is_the_same(tmp_path):
    embedder = make_embedder()
    embedder.save_pretrained(tmp_path)
    again = Embedder.from_pretrained(tmp_path)
    assert again.fingerprint == embedder.fingerprint
    np.testing.assert_array_equal(again.embed_text("w1 w2"), embedder.embed_text("w1 w2"))
    other = Embedder(make_model(CONFIG, seed=1), Tokenizer(WORDS))
    assert other.fingerprint != embedder.fingerprint
