"""Moment retrieval: the span of a video that a sentence describes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from videoclip.benchmarks.examples import Baseline, MomentExample
from videoclip.embedding import WindowConfig, window_spans
from videoclip.errors import DataError
from videoclip.evaluation.baselines import frequency_ranking, random_moments
from videoclip.evaluation.metrics import moments
from videoclip.evaluation.outcome import (
    Outcome,
    Statistics,
    TimelinePlot,
    histogram,
    means,
    measure,
    some_timelines,
)
from videoclip.evaluation.trial import Trial, unique, with_features
from videoclip.types import FloatArray, IntArray, RealArray
from videoclip.zeroshot.moments import (
    DIDEMO_CHUNK_SECONDS,
    Proposal,
    Windows,
    merge_windows,
    rank_didemo_candidates,
    refine_moment,
    vote_weights,
)

DIDEMO_SECONDS = 32
MAX_PROPOSALS = 10
RECALL_IOUS = (0.5, 0.7)
PRECISION_IOUS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
DecodedT = TypeVar("DecodedT")


def evaluate_didemo(
    examples: tuple[Sequence[MomentExample], Sequence[MomentExample] | None], trial: Trial
) -> Outcome:
    """Rank DiDeMo's 21 moments of each video for each sentence.

    Args:
        examples: Sentences of the test file; and those of another split for the frequency prior,
            or None.
        trial: Its features are one per second.

    Raises:
        DataError: If no video has features, or they are not one per second.

    Source: released evaluation. Deviation: a candidate that extends beyond the video is the mean
    of the seconds there are, without padding.
    """
    test, prior = examples
    store = trial.store
    present, missing = with_features(test, store)
    if trial.rate != 1:
        raise DataError(f"DiDeMo needs one feature a second, not {trial.rate:g}", store.folder)

    def rank(video_id: str, text: FloatArray) -> list[IntArray]:
        features = store.read(video_id, 0, DIDEMO_SECONDS)
        seconds = trial.encoder.embed_seconds(features, attend_cls=True)
        return [rank_didemo_candidates(row, len(row)) for row in text @ seconds.T]

    rankings = _by_video(present, trial, rank)
    annotated = [_chunks(example) for example in present]
    ranks, overlaps = _agreements(rankings, annotated)
    videos = [example.video_id for example in present]
    return Outcome(
        protocol="the 21 moments of a video ranked for a sentence; three nearest annotators count",
        settings={"sentences": len(present), "seconds seen": DIDEMO_SECONDS},
        measures=measure(_didemo_means(ranks, overlaps), videos, trial.config),
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
            histogram(
                "Mean rank of the annotated moment",
                "rank of 21",
                tuple(map(float, range(1, 23))),
                {"sentences": ranks},
            ),
        ),
    )


def didemo_baselines(
    examples: Sequence[MomentExample], prior: Sequence[MomentExample] | None
) -> tuple[Baseline, ...]:
    """Score random order and, if there is another split, its moments by frequency."""
    annotated = [_chunks(example) for example in examples]
    names = ("rank@1", "rank@5", "mIoU")
    chance = dict(zip(names, random_moments(annotated), strict=True))
    random = Baseline("random", chance, "expected over random orders")
    if prior is None:
        return (random,)
    ranking = frequency_ranking([_chunks(example) for example in prior])
    values = _didemo_means(*_agreements([ranking] * len(annotated), annotated))
    note = "order of moments in another split"
    return random, Baseline("moment frequency prior", values(np.arange(len(annotated))), note)


def _agreements(
    rankings: Sequence[IntArray], annotated: Sequence[Sequence[tuple[int, int]]]
) -> RealArray:
    """Return `didemo_agreement` of N sentences as (2, N): mean ranks, then mean IoUs."""
    pairs = zip(rankings, annotated, strict=True)
    return np.array([moments.didemo_agreement(*pair) for pair in pairs]).T


def _didemo_means(ranks: RealArray, overlaps: RealArray) -> Statistics:
    return means({"rank@1": ranks <= 1, "rank@5": ranks <= 5, "mIoU": overlaps})


def evaluate_moments(examples: Sequence[MomentExample], trial: Trial) -> Outcome:
    """Find moments of any length for each sentence, as `VideoLibrary.search` does in one video.

    Raises:
        DataError: If a sentence has no annotated moments, or no video has features.
    """
    if unanswered := [example.example_id for example in examples if not example.moments]:
        raise DataError(
            f"{len(unanswered)} sentences such as '{unanswered[0]}' have no moments: use the file "
            "with answers"
        )
    store, rate = trial.store, trial.rate
    present, missing = with_features(examples, store)

    def propose(video_id: str, text: FloatArray) -> list[RealArray]:
        features = store.read(video_id)
        spans = window_spans(len(features), rate)
        vectors = trial.encoder.embed_windows(features, spans)  # (W, E)
        rows = text @ vectors.T
        windows = [Windows(spans, row, vote_weights(row)) for row in rows]
        pairs = zip(windows, merge_windows(windows), strict=True)
        return [_spans(of, merged[:MAX_PROPOSALS]) / rate for of, merged in pairs]

    proposals = _by_video(present, trial, propose)
    rng = np.random.default_rng(trial.config.seed)
    ends = [store.num_features(example.video_id) / rate for example in present]
    whole = [np.array([[0.0, end]]) for end in ends]
    random = [np.sort(rng.uniform(0, end, size=(MAX_PROPOSALS, 2)), axis=1) for end in ends]
    true = [np.array(example.moments) for example in present]
    values = _moment_values(proposals, true)
    videos = [example.video_id for example in present]
    lengths = ", ".join(f"{seconds:g}" for seconds in WindowConfig().lengths)
    return Outcome(
        protocol="moments merged from windows, ranked by similarity with a sentence",
        settings={
            "proposals": MAX_PROPOSALS,
            "seconds of the windows": lengths,
            "sentences": len(present),
        },
        measures=measure(means(values), videos, trial.config),
        baselines=tuple(
            Baseline(name, means(_moment_values(spans, true))(np.arange(len(true))))
            for name, spans in (("random spans", random), ("whole video", whole))
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
        plots=some_timelines(
            lambda i: TimelinePlot.of(
                f"{present[i].text} ({videos[i]})",
                ends[i],
                ((start, end, "") for start, end in present[i].moments),
                ((start, end, "") for start, end in proposals[i][:1].tolist()),
            ),
            len(present),
        ),
    )


def _spans(windows: Windows, merged: Sequence[Proposal]) -> RealArray:
    refined = [refine_moment(windows, moment) for moment in merged]
    return np.array([(moment.start, moment.end) for moment in refined])


def _by_video(
    examples: Sequence[MomentExample],
    trial: Trial,
    decode: Callable[[str, FloatArray], Sequence[DecodedT]],
) -> list[DecodedT]:
    """Return what `decode` returns for each example; each video is embedded once.

    Args:
        examples: The sentences.
        trial: The model.
        decode: From a video and the embeddings (N, E) of its sentences to one result for each.
    """
    texts, text_of = unique([example.text for example in examples])
    text = trial.encoder.embed_text(texts)
    videos, video_of = unique([example.video_id for example in examples])

    def decode_all(video: int) -> Sequence[DecodedT]:
        return decode(videos[video], text[text_of[video_of == video]])

    results = list(map(iter, trial.predict_all(decode_all, range(len(videos)))))
    return [next(results[video]) for video in video_of.tolist()]


def _chunks(example: MomentExample) -> list[tuple[int, int]]:
    size = DIDEMO_CHUNK_SECONDS
    return [(int(start // size), int(end // size) - 1) for start, end in example.moments]


def _moment_values(
    predicted: Sequence[RealArray], true: Sequence[RealArray]
) -> dict[str, RealArray]:
    """Return (N,) values of each measure: recall and IoU of the first span, average precision."""
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
