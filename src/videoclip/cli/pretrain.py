"""`videoclip pretrain`: learn from narrated videos."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from videoclip.cli.recipe import parse_recipe
from videoclip.config import PretrainConfig
from videoclip.recipes import RECIPES

if TYPE_CHECKING:
    from videoclip.data.feature_store import FeatureStore
    from videoclip.data.frame_store import FrameStore
    from videoclip.data.narrated import FeatureReader, NarratedCorpus
    from videoclip.data.subtitles import Cue
    from videoclip.data.tokenizer import Tokenizer
    from videoclip.distributed import World
    from videoclip.features.frame_encoder import FrameEncoder
    from videoclip.model.videoclip import VideoCLIP
    from videoclip.training.train import RunResult

__all__ = ["Pretrain", "parse"]

USAGE = "videoclip pretrain RECIPE --data FOLDER --out RUN [options]"
LEFT_OUT_SHOWN = 5
STARTER_HELD_OUT = 10
"""The starter recipe holds out one video in this many, to show what training has changed."""


@dataclass(frozen=True)
class Pretrain:
    """Pre-train a model on narrated videos. The same command continues an interrupted run.

    Every setting of the recipe can be changed by its name. On many GPUs:
    `torchrun --nproc-per-node 8 -m videoclip pretrain ...` (docs/distributed.md).
    """

    data: Path
    """Folder of videos with subtitles beside them, or of released HowTo100M shards; with --store
    also a caption file in the form of HowTo100M (raw_caption.json, `videoclip prepare`)."""
    out: Path
    """Run folder: log, plans, checkpoints, and at the end the model in OUT/model."""
    store: Path | None = None
    """Features of the videos (`videoclip extract`); by default they go to OUT/features. With
    --train-backbone: their frames, by default in OUT/frames."""
    start: str | None = None
    """Model to start from: a folder, a hub id or "starter"; by default random weights."""
    vocabulary: Path | None = None
    """vocab.txt to use with random weights; by default that of bert-base-uncased."""
    device: str | None = None
    """Torch device; by default the process's own GPU, or the CPU."""
    tensorboard: bool = False
    """Write the log as TensorBoard curves into OUT/tensorboard, too."""
    json: bool = False
    """Print the result as JSON."""
    config: Annotated[PretrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=RECIPES["paper"]
    )
    """The recipe."""

    def run(self) -> int:
        """Train, and print what has become of it."""
        from videoclip.distributed import joined
        from videoclip.training.held_out_retrieval import held_out_retrieval
        from videoclip.training.pretrain import pretrain
        from videoclip.training.tensorboard import tensorboard_curves

        with joined(self.device) as world:
            start, tokenizer = self._start()
            frame_encoder = self._frame_encoder(world)
            corpus = self._corpus(tokenizer, world, frame_encoder)
            config = self.config
            if config.name == "starter" and not config.validation_videos:
                held_out = len(corpus) // STARTER_HELD_OUT
                config = replace(config, validation_videos=held_out)
            evaluate = None
            if config.validation_videos:
                _, held_out_corpus = corpus.split(config.validation_videos, config.seed)
                evaluate = held_out_retrieval(config, held_out_corpus)
            watch = None
            if self.tensorboard and world.on_main:
                watch = tensorboard_curves(self.out / "tensorboard")
            result = pretrain(
                config,
                corpus,
                self.out,
                tokenizer=tokenizer,
                start=start,
                frame_encoder=frame_encoder,
                evaluate=evaluate,
                watch=watch,
                world=world,
            )
            if world.on_main:
                print(json.dumps(asdict(result), default=str) if self.json else _summary(result))
        return 0

    def _start(self) -> tuple[VideoCLIP | None, Tokenizer]:
        """The model to start from, if any, and the vocabulary its words go through."""
        from videoclip.data.tokenizer import Tokenizer
        from videoclip.embedding import Embedder
        from videoclip.weights.starter_files import text_folder

        start = self.start or ("starter" if self.config.model.num_bridge_classes else None)
        if start is None:
            vocabulary = self.vocabulary or text_folder() / "vocab.txt"
            return None, Tokenizer.from_vocab(vocabulary)
        embedder = Embedder.from_pretrained(start)
        return embedder.model, embedder.tokenizer

    def _frame_encoder(self, world: World) -> FrameEncoder | None:
        """The backbone, where it is trained along."""
        from videoclip.features.backbones import load_backbone
        from videoclip.features.backbones.image import ImageBackbone
        from videoclip.features.frame_encoder import FrameEncoder

        if not self.config.train_backbone:
            return None
        backbone = load_backbone(self.config.model.backbone, str(world.device))
        assert isinstance(backbone, ImageBackbone)
        return FrameEncoder(backbone, self.config.frames_at_once)

    def _corpus(
        self, tokenizer: Tokenizer, world: World, frame_encoder: FrameEncoder | None
    ) -> NarratedCorpus:
        """The narrated videos; what had to be left out is said once."""
        from videoclip.data.feature_store import FeatureSpec
        from videoclip.data.narrated import NarratedCorpus
        from videoclip.data.released import ShardFolder
        from videoclip.errors import ConfigError, DataError

        if (self.data / "train_meta.pkl").is_file():
            model = self.config.model
            spec = FeatureSpec(
                dim=model.feature_dim,
                features_per_second=model.features_per_second,
                backbone=model.backbone,
                normalized=model.normalized_features,
                fingerprint="released",
            )
            shards = ShardFolder(self.data, "train", spec)
            return NarratedCorpus(shards, shards)
        if self.data.is_file() and self.store is None:
            raise ConfigError(
                f"{self.data} has no videos: name the store of their features, --store"
            )
        store: FeatureReader
        if frame_encoder is not None:
            store = self._frames(frame_encoder, world)
        else:
            store = self._features(world)
        if self.data.is_file():
            corpus = NarratedCorpus.from_captions(store, _captions(self.data, store), tokenizer)
        else:
            corpus = NarratedCorpus.from_folder(self.data, store, tokenizer)
        if world.on_main:
            for video_id, reason in list(corpus.left_out.items())[:LEFT_OUT_SHOWN]:
                print(f"left out: {video_id} {reason}", file=sys.stderr)
            if len(corpus.left_out) > LEFT_OUT_SHOWN:
                rest = len(corpus.left_out) - LEFT_OUT_SHOWN
                print(f"left out: {rest} more; see videoclip prepare", file=sys.stderr)
        if not len(corpus):
            raise DataError("no video here has both features and subtitles", self.data)
        return corpus

    def _frames(self, frame_encoder: FrameEncoder, world: World) -> FrameStore:
        """The frames that were stored, or those of everything in `data`, in the run folder."""
        from videoclip.data.frame_store import FrameStore
        from videoclip.features.extract import find_videos, name_videos
        from videoclip.features.frame_encoder import store_frames

        if self.store is not None:
            return FrameStore.open(self.store)
        folder = self.out / "frames"
        if world.on_main:
            files, unread = find_videos([self.data])
            videos = name_videos([file.path for file in files])
            print(f"frames of {len(videos)} videos go to {folder}", file=sys.stderr)
            store = FrameStore.open_or_create(folder, frame_encoder.frames)
            failed = unread | store_frames(videos, store, frame_encoder)
            for path, reason in failed.items():
                print(f"left out: {path}: {reason}", file=sys.stderr)
        world.barrier()
        return FrameStore.open(folder)

    def _features(self, world: World) -> FeatureStore:
        """The store that was named, or one in the run folder with everything in `data`."""
        from videoclip.data.feature_store import FeatureStore
        from videoclip.features.backbones import load_backbone
        from videoclip.features.extract import extract_features

        if self.store is not None:
            return FeatureStore.open(self.store)
        folder = self.out / "features"
        if world.on_main:
            backbone = load_backbone(self.config.model.backbone, str(world.device))
            print(f"features of the videos in {self.data} go to {folder}", file=sys.stderr)
            with FeatureStore.open_or_create(folder, backbone.spec) as store:
                report = extract_features([self.data], store, backbone)
            for path, reason in report.failed.items():
                print(f"left out: {path}: {reason}", file=sys.stderr)
        world.barrier()
        return FeatureStore.open(folder)


def parse(arguments: Sequence[str]) -> Pretrain:
    """Make the command from its arguments, with the named recipe's values as defaults."""
    return parse_recipe(
        Pretrain,
        lambda config: Pretrain(tyro.MISSING, tyro.MISSING, config=config),
        RECIPES,
        arguments,
        USAGE,
    )


def _captions(path: Path, store: FeatureReader) -> dict[str, Sequence[Cue]]:
    """The cleaned cues of a store's videos by their ids; the file may speak of a million others."""
    from videoclip.benchmarks.howto100m import read_captions
    from videoclip.data.captions import clean_cues

    captions: dict[str, Sequence[Cue]] = dict.fromkeys(sorted(store.video_ids), ())
    for video_id, cues in read_captions(path):
        if video_id in captions:
            captions[video_id] = clean_cues(cues)
    return captions


def _summary(result: RunResult) -> str:
    lines = [
        f"{result.model_folder}: {result.num_updates} updates in {result.seconds:.0f} s, "
        f"loss {result.loss:.3f}"
    ]
    lines += [
        f"{name:<20} {before:8.3f} before {result.after[name]:8.3f} after"
        for name, before in result.before.items()
    ]
    return "\n".join(lines)
