"""Multiple choice (VideoQA): the choice whose text is most similar to the video.

Source: paper, section 4 (VideoQA as retrieval).
"""

from collections.abc import Sequence

import numpy as np

from videoclip.types import FloatArray, RealArray


def choice_texts(question: str, choices: Sequence[str]) -> list[str]:
    """Return the text of each choice, with the question (which may be empty) in front."""
    return [f"{question} {choice}".strip() for choice in choices]


def choice_similarities(texts: FloatArray, clips: FloatArray) -> FloatArray:
    """Return (W, C) similarities of clips of one video with the choices of one question.

    Pair by pair, since a matrix product may give equal texts slightly different similarities.

    Args:
        texts: (C, E) of the choices.
        clips: (W, E).
    """
    return np.asarray((clips[:, None] * texts).sum(axis=2))


def softmax(similarities: RealArray, temperature: float) -> RealArray:
    """Return the probabilities (C, ...) of C choices at a temperature."""
    logits = similarities / temperature
    shares = np.exp(logits - logits.max(axis=0))
    return np.asarray(shares / shares.sum(axis=0))
