"""The test bed: a synthetic world as words, truth and features, without a video file.

Pictures are drawn in memory and go straight into the backbone, two a second; nothing is encoded
and decoded that nobody looks at. `videoclip synth` writes the same world with its files.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from videoclip.data.feature_store import FeatureStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.subtitles import find_narrations, read_subtitles
from videoclip.data.tokenizer import Tokenizer
from videoclip.features.backbones.motion import FRAMES_PER_FEATURE, MotionBackbone, load
from videoclip.synthetic.render import frames
from videoclip.synthetic.world import SyntheticConfig, SyntheticVideo, SyntheticWorld
from videoclip.synthetic.write import read_world, write_texts

__all__ = ["TestBed", "build_bed"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
UNSEEN_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'"


@dataclass(frozen=True)
class TestBed:
    """A world that models are trained and measured on.

    Attributes:
        world: What exists and happens.
        videos: All videos, training and test.
        folder: Holds `world.json`, `videos/*.vtt`, `annotations/` and `features/`.
    """

    __test__ = False  # for pytest, which would take it for a test

    folder: Path
    world: SyntheticWorld
    videos: tuple[SyntheticVideo, ...]

    @classmethod
    def open(cls, folder: Path) -> TestBed:
        """Open what `build_bed` has built.

        Raises:
            DataError: If there is none.
        """
        world = read_world(folder)
        with FeatureStore.open(folder / "features") as store:
            indices = sorted(int(name.removeprefix("video")) for name in store.video_ids)
        return cls(folder, world, tuple(world.video(index) for index in indices))

    @property
    def test_videos(self) -> list[SyntheticVideo]:
        """The videos that nothing is trained on."""
        return [video for video in self.videos if video.split == "test"]

    @cached_property
    def store(self) -> FeatureStore:
        """Features of every video."""
        return FeatureStore.open(self.folder / "features")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The words of the training narration, each one piece; other words fall into letters."""
        words: set[str] = set()
        training = [v.video_id for v in self.videos if v.split == "train"]
        for path in find_narrations(self.folder / "videos", training).values():
            assert path is not None
            for cue in read_subtitles(path):
                words.update(cue.text.lower().replace("'", " ' ").split())
        letters = (piece for c in UNSEEN_LETTERS for piece in (c, f"##{c}"))
        return Tokenizer(list(dict.fromkeys((*SPECIAL, *letters, *sorted(words)))))

    @cached_property
    def corpus(self) -> NarratedCorpus:
        """The training videos with their narration."""
        everything = NarratedCorpus.from_folder(self.folder / "videos", self.store, self.tokenizer)
        training = {v.video_id for v in self.videos if v.split == "train"}
        return everything.select(i for i, v in enumerate(everything.video_ids) if v in training)


def build_bed(
    folder: Path,
    config: SyntheticConfig,
    num_videos: int,
    num_processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> TestBed:
    """Write the words and the truth of a world, and the features of its videos.

    Videos whose features are there are not looked at again.

    Args:
        folder: Where to write; made if absent.
        config: The world; its pictures must be as large as the backbone takes them.
        num_videos: How many videos.
        num_processes: Processes that draw and look, each on one core.
        progress: Called with (videos done, videos in all) after each.

    Raises:
        ConfigError: If `num_videos` is not positive.
        DataError: If the folder holds another world.
        MissingExtraError: If the backbone's weights are not installed.
    """
    videos = write_texts(folder, config, num_videos)
    with FeatureStore.open_or_create(folder / "features", _backbone().spec) as store:
        todo = [video for video in videos if video.video_id not in store]
        looks = _each(partial(_look, config), [video.index for video in todo], num_processes)
        for video, features in zip(todo, looks, strict=True):
            store.append(video.video_id, features)
            if progress:
                progress(len(store), num_videos)
    return TestBed.open(folder)


def _each(
    look: Callable[[int], NDArray[np.float32]], indices: list[int], num_processes: int
) -> Iterator[NDArray[np.float32]]:
    if num_processes <= 1:
        yield from map(look, indices)
        return
    context = multiprocessing.get_context("spawn")  # never fork a process that may hold threads
    with ProcessPoolExecutor(num_processes, context) as pool:
        yield from pool.map(look, indices)


@cache
def _backbone() -> MotionBackbone:
    return load(None)


@cache
def _world(config: SyntheticConfig) -> SyntheticWorld:
    return SyntheticWorld(config)


def _look(config: SyntheticConfig, index: int) -> NDArray[np.float32]:
    """Draw a video and compute its features, in a process of its own."""
    torch.set_num_threads(1)
    pictures = frames(_world(config).video(index), config, per_second=FRAMES_PER_FEATURE)
    return _backbone().embed_frames(pictures)
