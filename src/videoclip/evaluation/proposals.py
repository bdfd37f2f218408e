"""Moments proposed for texts in one video, as `VideoLibrary.search` finds them."""

from typing import NamedTuple

import numpy as np

from videoclip.embedding import window_spans
from videoclip.evaluation.trial import Trial
from videoclip.types import FloatArray, RealArray
from videoclip.zeroshot.confidence import UNRELATED_QUERIES, hub_biases
from videoclip.zeroshot.moments import Windows, merge_windows, refine_moments, vote_weights

PROPOSALS_PER_TEXT = 10


class Proposals(NamedTuple):
    """Moments of a text in one video.

    Attributes:
        spans: (P, 2) in seconds, best first.
        similarities: (P,) of the spans.
        clips: (C,) similarity of each two seconds of the video; empty unless highlights are wanted.
    """

    spans: RealArray
    similarities: RealArray
    clips: RealArray = np.zeros(0)


def embed_unrelated(trial: Trial) -> FloatArray:
    """Return the embeddings (Q, E) of the unrelated queries, which `propose` corrects by."""
    return trial.encoder.embed_text(UNRELATED_QUERIES)


def propose(
    trial: Trial, features: RealArray, texts: FloatArray, unrelated: FloatArray
) -> list[Proposals]:
    """Return the moments of each text in one video, corrected for hubs.

    Args:
        trial: The model, and the rate of the features.
        features: (T, D) of the video.
        texts: (N, E) embeddings of the texts.
        unrelated: (Q, E), see `embed_unrelated`.
    """
    spans = window_spans(len(features), trial.rate)
    vectors = trial.encoder.embed_windows(features, spans)  # (W, E)
    rows = texts @ vectors.T - hub_biases(vectors, unrelated)
    windows = [Windows(spans, row, vote_weights(row)) for row in rows]
    proposals = []
    for of, merged in zip(windows, merge_windows(windows), strict=True):
        kept = merged[:PROPOSALS_PER_TEXT]
        refined = refine_moments([(of, moment) for moment in kept])
        proposals.append(
            Proposals(
                np.array([(moment.start, moment.end) for moment in refined]) / trial.rate,
                np.array([moment.similarity for moment in kept]),
            )
        )
    return proposals


def draw_proposals(rng: np.random.Generator, end: float) -> Proposals:
    """Draw as many moments of a video of `end` seconds as `propose` returns at most."""
    spans = np.sort(rng.uniform(0, end, size=(PROPOSALS_PER_TEXT, 2)), axis=1)
    return Proposals(spans, rng.random(PROPOSALS_PER_TEXT))
