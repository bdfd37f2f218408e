"""Zero-shot on one video: label its seconds, find its steps, answer a question about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.features.decode import VideoInfo, probe
from videoclip.types import FloatArray
from videoclip.zeroshot.choices import choice_clips, choice_similarities, choice_texts, softmax
from videoclip.zeroshot.confidence import (
    MIN_Z_SCORE,
    NO_VIDEO,
    UNRELATED_QUERIES,
    Calibration,
    Thresholds,
)
from videoclip.zeroshot.labels import SWITCH_COST, label_frames, label_segments
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.results import Answer, Timeline
from videoclip.zeroshot.steps import best_spans, order_steps, subtract_rivals


def segment(
    video: Path | str,
    labels: Sequence[str],
    embedder: Embedder,
    *,
    threshold: float = MIN_Z_SCORE,
    switch_cost: float = SWITCH_COST,
) -> Timeline:
    """Give every second of a video one of several labels, or none (background).

    Source: paper, section 4 (action segmentation). Deviation: the threshold is a z-score over
    unrelated queries; the released one, the largest similarity between two labels, mostly gives
    background.

    Args:
        video: A video file.
        labels: Texts, in any order; each may apply several times.
        embedder: The model.
        threshold: Least z-score of a label; higher: more background.
        switch_cost: Cost of a change of label, in z-score; higher: fewer, longer moments.

    Raises:
        ConfigError: If there are no labels, or one twice.
        DecodeError: If the video cannot be read.
    """
    scores = _score(video, _checked(labels, "labels"), embedder)
    decoded = label_frames(scores.z_scores, threshold, switch_cost)
    found, spans = label_segments(decoded)
    runs = zip(found.tolist(), spans.tolist(), strict=True)
    moments = [scores.moment(label - 1, start, end) for label, (start, end) in runs]
    return scores.timeline(moments, threshold)


def localize(
    video: Path | str,
    steps: Sequence[str],
    embedder: Embedder,
    *,
    ordered: bool = True,
    threshold: float = MIN_Z_SCORE,
) -> Timeline:
    """Find where each of several steps happens in a video.

    Args:
        video: A video file.
        steps: Texts, in the order of the task.
        embedder: The model.
        ordered: Whether the steps happen in that order, without overlap. Otherwise each is found
            by itself, and seconds in which another step gains more count against it. A step that
            is not found is left out; see `Timeline.missing`.
        threshold: Least z-score of a step.

    Raises:
        ConfigError: If there are no steps, or one twice.
        DecodeError: If the video cannot be read.
    """
    scores = _score(video, _checked(steps, "steps"), embedder)
    gains = scores.z_scores - threshold
    spans = order_steps(gains, optional=True) if ordered else best_spans(subtract_rivals(gains))
    moments = [scores.moment(step, *span) for step, span in enumerate(spans) if span]
    return scores.timeline(moments, threshold)


def answer(
    video: Path | str,
    question: str,
    choices: Sequence[str],
    embedder: Embedder,
) -> Answer:
    """Choose among answers to a question about a video.

    Source: paper, section 4 (VideoQA as retrieval): the choice whose text, with the question in
    front, is most similar to the video. Deviation: to its best clip instead of all of it, since a
    question is mostly about one moment.

    Args:
        video: A video file.
        question: May be empty.
        choices: Two or more.
        embedder: The model.

    Raises:
        ConfigError: If there are fewer than two choices, or one twice.
        DecodeError: If the video cannot be read.
    """
    if len(_checked(choices, "choices")) < 2:
        raise ConfigError("a question needs at least two choices")
    texts = embedder.embed_text(choice_texts(question, choices))  # (C, E)
    embedded = embedder.embed_video(video)
    clips = choice_clips(len(embedded.features), embedder.config.max_video_tokens)
    vectors = embedder.embed_windows(embedded.features, clips)  # (W, E)
    similarities = choice_similarities(texts, vectors).max(axis=0)  # (C,)
    chosen = int(similarities.argmax())
    best = int((embedded.tokens @ texts[chosen]).argmax())
    return Answer(
        path=Path(video),
        question=question,
        choices=tuple(choices),
        chosen=chosen,
        similarities=tuple(similarities.tolist()),
        probabilities=tuple(softmax(similarities, embedder.temperature).tolist()),
        best=(best + 0.5) / embedded.features_per_second,
    )


@dataclass(frozen=True)
class _Scores:
    """The frames of a video compared with texts."""

    path: Path
    info: VideoInfo
    texts: tuple[str, ...]
    similarities: FloatArray
    """(T, K)."""
    z_scores: FloatArray
    """(T, K)."""
    calibration: Calibration
    features_per_second: float

    def moment(self, text: int, start: int, end: int) -> Moment:
        """Return the moment of a text in frames [start, end)."""
        rate = self.features_per_second
        best = start + int(self.z_scores[start:end, text].argmax())
        strength = self.calibration.strength(float(self.z_scores[best, text]))
        return Moment(
            path=self.path,
            start=start / rate,
            end=min(end / rate, self.info.duration),
            label=self.texts[text],
            best=(best + 0.5) / rate,
            similarity=float(self.similarities[start:end, text].mean()),
            strength=strength,
            confidence=Thresholds().level(strength),
            duration=self.info.duration,
            frame_rate=self.info.frame_rate,
        )

    def timeline(self, moments: Sequence[Moment], threshold: float) -> Timeline:
        """Return the moments in order of time."""
        return Timeline(
            path=self.path,
            duration=self.info.duration,
            frame_rate=self.info.frame_rate,
            labels=self.texts,
            moments=tuple(sorted(moments, key=lambda moment: (moment.start, moment.end))),
            threshold=threshold,
        )


def _checked(texts: Sequence[str], name: str) -> Sequence[str]:
    if not texts:
        raise ConfigError(f"there are no {name}: give at least one")
    if repeated := [text for text in texts if list(texts).count(text) > 1]:
        raise ConfigError(f"'{repeated[0]}' occurs twice in the {name}: give each text once")
    return texts


def _score(video: Path | str, texts: Sequence[str], embedder: Embedder) -> _Scores:
    queries = embedder.embed_text(list(texts))  # (K, E)
    info = probe(video)
    embedded = embedder.embed_video(video)
    calibration = Calibration.of_scenes(embedder.embed_text(UNRELATED_QUERIES))
    calibration = calibration.fit([(NO_VIDEO, embedded.tokens)])
    similarities = queries @ embedded.tokens.T  # (K, T)
    return _Scores(
        path=Path(video),
        info=info,
        texts=tuple(texts),
        similarities=similarities.T,
        z_scores=calibration.z_scores(embedded.tokens, similarities).T,
        calibration=calibration,
        features_per_second=embedded.features_per_second,
    )
