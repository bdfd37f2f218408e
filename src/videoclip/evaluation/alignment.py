"""Alignment: where each text of a long video is shown, and whether it is shown at all."""

import math
from collections.abc import Sequence

import numpy as np

from videoclip.benchmarks.examples import AlignmentVideo, Baseline, PlacedText
from videoclip.errors import DataError
from videoclip.evaluation.baselines import even_frames
from videoclip.evaluation.metrics.calibration import roc_auc
from videoclip.evaluation.metrics.moments import interpolated_precision, match_spans, span_iou
from videoclip.evaluation.outcome import Outcome, means, measure, similarity_histogram
from videoclip.evaluation.proposals import Proposals, draw_proposals, embed_unrelated, propose
from videoclip.evaluation.trial import Trial, with_features
from videoclip.types import BoolArray, FloatArray, IntArray

WINDOW_SECONDS = 64
EDGE_WINDOWS = 4
ARTICLE_IOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
MIN_SECONDS = 1e-3
"""Shortest span that counts, and difference of spans that are the same; of HT-Step's evaluation."""


def evaluate_alignment(examples: Sequence[AlignmentVideo], trial: Trial) -> Outcome:
    """Score the most similar second of each text that is shown, and which texts are shown.

    "In windows", a text is only sought near the narration around it that is not shown, whose time
    is known (`windows`). Whether a text is shown is predicted by its largest similarity. For steps
    of articles, moments of all steps are scored too (`article_precisions`).

    Raises:
        DataError: If no text of the videos with features is shown.

    Source: TAN (arXiv 2204.02968) and its published evaluation, in which a second is right from
    floor(start) to ceil(end), both included.
    """
    videos, missing = with_features(examples, trial.store)
    config, rate = trial.config, trial.rate
    if not any(text.spans for video in videos for text in video.texts):
        raise DataError("no text of a video with features is shown: extract more of them")

    def align(video: AlignmentVideo) -> FloatArray:
        seconds = trial.embed_seconds(video.video_id, attend_cls=config.attend_cls)
        return trial.encoder.embed_text([text.text for text in video.texts]) @ seconds.T  # (N, T)

    similarities = trial.predict_all(align, videos)
    texts = [text for video in videos for text in video.texts]
    owners = [video.video_id for video in videos for _ in video.texts]
    highest = np.concatenate([rows.max(axis=1) for rows in similarities])
    shown = np.array([bool(text.spans) for text in texts])
    places = np.flatnonzero(shown)
    true = [
        _true_frames(text, rows.shape[1], rate)
        for video, rows in zip(videos, similarities, strict=True)
        for text in video.texts
    ]
    best = np.concatenate([rows.argmax(axis=1) for rows in similarities])
    spread = np.concatenate([even_frames(*rows.T.shape) for rows in similarities])
    columns = {"R@1": _hits(best, true, places)}
    chance = {"R@1": float(np.mean([true[i].mean() for i in places]))}
    even = {"R@1": float(_hits(spread, true, places).mean())}
    if any(text.time and not text.spans for text in texts):
        inside = [
            windows(video.texts, rows.shape[1], rate)
            for video, rows in zip(videos, similarities, strict=True)
        ]
        pairs = list(zip(similarities, inside, strict=True))
        near = np.concatenate([np.where(m, rows, -np.inf).argmax(axis=1) for rows, m in pairs])
        columns["R@1 in windows"] = _hits(near, true, places)
        rows = [row for mask in inside for row in mask]
        chance["R@1 in windows"] = float(
            np.mean([(true[i] & rows[i]).sum() / max(1, rows[i].sum()) for i in places])
        )
    measures = measure(means(columns), [owners[i] for i in places], config)
    if any(video.article for video in videos):
        found, random = _propose_steps(videos, trial)
        precisions = article_precisions(videos, found)
        measures += measure(
            means({"article mAP": np.array(list(precisions.values()))}), list(precisions), config
        )
        by_chance = article_precisions(videos, random)
        chance["article mAP"] = float(np.mean(list(by_chance.values())))
    if not shown.all():

        def auc(items: IntArray) -> dict[str, float]:
            area = roc_auc(highest[items], shown[items])
            return {"alignability AUC": 0.5 if math.isnan(area) else area}

        measures += measure(auc, owners, config)
        chance["alignability AUC"] = 0.5
    return Outcome(
        protocol="the most similar second of each text of a video, and whether it is shown",
        settings={
            "attend to [CLS]": config.attend_cls,
            "features per second": rate,
            "texts": len(texts),
            "texts that are shown": len(places),
        },
        measures=measures,
        baselines=(
            Baseline("random", chance),
            Baseline("evenly spread", even, "texts in their order, at equal distances"),
        ),
        num_examples=len(places),
        num_videos=len(videos),
        missing=tuple(missing),
        rows=tuple(
            {
                "video_id": owners[i],
                "text": texts[i].text,
                "second": float(best[i] / rate),
                "right": bool(true[i][best[i]]),
            }
            for i in places.tolist()
        ),
        plots=(
            similarity_histogram(
                "Largest similarity of each text", ("shown", "not shown"), highest, shown
            ),
        ),
    )


