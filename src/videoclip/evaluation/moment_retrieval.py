"""Moment retrieval: the span of a video that a sentence describes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from videoclip.benchmarks.examples import Baseline, MomentExample
from videoclip.benchmarks.qvhighlights import CLIP_SECONDS
from videoclip.embedding import WindowConfig
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
from videoclip.evaluation.proposals import (
    PROPOSALS_PER_TEXT,
    Proposals,
    draw_proposals,
    embed_unrelated,
    propose,
)
from videoclip.evaluation.trial import Trial, unique, with_features
from videoclip.types import FloatArray, IntArray, RealArray
from videoclip.zeroshot.moments import DIDEMO_CHUNK_SECONDS, rank_didemo_candidates

DIDEMO_SECONDS = 32
MAX_RANK = 5
RECALL_IOUS = (0.5, 0.7)
PRECISION_IOUS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
LENGTHS = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, np.inf)}
"""Seconds of true moments, more than the first and at most the second, as in QVHighlights."""
HIGHLIGHT_MARK = 4
"""Least mark of a highlight: very good."""
PROPOSALS_PER_VIDEO = 10
"""On average, at which recall is measured."""
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
        raise DataError(
            f"DiDeMo needs one feature a second, not {trial.rate:g}; extract them at that rate",
            store.folder,
        )

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

    Similarities are corrected for hubs, as they are there.

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

    has_highlights = any(example.saliency for example in present)
    unrelated = embed_unrelated(trial)

    def find(video_id: str, text: FloatArray) -> list[Proposals]:
        features = store.read(video_id)
        proposed = propose(trial, features, text, unrelated)
        if not has_highlights:
            return proposed
        pairs = _clip_spans(len(features), rate)
        clips = text @ trial.encoder.embed_windows(features, pairs).T
        return [of._replace(clips=row) for of, row in zip(proposed, clips, strict=True)]

    found = _by_video(present, trial, find)
    proposals = [of.spans for of in found]
    rng = np.random.default_rng(trial.config.seed)
    ends = [store.num_features(example.video_id) / rate for example in present]
    random = [
        draw_proposals(rng, end)._replace(clips=rng.random(len(example.saliency)))
        for end, example in zip(ends, present, strict=True)
    ]
    whole = [Proposals(np.array([[0.0, end]]), np.zeros(1)) for end in ends]
    true = [np.array(example.moments) for example in present]
    first = _best_overlaps(_overlaps(proposals, true), 1)
    videos = [example.video_id for example in present]
    lengths = ", ".join(f"{seconds:g}" for seconds in WindowConfig().lengths)
    return Outcome(
        protocol="moments merged from windows, ranked by similarity with a sentence",
        settings={
            "proposals": PROPOSALS_PER_TEXT,
            "seconds of the windows": lengths,
            "sentences": len(present),
        },
        measures=tuple(
            number
            for statistics, of_items in _moment_statistics(found, present)
            for number in measure(statistics, of_items, trial.config)
        ),
        baselines=tuple(
            Baseline(
                name,
                {
                    key: value
                    for statistics, of_items in _moment_statistics(some, present)
                    for key, value in statistics(np.arange(len(of_items))).items()
                },
            )
            for name, some in (("random spans", random), ("whole video", whole))
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
                "IoU": float(first[i]),
            }
            for i, (example, spans) in enumerate(zip(present, proposals, strict=True))
        ),
        plots=some_timelines(
            lambda i: TimelinePlot(
                f"{present[i].text} ({videos[i]})",
                ends[i],
                tuple((start, end, "") for start, end in present[i].moments),
                tuple((start, end, "") for start, end in proposals[i][:1].tolist()),
            ),
            len(present),
        ),
    )


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


def _clip_spans(num_features: int, rate: float) -> list[tuple[int, int]]:
    """Return the rows of every two seconds of a video, at least one each."""
    starts = np.arange(0, num_features / rate, CLIP_SECONDS) * rate
    firsts = np.minimum(starts.astype(int), num_features - 1)
    lasts = np.minimum((starts + CLIP_SECONDS * rate).astype(int), num_features)
    return list(zip(firsts.tolist(), np.maximum(lasts, firsts + 1).tolist(), strict=True))


def _overlaps(predicted: Sequence[RealArray], true: Sequence[RealArray]) -> list[RealArray]:
    """Return the overlap ratios (P, M) of what is predicted for each sentence with what is true."""
    return list(map(moments.span_iou, predicted, true))


def _best_overlaps(overlaps: Sequence[RealArray], rank: int) -> RealArray:
    """Return the largest overlap ratio of the first predictions for each sentence: (N,)."""
    return np.array([of[:rank].max(initial=0.0) for of in overlaps])


def _moment_statistics(
    found: Sequence[Proposals], examples: Sequence[MomentExample]
) -> list[tuple[Statistics, list[str]]]:
    """Return the measures of what was found, each with the videos of the items it is of."""
    spans = [of.spans for of in found]
    true = [np.array(example.moments) for example in examples]
    videos = [example.video_id for example in examples]
    parts = [(means(_moment_values(_overlaps(spans, true))), videos)]
    for name, (shortest, longest) in LENGTHS.items():
        lengths = [of[:, 1] - of[:, 0] for of in true]
        inside = [
            of[(seconds > shortest) & (seconds <= longest)]
            for of, seconds in zip(true, lengths, strict=True)
        ]
        chosen = [i for i, of in enumerate(inside) if len(of)]
        if chosen:
            overlaps = _overlaps([spans[i] for i in chosen], [inside[i] for i in chosen])
            precision = _precisions(overlaps)
            column = {f"mAP of {name} moments": precision.mean(axis=1)}
            parts.append((means(column), [videos[i] for i in chosen]))
    parts.append(_average_recall(found, true, videos))
    marked = [i for i, example in enumerate(examples) if example.saliency and len(found[i].clips)]
    if marked:
        pairs = [_highlights(found[i].clips, examples[i]) for i in marked]
        precision, hits = np.array(pairs).T
        columns = {"highlight mAP": precision, "HIT@1": hits}
        parts.append((means(columns), [videos[i] for i in marked]))
    return parts


def _average_recall(
    found: Sequence[Proposals], true: Sequence[RealArray], videos: Sequence[str]
) -> tuple[Statistics, list[str]]:
    """Return the recall of all true spans of a video by its proposals, whatever their sentence.

    All videos keep the same share of their proposals, the most similar ones first.

    Source: AR@AN of the ActivityNet proposal task.
    """
    names, video_of = unique(videos)
    share = PROPOSALS_PER_VIDEO * len(names) / sum(len(of.spans) for of in found)
    counts = np.zeros((len(names), 2))
    for video in range(len(names)):
        rows = np.flatnonzero(video_of == video).tolist()
        similarities = np.concatenate([found[i].similarities for i in rows])
        order = np.argsort(-similarities, kind="stable")
        order = order[: int(min(1.0, share) * len(order))]
        proposals = np.concatenate([found[i].spans for i in rows])[order]
        spans = np.concatenate([true[i] for i in rows])
        counts[video] = moments.recalled_spans(proposals, spans, PRECISION_IOUS), len(spans)

    def recall(items: IntArray) -> dict[str, float]:
        recalled, present = counts[items].sum(axis=0).tolist()
        return {f"AR@{PROPOSALS_PER_VIDEO}": recalled / present}

    return recall, names


def _highlights(clips: RealArray, example: MomentExample) -> tuple[float, bool]:
    """Return the precision of the highlights, a mean over raters, and whether the best clip is one.

    Source: QVHighlights, with clips that are "very good".
    """
    highlights = np.array(example.saliency) >= HIGHLIGHT_MARK  # (C, raters)
    similarities = np.full(len(highlights), -np.inf)  # past the features nothing is found
    similarities[: len(clips)] = clips[: len(highlights)]
    precision = [moments.highlight_precision(similarities, of) for of in highlights.T]
    return float(np.mean(precision)), bool(highlights[similarities.argmax()].any())


def _precisions(overlaps: Sequence[RealArray]) -> RealArray:
    """Return (N, ratios) average precisions of N sentences at each of `PRECISION_IOUS`."""
    return np.array(
        [[moments.average_precision(of, iou) for iou in PRECISION_IOUS] for of in overlaps]
    )


def _moment_values(overlaps: Sequence[RealArray]) -> dict[str, RealArray]:
    """Return (N,) values of each measure: recall, IoU of the first span, average precision."""
    first, best = (_best_overlaps(overlaps, rank) for rank in (1, MAX_RANK))
    precision = _precisions(overlaps)
    return {
        **{f"R1@{iou:g}": (first >= iou).astype(np.float64) for iou in RECALL_IOUS},
        **{f"R{MAX_RANK}@{iou:g}": (best >= iou).astype(np.float64) for iou in RECALL_IOUS},
        "mIoU": first,
        "mAP@0.5": precision[:, 0],
        "mAP@0.75": precision[:, PRECISION_IOUS.index(0.75)],
        "mAP": precision.mean(axis=1),
    }
