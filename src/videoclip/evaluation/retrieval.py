"""Retrieval: of clips by text, and of texts by clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videoclip.benchmarks.examples import RetrievalExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation import clips as clip_rows
from videoclip.evaluation.baselines import chance_ranks
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics import ranking
from videoclip.evaluation.outcome import (
    Baseline,
    Histogram,
    Measure,
    Missing,
    Outcome,
    Statistic,
    mean_measure,
    measure,
    similarity_histogram,
)
from videoclip.types import FloatArray, IntArray, OnProgress, RealArray
from videoclip.zeroshot.rerank import rerank_clips

CUTOFFS = (1, 5, 10)
RANK_EDGES = (1, 2, 3, 6, 11, 21, 51, 101, 501, 1001, 10001, 100001)
PLOTTED_QUERIES = 1000


def evaluate_retrieval(
    examples: Sequence[RetrievalExample],
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Rank all clips for each text, and all texts for each clip.

    Every different clip is one candidate. With `ties="released"`, each example has a candidate of
    its own, even if several share a clip, as released.
    """
    kept, clips, missing = _with_clips(examples, store, config)
    videos = [example.video_id for example in kept]
    candidates, clip_of = clip_rows.unique(clips)
    texts, text_of = clip_rows.unique([example.text for example in kept])

    video = clip_rows.embed_clips(encoder, store, candidates, on_progress)
    text = encoder.embed_text(texts)
    similarity = text @ video.T  # (U, M)
    if config.rerank_top:
        scorer = encoder.pair_scorer(texts, store.read_windows(candidates))
        similarity = rerank_clips(scorer, similarity, config.rerank_top)
    similarity = similarity[text_of]  # (N, M)

    if config.ties == "released":
        protocol = "text-to-video retrieval over the whole test set, as released"
        measures, ranks = _released(similarity[:, clip_of], videos, config)
    else:
        protocol = "text-to-video and video-to-text retrieval over the whole test set"
        measures, ranks = _both_ways(similarity, clip_of, videos, config)
    rank = ranking.expected_rank(ranks)
    return Outcome(
        protocol=protocol,
        settings={
            "clip": f"first {config.clip_seconds:g} s" if config.clip_seconds else "whole",
            "ties": config.ties,
            "dual softmax": config.dual_softmax or "off",
            "re-ranked": f"best {config.rerank_top}" if config.rerank_top else "off",
            "texts": len(kept),
            "clips": len(candidates),
        },
        measures=measures,
        baselines=(
            Baseline(
                "random",
                _chance("text-to-video", np.ones(len(kept), np.int64), len(candidates))
                | _chance("video-to-text", np.bincount(clip_of), len(kept)),
            ),
        ),
        num_examples=len(kept),
        num_videos=len(set(videos)),
        missing=tuple(missing),
        rows=tuple(
            {
                "video_id": clip.video_id,
                "start": clip.first / store.spec.features_per_second,
                "end": clip.last / store.spec.features_per_second,
                "text": example.text,
                "rank": float(rank[i]),
                "similarity": float(similarity[i, clip_of[i]]),
            }
            for i, (example, clip) in enumerate(zip(kept, clips, strict=True))
        ),
        plots=(_rank_plot(rank, len(candidates)), _similarity_plot(similarity, clip_of)),
    )


def _with_clips(
    examples: Sequence[RetrievalExample], store: FeatureStore, config: EvaluateConfig
) -> tuple[list[RetrievalExample], list[clip_rows.Clip], list[Missing]]:
    """Return the examples whose clip has features, their clips, and what is left out."""
    present, missing = clip_rows.with_features(examples, store)
    kept, clips = [], []
    for example in present:
        clip = clip_rows.find_clip(
            store, example.video_id, example.start, example.end, config.clip_seconds
        )
        if clip is None:
            reason = f"features end before {example.start:g} s"
            missing.append(Missing(example.video_id, reason))
        else:
            kept.append(example)
            clips.append(clip)
    if not kept:
        raise DataError("every clip begins after the end of its features", store.folder)
    return kept, clips, missing


def _both_ways(
    similarity: FloatArray,
    clip_of: IntArray,
    videos: Sequence[str],
    config: EvaluateConfig,
) -> tuple[tuple[Measure, ...], ranking.Ranks]:
    """Measures with each different clip once, ties in random order, both directions."""
    num_clips = similarity.shape[1]
    first_text = np.unique(clip_of, return_index=True)[1]
    measures: list[Measure] = []
    directions = []
    for name, values, queries, candidates, owners in (
        ("text-to-video", similarity, clip_of, np.arange(num_clips), videos),
        (
            "video-to-text",
            similarity.T,
            np.arange(num_clips),
            clip_of,
            [videos[i] for i in first_text],
        ),
    ):
        if config.dual_softmax:
            values = ranking.dual_softmax(values, config.dual_softmax)
        ranks = ranking.rank_queries(values, queries, candidates)
        directions.append(ranks)
        measures += [
            mean_measure(f"{name} R@{k}", ranking.recall_at(ranks, k), owners, config)
            for k in CUTOFFS
        ]
        rank = ranking.expected_rank(ranks)
        measures += [
            measure(f"{name} MedR", _median(rank), owners, config, is_share=False),
            mean_measure(f"{name} MeanR", rank, owners, config, is_share=False),
        ]
    return tuple(measures), directions[0]


def _released(
    similarity: FloatArray, videos: Sequence[str], config: EvaluateConfig
) -> tuple[tuple[Measure, ...], ranking.Ranks]:
    """Measures as released: (N, N), text to video only, every tied place an entry."""
    ranks = ranking.rank_queries(similarity)

    def entries(items: IntArray) -> IntArray:
        some = ranking.Ranks(ranks.greater[items], ranks.ties[items])
        return ranking.released_rank_entries(some)

    def recall(k: int) -> Measure:
        name = f"text-to-video R@{k}"
        return measure(name, lambda items: float((entries(items) < k).mean()), videos, config)

    median = measure(
        "text-to-video MedR",
        lambda items: float(np.median(entries(items)) + 1),
        videos,
        config,
        is_share=False,
    )
    return (*(recall(k) for k in CUTOFFS), median), ranks


def _median(values: RealArray) -> Statistic:
    return lambda items: float(np.median(values[items]))


def _chance(name: str, num_right: IntArray, num_candidates: int) -> dict[str, float]:
    within = chance_ranks(num_right, num_candidates)
    return {
        **{f"{name} R@{k}": float(within[min(k, num_candidates) - 1]) for k in CUTOFFS},
        f"{name} MedR": float(np.searchsorted(within, 0.5) + 1),
        f"{name} MeanR": float(num_candidates - within[:-1].sum()),
    }


def _rank_plot(rank: RealArray, num_candidates: int) -> Histogram:
    inside = tuple(edge for edge in RANK_EDGES if edge <= num_candidates)
    edges = (*inside, num_candidates + 1)
    counts = np.histogram(rank, edges)[0]
    return Histogram("Rank of the right clip", "rank", edges, {"texts": tuple(counts.tolist())})


def _similarity_plot(similarity: FloatArray, clip_of: IntArray) -> Histogram:
    some = np.unique(np.linspace(0, len(clip_of) - 1, PLOTTED_QUERIES).astype(int))
    right = similarity[some, clip_of[some]]
    title, names = "Similarity of texts with clips", ("right pairs", "other pairs")
    return similarity_histogram(title, names, right, similarity[some])
