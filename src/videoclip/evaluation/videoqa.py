"""Multiple choice (VideoQA): the text most similar to the video is the answer."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from videoclip.benchmarks.examples import Baseline, MultipleChoiceExample
from videoclip.embedding import overlapping_windows
from videoclip.evaluation.metrics import ranking
from videoclip.evaluation.metrics.calibration import brier_scores, calibration_error
from videoclip.evaluation.outcome import (
    Bars,
    Confusion,
    Outcome,
    Statistics,
    means,
    measure,
    similarity_histogram,
)
from videoclip.evaluation.trial import Clip, Trial, find_clip, unique, with_features
from videoclip.types import FloatArray, IntArray, RealArray
from videoclip.zeroshot.choices import choice_similarities, choice_texts, softmax


def evaluate_multiple_choice(examples: Sequence[MultipleChoiceExample], trial: Trial) -> Outcome:
    """Answer each question by similarity; the question is put in front of each choice."""
    config = trial.config
    present, missing = with_features(examples, trial.store)
    similarity = choice_similarity(present, trial)
    answers = np.array([example.answer for example in present])
    credit = (
        ranking.released_choice_credit(similarity, answers)
        if config.ties == "released"
        else ranking.choice_credit(similarity, answers)
    )
    predicted = similarity.argmax(axis=1)
    videos = [example.video_id for example in present]
    kinds = sorted({example.kind for example in present} - {""})
    measures = measure(means({"accuracy": credit}), videos, config)
    for kind in kinds:
        chosen = [i for i, example in enumerate(present) if example.kind == kind]
        statistics = means({f"accuracy {kind}": credit[chosen]})
        measures += measure(statistics, [videos[i] for i in chosen], config)
    bars = Bars("Accuracy by kind of question", tuple(kinds), tuple(m.value for m in measures[1:]))
    num_choices = similarity.shape[1]
    probabilities = softmax(similarity.T.astype(np.float64), trial.encoder.temperature).T  # (N, C)
    measures += measure(_calibration(probabilities, credit, answers), videos, config)
    counts = np.zeros((num_choices, num_choices), dtype=int)
    np.add.at(counts, (answers, predicted), 1)
    exists = np.isfinite(similarity)
    clip = f"first {config.clip_seconds:g} s" if config.clip_seconds else "whole"
    return Outcome(
        protocol="multiple choice by similarity of text and video",
        settings={
            "clip": "best of the video" if config.decoding == "product" else clip,
            "ties": config.ties,
            "re-ranked": "all choices" if config.rerank_top else "off",
            "questions": len(present),
        },
        measures=measures,
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
            Confusion(
                "Place of the answer",
                tuple(f"choice {i + 1}" for i in range(num_choices)),
                tuple(map(tuple, counts.tolist())),
            ),
            similarity_histogram(
                "Similarity of choices",
                ("right", "wrong"),
                similarity[exists],
                (answers[:, None] == np.arange(num_choices))[exists],
            ),
            *([bars] if kinds else []),
        ),
    )


def _calibration(probabilities: RealArray, credit: RealArray, answers: IntArray) -> Statistics:
    """Return the measures of the probabilities that `answer` gives with its answers."""
    confidences, brier = probabilities.max(axis=1), brier_scores(probabilities, answers)
    return lambda items: {
        "calibration error": calibration_error(confidences[items], credit[items]),
        "Brier score": float(brier[items].mean()),
    }


def choice_similarity(examples: Sequence[MultipleChoiceExample], trial: Trial) -> FloatArray:
    """Return (N, C) similarities with the choices, -inf where an example has fewer choices.

    Source: as released, with the first `clip_seconds` of a video; or as `answer` does, with the
    best clip of all of it.
    """
    texts_of = [choice_texts(example.question, example.choices) for example in examples]
    texts, text_of = unique(list(chain(*texts_of)))
    clips_of = [_find_clips(example.video_id, trial) for example in examples]
    clips, clip_of = unique(list(chain(*clips_of)))
    video = trial.embed_clips(clips)
    text = trial.encoder.embed_text(texts)

    pairs = []  # (row of the text, row of its best clip, their similarity) of each choice
    for choices, rows in zip(_split(text_of, texts_of), _split(clip_of, clips_of), strict=True):
        values = choice_similarities(text[choices], video[rows])  # (W, C)
        pairs.append((choices, rows[values.argmax(axis=0)], values.max(axis=0)))
    text_rows, clip_rows, similarities = map(np.concatenate, zip(*pairs, strict=True))
    if trial.config.rerank_top:
        scorer = trial.encoder.pair_scorer(texts, trial.store.read_windows(clips))
        scored = (text_rows, clip_rows, similarities)
        similarities = scorer(*map(torch.from_numpy, scored)).numpy()
    counts = np.array([len(texts) for texts in texts_of])
    result = np.full((len(examples), counts.max()), -np.inf, dtype=np.float32)
    result[np.arange(counts.max()) < counts[:, None]] = similarities
    return result


def _split(values: IntArray, like: Sequence[Sequence[object]]) -> list[IntArray]:
    """Cut values into pieces as long as the sequences."""
    return np.split(values, np.cumsum([len(items) for items in like])[:-1])


def _find_clips(video_id: str, trial: Trial) -> list[Clip]:
    if trial.config.decoding == "product":
        num_features = trial.store.num_features(video_id)
        spans = overlapping_windows(num_features, trial.encoder.max_clip_features)
        return [Clip(video_id, *span) for span in spans]
    clip = find_clip(trial.store, video_id, None, None, trial.config.clip_seconds)
    assert clip is not None, "a stored video has features"
    return [clip]


def _baselines(examples: Sequence[MultipleChoiceExample]) -> tuple[Baseline, ...]:
    chance = np.mean([1 / len(e.choices) for e in examples])
    uniform = {"calibration error": 0.0, "Brier score": float(1 - chance)}
    majority = np.bincount([e.answer for e in examples]).max() / len(examples)
    longest = np.mean([np.argmax([len(c) for c in e.choices]) == e.answer for e in examples])
    return (
        Baseline("random", {"accuracy": float(chance), **uniform}),
        Baseline("always the same place", {"accuracy": float(majority)}, "the best one here"),
        Baseline("longest choice", {"accuracy": float(longest)}),
    )
