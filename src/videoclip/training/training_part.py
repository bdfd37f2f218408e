"""The training part of a benchmark, without any video of its test, and what is held out of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from videoclip.benchmarks.coin import read_coin
from videoclip.benchmarks.crosstask import read_crosstask, released_split
from videoclip.benchmarks.examples import LabelledVideo, RetrievalExample, StepVideo
from videoclip.benchmarks.files import find_file
from videoclip.benchmarks.msrvtt import (
    read_msrvtt_1k,
    read_msrvtt_pairs,
    read_msrvtt_video_list,
)
from videoclip.benchmarks.msrvtt_qa import read_msrvtt_qa
from videoclip.benchmarks.table import read_table
from videoclip.benchmarks.youcook2 import JSON_NAME, read_youcook2, read_youcook2_json
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import DataError
from videoclip.evaluation.clips import with_features

__all__ = [
    "Places",
    "hold_out",
    "training_clips",
    "training_labels",
    "training_steps",
    "without_test_videos",
]

CAPTIONS = ("MSRVTT_data.json", "MSRVTT_data.merged_from_official.json")
VIDEO_LISTS = {
    "msrvtt": ("MSRVTT_train.9k.csv",),
    # The test of the questions is the official one, of which the 9k list has 1,990 videos.
    "msrvtt_qa": ("MSRVTT_train.7k.csv", "MSRVTT_train.csv", "MSRVTT_train.9k.csv"),
}


class _OfVideo(Protocol):
    @property
    def video_id(self) -> str: ...


ExampleT = TypeVar("ExampleT", bound=_OfVideo)


@dataclass(frozen=True)
class Places:
    """Where the files of a benchmark are.

    Attributes:
        test: Folder or file of the test part, as `evaluate` takes it.
        training: Folder or file of the training part; often the same.
    """

    test: Path
    training: Path


def training_clips(benchmark: str, places: Places, store: FeatureStore) -> list[RetrievalExample]:
    """Return the training pairs of a retrieval or question benchmark whose videos have features.

    Raises:
        DataError: If a file is missing or broken, or no training video has features.
    """
    folder = places.training
    if benchmark == "youcook2":
        examples = read_youcook2_json(find_file(folder, JSON_NAME), "train")
        test = {e.video_id for e in read_youcook2(places.test)}
    elif benchmark == "csv":
        examples = read_table(folder)
        test = {e.video_id for e in read_table(places.test)}
    else:
        videos = read_msrvtt_video_list(find_file(folder, *VIDEO_LISTS[benchmark]))
        if benchmark == "msrvtt":
            test = {e.video_id for e in read_msrvtt_1k(places.test)}
        else:
            test = {e.video_id for e in read_msrvtt_qa(places.test)}
        wanted = [v for v in videos if v in store and v not in test]
        examples = read_msrvtt_pairs(find_file(folder, *CAPTIONS), wanted or videos)
    return without_test_videos(with_features(examples, store)[0], test, folder)


def training_steps(places: Places, store: FeatureStore) -> list[StepVideo]:
    """Return the released training videos of CrossTask that have features and steps.

    A video of several tasks may be in both parts: it is then left out of this one.
    """
    benchmark = read_crosstask(places.training)
    present, _ = with_features(benchmark.videos, store)
    training, test = released_split(present, benchmark.validation, set(store.video_ids))
    with_steps = [video for video in training if video.segments]
    return without_test_videos(with_steps, {video.video_id for video in test}, places.training)


def training_labels(
    places: Places, store: FeatureStore
) -> tuple[list[LabelledVideo], tuple[str, ...]]:
    """Return the training videos of COIN that have features, and the texts of all labels."""
    coin = read_coin(places.training, "train")
    test = {video.video_id for video in read_coin(places.test).videos}
    present, _ = with_features(coin.videos, store)
    return without_test_videos(present, test, places.training), coin.labels


def without_test_videos(
    examples: Sequence[ExampleT], test: Collection[str], path: Path
) -> list[ExampleT]:
    """Return the examples of videos that the test does not have.

    Raises:
        DataError: If none is left.
    """
    kept = [example for example in examples if example.video_id not in test]
    if not kept:
        raise DataError(
            f"no video to train on that has features and is not in the test ({len(examples)} "
            "examples were left out): name the training part",
            path,
        )
    return kept


def hold_out(
    examples: Sequence[ExampleT], num_videos: int, seed: int
) -> tuple[list[ExampleT], list[ExampleT]]:
    """Split examples into those to learn from and those of some videos to validate on.

    The same seed holds out the same videos; both parts keep their order.

    Raises:
        DataError: If no video would be left to train on.
    """
    videos = sorted({example.video_id for example in examples})
    if num_videos and num_videos >= len(videos):
        raise DataError(
            f"cannot hold out {num_videos} of {len(videos)} training videos: set a smaller "
            "validation_videos"
        )
    order = np.random.default_rng(seed).permutation(len(videos)).tolist()
    chosen = {videos[i] for i in order[len(videos) - num_videos :]}
    training = [example for example in examples if example.video_id not in chosen]
    return training, [example for example in examples if example.video_id in chosen]
