"""Ranks and choices against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.evaluation.metrics import ranking


def naive_recall(similarity, k, rng, draws=2000):
    """Shuffle the candidates so that a stable sort breaks ties at random."""
    hits = np.zeros(len(similarity))
    for _ in range(draws):
        order = rng.permutation(similarity.shape[1])
        for i, row in enumerate(similarity):
            ranked = order[np.argsort(-row[order], kind="stable")]
            hits[i] += i in ranked[:k]
    return hits / draws


def naive_ranks(row, right, rng, draws=4000):
    """Shuffle the candidates of one query; the rank is that among the wrong ones."""
    ranks = []
    for _ in range(draws):
        order = rng.permutation(len(row))
        ranked = order[np.argsort(-row[order], kind="stable")]
        ranks.append(1 + int(right[ranked].argmax()))
    return np.array(ranks)


def naive_released_entries(similarity):
    """Every place of the sorted row that holds the value of the diagonal."""
    entries = []
    for i, row in enumerate(similarity):
        ranked = sorted(row, reverse=True)
        entries += [place for place, value in enumerate(ranked) if value == row[i]]
    return entries


def test_the_example_of_the_module():
    ranks = ranking.rank_queries(np.array([[0.7, 0.9, 0.7, 0.2]]))
    assert (ranks.greater[0], ranks.ties[0]) == (1, 2)
    assert [ranking.recall_at(ranks, k)[0] for k in (1, 2, 3)] == [0, 0.5, 1]
    assert ranking.expected_rank(ranks)[0] == 2.5


def test_recall_breaks_ties_at_random():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 3, size=(6, 6)).astype(float)
    ranks = ranking.rank_queries(similarity)
    for k in (1, 2, 5):
        expected = naive_recall(similarity, k, rng)
        np.testing.assert_allclose(ranking.recall_at(ranks, k), expected, atol=0.05)


def test_ties_among_several_right_candidates_by_hand():
    ranks = ranking.rank_queries(np.zeros((1, 4)), np.array([0]), np.array([0, 0, 0, 1]))
    assert ranking.recall_at(ranks, 1)[0] == 0.75
    assert ranking.recall_at(ranks, 2)[0] == 1.0
    assert ranking.expected_rank(ranks)[0] == 1.25


@pytest.mark.parametrize("seed", range(4))
def test_ties_among_several_right_candidates_are_broken_at_random(seed):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 3, size=(6, 9)).astype(float)
    queries, candidates = rng.integers(3, size=6), np.array([0, 1, 2, *rng.integers(3, size=6)])
    ranks = ranking.rank_queries(similarity, queries, candidates)
    for i, row in enumerate(similarity):
        drawn = naive_ranks(row, candidates == queries[i], rng)
        assert ranking.expected_rank(ranks)[i] == pytest.approx(drawn.mean(), abs=0.1)
        for k in (1, 2, 3, 5, 9):
            assert ranking.recall_at(ranks, k)[i] == pytest.approx((drawn <= k).mean(), abs=0.04)


def test_a_constant_model_scores_chance():
    ranks = ranking.rank_queries(np.zeros((50, 50)))
    assert ranking.recall_at(ranks, 5).mean() == pytest.approx(0.1)
    assert np.median(ranking.expected_rank(ranks)) == 25.5


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_released_entries(num, seed, levels):
    similarity = np.random.default_rng(seed).integers(0, levels, size=(num, num)).astype(float)
    entries = ranking.released_rank_entries(ranking.rank_queries(similarity))
    assert entries.tolist() == naive_released_entries(similarity)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 10), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_groups_rank_the_best_right_candidate(num_queries, num_groups, seed):
    rng = np.random.default_rng(seed)
    queries = rng.integers(num_groups, size=num_queries)
    candidates = np.concatenate((np.arange(num_groups), rng.integers(num_groups, size=4)))
    similarity = rng.integers(0, 4, size=(num_queries, len(candidates))).astype(float)
    ranks = ranking.rank_queries(similarity, queries, candidates)
    for i, row in enumerate(similarity):
        best = row[candidates == queries[i]].max()
        wrong = row[candidates != queries[i]]
        assert ranks.greater[i] == (wrong > best).sum()
        assert ranks.ties[i] == (wrong == best).sum() + 1


def test_many_queries_are_taken_in_parts(monkeypatch):
    similarity = np.random.default_rng(1).normal(size=(30, 30))
    whole = ranking.rank_queries(similarity)
    monkeypatch.setattr(ranking, "ROWS_AT_ONCE", 7)
    parts = ranking.rank_queries(similarity)
    assert (whole.greater == parts.greater).all()
    assert len(parts.greater) == 30


def test_dual_softmax_prefers_the_query_that_wants_a_candidate_most():
    similarity = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert similarity.argmax(axis=1).tolist() == [0, 0]
    sharp = ranking.dual_softmax(similarity, temperature=0.05)
    assert sharp.argmax(axis=1).tolist() == [1, 0]
    naive = similarity * np.exp(similarity / 0.05) / np.exp(similarity / 0.05).sum(axis=0)
    np.testing.assert_allclose(sharp, naive)


def test_choices_share_credit_where_they_tie():
    similarity = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, -np.inf], [3.0, 3.0, 3.0]])
    answers = np.array([1, 0, 0])
    np.testing.assert_allclose(ranking.choice_credit(similarity, answers), [0.5, 0.0, 1 / 3])
    assert ranking.released_choice_credit(similarity, answers).tolist() == [1, 0, 0]
    four = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    assert ranking.released_choice_credit(four, np.array([1, 2])).tolist() == [1, 1]
    assert ranking.released_choice_credit(four, np.array([2, 1])).tolist() == [0, 0]
