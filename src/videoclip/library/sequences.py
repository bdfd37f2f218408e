"""Ordered queries: "chop the onion, then fry it" finds a moment of each part, one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from videoclip.library.filters import Condition
from videoclip.library.search import SearchOptions, Snapshot, find_moments
from videoclip.types import FloatArray
from videoclip.zeroshot.moments import Moment

MOMENTS_PER_SEQUENCE = 8
"""Moments fetched for each part at first; each further round fetches four times as many."""
MAX_MOMENTS = 4000
"""Largest number of moments fetched for each part."""


def find_sequences(
    library: Snapshot,
    queries: FloatArray,
    texts: Sequence[str],
    label: str,
    options: SearchOptions,
    condition: Condition | None = None,
) -> list[Moment]:
    """Find where moments of several queries follow each other in a video.

    The strength of a sequence is that of its weakest moment. Moments come in descending order of
    strength, so a sequence with a moment that was not fetched is at most as strong as the last one
    fetched; more are fetched until enough sequences reach that.

    Args:
        library: Where to search.
        queries: (N, E) embeddings of the parts.
        texts: The words of each part.
        label: The whole query.
        options: How many sequences, and the weights of frames and narration.
        condition: Which videos to search; None: all.

    Returns:
        Sequences, best first: moments from the first start to the last end, with their `parts`.
    """
    top_k = MOMENTS_PER_SEQUENCE * options.num_moments
    while True:
        top_k = min(MAX_MOMENTS, top_k)
        fetched = replace(options, top_k=top_k, offset=0)
        found = find_moments(library, queries, texts, fetched, condition)
        cut_off = [moments[-1].strength for moments in found if len(moments) == top_k]
        least = max(cut_off, default=-np.inf)
        sequences = sequences_of(found, label, options.num_moments)
        certain = sum(one.strength >= least for one in sequences)
        if certain >= options.num_moments or not cut_off or top_k == MAX_MOMENTS:
            return sequences[: options.num_moments]
        top_k *= 4


def sequences_of(
    found: Sequence[Sequence[Moment]], label: str = "", num_per_video: int = 1
) -> list[Moment]:
    """Join moments of the same video in the order of the parts, each moment used once.

    Args:
        found: The moments of each part.
        label: Label of the sequences.
        num_per_video: Maximum number of sequences in a video.

    Returns:
        Sequences, strongest first, then shortest first.
    """
    by_video: dict[Path, list[list[Moment]]] = {}
    for part, moments in enumerate(found):
        for moment in moments:
            by_video.setdefault(moment.path, [[] for _ in found])[part].append(moment)
    sequences = [
        _join(chain, label)
        for parts in by_video.values()
        if all(parts)
        for chain in islice(_chains(parts), num_per_video)
    ]
    return sorted(sequences, key=lambda one: (-one.strength, one.end - one.start))


def _chains(parts: Sequence[Sequence[Moment]]) -> Iterator[tuple[Moment, ...]]:
    """Yield chains of one moment per part, strongest first; each moment is used once.

    A chain is as strong as its weakest moment; of equally strong chains the shortest comes first.
    Each moment starts before the next one starts, and ends before the next one ends; they may
    overlap.
    """
    spans = [
        np.array([(moment.start, moment.end) for moment in moments], float) for moments in parts
    ]
    # (n, m) for each pair of neighbouring parts.
    before = [(a[:, None] < b).all(axis=-1) for a, b in pairwise(spans)]
    strengths = [np.array([moment.strength for moment in moments], float) for moments in parts]
    while True:
        values = strengths[0]
        for is_before, strength in zip(before, strengths[1:], strict=True):
            reached = np.where(is_before, values[:, None], -np.inf).max(axis=0)
            values = np.minimum(strength, reached)
        if not np.isfinite(weakest := values.max()):
            return
        # Of the equally strong chains to each last moment, take the one that begins last.
        starts = np.where(strengths[0] >= weakest, spans[0][:, 0], -np.inf)
        origins = []
        for is_before, strength in zip(before, strengths[1:], strict=True):
            reached = np.where(is_before & (strength >= weakest), starts[:, None], -np.inf)
            origins.append(reached.argmax(axis=0))
            starts = reached.max(axis=0)
        chain = [int((spans[-1][:, 1] - starts).argmin())]
        for origin in reversed(origins):
            chain.insert(0, int(origin[chain[0]]))
        for strength, i in zip(strengths, chain, strict=True):
            strength[i] = -np.inf  # used
        yield tuple(moments[i] for moments, i in zip(parts, chain, strict=True))


def _join(chain: Sequence[Moment], label: str) -> Moment:
    first, weakest = chain[0], min(chain, key=lambda moment: moment.strength)
    return replace(
        weakest,
        start=first.start,
        end=chain[-1].end,
        best=first.best,
        label=label,
        has_all_words=all(moment.has_all_words for moment in chain),
        words=" … ".join(dict.fromkeys(moment.words for moment in chain if moment.words)),
        parts=tuple(chain),
    )
