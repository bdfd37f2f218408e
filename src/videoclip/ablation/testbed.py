"""The test bed: a synthetic world as texts, annotations and features, without video files.

Frames are rendered in memory and go straight into the backbone, so that nothing is encoded and
decoded. `videoclip synth` writes the same world with its video files.
"""

from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Self

import torch

from videoclip.data.feature_store import FeatureStore
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.tokenizer import Tokenizer
from videoclip.features.backbones.motion import FRAMES_PER_FEATURE, MotionBackbone, load
from videoclip.processes import map_in_processes
from videoclip.synthetic.narrate import narrate
from videoclip.synthetic.render import frames
from videoclip.synthetic.world import SyntheticConfig, SyntheticVideo, SyntheticWorld
from videoclip.synthetic.write import read_world, write_texts
from videoclip.types import FloatArray, OnProgress

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'"


@dataclass(frozen=True)
class TestBed:
    """A synthetic world to train and evaluate models on.

    Attributes:
        folder: Holds `world.json`, `videos/*.vtt`, `annotations/` and `features/`.
        world: Its steps and tasks.
        videos: All videos, training and test.
    """

    __test__ = False  # for pytest, which would collect it

    folder: Path
    world: SyntheticWorld
    videos: tuple[SyntheticVideo, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a test bed that `build_testbed` has built.

        Raises:
            DataError: If there is none.
        """
        world = read_world(folder)
        with FeatureStore.open(folder / "features") as store:
            indices = sorted(int(name.removeprefix("video")) for name in store.video_ids)
        return cls(folder, world, tuple(world.video(index) for index in indices))

    @property
    def training_videos(self) -> list[SyntheticVideo]:
        """Videos to train on."""
        return [video for video in self.videos if video.split == "train"]

    @property
    def test_videos(self) -> list[SyntheticVideo]:
        """Videos to evaluate on."""
        return [video for video in self.videos if video.split == "test"]

    @cached_property
    def store(self) -> FeatureStore:
        """Features of every video."""
        return FeatureStore.open(self.folder / "features")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """A tokenizer with every word of the training narration; it spells other words."""
        cues = (cue for video in self.training_videos for cue in narrate(video, self.world))
        words = {word for cue in cues for word in cue.text.lower().replace("'", " ' ").split()}
        letters = (piece for letter in LETTERS for piece in (letter, f"##{letter}"))
        return Tokenizer(list(dict.fromkeys((*SPECIAL_TOKENS, *letters, *sorted(words)))))

    @cached_property
    def corpus(self) -> NarratedCorpus:
        """The training videos with their narration."""
        training = [video.video_id for video in self.training_videos]
        return NarratedCorpus.from_folder(
            self.folder / "videos", self.store, self.tokenizer, training
        )


def build_testbed(
    folder: Path,
    config: SyntheticConfig,
    num_videos: int,
    num_workers: int | None = 0,
    on_progress: OnProgress | None = None,
) -> TestBed:
    """Write the texts and annotations of a world, and the features of its videos.

    Features that exist are kept, so an interrupted call continues and a world can grow.

    Args:
        folder: Where to write; made if absent.
        config: The world; its frames must have the size that the backbone takes.
        num_videos: How many videos.
        num_workers: Processes that compute features; None: one per core; 0: only this one.
        on_progress: Called with (videos done, videos in all) after each.

    Raises:
        ConfigError: If `num_videos` is not positive.
        DataError: If the folder holds another world.
        MissingExtraError: If the backbone's weights are not installed.
    """
    videos = write_texts(folder, config, num_videos)
    with FeatureStore.open_or_create(folder / "features", _backbone().spec) as store:
        todo = [video for video in videos if video.video_id not in store]
        features = map_in_processes(partial(_compute_features, config), todo, num_workers)
        for video, array in zip(todo, features, strict=True):
            store.append(video.video_id, array)
            if on_progress:
                on_progress(len(store), num_videos)
    return TestBed.open(folder)


@cache
def _backbone() -> MotionBackbone:
    return load(None)


def _compute_features(config: SyntheticConfig, video: SyntheticVideo) -> FloatArray:
    """Render a video and compute its features on one thread."""
    torch.set_num_threads(1)
    return _backbone().embed_frames(frames(video, config, per_second=FRAMES_PER_FEATURE))
