"""Zero-shot on one video: label its seconds, find its steps, answer a question about it.

The results are timelines and answers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videoclip.embedding import (
    Embedder,
    VideoEmbedding,
    check_embedder,
    overlapping_windows,
)
from videoclip.errors import ConfigError
from videoclip.features.contained import probe
from videoclip.types import FloatArray
from videoclip.zeroshot.choices import choice_similarities, choice_texts, softmax
from videoclip.zeroshot.confidence import (
    MIN_Z_SCORE,
    UNRELATED_QUERIES,
    VIDEO_THRESHOLDS,
    Calibration,
)
from videoclip.zeroshot.labels import SWITCH_COST, label_segments, label_z_scores
from videoclip.zeroshot.moments import Moment, clock
from videoclip.zeroshot.steps import best_spans, order_steps, subtract_rivals

SPAN_KEYS = ("label", "start", "end", "best", "similarity", "strength", "confidence")
"""What the JSON of a timeline holds of each moment; the rest is the same for all of them."""


@dataclass(frozen=True)
class Timeline:
    """Moments that `segment` or `localize` found in a video.

    Attributes:
        path: The video.
        duration: Seconds.
        frame_rate: Of the video.
        labels: All texts asked for, in their order.
        moments: In order of time; the seconds between them have no label.
        threshold: Least z-score with which a second can get a label.
    """

    path: Path
    duration: float
    frame_rate: float
    labels: tuple[str, ...]
    moments: tuple[Moment, ...]
    threshold: float

    @property
    def missing(self) -> tuple[str, ...]:
        """Labels without a moment."""
        found = {moment.label for moment in self.moments}
        return tuple(label for label in self.labels if label not in found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `spans` holds what differs between the moments."""
        rows = [moment.as_dict() for moment in self.moments]
        return {
            "path": str(self.path),
            "duration": self.duration,
            "frame_rate": self.frame_rate,
            "labels": self.labels,
            "spans": [{key: row[key] for key in SPAN_KEYS} for row in rows],
            "threshold": self.threshold,
            "missing": self.missing,
        }

    def __repr__(self) -> str:
        """One line per moment: times, confidence, label."""
        head = f"Timeline({self.path.stem!r}, {clock(self.duration)}, threshold {self.threshold:g})"
        lines = [
            f"  {clock(m.start):>9}-{clock(m.end):<9} {m.confidence:>6}  {m.label}"
            for m in self.moments
        ]
        if self.missing:
            lines.append(f"  not found: {', '.join(self.missing)}")
        return "\n".join([head, *lines])


@dataclass(frozen=True)
class Answer:
    """The answer that `answer` chose.

    Attributes:
        path: The video.
        question: The question; may be empty.
        choices: The choices, in their order.
        chosen: Index of the chosen one.
        similarities: Of each choice with its most similar clip of the video.
        probabilities: Their softmax at the model's temperature; add up to 1.
        best: Second that is most similar to the chosen answer.
    """

    path: Path
    question: str
    choices: tuple[str, ...]
    chosen: int
    similarities: tuple[float, ...]
    probabilities: tuple[float, ...]
    best: float

    @property
    def text(self) -> str:
        """The chosen answer."""
        return self.choices[self.chosen]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "text": self.text}

    def __repr__(self) -> str:
        """One line: answer, probability, best second."""
        sure = self.probabilities[self.chosen]
        return f"Answer({self.text!r}, {sure:.0%} of {len(self.choices)}, at {clock(self.best)})"


