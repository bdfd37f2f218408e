"""How well searches in a folder of real videos do: ranking, moments, confidence, narration.

    python bench/real/measure.py VIDEOS [--model M] [--queries FILE] [--narration FOLDER]
        [--features F] [--json]

FILE has one JSON object a line: `query`, `video` (the name of the video that shows it, a list if
several do, null if none does), and optionally `spans`, the seconds at which it is shown, and `kind`
"speech" if it quotes what is spoken there, "meaning" if it says the same in other words. FOLDER
has subtitles named like videos; they are put beside links to the videos. The default files are
about the clips of the public test suites of other packages, and their narration was written for
this measurement; more_queries.jsonl has 174 others about what the same clips show, by another
writer.

pictures           queries about pictures, searched without the narration
with narration     the same queries, narration included
speech             queries that quote the narration, in the same library
meaning            queries that say in other words what is said, in the same library

R@k and MRR are of the distinct videos in the order of their first moments. Most firsts is the
largest share of queries for which one video comes first, right or wrong.
Moments are searched in their own video: whether the best second lies inside a span, and the IoU of
the first moment with the nearest span. Intervals (95 %) are from resampling whole videos.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.evaluation.metrics.moments import span_iou
from videoclip.features.extract import extract_features, find_videos
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.moments import Moment

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "real.json"
SURE = ("medium", "high")
NUM_MOMENTS = 200
RESAMPLES = 2000


@dataclass(frozen=True)
class Question:
    """A query with the videos that answer it, none if it is absent."""

    query: str
    videos: tuple[str, ...]
    spans: tuple[tuple[float, float], ...] = ()
    kind: str = "pictures"

    @property
    def cluster(self) -> str:
        """What resampling draws: the video, or the query itself if it is absent."""
        return self.videos[0] if self.videos else self.query


def read_questions(path: Path) -> list[Question]:
    """Read the queries of a JSONL file."""
    questions = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        videos = [row["video"]] if isinstance(row["video"], str) else row["video"] or []
        spans = tuple((start, end) for start, end in row.get("spans", ()))
        kind = row.get("kind", "pictures")
        questions.append(Question(row["query"], tuple(videos), spans, kind))
    return questions


@dataclass(frozen=True)
class Answer:
    """What a search found: videos in order, and the first moment."""

    ranking: list[str]
    first: Moment

    @classmethod
    def of(cls, moments: Sequence[Moment]) -> Answer:
        """The answer of a list of moments, best first."""
        return cls(list(dict.fromkeys(moment.video_id for moment in moments)), moments[0])


def rank(question: Question, answer: Answer) -> float:
    """Return the rank of the first correct video, from 1."""
    ranks = [answer.ranking.index(v) + 1 for v in question.videos if v in answer.ranking]
    return min(ranks, default=np.inf)


def measure(
    library: VideoLibrary, questions: Sequence[Question], options: SearchOptions
) -> dict[str, list[float]]:
    """Return each measure with its interval, in percent, but MRR."""
    found = library.search_many([question.query for question in questions], options)
    answers = [Answer.of(moments) for moments in found]
    ranks = np.array([rank(*pair) for pair in zip(questions, answers, strict=True)])
    is_present = np.array([bool(question.videos) for question in questions])
    is_sure = np.array([answer.first.confidence in SURE for answer in answers])
    is_right = ranks == 1
    clusters = np.array([question.cluster for question in questions])
    measures: dict[str, tuple[np.ndarray, np.ndarray]] = {
        "R@1": (100.0 * is_right, is_present),
        "R@5": (100.0 * (ranks <= 5), is_present),
        "MRR": (1 / ranks, is_present),
        "right first, sure": (100.0 * is_sure, is_present & is_right),
        "wrong first, sure": (100.0 * is_sure, is_present & ~is_right),
        "absent, sure": (100.0 * is_sure, ~is_present),
    }
    result = {
        name: interval(values[chosen], clusters[chosen])
        for name, (values, chosen) in measures.items()
        if chosen.any()
    }
    firsts = Counter(a.ranking[0] for a, present in zip(answers, is_present) if present)
    ((hub, times),) = firsts.most_common(1)
    result["most firsts"] = [100 * times / is_present.sum()]
    result[f"  {hub}"] = [times]
    timed = [question for question in questions if question.spans and len(question.videos) == 1]
    if timed:
        inside, overlap = zip(*(in_own_video(library, q, options) for q in timed), strict=True)
        names = np.array([question.cluster for question in timed])
        result["best second inside"] = interval(100.0 * np.array(inside), names)
        result["mIoU"] = interval(100.0 * np.array(overlap), names)
    return result


def in_own_video(
    library: VideoLibrary, question: Question, options: SearchOptions
) -> tuple[bool, float]:
    """Return whether the best second is inside a span, and the IoU, of the first moment."""
    where = f"path like '%/{question.videos[0]}.%'"
    ((moment, *_),) = library.search_many([question.query], options, where=where)
    is_inside = any(start <= moment.best < end for start, end in question.spans)
    spans = np.array(question.spans)
    return is_inside, float(span_iou(np.array([[moment.start, moment.end]]), spans).max())


def interval(values: np.ndarray, clusters: np.ndarray) -> list[float]:
    """Return the mean of values, and its 95 % interval from resampling clusters."""
    names, owners = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(owners, values), np.bincount(owners)
    drawn = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return [float(values.mean()), *np.percentile(means, [2.5, 97.5]).tolist()]


def put_beside(videos: Path, narration: Path, folder: Path) -> None:
    """Link the videos into a folder, with their own subtitles and those of another folder."""
    own = [file for file in videos.iterdir() if file.suffix in (".srt", ".vtt")]
    for file in [*(video.path for video in find_videos([videos])[0]), *own]:
        (folder / file.name).symlink_to(file.resolve())
    for file in narration.glob("*.vtt"):
        shutil.copy(file, folder)


def measure_folder(
    videos: Path,
    questions: Sequence[Question],
    narration: Path,
    embedder: Embedder,
    features: FeatureStore,
) -> dict[str, dict[str, list[float]]]:
    """Return the measures of the folder as it is, and of the three ways to search narrated."""
    pictures = [question for question in questions if question.kind == "pictures"]
    speech = [question for question in questions if question.kind == "speech"]
    meaning = [question for question in questions if question.kind == "meaning"]
    fused = SearchOptions(top_k=NUM_MOMENTS)
    seen = SearchOptions(top_k=NUM_MOMENTS, speech=0.0)
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with VideoLibrary(folder / "plain", embedder) as library:
            library.update(videos, features=features)
            result["folder as it is"] = measure(library, pictures, fused)
        (folder / "videos").mkdir()
        put_beside(videos, narration, folder / "videos")
        with VideoLibrary(folder / "narrated", embedder) as library:
            library.update(folder / "videos", features=features)
            result["pictures"] = measure(library, pictures, seen)
            result["with narration"] = measure(library, pictures, fused)
            for kind, asked in (("speech", speech), ("meaning", meaning)):
                if asked:
                    result[kind] = measure(library, asked, fused)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--queries", type=Path, default=HERE / "queries.jsonl")
    parser.add_argument("--narration", type=Path, default=HERE / "narration")
    parser.add_argument("--features", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    embedder = Embedder.from_pretrained(arguments.model)
    with tempfile.TemporaryDirectory() as name:
        place = arguments.features or Path(name) / "features"
        with FeatureStore.open_or_create(place, embedder.backbone.spec) as features:
            files = [file.path for file in find_videos([arguments.videos])[0]]
            extract_features(files, features, embedder.backbone, num_workers=0)
            questions = read_questions(arguments.queries)
            result = measure_folder(
                arguments.videos, questions, arguments.narration, embedder, features
            )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, measures in result.items():
        print(name)
        for measure_name, (value, *bounds) in measures.items():
            spread = f"  [{bounds[0]:.3g}, {bounds[1]:.3g}]" if bounds else ""
            print(f"  {measure_name:<28}{value:>8.3g}{spread}")


if __name__ == "__main__":
    main()
