"""Multiple choice (VideoQA): the choice whose text is most similar to the video.

Source: paper, section 4 (VideoQA as retrieval).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videoclip.types import FloatArray, RealArray


def choice_texts(question: str, choices: Sequence[str]) -> list[str]:
    """Return the text of each choice, with the question (which may be empty) in front."""
    return [f"{question} {choice}".strip() for choice in choices]


def choice_clips(num_features: int, max_features: int) -> list[tuple[int, int]]:
    """Return half-overlapping clips of a video, as long as the model takes.

    A question is mostly about one moment, so that the best clip is more informative than the mean
    of the whole video.

    Args:
        num_features: T of the video.
        max_features: The longest clip the model takes, in features.
    """
    length = min(max_features, num_features)
    last = num_features - length
    starts = [*range(0, last, max(1, length // 2)), last]
    return [(start, start + length) for start in starts]


def choice_similarities(texts: FloatArray, clips: FloatArray) -> FloatArray:
    """Return (W, C) similarities of clips of one video with the choices of one question.

    Pair by pair, since a matrix product may give equal texts slightly different similarities.

    Args:
        texts: (C, E) of the choices.
        clips: (W, E).
    """
    return np.asarray((clips[:, None] * texts).sum(axis=2))


def softmax(similarities: RealArray, temperature: float) -> RealArray:
    """Return (C,) probabilities of choices at the model's temperature."""
    logits = similarities / temperature
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum())
