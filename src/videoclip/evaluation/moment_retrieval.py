"""Moment retrieval: which span of a video a sentence describes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from videoclip.benchmarks.examples import MomentExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation.baselines import frequency_ranking, random_moments
from videoclip.evaluation.clips import embed_texts, with_features
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics import moments
from videoclip.evaluation.outcome import (
    Baseline,
    Histogram,
    Measure,
    Outcome,
    TimelinePlot,
    Track,
    measure,
)
from videoclip.types import OnProgress

__all__ = ["didemo_baselines", "evaluate_didemo", "evaluate_moments", "propose_moments"]

DIDEMO_SECONDS = 32
MAX_PROPOSALS = 10
RECALL_IOUS = (0.5, 0.7)
PRECISION_IOUS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
NUM_TIMELINES = 6


def evaluate_didemo(
    examples: Sequence[MomentExample],
    prior: Sequence[MomentExample] | None,
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Rank the 21 moments of each video for each sentence.

    Args:
        examples: Sentences of the test file.
        prior: Sentences of another split, for the frequency prior; None if there is none at hand.
        encoder: The model.
        store: Features.
        config: Intervals.
        on_progress: Called with the number of videos done and in all.

    Source: released evaluation, except that candidates which reach beyond a video are means of
    what there is, not of padding too.
    """
    present, missing = with_features(examples, store)
    rate = store.spec.features_per_second
    if rate != 1:
        raise DataError(f"DiDeMo needs one feature a second, not {rate:g}", store.folder)
    text, text_of = embed_texts(encoder, [example.text for example in present])
    similarities = _per_second(
        present,
        text[text_of],
        lambda video_id: encoder.embed_seconds(
            store.read(video_id, 0, DIDEMO_SECONDS), attend_cls=True
        ),
        on_progress,
    )
    agreement = np.array(
        [
            moments.didemo_agreement(
                moments.didemo_ranking(similarity, len(similarity)), _chunks(example)
            )
            for example, similarity in zip(present, similarities, strict=True)
        ]
    )
    videos = [example.video_id for example in present]
    ranks, overlaps = agreement.T
    return Outcome(
        protocol="the 21 moments of a video ranked for a sentence; three nearest annotators count",
        settings={"sentences": len(present), "seconds seen": DIDEMO_SECONDS},
        measures=(
            _share("rank@1", ranks <= 1, videos, config),
            _share("rank@5", ranks <= 5, videos, config),
            _share("mIoU", overlaps, videos, config),
        ),
        baselines=didemo_baselines(present, prior),
        num_examples=len(present),
        num_videos=len(set(videos)),
        missing=tuple(missing),
        rows=tuple(
            {
                "example_id": example.example_id,
                "video_id": example.video_id,
                "text": example.text,
                "mean rank": float(rank),
                "IoU": float(overlap),
            }
            for example, rank, overlap in zip(present, ranks, overlaps, strict=True)
        ),
        plots=(
            Histogram(
                "Mean rank of the annotated moment",
                "rank of 21",
                tuple(float(edge) for edge in range(1, 23)),
                {"sentences": tuple(np.histogram(ranks, np.arange(1, 23))[0].tolist())},
            ),
        ),
    )


def didemo_baselines(
    examples: Sequence[MomentExample], prior: Sequence[MomentExample] | None
) -> tuple[Baseline, ...]:
    """Score random order and, where another split is at hand, its most frequent moments."""
    annotated = [_chunks(example) for example in examples]
    names = ("rank@1", "rank@5", "mIoU")
    chance = random_moments(annotated)
    comparisons = [
        Baseline("random", dict(zip(names, chance, strict=True)), "expected over random orders")
    ]
    if prior is not None:
        ranking = frequency_ranking([_chunks(example) for example in prior])
        agreement = np.array([moments.didemo_agreement(ranking, marked) for marked in annotated])
        ranks, overlaps = agreement.T
        values = ((ranks <= 1).mean(), (ranks <= 5).mean(), overlaps.mean())
        comparisons.append(
            Baseline(
                "moment frequency prior",
                {name: float(value) for name, value in zip(names, values, strict=True)},
                "order of moments in another split",
            )
        )
    return tuple(comparisons)


