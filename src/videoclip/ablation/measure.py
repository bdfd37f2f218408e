"""What a trained model knows of the test videos of a world, zero-shot, video by video.

Every measure is a ratio of two sums over videos (right answers and questions, or the two halves of
F1), so that any of them can be compared between models by resampling whole videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from videoclip.ablation.bed import TestBed
from videoclip.ablation.seconds import Counts, label_seconds
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.metrics.ranking import rank_queries, recall_at
from videoclip.evaluation.metrics.targets import frame_span
from videoclip.features.backbones.motion import APPEARANCE_DIM
from videoclip.synthetic.annotate import descriptions
from videoclip.synthetic.narrate import label
from videoclip.synthetic.world import ShownStep, SyntheticVideo
from videoclip.zeroshot.rerank import rerank_clips

__all__ = ["MEASURES", "measure", "ratios"]

MEASURES = {
    "R@1": "the best of all test clips shows the step a sentence describes",
    "R@5": "one of the best five does",
    "R@10": "one of the best ten does",
    "R@1 seen": "R@1 of steps that training videos show",
    "R@1 held out": "R@1 of combinations that no training video shows",
    "direction": "a clip resembles its label more than the opposite one; chance is a half",
    "direction, order hidden": "the same of the clip's mean picture",
    "segment F1": "segments of the task's steps found with an IoU of 0.25, background in between",
    "foreground accuracy": "seconds of steps with the right label among those of the task",
    "F1 in order": "the same of labels in the task's order, each a run of seconds",
    "foreground in order": "foreground accuracy of those",
    "step recall": "steps found by one second each, in order (CrossTask)",
    "all-label F1": "segments of any label found with an IoU of 0.25 (COIN)",
    "all-label foreground": "seconds of steps with the right label among all (COIN)",
}
"""What is measured, the main ones first."""


@dataclass(frozen=True)
class _Shown:
    """A step of a test video as a question and a candidate."""

    place: int  # of its video among the test videos
    shown: ShownStep
    sentence: str
    rows: tuple[int, int]  # of the video's features


def measure(encoder: DualEncoder, bed: TestBed, rerank_top: int = 0) -> Counts:
    """Measure a model on the test videos of a bed.

    Args:
        encoder: The model.
        bed: A world and its features.
        rerank_top: Candidates the re-ranker orders anew in retrieval; 0: none.
    """
    encoder.check(bed.store.spec)
    videos = bed.test_videos
    shown = _shown_steps(bed, videos)
    return {
        **_retrieval(encoder, bed, videos, shown, rerank_top),
        **_direction(encoder, bed, videos, shown),
        **label_seconds(encoder, bed, videos),
    }


def _shown_steps(bed: TestBed, videos: Sequence[SyntheticVideo]) -> list[_Shown]:
    found = []
    for place, video in enumerate(videos):
        num_features = bed.store.num_features(video.video_id)
        for shown, sentence in zip(video.shown, descriptions(bed.world, video), strict=True):
            first, last = frame_span(shown.start, shown.end, num_features)
            if last > first:
                found.append(_Shown(place, shown, sentence, (first, last)))
    return found


def _per_video(
    values: NDArray[np.float64], shown: Sequence[_Shown], kept: NDArray[np.bool_], num_videos: int
) -> NDArray[np.float64]:
    """Sum the answers of each video, and count its questions."""
    counts = np.zeros((num_videos, 2))
    places = np.array([item.place for item in shown])[kept]
    np.add.at(counts[:, 0], places, values[kept])
    np.add.at(counts[:, 1], places, 1)
    return counts


def _retrieval(
    encoder: DualEncoder,
    bed: TestBed,
    videos: Sequence[SyntheticVideo],
    shown: Sequence[_Shown],
    rerank_top: int,
) -> Counts:
    """Find clips by sentences; every clip that shows the step is right."""
    windows = [(videos[item.place].video_id, *item.rows) for item in shown]
    clips = bed.store.read_windows(windows)
    video = _embed_clips(encoder, clips)
    sentences = [item.sentence for item in shown]
    similarity = encoder.embed_text(sentences) @ video.T  # (N, N)
    if rerank_top:
        similarity = rerank_clips(encoder.pair_scorer(sentences, clips), similarity, rerank_top)
    steps = np.array([item.shown.step.step_id for item in shown])
    ranks = rank_queries(similarity, steps, steps)
    new = np.array([item.shown.step.held_out for item in shown])
    everything = np.ones(len(shown), bool)
    counts = {
        f"R@{k}": _per_video(recall_at(ranks, k), shown, everything, len(videos))
        for k in (1, 5, 10)
    }
    first = recall_at(ranks, 1)
    counts["R@1 seen"] = _per_video(first, shown, ~new, len(videos))
    counts["R@1 held out"] = _per_video(first, shown, new, len(videos))
    return counts


def _direction(
    encoder: DualEncoder, bed: TestBed, videos: Sequence[SyntheticVideo], shown: Sequence[_Shown]
) -> Counts:
    """Choose between a label and its opposite, which one frame cannot tell apart.

    With its order hidden a clip is its mean picture, said as often as it has seconds, in which
    nothing moves.
    """
    steps = [item.shown.step for item in shown]
    right = encoder.embed_text([label(step) for step in steps])
    wrong = encoder.embed_text([label(bed.world.opposite(step)) for step in steps])
    windows = [(videos[item.place].video_id, *item.rows) for item in shown]
    clips = bed.store.read_windows(windows)
    everything = np.ones(len(shown), bool)
    counts = {}
    for name, seen in (
        ("direction", clips),
        ("direction, order hidden", [_without_order(clip) for clip in clips]),
    ):
        margin = ((right - wrong) * _embed_clips(encoder, seen)).sum(axis=1)
        hits = np.where(margin == 0, 0.5, margin > 0).astype(np.float64)
        counts[name] = _per_video(hits, shown, everything, len(videos))
    return counts


def _embed_clips(encoder: DualEncoder, clips: Sequence[NDArray[np.float16]]) -> NDArray[np.float32]:
    """Embed clips, each by itself: (N, E)."""
    borders = np.cumsum([0, *map(len, clips)]).tolist()
    return encoder.embed_windows(np.concatenate(clips), list(pairwise(borders)))


def _without_order(clip: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the mean picture of a clip of motion features, as long as the clip, standing still."""
    mean = clip.astype(np.float32).mean(axis=0)
    mean[APPEARANCE_DIM:] = 0
    return np.tile(mean.astype(np.float16), (len(clip), 1))


def ratios(counts: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return each measure over all videos; 0 where nothing was asked."""
    return {
        name: float(pairs[:, 0].sum() / pairs[:, 1].sum()) if pairs[:, 1].sum() else 0.0
        for name, pairs in counts.items()
    }
