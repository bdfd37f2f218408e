"""How often confidence is wrong: false alarms and misses, in libraries of several sizes.

    python bench/confidence.py VIDEOS [--split test] [--json]
    python bench/confidence.py WORLD --model M --features F [--json]

VIDEOS is the folder of real clips of `bench/real/queries.jsonl`, which has queries with the clips
that show them, or none; the halves have the queries of different clips. WORLD is a synthetic world
(`videoclip synth`); the questions are the descriptions of its test videos' steps, and an answer is
right if it overlaps a step with the same label.

Libraries are random subsets, and every question is asked in each, so that most have no answer in a
small library. The first moment of each answer is right or wrong. A false alarm is a wrong one whose
confidence is above "none"; a miss is a right one whose confidence is "none". The narration is not
used, since it raises the confidence by itself. "fitted": thresholds fitted in the largest library
to the other half of the questions.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real.measure import HERE, read_questions

from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.features.extract import extract_features, find_videos
from videoclip.library.labels import LabelledQuery
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.confidence import Thresholds, fit_thresholds

RESULTS = Path(__file__).parent / "results" / "confidence.json"
SIZES = (3, 8, 15, 24)
ASKED = 120
"""Videos in all libraries of a size, so that each size costs about the same."""


@dataclass(frozen=True)
class Question:
    """A query, all its right answers, and which half it belongs to."""

    query: str
    answers: tuple[LabelledQuery, ...]
    split: str


def questions_about_clips() -> list[Question]:
    """Those of `bench/real/queries.jsonl` about pictures; every other clip is of the other half."""
    rows = [row for row in read_questions(HERE / "queries.jsonl") if row.kind == "pictures"]
    clusters = sorted({row.cluster for row in rows})
    halves = {cluster: ("develop", "test")[i % 2] for i, cluster in enumerate(clusters)}
    return [
        Question(
            row.query,
            tuple(LabelledQuery(row.query, video) for video in row.videos),
            halves[row.cluster],
        )
        for row in rows
    ]


def questions_about_world(world: Path) -> list[Question]:
    """The steps of the test videos; every other video is of the other half."""
    with (world / "annotations" / "test.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answers = defaultdict(list)
    for row in rows:
        span = (row["video"], float(row["start"]), float(row["end"]))
        answers[row["label"]].append(LabelledQuery(row["text"], *span))
    videos = sorted({row["video"] for row in rows})
    halves = {video: ("develop", "test")[i % 2] for i, video in enumerate(videos)}
    return [
        Question(row["text"], tuple(answers[row["label"]]), halves[row["video"]]) for row in rows
    ]


@dataclass
class Answers:
    """Strengths of first moments, and whether they were right."""

    strengths: np.ndarray
    right: np.ndarray

    def rates(self, thresholds: Thresholds) -> dict[str, float]:
        """What the levels mean."""
        right, wrong = self.strengths[self.right], self.strengths[~self.right]
        levels = {"low": thresholds.low, "medium": thresholds.medium, "high": thresholds.high}
        found: dict[str, float] = {"right": len(right), "wrong": len(wrong)}
        found["missed"] = round(float((right < thresholds.low).mean()), 3)
        for level, least in levels.items():
            found[f"false alarms from {level}"] = round(float((wrong >= least).mean()), 3)
            kept = (right >= least).sum()
            found[f"right from {level}"] = round(kept / max(1, kept + (wrong >= least).sum()), 3)
        greater = (right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean()
        found["right above wrong (AUC)"] = round(float(greater), 3)
        return found


def ask(library: VideoLibrary, questions: Sequence[Question]) -> Answers:
    """Ask every question of a library."""
    options = SearchOptions(top_k=1, speech=0.0)
    found = library.search_many([question.query for question in questions], options)
    pairs = [
        (moments[0].strength, any(answer.accepts(moments[0]) for answer in question.answers))
        for question, moments in zip(questions, found, strict=True)
    ]
    strengths, right = zip(*pairs, strict=True)
    return Answers(np.array(strengths), np.array(right))


def measure(
    videos: Sequence[Path],
    questions: Sequence[Question],
    split: str,
    embedder: Embedder,
    features: FeatureStore,
    folder: Path,
) -> dict[str, dict[str, float]]:
    """Rates by size of the library."""
    rng = np.random.default_rng(0)
    asked = [question for question in questions if question.split == split]
    others = [question for question in questions if question.split != split]
    result = {}
    for size in [*(size for size in SIZES if size < len(videos)), len(videos)]:
        answers = []
        for number in range(max(1, ASKED // size) if size < len(videos) else 1):
            drawn = [videos[i] for i in rng.choice(len(videos), size, replace=False)]
            with VideoLibrary(folder / f"{size}-{number}", embedder) as library:
                library.update(drawn, features=features)
                answers.append(ask(library, asked))
                if size == len(videos):
                    fitted = ask(library, others)
        both = Answers(
            np.concatenate([a.strengths for a in answers]),
            np.concatenate([a.right for a in answers]),
        )
        result[f"{size} videos"] = both.rates(Thresholds())
    result[f"{len(videos)} videos, fitted"] = both.rates(
        fit_thresholds(fitted.strengths, fitted.right)
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--features", type=Path)
    parser.add_argument("--split", choices=("develop", "test"), default="test")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    embedder = Embedder.from_pretrained(arguments.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        is_world = (arguments.videos / "annotations").is_dir()
        place = arguments.videos / "videos" if is_world else arguments.videos
        videos = [file.path for file in find_videos([place])[0]]
        if is_world:
            questions = questions_about_world(arguments.videos)
            known = {answer.video for question in questions for answer in question.answers}
            videos = [video for video in videos if video.stem in known]
        else:
            questions = questions_about_clips()
        with FeatureStore.open_or_create(
            arguments.features or folder / "features", embedder.backbone.spec
        ) as features:
            extract_features(videos, features, embedder.backbone, num_workers=0)
            result = measure(videos, questions, arguments.split, embedder, features, folder)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for size, rates in result.items():
        print(size)
        for rate, value in rates.items():
            print(f"  {rate:<28}{value:>8g}")


if __name__ == "__main__":
    main()