def _propose_steps(
    videos: Sequence[AlignmentVideo], trial: Trial
) -> tuple[list[list[Proposals]], list[list[Proposals]]]:
    """Return the proposed moments of each text of each video, and as many random ones."""
    unrelated = embed_unrelated(trial)
    rng = np.random.default_rng(trial.config.seed)

    def find(video: AlignmentVideo) -> list[Proposals]:
        texts = trial.encoder.embed_text([text.text for text in video.texts])
        return propose(trial, trial.store.read(video.video_id), texts, unrelated)

    ends = [trial.store.num_features(video.video_id) / trial.rate for video in videos]
    random = [
        [draw_proposals(rng, end) for _ in video.texts]
        for video, end in zip(videos, ends, strict=True)
    ]
    return trial.predict_all(find, videos), random


def article_precisions(
    videos: Sequence[AlignmentVideo], found: Sequence[Sequence[Proposals]]
) -> dict[str, float]:
    """Return the average precision of each article of which a step is shown.

    The moments of all steps in all videos of an article are ranked together. One is right if it
    overlaps a span of its video in which any step of the article is shown, and that no moment
    before it took; the mean over overlap ratios from 0.3 to 0.7. Steps that no video shows are left
    out.

    Args:
        videos: With articles.
        found: The moments of each text of each video.

    Source: the published evaluation of HT-Step (article grounding), whose articles are wikiHow's
    with all their variations, and which does not ask which step a moment was found for.
    """
    known = {text.step for video in videos for text in video.texts if text.spans}
    of_articles: dict[str, list[tuple[AlignmentVideo, Sequence[Proposals]]]] = {}
    for video, moments in zip(videos, found, strict=True):
        of_articles.setdefault(video.article, []).append((video, moments))
    precisions = {}
    for article, of_videos in of_articles.items():
        ranked, right, num_true = [], [], 0  # right: (ratios, N) of each video
        for video, moments in of_videos:
            kept = [m for text, m in zip(video.texts, moments, strict=True) if text.step in known]
            similarities = np.concatenate([np.zeros(0), *(of.similarities for of in kept)])
            spans = np.concatenate([np.zeros((0, 2)), *(of.spans for of in kept)])
            order = np.argsort(-similarities, kind="stable")
            true = [span for text in video.texts for span in _distinct(text.spans)]
            overlaps = span_iou(spans[order], np.array(true).reshape(-1, 2))
            right.append(np.stack([match_spans(overlaps, iou) for iou in ARTICLE_IOUS]))
            ranked.append(similarities[order])
            num_true += len(true)
        if num_true:
            order = np.argsort(-np.concatenate(ranked), kind="stable")
            rows = np.concatenate(right, axis=1)[:, order]
            values = [interpolated_precision(row, num_true) for row in rows]
            precisions[article] = float(np.mean(values))
    return precisions


def _distinct(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the spans without those that are empty or begin and end with an earlier one."""
    kept: list[tuple[float, float]] = []
    for span in spans:
        is_new = np.abs(np.array(kept).reshape(-1, 2) - span).max(axis=1) > MIN_SECONDS
        if span[1] - span[0] >= MIN_SECONDS and is_new.all():
            kept.append(span)
    return kept


def _true_frames(text: PlacedText, num_frames: int, rate: float) -> BoolArray:
    """Return (T,) whether a frame is in a span of the text, from floor(start) to ceil(end)."""
    seconds = np.arange(num_frames) / rate
    inside = np.zeros(num_frames, dtype=bool)
    for start, end in text.spans:
        inside |= (seconds >= math.floor(start)) & (seconds <= math.ceil(end))
    return inside


def _hits(best: IntArray, true: Sequence[BoolArray], places: IntArray) -> FloatArray:
    return np.array([true[i][best[i]] for i in places], dtype=np.float32)


def windows(texts: Sequence[PlacedText], num_frames: int, rate: float) -> BoolArray:
    """Return (N, T), True where a text may be sought.

    Windows of 64 seconds begin every 16 seconds. A text is sought in a window if it is between the
    first and the last unshown narration at most 64 seconds from the window. In the first four
    windows all texts before these are sought too, in the last four all texts after them.

    Source: the published evaluation of TAN, which does not use the times of texts that are shown.
    """
    size, step = round(WINDOW_SECONDS * rate), round(WINDOW_SECONDS / 4 * rate)
    starts = list(range(0, max(1, num_frames - size // 2), step))
    unshown = [i for i, text in enumerate(texts) if text.time and not text.spans]
    middles = np.array([sum(texts[i].time or (0.0,)) / 2 * rate for i in unshown])
    allowed = np.zeros((len(texts), num_frames), dtype=bool)
    for number, start in enumerate(starts):
        near = np.flatnonzero((middles >= start - size) & (middles <= start + 2 * size))
        if not len(near):
            continue
        first, last = unshown[near[0]], unshown[near[-1]]
        if number < EDGE_WINDOWS:
            first = 0
        elif number >= len(starts) - EDGE_WINDOWS:
            last = len(texts) - 1
        allowed[first : last + 1, start : start + size] = True
    return allowed
