"""Looking twice, in retrieval and in questions, against doing it pair by pair."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.test_embedding import CONFIG, make_embedder, make_features
from videoclip.benchmarks.examples import MultipleChoiceExample, RetrievalExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import ConfigError
from videoclip.evaluation.retrieval import evaluate_retrieval
from videoclip.evaluation.trial import EmbedderEncoder, Trial
from videoclip.evaluation.videoqa import choice_similarity
from videoclip.zeroshot.rerank import PairScorer, rerank_clips

TEXTS = ["w1 w2", "w3", "w4 w5 w6", "w7"]
SPEC = FeatureSpec(
    dim=12, features_per_second=1.0, backbone="test", normalized=True, fingerprint="x"
)


@pytest.fixture
def embedder():
    embedder = make_embedder(replace(CONFIG, num_cross_layers=1))
    embedder.model.reranker.weight.fill_(10.0)  # corrections large enough to change an order
    return embedder


@pytest.fixture
def store(tmp_path):
    with FeatureStore.create(tmp_path / "store", SPEC) as store:
        for i in range(4):
            store.append(f"v{i}", make_features(3 + 4 * i, seed=i))
        yield store


def naive_score(embedder, text, clip, similarity):
    return PairScorer(embedder, [text], [clip])(
        torch.tensor([0]), torch.tensor([0]), torch.tensor([similarity])
    ).item()


def test_pairs_score_alone_as_together(embedder):
    clips = [make_features(n, seed=n) for n in (1, 5, 20)]
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(3))
    similarity = torch.linspace(-1, 1, 12)
    scores = PairScorer(embedder, TEXTS, clips)(pairs[:, 0], pairs[:, 1], similarity)
    for (text, clip), known, score in zip(pairs.tolist(), similarity.tolist(), scores, strict=True):
        expected = naive_score(embedder, TEXTS[text], clips[clip], known)
        assert score.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_names_of_special_tokens_in_a_text_are_words(embedder):
    clip = make_features(5)
    named, spaced, hidden = (
        naive_score(embedder, text, clip, 0.5) for text in ("w1 [SEP] w2", "w1 [ SEP ] w2", "w1 w2")
    )
    assert named == pytest.approx(spaced, abs=1e-4) and named != pytest.approx(hidden, abs=1e-3)


def test_all_pairs_at_once_score_as_some_of_them(embedder):
    clips = [make_features(n, seed=n) for n in (1, 5, 20)]
    scorer, pairs = (
        PairScorer(embedder, TEXTS, clips),
        torch.cartesian_prod(*map(torch.arange, (4, 3))),
    )
    every = scorer(pairs[:, 0], pairs[:, 1], torch.zeros(12))
    some = scorer(pairs[1:, 0], pairs[1:, 1], torch.zeros(11))
    torch.testing.assert_close(every[1:], some, rtol=1e-4, atol=1e-4)


def test_clips_are_put_in_the_scorers_order(embedder):
    clips = [make_features(n, seed=n) for n in (1, 5, 9, 7)]
    similarity = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    result = rerank_clips(PairScorer(embedder, TEXTS, clips), similarity, 3)
    for text in range(4):
        top = np.argsort(-similarity[text])[:3]
        scores = [naive_score(embedder, TEXTS[text], clips[c], similarity[text, c]) for c in top]
        expected = top[np.argsort(-np.array(scores))]
        assert np.argsort(-result[text])[:3].tolist() == expected.tolist()


def test_a_weight_of_zero_keeps_the_towers_order(embedder):
    embedder.model.reranker.weight.zero_()
    clips = [make_features(n, seed=n) for n in (1, 5, 9, 20)]
    similarity = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    result = rerank_clips(PairScorer(embedder, TEXTS, clips), similarity, 4)
    assert result.tolist() == similarity.tolist()


@pytest.mark.parametrize("top_k", [1, 3, 9])
def test_rerank_reorders_the_top_and_nothing_else(top_k):
    generator = torch.Generator().manual_seed(0)
    similarity = torch.rand(5, 7, generator=generator)
    truth = torch.rand(5, 7, generator=generator)
    result = torch.from_numpy(
        rerank_clips(lambda rows, columns, _: truth[rows, columns], similarity.numpy(), top_k)
    )
    for row in range(5):
        best = similarity[row].argsort(descending=True)
        top, rest = best[:top_k], best[top_k:]
        expected = top[truth[row, top].argsort(descending=True)].tolist() + rest.tolist()
        assert result[row].argsort(descending=True).tolist() == expected
        torch.testing.assert_close(result[row].sort().values, similarity[row].sort().values)


def test_retrieval_and_questions_use_it_when_asked(embedder, store):
    encoder = EmbedderEncoder(embedder)
    examples = [RetrievalExample(f"v{i}", TEXTS[i]) for i in range(4)]
    plain = evaluate_retrieval(examples, Trial(encoder, store, EvaluateConfig(num_resamples=10)))
    config = EvaluateConfig(num_resamples=10, rerank_top=4)
    twice = evaluate_retrieval(examples, Trial(encoder, store, config))
    assert (plain.settings["re-ranked"], twice.settings["re-ranked"]) == ("off", "best 4")
    assert [row["similarity"] for row in plain.rows] != [row["similarity"] for row in twice.rows]

    question = MultipleChoiceExample("q", "v1", ("w1", "w2 w3"), 0, "w9")
    once = choice_similarity([question], Trial(encoder, store, EvaluateConfig()))
    again = choice_similarity([question], Trial(encoder, store, config))
    clip = store.read("v1").astype(np.float32)
    for choice in range(2):
        text = f"w9 {question.choices[choice]}"
        expected = naive_score(embedder, text, clip, once[0, choice])
        assert again[0, choice] == pytest.approx(expected, rel=1e-4)


def test_a_model_without_a_reranker_says_how_to_get_one(store):
    with pytest.raises(ConfigError, match=r"num-cross-layers 1"):
        PairScorer(make_embedder(), TEXTS, [])


def test_a_text_longer_than_the_longest_is_cut(embedder):
    longest, clip = embedder.config.max_text_tokens, make_features(5)
    words = [f"w{i}" for i in range(longest + 9)]
    long, cut = (
        naive_score(embedder, " ".join(some), clip, 0.0) for some in (words, words[:longest])
    )
    assert long == cut
    assert cut != naive_score(embedder, " ".join(words[: longest - 1]), clip, 0.0)
