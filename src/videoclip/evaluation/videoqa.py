"""Multiple choice: the text most similar to the video is the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from videoclip.benchmarks.examples import MultipleChoiceExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.evaluation.clips import (
    Clip,
    embed_clips,
    embed_texts,
    find_clip,
    read_clips,
    with_features,
)
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics import ranking
from videoclip.evaluation.outcome import (
    Bars,
    Baseline,
    Confusion,
    Histogram,
    Measure,
    Outcome,
    measure,
)
from videoclip.types import OnProgress

__all__ = ["choice_similarity", "evaluate_multiple_choice"]

NUM_BINS = 40


def evaluate_multiple_choice(
    examples: Sequence[MultipleChoiceExample],
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Answer each question by similarity; a question is put before each of its choices."""
    present, missing = with_features(examples, store)
    similarity = choice_similarity(present, encoder, store, config, on_progress)
    answers = np.array([example.answer for example in present])
    credit = (
        ranking.released_choice_credit(similarity, answers)
        if config.ties == "released"
        else ranking.choice_credit(similarity, answers)
    )
    predicted = similarity.argmax(axis=1)
    videos = [example.video_id for example in present]
    kinds = sorted({example.kind for example in present} - {""})

    def accuracy(name: str, chosen: NDArray[np.bool_]) -> Measure:
        own = credit[chosen]
        owners = [video for video, mine in zip(videos, chosen, strict=True) if mine]
        return measure(name, lambda items: float(own[items].mean()), owners, config)

    of_kind = {kind: np.array([e.kind == kind for e in present]) for kind in kinds}
    everything = np.ones(len(present), dtype=bool)
    return Outcome(
        protocol="multiple choice by similarity of text and video",
        settings={
            "clip": f"first {config.clip_seconds:g} s" if config.clip_seconds else "whole",
            "ties": config.ties,
            "re-ranked": "all choices" if config.rerank_top else "off",
            "questions": len(present),
        },
        measures=(
            accuracy("accuracy", everything),
            *(accuracy(f"accuracy {kind}", chosen) for kind, chosen in of_kind.items()),
        ),
        baselines=_baselines(present),
        num_examples=len(present),
        num_videos=len(set(videos)),
        missing=tuple(missing),
        rows=tuple(
            {
                "example_id": example.example_id,
                "video_id": example.video_id,
                "question": example.question,
                "answer": example.choices[example.answer],
                "predicted": example.choices[choice],
                "right": bool(credit[i] == 1),
            }
            for i, (example, choice) in enumerate(zip(present, predicted, strict=True))
        ),
        plots=(
            _confusion(answers, predicted, similarity.shape[1]),
            _similarity_plot(similarity, answers),
            *([_bars(of_kind, credit)] if kinds else []),
        ),
    )


def choice_similarity(
    examples: Sequence[MultipleChoiceExample],
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float32]:
    """Compare videos with their choices: (N, C), -inf where an example has fewer choices."""
    found = [find_clip(store, e.video_id, None, None, config.clip_seconds) for e in examples]
    clips = [clip for clip in found if clip is not None]
    assert len(clips) == len(examples), "a stored video has features"
    place: dict[Clip, int] = {clip: i for i, clip in enumerate(dict.fromkeys(clips))}
    video = embed_clips(encoder, store, list(place), on_progress)
    texts = [f"{e.question} {choice}".strip() for e in examples for choice in e.choices]
    text, text_of = embed_texts(encoder, texts)
    counts = np.array([len(e.choices) for e in examples])
    similarity = np.full((len(examples), counts.max()), -np.inf, dtype=np.float32)
    owner = np.repeat(np.arange(len(examples)), counts)
    column = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
    clip_of = np.array([place[clip] for clip in clips])
    # Pair by pair, so that equal texts get exactly equal similarities.
    towers = (text[text_of] * video[clip_of[owner]]).sum(axis=1)
    if config.rerank_top:
        scorer = encoder.pair_scorer(texts, read_clips(store, list(place)))
        pairs = np.arange(len(texts)), clip_of[owner], towers
        towers = scorer(*map(torch.from_numpy, pairs)).numpy()
    similarity[owner, column] = towers
    return similarity


def _baselines(examples: Sequence[MultipleChoiceExample]) -> tuple[Baseline, ...]:
    chance = np.mean([1 / len(e.choices) for e in examples])
    majority = np.bincount([e.answer for e in examples]).max() / len(examples)
    longest = np.mean([np.argmax([len(c) for c in e.choices]) == e.answer for e in examples])
    return (
        Baseline("random", {"accuracy": float(chance)}),
        Baseline("always the same place", {"accuracy": float(majority)}, "the best one here"),
        Baseline("longest choice", {"accuracy": float(longest)}),
    )


def _confusion(
    answers: NDArray[np.int64], predicted: NDArray[np.int64], num_choices: int
) -> Confusion:
    counts = np.zeros((num_choices, num_choices), dtype=int)
    np.add.at(counts, (answers, predicted), 1)
    labels = tuple(f"choice {i + 1}" for i in range(num_choices))
    return Confusion("Place of the answer", labels, tuple(map(tuple, counts.tolist())))


def _similarity_plot(similarity: NDArray[np.float32], answers: NDArray[np.int64]) -> Histogram:
    right = similarity[np.arange(len(answers)), answers]
    there = similarity[np.isfinite(similarity)]
    edges = np.linspace(there.min(), there.max() + 1e-6, NUM_BINS + 1)
    of_right = np.histogram(right, edges)[0]
    of_wrong = np.histogram(there, edges)[0] - of_right
    counts = {"right": tuple(of_right.tolist()), "wrong": tuple(of_wrong.tolist())}
    return Histogram("Similarity of choices", "similarity", tuple(edges.tolist()), counts)


def _bars(of_kind: dict[str, NDArray[np.bool_]], credit: NDArray[np.float64]) -> Bars:
    values = tuple(float(credit[chosen].mean()) for chosen in of_kind.values())
    return Bars("Accuracy by kind of question", tuple(of_kind), values)
