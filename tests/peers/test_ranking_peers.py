"""Ranks of retrieval and multiple choice beside five packages that count them.

Peers break ties by the order or the names of candidates. The stated rule here is the expectation
over random orders, so on tied similarities the twin is a peer's mean over all orders of the
candidates, each written as a small difference of similarity.
"""

import itertools

import numpy as np
import pytest
import torch

from videoclip.evaluation.metrics import ranking

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
CUTOFFS = (1, 2, 5)
JITTER = 1e-3


def identified(similarity):
    """Similarities by the names of queries and candidates."""
    return {
        f"q{i:04d}": {f"d{j:04d}": float(value) for j, value in enumerate(row)}
        for i, row in enumerate(similarity)
    }


def relevance(right):
    """Right candidates by the names of queries and candidates."""
    return {
        f"q{i:04d}": {f"d{j:04d}": 1 for j in np.flatnonzero(row).tolist()}
        for i, row in enumerate(right)
    }


def torchmetrics(peer, similarity, right):
    metrics = peer("torchmetrics.functional.retrieval")
    pairs = list(zip(torch.from_numpy(similarity), torch.from_numpy(right), strict=True))
    hits = {
        k: np.mean([float(metrics.retrieval_hit_rate(*pair, top_k=k)) for pair in pairs])
        for k in CUTOFFS
    }
    return hits, np.mean([1 / float(metrics.retrieval_reciprocal_rank(*pair)) for pair in pairs])


def ranx(peer, similarity, right):
    package = peer("ranx")
    qrels, run = package.Qrels(relevance(right)), package.Run(identified(similarity))
    names = [f"hit_rate@{k}" for k in CUTOFFS] + ["mrr"]
    values = package.evaluate(qrels, run, names, return_mean=False)
    hits = {k: values[f"hit_rate@{k}"].mean() for k in CUTOFFS}
    return hits, (1 / values["mrr"]).mean()


def sentence_transformers(peer, similarity, right):
    module = peer("sentence_transformers.sentence_transformer.evaluation")
    results, qrels = identified(similarity), relevance(right)
    names = {query: "" for query in results}
    evaluator = module.InformationRetrievalEvaluator(
        names,
        dict.fromkeys(next(iter(results.values())), ""),
        {query: set(found) for query, found in qrels.items()},
        accuracy_at_k=list(CUTOFFS),
    )
    hits = evaluator.compute_metrics(
        [
            [{"corpus_id": name, "score": score} for name, score in found.items()]
            for found in results.values()
        ]
    )["accuracy@k"]
    return hits, None


def mteb(peer, similarity, right):
    metrics = peer("mteb._evaluators.retrieval_metrics")
    results, qrels = identified(similarity), relevance(right)
    found = metrics.calculate_retrieval_scores(results, qrels, list(CUTOFFS))
    reciprocal = metrics.mrr(qrels, results, [similarity.shape[1]])
    scores = found.all_scores.values()  # its means are rounded
    hits = {k: np.mean([score[f"success_{k}"] for score in scores]) for k in CUTOFFS}
    return hits, np.mean([1 / value for value in next(iter(reciprocal.values()))])


PEERS = [torchmetrics, ranx, sentence_transformers, mteb]


def cases(num_queries, num_candidates, seed):
    """Return similarities without ties, groups, and whether a candidate is right."""
    rng = np.random.default_rng(seed)
    similarity = rng.permuted(np.arange(num_queries * num_candidates) / 1024, out=None).reshape(
        num_queries, num_candidates
    )
    candidates = np.array([0, 1, 2, *rng.integers(3, size=num_candidates - 3)])
    queries = rng.integers(3, size=num_queries)
    return similarity, queries, candidates, queries[:, None] == candidates


@pytest.mark.parametrize("of_peer", PEERS)
def test_untied_ranks_with_several_right_candidates(peer, of_peer):
    similarity, queries, candidates, right = cases(40, 17, 0)
    ranks = ranking.rank_queries(similarity, queries, candidates)
    hits, mean_rank = of_peer(peer, similarity, right)
    for k in CUTOFFS:
        assert ranking.recall_at(ranks, k).mean() == pytest.approx(hits[k], abs=1e-9)
    if mean_rank is not None:
        expected = ranking.expected_rank(ranks).mean()
        # torchmetrics counts in float32, ranx and mteb in float64.
        tolerance = 1e-5 if of_peer is torchmetrics else 1e-9
        assert expected == pytest.approx(mean_rank, abs=tolerance)


@pytest.mark.parametrize("of_peer", PEERS)
def test_tied_ranks_are_the_mean_over_all_orders(peer, of_peer):
    rng = np.random.default_rng(1)
    orders = np.array(list(itertools.permutations(range(5)))) * JITTER  # (120, 5)
    for _ in range(4):
        row, group = rng.integers(0, 2, size=(1, 5)).astype(float), rng.integers(0, 2, size=5)
        group[0] = 0
        ranks = ranking.rank_queries(row, np.zeros(1, int), group)
        right = np.repeat(group[None] == 0, len(orders), axis=0)
        hits, mean_rank = of_peer(peer, row + orders, right)
        for k in CUTOFFS:
            assert ranking.recall_at(ranks, k)[0] == pytest.approx(hits[k], abs=1e-9)
        if mean_rank is not None:
            tolerance = 1e-5 if of_peer is torchmetrics else 1e-9
            assert ranking.expected_rank(ranks)[0] == pytest.approx(mean_rank, abs=tolerance)


def test_accuracy_of_choices(peer):
    metrics = peer("sklearn.metrics")
    similarity, *_ = cases(200, 5, 2)
    answers = np.random.default_rng(3).integers(5, size=200)
    for credit in (ranking.choice_credit, ranking.released_choice_credit):
        ours = credit(similarity, answers).mean()
        theirs = metrics.top_k_accuracy_score(answers, similarity, k=1, labels=np.arange(5))
        assert ours == pytest.approx(theirs, abs=1e-9)
    tied = np.random.default_rng(4).integers(0, 2, size=(1, 5)).astype(float)
    orders = np.array(list(itertools.permutations(range(5)))) * JITTER
    for answer in range(5):
        theirs = metrics.accuracy_score([answer] * 120, (tied + orders).argmax(axis=1))
        ours = ranking.choice_credit(tied, np.array([answer]))[0]
        assert ours == pytest.approx(theirs, abs=1e-9)
