"""Retrieval: of clips by text, and of texts by clip."""

from collections.abc import Sequence

import numpy as np

from videoclip.benchmarks.examples import Baseline, RetrievalExample
from videoclip.config import EvaluateConfig
from videoclip.evaluation.baselines import chance_ranks
from videoclip.evaluation.metrics import ranking
from videoclip.evaluation.outcome import (
    Measure,
    Outcome,
    Statistics,
    histogram,
    means,
    measure,
    similarity_histogram,
)
from videoclip.evaluation.trial import Trial, unique
from videoclip.types import FloatArray, IntArray
from videoclip.zeroshot.rerank import rerank_clips

CUTOFFS = (1, 5, 10)
RANK_EDGES = (1, 2, 3, 6, 11, 21, 51, 101, 501, 1001, 10001, 100001)
PLOTTED_QUERIES = 1000


def evaluate_retrieval(
    examples: Sequence[RetrievalExample], trial: Trial, *, join_texts: bool = False
) -> Outcome:
    """Rank all clips for each text, and all texts for each clip.

    Every different clip is one candidate. With `ties="released"`, each example has a candidate of
    its own, even if several share a clip, as released.

    Args:
        examples: Texts and their clips.
        trial: The model.
        join_texts: Whether examples with the same text are one query with several right clips, of
            which the best ranked counts; otherwise each is a query of its own, as published tests
            have it.
    """
    encoder, store, config = trial.encoder, trial.store, trial.config
    found, missing = trial.find_clips(examples)
    kept = [example for example, _ in found]
    videos = [example.video_id for example in kept]
    candidates, clip_of = unique([clip for _, clip in found])
    texts, text_of = unique([example.text for example in kept])

    video = trial.embed_clips(candidates)
    text = encoder.embed_text(texts)
    similarity = text @ video.T  # (U, M)
    if config.rerank_top:
        scorer = encoder.pair_scorer(texts, store.read_windows(candidates))
        similarity = rerank_clips(scorer, similarity, config.rerank_top)
    query_of = np.arange(len(kept))
    if join_texts and config.ties != "released":
        query_of = text_of
    else:
        similarity = similarity[text_of]  # (N, M)
    _, first = np.unique(query_of, return_index=True)  # an example of each query

    if config.ties == "released":
        protocol = "text-to-video retrieval over the whole test set, as released"
        measures, ranks = _released(similarity[:, clip_of], videos, config)
    else:
        protocol = "text-to-video and video-to-text retrieval over the whole test set"
        measures, ranks = _both_ways(similarity, query_of, clip_of, videos, config)
    rank = ranking.expected_rank(ranks)
    edges = (*(edge for edge in RANK_EDGES if edge <= len(candidates)), len(candidates) + 1)
    plotted = np.unique(np.linspace(0, len(first) - 1, PLOTTED_QUERIES).astype(int))
    is_plotted = np.isin(query_of, plotted)
    right = np.zeros((len(plotted), len(candidates)), dtype=bool)
    right[np.searchsorted(plotted, query_of[is_plotted]), clip_of[is_plotted]] = True
    pairs = np.unique(np.column_stack((query_of, clip_of)), axis=0)
    return Outcome(
        protocol=protocol,
        settings={
            "clip": f"first {config.clip_seconds:g} s" if config.clip_seconds else "whole",
            "ties": config.ties,
            "dual softmax": config.dual_softmax or "off",
            "re-ranked": f"best {config.rerank_top}" if config.rerank_top else "off",
            "texts": len(first),
            "clips": len(candidates),
        },
        measures=measures,
        baselines=(
            Baseline(
                "random",
                _chance("text-to-video", np.bincount(pairs[:, 0]), len(candidates))
                | _chance("video-to-text", np.bincount(pairs[:, 1]), len(first)),
            ),
        ),
        num_examples=len(kept),
        num_videos=len(set(videos)),
        missing=tuple(missing),
        rows=tuple(
            {
                "video_id": clip.video_id,
                "start": clip.first / trial.rate,
                "end": clip.last / trial.rate,
                "text": example.text,
                "rank": float(rank[query_of[i]]),
                "similarity": float(similarity[query_of[i], clip_of[i]]),
            }
            for i, (example, clip) in enumerate(found)
        ),
        plots=(
            histogram("Rank of the right clip", "rank", edges, {"texts": rank}),
            similarity_histogram(
                "Similarity of texts with clips",
                ("right pairs", "other pairs"),
                similarity[plotted],
                right,
            ),
        ),
    )


def _both_ways(
    similarity: FloatArray,
    query_of: IntArray,
    clip_of: IntArray,
    videos: Sequence[str],
    config: EvaluateConfig,
) -> tuple[tuple[Measure, ...], ranking.Ranks]:
    """Measures with each different clip once, ties in random order, both directions.

    Args:
        similarity: (Q, M) of queries and clips.
        query_of: (N,) query of each example.
        clip_of: (N,) clip of each example.
        videos: (N,) video of each example.
        config: How to score.
    """
    _, first_query = np.unique(query_of, return_index=True)
    _, first_text = np.unique(clip_of, return_index=True)

    def rank(
        name: str, similarity: FloatArray, queries: IntArray, candidates: IntArray
    ) -> tuple[ranking.Ranks, Statistics]:
        if config.dual_softmax:
            similarity = ranking.dual_softmax(similarity, config.dual_softmax)
        right = np.zeros(similarity.shape, dtype=bool)
        right[queries, candidates] = True
        ranks = ranking.rank_right(similarity, right)
        expected = ranking.expected_rank(ranks)
        recalls = means({f"{name} R@{k}": ranking.recall_at(ranks, k) for k in CUTOFFS})
        return ranks, lambda items: {
            **recalls(items),
            f"{name} MedR": float(np.median(expected[items])),
            f"{name} MeanR": float(expected[items].mean()),
        }

    ranks, of_texts = rank("text-to-video", similarity, query_of, clip_of)
    _, of_clips = rank("video-to-text", similarity.T, clip_of, query_of)
    texts_of, clips_of = ([videos[i] for i in first] for first in (first_query, first_text))
    return measure(of_texts, texts_of, config) + measure(of_clips, clips_of, config), ranks


def _released(
    similarity: FloatArray, videos: Sequence[str], config: EvaluateConfig
) -> tuple[tuple[Measure, ...], ranking.Ranks]:
    """Measures as released: (N, N), text to video only, every tied place an entry."""
    ranks = ranking.rank_queries(similarity)

    def statistics(items: IntArray) -> dict[str, float]:
        entries = ranking.released_rank_entries(ranking.Ranks(*(of[items] for of in ranks)))
        return {
            **{f"text-to-video R@{k}": float((entries < k).mean()) for k in CUTOFFS},
            "text-to-video MedR": float(np.median(entries) + 1),
        }

    return measure(statistics, videos, config), ranks


def _chance(name: str, num_right: IntArray, num_candidates: int) -> dict[str, float]:
    within = chance_ranks(num_right, num_candidates)
    return {
        **{f"{name} R@{k}": float(within[min(k, num_candidates) - 1]) for k in CUTOFFS},
        f"{name} MedR": float(np.searchsorted(within, 0.5) + 1),
        f"{name} MeanR": float(num_candidates - within[:-1].sum()),
    }
