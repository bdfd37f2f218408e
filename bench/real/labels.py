"""How well the seconds of real videos get the right one of several labels.

    python bench/real/labels.py VIDEOS [--model M]

Labels are the queries of queries.jsonl that have spans. One video: all its own labels; a second
counts if it lies in the span of one of them. Two videos: each pair of videos, up to a minute of
each, one behind the other, and one query about each, drawn three times.

with and without: `correct_label_hubs`. The interval (95 %) is of the difference, over the cases.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from bench.real.measure import HERE, Question, read_questions
from videoclip.embedding import Embedder
from videoclip.types import BoolArray, FloatArray
from videoclip.zeroshot.confidence import MIN_Z_SCORE, UNRELATED_QUERIES, Calibration
from videoclip.zeroshot.labels import SWITCH_COST, correct_label_hubs, label_frames

DRAWS = 3
MOST_SECONDS = 60

Case = tuple[FloatArray, list[str], BoolArray]
"""Vectors (T, E) of seconds, K labels, and whether each label is right in each second (T, K)."""


def one_video(vectors: dict[str, FloatArray], questions: list[Question]) -> Iterator[Case]:
    """Yield the labels of each video that has two or more."""
    for video, seconds in vectors.items():
        own = [question for question in questions if question.videos == (video,)]
        middles = np.arange(len(seconds)) + 0.5
        right = [
            np.any([(start <= middles) & (middles < end) for start, end in question.spans], axis=0)
            for question in own
        ]
        if len(own) > 1:
            yield seconds, [question.query for question in own], np.stack(right, axis=1)


def two_videos(vectors: dict[str, FloatArray], questions: list[Question]) -> Iterator[Case]:
    """Yield two labels of each pair of videos."""
    rng = np.random.default_rng(0)
    for pair in combinations(sorted(vectors), 2):
        parts = [vectors[video][:MOST_SECONDS] for video in pair]
        right = np.repeat(np.eye(2, dtype=bool), [len(part) for part in parts], axis=0)
        own = [[q.query for q in questions if q.videos == (video,)] for video in pair]
        for _ in range(DRAWS):
            yield np.concatenate(parts), [str(rng.choice(queries)) for queries in own], right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--model", default="starter")
    asked = parser.parse_args()
    everything = [q for q in read_questions(HERE / "queries.jsonl") if q.kind == "pictures"]
    with_spans = [question for question in everything if question.spans]
    names = {question.videos[0] for question in with_spans}
    embedder = Embedder.from_pretrained(asked.model)
    paths = [path for path in sorted(asked.videos.iterdir()) if path.stem in names]
    paths = [path for path in paths if path.suffix not in (".srt", ".vtt")]
    vectors = {path.stem: embedder.embed_video(path).tokens for path in paths}
    calibration = Calibration(embedder.embed_text(UNRELATED_QUERIES))
    cases = {
        "one video": one_video(vectors, with_spans),
        "two videos": two_videos(vectors, everything),
    }
    for name, some in cases.items():
        shares = []
        for seconds, labels, right in some:
            similarities = embedder.embed_text(labels) @ seconds.T
            z_scores = calibration.z_scores(seconds, similarities).T
            shares.append([])
            for scores in (z_scores, correct_label_hubs(z_scores, MIN_Z_SCORE)):
                found = label_frames(scores, MIN_Z_SCORE, SWITCH_COST)
                hits = (found > 0) & right[np.arange(len(found)), np.maximum(found - 1, 0)]
                shares[-1].append(100 * hits[right.any(axis=1)].mean())
        without, corrected = np.array(shares).T
        gain = corrected - without
        margin = 1.96 * gain.std() / len(gain) ** 0.5
        print(
            f"{name}: {len(gain)} cases, seconds with the right label {without.mean():.1f} % "
            f"without, {corrected.mean():.1f} % with: {gain.mean():+.1f} +- {margin:.1f}"
        )


if __name__ == "__main__":
    main()
