"""Retrieval and multiple choice: similarities in, ranks and accuracies out.

A query's rank is that of its best right candidate among the wrong ones. `greater` is the number of
wrong candidates that are more similar, `ties` is 1 plus the number of wrong ones exactly as
similar, `right` the number of right ones that similar. All measures follow from these counts:

    similarity of one query      0.9  0.7  0.7  0.2       the right candidate is the third
    greater, ties, right         1, 2, 1                  so its rank is 2 or 3, each half the time
    recall at 1, 2, 3            0, 1/2, 1
    expected rank                2.5
"""

from typing import NamedTuple

import numpy as np

from videoclip.types import BoolArray, IntArray, RealArray
from videoclip.zeroshot.choices import softmax

ROWS_AT_ONCE = 2048
"""Queries compared with all candidates at once, so that memory stays bounded."""


class Ranks(NamedTuple):
    """Rank of the right candidate of each query, with ties.

    Attributes:
        greater: (N,) number of wrong candidates more similar than the best right one.
        ties: (N,) number of candidates exactly as similar as the best right one: wrong ones, and
            itself.
        right: (N,) number of right candidates exactly as similar as the best one, itself included.
    """

    greater: IntArray
    ties: IntArray
    right: IntArray


def rank_queries(
    similarity: RealArray,
    query_groups: IntArray | None = None,
    candidate_groups: IntArray | None = None,
) -> Ranks:
    """Return the rank of each query's best right candidate among the wrong ones.

    Args:
        similarity: (N, M), queries by candidates.
        query_groups: (N,) a candidate is right for the queries of its own group; by default query
            i belongs to candidate i.
        candidate_groups: (M,) groups of the candidates.
    """
    num_queries, num_candidates = similarity.shape
    rows = np.arange(num_queries) if query_groups is None else query_groups
    columns = np.arange(num_candidates) if candidate_groups is None else candidate_groups
    return rank_right(similarity, rows[:, None] == columns)


def rank_right(similarity: RealArray, right: BoolArray) -> Ranks:
    """Return the rank of each query's best right candidate among the wrong ones.

    Args:
        similarity: (N, M), queries by candidates.
        right: (N, M) whether a candidate is right; one or more of each query.
    """
    assert right.any(axis=1).all(), "every query needs a right candidate"
    parts = []
    for first in range(0, len(similarity), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        some, is_right = similarity[rows], right[rows]
        best = np.where(is_right, some, -np.inf).max(axis=1, keepdims=True)
        wrong = np.where(is_right, -np.inf, some)
        ties, equal_right = wrong == best, is_right & (some == best)
        counts = ((wrong > best).sum(axis=1), ties.sum(axis=1) + 1, equal_right.sum(axis=1))
        parts.append(counts)
    return Ranks(*map(np.concatenate, zip(*parts, strict=True)))


def recall_at(ranks: Ranks, k: int) -> RealArray:
    """Return (N,) the probability that a right candidate of each query is among the first k.

    Ties are broken at random, in expectation: a model that finds everything equally similar scores
    chance, whatever the order of the files. Source: deviation from the released rule
    (`released_rank_entries`), in which a tie is an entry for every rank it may have.
    """
    places = np.maximum(k - ranks.greater, 0)  # of the first k, those that go to the ties
    all_wrong = np.ones(len(places))  # the chance that none of them goes to a right candidate
    for i in range(ranks.right.max(initial=0)):
        candidates = ranks.ties - 1 + np.maximum(ranks.right - i, 1)
        missed = np.maximum(candidates - places, 0) / candidates
        all_wrong *= np.where(i < ranks.right, missed, 1.0)
    return np.asarray(1.0 - all_wrong)


def expected_rank(ranks: Ranks) -> RealArray:
    """Return (N,) ranks from 1, in expectation over random orders of ties."""
    return ranks.greater + (ranks.ties + ranks.right) / (ranks.right + 1)


def released_rank_entries(ranks: Ranks) -> IntArray:
    """Return every rank, from 0, that a right candidate may have: more than N if there are ties.

    Source: the released evaluation, where R@k is the share of entries below k and the median rank
    is their median plus 1; a query has one right candidate there.
    """
    first = np.repeat(ranks.greater, ranks.ties)
    within = np.arange(ranks.ties.sum()) - np.repeat(np.cumsum(ranks.ties) - ranks.ties, ranks.ties)
    return np.asarray(first + within)


def dual_softmax(similarity: RealArray, temperature: float) -> RealArray:
    """Weight each similarity by a softmax over all queries of its candidate.

    It needs the whole test set at once and improves published numbers; off by default.

    Args:
        similarity: (N, M), queries by candidates.
        temperature: Divides similarities before the softmax over queries.
    """
    return similarity * softmax(similarity, temperature)


def choice_credit(similarity: RealArray, answers: IntArray) -> RealArray:
    """Return (N,) 1 where the answer is the most similar choice, 1/n where n choices tie for it.

    Args:
        similarity: (N, C); -inf marks a choice that an example does not have.
        answers: (N,) index of the right choice.
    """
    best = similarity == similarity.max(axis=1, keepdims=True)  # (N, C)
    right = np.take_along_axis(best, answers[:, None], axis=1)[:, 0]
    return np.asarray(right / best.sum(axis=1))


def released_choice_credit(similarity: RealArray, answers: IntArray) -> RealArray:
    """Return (N,) 1 where the answer is the last of the most similar choices, as released."""
    last = similarity.shape[1] - 1 - similarity[:, ::-1].argmax(axis=1)
    return np.asarray(last == answers, dtype=np.float64)