def segment(
    video: Path | str,
    labels: Sequence[str],
    embedder: Embedder,
    *,
    threshold: float = MIN_Z_SCORE,
    switch_cost: float = SWITCH_COST,
    embedded: VideoEmbedding | None = None,
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
        embedded: The video's embedding; None: the video is decoded and embedded.

    Raises:
        ConfigError: If there are no labels, or one twice.
        DecodeError: If the video cannot be read.
    """

    def decode(z_scores: FloatArray) -> Iterable[tuple[int, int, int]]:
        found, spans = label_segments(label_z_scores(z_scores, threshold, switch_cost))
        return zip((found - 1).tolist(), *spans.T.tolist(), strict=True)

    return _find(video, _checked(labels, "labels"), embedder, threshold, decode, embedded)


def localize(
    video: Path | str,
    steps: Sequence[str],
    embedder: Embedder,
    *,
    ordered: bool = True,
    threshold: float = MIN_Z_SCORE,
    embedded: VideoEmbedding | None = None,
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
        embedded: The video's embedding; None: the video is decoded and embedded.

    Raises:
        ConfigError: If there are no steps, or one twice.
        DecodeError: If the video cannot be read.
    """

    def decode(z_scores: FloatArray) -> Iterable[tuple[int, int, int]]:
        gains = z_scores - threshold
        spans = order_steps(gains, optional=True) if ordered else best_spans(subtract_rivals(gains))
        return [(step, *span) for step, span in enumerate(spans) if span]

    return _find(video, _checked(steps, "steps"), embedder, threshold, decode, embedded)


def answer(
    video: Path | str,
    question: str,
    choices: Sequence[str],
    embedder: Embedder,
    *,
    embedded: VideoEmbedding | None = None,
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
        embedded: The video's embedding; None: the video is decoded and embedded.

    Raises:
        ConfigError: If there are fewer than two choices, or one twice.
        DecodeError: If the video cannot be read.
    """
    if len(_checked(choices, "choices")) < 2:
        raise ConfigError("a question needs at least two choices")
    check_embedder(embedder)
    texts = embedder.embed_text(choice_texts(question, choices))  # (C, E)
    embedded = embedded or embedder.embed_video(video)
    clips = overlapping_windows(len(embedded.features), embedder.config.max_video_tokens)
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


def _checked(texts: Sequence[str], name: str) -> Sequence[str]:
    if isinstance(texts, str) or not texts:
        raise ConfigError(f"{name} must be a list of texts, at least one, not {texts!r}")
    if repeated := [text for text in texts if list(texts).count(text) > 1]:
        raise ConfigError(f"'{repeated[0]}' occurs twice in the {name}: give each text once")
    return texts


def _find(
    video: Path | str,
    texts: Sequence[str],
    embedder: Embedder,
    threshold: float,
    decode: Callable[[FloatArray], Iterable[tuple[int, int, int]]],
    embedded: VideoEmbedding | None,
) -> Timeline:
    """Return the moments of K texts in a video.

    Args:
        video: A video file.
        texts: Labels or steps.
        embedder: The model.
        threshold: Least z-score, for the result.
        decode: From z-scores (T, K) of the frames to spans: text, first frame, end.
        embedded: The video's embedding, if it is there.
    """
    check_embedder(embedder)
    queries = embedder.embed_text(list(texts))  # (K, E)
    info = probe(video)
    embedded = embedded or embedder.embed_video(video)
    calibration = Calibration(embedder.embed_text(UNRELATED_QUERIES)).fit(embedded.tokens)
    similarities = queries @ embedded.tokens.T  # (K, T)
    z_scores = calibration.z_scores(embedded.tokens, similarities)
    rate = embedded.features_per_second
    moments = []
    for text, start, end in decode(z_scores.T):
        best = start + int(z_scores[text, start:end].argmax())
        strength = calibration.strength(float(z_scores[text, best]))
        moments.append(
            Moment(
                path=Path(video),
                start=start / rate,
                end=min(end / rate, info.duration),
                label=texts[text],
                best=(best + 0.5) / rate,
                similarity=float(similarities[text, start:end].mean()),
                strength=strength,
                confidence=VIDEO_THRESHOLDS.level(strength),
                duration=info.duration,
                frame_rate=info.frame_rate,
            )
        )
    return Timeline(
        path=Path(video),
        duration=info.duration,
        frame_rate=info.frame_rate,
        labels=tuple(texts),
        moments=tuple(sorted(moments, key=lambda moment: (moment.start, moment.end))),
        threshold=threshold,
    )
