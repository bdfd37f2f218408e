"""Paragraph retrieval: whole videos by a sequence of sentences, each of which describes a clip."""

from collections.abc import Sequence

import numpy as np

from videoclip.benchmarks.examples import Baseline, RetrievalExample
from videoclip.evaluation.baselines import chance_ranks
from videoclip.evaluation.metrics import ranking, sequences
from videoclip.evaluation.outcome import Outcome, histogram, means, measure
from videoclip.evaluation.retrieval import CUTOFFS, RANK_EDGES
from videoclip.evaluation.trial import Clip, Trial, normalize_rows
from videoclip.types import RealArray


def evaluate_paragraphs(examples: Sequence[RetrievalExample], trial: Trial) -> Outcome:
    """Rank all videos for each paragraph by the cost of aligning its sentences with their clips.

    Without background a video is its annotated clips. With background the stretches between them,
    in pieces of at most `clip_seconds`, are clips too.

    Source: TempCLR (arXiv 2212.13738) and Norton (arXiv 2401.16702). Deviation: their papers leave
    open how background becomes clips, and distances here are 1 minus the cosine.
    """
    store, config = trial.store, trial.config
    pairs, missing = trial.find_clips(examples)
    paragraphs: dict[str, list[tuple[str, Clip]]] = {}
    for example, clip in sorted(pairs, key=lambda pair: (pair[0].video_id, pair[0].start or 0.0)):
        paragraphs.setdefault(example.video_id, []).append((example.text, clip))

    videos = list(paragraphs)
    text = normalize_rows(
        trial.encoder.embed_text([t for pairs in paragraphs.values() for t, _ in pairs])
    )
    counts = np.array(list(map(len, paragraphs.values())))
    removed = [[clip for _, clip in pairs] for pairs in paragraphs.values()]
    piece = round(config.clip_seconds * trial.rate)
    lengths = map(store.num_features, videos)
    kept = [_with_background(*pair, piece) for pair in zip(removed, lengths, strict=True)]
    costs: dict[str, RealArray] = {}
    for background, clips in (("removed", removed), ("kept", kept)):
        video = normalize_rows(trial.embed_clips([clip for of_video in clips for clip in of_video]))
        num_clips = np.array(list(map(len, clips)))
        found = sequences.paragraph_costs(1 - text @ video.T, counts, num_clips)
        costs |= {f"{method}, background {background}": cost for method, cost in found.items()}

    ranks = {name: ranking.rank_queries(-cost) for name, cost in costs.items()}
    columns = {
        f"{name} R@{k}": ranking.recall_at(of, k) for name, of in ranks.items() for k in CUTOFFS
    }
    same_length = ranking.rank_queries(-np.abs(counts[:, None] - counts).astype(np.float64))
    within = chance_ranks(np.ones(len(videos), np.int64), len(videos))
    chance = {k: float(within[min(k, len(videos)) - 1]) for k in CUTOFFS}
    expected = {name: ranking.expected_rank(of) for name, of in ranks.items()}
    by_dtw = {name: rank for name, rank in expected.items() if name.startswith("DTW")}
    edges = (*(edge for edge in RANK_EDGES if edge <= len(videos)), len(videos) + 1)
    return Outcome(
        protocol="whole videos ranked for a paragraph by aligning its sentences with their clips",
        settings={
            "clip": f"first {config.clip_seconds:g} s" if config.clip_seconds else "whole",
            "background": f"pieces of {config.clip_seconds:g} s" if piece else "in one piece",
            "sentences": len(text),
            "clips without background": sum(map(len, removed)),
            "clips with background": sum(map(len, kept)),
        },
        measures=measure(means(columns), videos, config),
        baselines=(
            Baseline("random", {f"{name} R@{k}": chance[k] for name in ranks for k in CUTOFFS}),
            Baseline(
                "number of clips",
                {
                    f"{name} R@{k}": float(ranking.recall_at(same_length, k).mean())
                    for name in ranks
                    if name.endswith("removed")
                    for k in CUTOFFS
                },
                "videos with as many clips as the paragraph has sentences come first",
            ),
        ),
        num_examples=len(videos),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(
            {
                "video_id": video_id,
                "sentences": int(counts[i]),
                **{f"rank, {name}": float(rank[i]) for name, rank in expected.items()},
            }
            for i, video_id in enumerate(videos)
        ),
        plots=(histogram("Rank of the right video by DTW", "rank", edges, by_dtw),),
    )


def _with_background(clips: Sequence[Clip], num_features: int, piece: int) -> list[Clip]:
    """Return the clips of a video and the pieces of the stretches between them, in order.

    Args:
        clips: In order of time.
        num_features: Of the whole video.
        piece: Features of a piece of background; 0: each stretch is one piece.
    """
    found: list[Clip] = []
    end = 0
    for clip in (*clips, Clip(clips[0].video_id, num_features, num_features)):
        size = piece or max(1, clip.first - end)
        for first in range(end, clip.first, size):
            found.append(Clip(clip.video_id, first, min(first + size, clip.first)))
        if clip.last > clip.first:
            found.append(clip)
        end = max(end, clip.last)
    return found
