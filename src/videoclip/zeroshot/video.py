"""Zero-shot on one video: label its seconds, find its steps, answer a question about it.

Every second is compared with each text and, as in `confidence`, with a bank of unrelated queries:
its *height* is how many of their deviations the text stands above their mean. A second belongs to
a label only where its height is above a threshold, which is stated with the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.features.decode import probe
from videoclip.zeroshot.confidence import (
    NOBODY,
    UNRELATED_QUERIES,
    Background,
    Thresholds,
    measure_background,
    unrelated_to_all,
)
from videoclip.zeroshot.decoding import free_labels, free_spans, ordered_spans, without_rivals
from videoclip.zeroshot.results import Answer, Moment, Timeline

__all__ = ["answer", "localize", "segment"]

FloatArray = npt.NDArray[np.float32]

HEIGHT_THRESHOLD = 1.0
"""Deviations above unrelated queries from which on a second may belong to a label."""
SWITCH_COST = 2.0
"""What a change of label must gain, in the same unit, so that single seconds do not flicker."""


@dataclass(frozen=True)
class _Watched:
    """A video compared with texts.

    Attributes:
        similarities: (T, K) of every second with every text.
        heights: (T, K) likewise, over the background.
        background: Of this video.
        features_per_second: How many of the T make a second.
        duration: Seconds.
        frame_rate: Of the video.
    """

    similarities: FloatArray
    heights: FloatArray
    background: Background
    features_per_second: float
    duration: float
    frame_rate: float


def segment(
    video: Path | str,
    labels: Sequence[str],
    embedder: Embedder,
    *,
    threshold: float = HEIGHT_THRESHOLD,
    switch_cost: float = SWITCH_COST,
) -> Timeline:
    """Label every second of a video with one of some texts, or with none (background).

    Source: paper, section 4 (action segmentation); the threshold is not the largest similarity
    between labels, as released, which is mostly background, but stands on unrelated queries.

    Args:
        video: A video file.
        labels: Texts, in any order; each may hold several times.
        embedder: The model.
        threshold: Height from which on a label beats background; higher: more background.
        switch_cost: How much height a change of label must gain; higher: fewer, longer spans.

    Raises:
        ConfigError: If there are no labels, or one twice.
        DecodeError: If the video cannot be read.
    """
    watched = _watch(video, _checked(labels, "labels"), embedder)
    decoded = free_labels(watched.heights - threshold, switch_cost)
    borders = np.flatnonzero(np.diff(decoded, prepend=-1, append=-1))
    spans = [
        (int(decoded[start]) - 1, start, stop)
        for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
        if decoded[start]
    ]
    return _timeline(Path(video), labels, watched, spans, threshold)


def localize(
    video: Path | str,
    steps: Sequence[str],
    embedder: Embedder,
    *,
    ordered: bool = True,
    threshold: float = HEIGHT_THRESHOLD,
) -> Timeline:
    """Find where each of some steps happens in a video.

    Args:
        video: A video file.
        steps: Texts, in the order of the task.
        embedder: The model.
        ordered: Whether the steps come in that order without overlap; else each is looked for
            anywhere, a second that suits another step better speaking against it. A step that is
            not found is left out of the timeline; see `Timeline.missing`.
        threshold: Height from which on a second may belong to a step.

    Raises:
        ConfigError: If there are no steps, or one twice.
        DecodeError: If the video cannot be read.
    """
    watched = _watch(video, _checked(steps, "steps"), embedder)
    gains = watched.heights - threshold
    found = ordered_spans(gains) if ordered else free_spans(without_rivals(gains))
    spans = [(step, *span) for step, span in enumerate(found) if span]
    return _timeline(Path(video), steps, watched, spans, threshold)


def answer(
    video: Path | str,
    question: str,
    choices: Sequence[str],
    embedder: Embedder,
) -> Answer:
    """Choose among answers to a question about a video.

    Source: paper, section 4 (VideoQA as retrieval): the choice whose text, with the question in
    front, is most similar to the video; here to its best 32 seconds or so, not to all of it, since
    a question is mostly about one moment.

    Args:
        video: A video file.
        question: May be empty.
        choices: Two or more.
        embedder: The model.

    Raises:
        ConfigError: If there are fewer than two choices.
        DecodeError: If the video cannot be read.
    """
    if len(_checked(choices, "choices")) < 2:
        raise ConfigError("a question needs at least two choices")
    texts = embedder.embed_text([f"{question} {choice}".strip() for choice in choices])  # (K, E)
    embedded = embedder.embed_video(video)
    length = min(embedder.config.max_video_tokens, len(embedded.features))
    starts = [*range(0, len(embedded.features) - length, max(1, length // 2))]
    starts.append(len(embedded.features) - length)
    spans = [(start, start + length) for start in starts]
    windows = embedder.embed_windows(embedded.features, spans)  # (W, E)
    similarities = (windows @ texts.T).max(axis=0)  # (K,)
    logits = similarities / embedder.config.temperature
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    chosen = int(similarities.argmax())
    seconds = embedded.tokens @ texts[chosen]  # (T,)
    return Answer(
        path=Path(video),
        question=question,
        choices=tuple(choices),
        chosen=chosen,
        similarities=tuple(map(float, similarities)),
        probabilities=tuple(map(float, shares)),
        best=(float(seconds.argmax()) + 0.5) / embedded.features_per_second,
    )


def _checked(texts: Sequence[str], what: str) -> Sequence[str]:
    if not texts:
        raise ConfigError(f"there are no {what}: give at least one")
    if twice := [text for text in texts if list(texts).count(text) > 1]:
        raise ConfigError(f"'{twice[0]}' is among the {what} twice")
    return texts


def _watch(video: Path | str, texts: Sequence[str], embedder: Embedder) -> _Watched:
    queries = embedder.embed_text(list(texts))  # (K, E)
    info = probe(video)
    embedded = embedder.embed_video(video)
    unrelated = unrelated_to_all(embedder.embed_text(UNRELATED_QUERIES))
    background = measure_background(unrelated, [(NOBODY, embedded.tokens)])
    similarities = embedded.tokens @ queries.T  # (T, K)
    heights = np.stack(
        [background.heights(embedded.tokens, column) for column in similarities.T], axis=1
    )
    return _Watched(
        similarities=similarities,
        heights=heights,
        background=background,
        features_per_second=embedded.features_per_second,
        duration=info.duration,
        frame_rate=info.frame_rate,
    )


def _timeline(
    path: Path,
    labels: Sequence[str],
    watched: _Watched,
    spans: Sequence[tuple[int, int, int]],
    threshold: float,
) -> Timeline:
    """Put (label, start, stop) in features into words and seconds."""
    found = []
    for label, start, stop in sorted(spans, key=lambda span: span[1:]):
        best = int(watched.heights[start:stop, label].argmax())
        strength = watched.background.strength(float(watched.heights[start + best, label]))
        found.append(
            Moment(
                path=path,
                start=start / watched.features_per_second,
                end=min(stop / watched.features_per_second, watched.duration),
                label=labels[label],
                best=(start + best + 0.5) / watched.features_per_second,
                similarity=float(watched.similarities[start:stop, label].mean()),
                strength=strength,
                confidence=Thresholds().level(strength),
                duration=watched.duration,
                frame_rate=watched.frame_rate,
            )
        )
    return Timeline(
        path=path,
        duration=watched.duration,
        frame_rate=watched.frame_rate,
        labels=tuple(labels),
        moments=tuple(found),
        threshold=threshold,
    )