def evaluate_moments(
    examples: Sequence[MomentExample],
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Propose spans for each sentence and hold them against all that show it.

    Raises:
        DataError: If a sentence has no moments, or no video has features.
    """
    if unanswered := [example.example_id for example in examples if not example.moments]:
        raise DataError(
            f"{len(unanswered)} sentences such as '{unanswered[0]}' have no moments: use the file "
            "with answers"
        )
    present, missing = with_features(examples, store)
    rate = store.spec.features_per_second
    text, text_of = embed_texts(encoder, [example.text for example in present])
    similarities = _per_second(
        present,
        text[text_of],
        lambda video_id: encoder.embed_seconds(store.read(video_id), attend_cls=config.attend_cls),
        on_progress,
    )
    rng = np.random.default_rng(config.seed)
    proposals, whole, random = [], [], []
    for similarity in similarities:
        end = len(similarity) / rate
        proposals.append(propose_moments(similarity) / rate)
        whole.append(np.array([[0.0, end]]))
        random.append(np.sort(rng.uniform(0, end, size=(MAX_PROPOSALS, 2)), axis=1))
    true = [np.array(example.moments) for example in present]
    values = _moment_values(proposals, true)
    videos = [example.video_id for example in present]
    return Outcome(
        protocol="spans proposed for a sentence; the one that stands out most comes first",
        settings={
            "proposals": MAX_PROPOSALS,
            "attend to [CLS]": config.attend_cls,
            "sentences": len(present),
        },
        measures=tuple(_share(name, column, videos, config) for name, column in values.items()),
        baselines=(
            Baseline("random spans", _means(_moment_values(random, true))),
            Baseline("whole video", _means(_moment_values(whole, true))),
        ),
        num_examples=len(present),
        num_videos=len(set(videos)),
        missing=tuple(missing),
        rows=tuple(
            {
                "example_id": example.example_id,
                "video_id": example.video_id,
                "text": example.text,
                "start": float(spans[0, 0]),
                "end": float(spans[0, 1]),
                "IoU": float(values["mIoU"][i]),
            }
            for i, (example, spans) in enumerate(zip(present, proposals, strict=True))
        ),
        plots=tuple(
            TimelinePlot(
                f"{present[i].text} ({present[i].video_id})",
                len(similarities[i]) / rate,
                (
                    Track("true", tuple((*span, "") for span in present[i].moments)),
                    Track(
                        "predicted", ((float(proposals[i][0, 0]), float(proposals[i][0, 1]), ""),)
                    ),
                ),
            )
            for i in range(0, len(present), max(1, len(present) // NUM_TIMELINES))
        )[:NUM_TIMELINES],
    )


def propose_moments(similarity: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the spans of a video in which a sentence's similarity stands out most.

    Every span is a candidate. It is worth the sum of its similarities above the video's mean, over
    the square root of its length: the scan statistic for a change of mean, which favours neither
    short nor long spans.

    Args:
        similarity: (T,) of each feature with the sentence.

    Returns:
        (P, 2) ranges of features, best first, none overlapping another.
    """
    num = len(similarity)
    above = np.concatenate(([0.0], np.cumsum(similarity - similarity.mean(), dtype=np.float64)))
    starts, ends = np.triu_indices(num + 1, k=1)
    worth = (above[ends] - above[starts]) / np.sqrt(ends - starts)
    spans = np.stack((starts, ends), axis=1).astype(np.float64)
    picked = moments.suppress_overlaps(spans, worth, 0.0, MAX_PROPOSALS)
    return spans[picked]


def _per_second(
    examples: Sequence[MomentExample],
    text: NDArray[np.float32],
    seconds_of: Callable[[str], NDArray[np.float32]],
    on_progress: OnProgress | None,
) -> list[NDArray[np.float32]]:
    """Compare each sentence with the seconds of its video; each video is embedded once."""
    of_video: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        of_video[example.video_id].append(i)
    result: dict[int, NDArray[np.float32]] = {}
    for done, (video_id, indices) in enumerate(of_video.items(), start=1):
        result.update(zip(indices, text[indices] @ seconds_of(video_id).T, strict=True))
        if on_progress:
            on_progress(done, len(of_video))
    return [result[i] for i in range(len(examples))]


def _chunks(example: MomentExample) -> list[tuple[int, int]]:
    size = moments.CHUNK_SECONDS
    return [(int(start // size), int(end // size) - 1) for start, end in example.moments]


def _moment_values(
    predicted: Sequence[NDArray[np.float64]], true: Sequence[NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return (N,) values per measure: recall of the first span, its IoU, average precision."""
    pairs = list(zip(predicted, true, strict=True))
    first = np.array([moments.span_iou(p[:1], t).max() for p, t in pairs])
    precision = np.array(
        [[moments.average_precision(p, t, iou) for iou in PRECISION_IOUS] for p, t in pairs]
    )
    return {
        **{f"R1@{iou:g}": (first >= iou).astype(np.float64) for iou in RECALL_IOUS},
        "mIoU": first,
        "mAP@0.5": precision[:, 0],
        "mAP": precision.mean(axis=1),
    }


def _means(values: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: float(column.mean()) for name, column in values.items()}


def _share(
    name: str, values: NDArray[np.generic], videos: Sequence[str], config: EvaluateConfig
) -> Measure:
    numbers = values.astype(np.float64)
    return measure(name, lambda items: float(numbers[items].mean()), videos, config)
