"""Pre-training: from narrated videos to a model folder; the same call continues a broken run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from videoclip.benchmarks.howto100m import read_captions
from videoclip.config import PretrainConfig, to_dict
from videoclip.data.captions import Cue, clean_cues
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.frame_store import FrameStore
from videoclip.data.narrated import FeatureReader, NarratedCorpus
from videoclip.data.released import ShardFolder
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder, check_features, with_fingerprint
from videoclip.errors import ConfigError, DataError
from videoclip.features.backbones import load_backbone
from videoclip.features.backbones.image import ImageBackbone
from videoclip.features.extract import extract_features, find_videos, name_videos
from videoclip.features.frame_encoder import FrameEncoder, store_frames
from videoclip.model.hub import BACKBONE_FOLDER
from videoclip.model.videoclip import VideoCLIP
from videoclip.recipes import RECIPES, named_recipe
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.logging import OnLog, print_line
from videoclip.training.narrated import (
    NarratedSource,
    held_out_retrieval,
    load_teacher,
    report_dead_workers,
)
from videoclip.training.run import Evaluation, RunResult, train
from videoclip.training.run_folder import differences
from videoclip.weights.files import text_folder

LISTED_VIDEOS = 5


def pretrain(
    config: PretrainConfig | str,
    data: NarratedCorpus | Path | str,
    out: Path | str,
    *,
    features: FeatureReader | Path | str | None = None,
    tokenizer: Tokenizer | Path | str | None = None,
    init_from: VideoCLIP | Embedder | Path | str | None = None,
    frame_encoder: FrameEncoder | None = None,
    evaluate: Callable[[Embedder], Evaluation] | None = None,
    on_log: OnLog | None = None,
    world: World | None = None,
    show_progress: bool = True,
    extend: bool = False,
) -> RunResult:
    """Pre-train a model on narrated videos.

    Args:
        config: The run, or the name of a recipe, such as "small".
        data: A corpus; or a folder or file of narrated videos, see `narrated_corpus`.
        out: Run folder. A run that is already there continues from its last checkpoint; on a CPU
            the weights end up bit-identical to those of an uninterrupted run.
        features: Features of the videos in `data`; computed into `out` if absent.
        tokenizer: The vocabulary of the words, or its vocab.txt; it is saved with the model. By
            default that of the corpus, else that of bert-base-uncased.
        init_from: Model to start from: a model of `config.model`, trained in place; a folder, a hub
            id or "starter". By default random weights, or the starter where the model has its
            bridge.
        frame_encoder: The backbone, trained in place, for a corpus of frames. The trained model has
            it in its folder `backbone`.
        evaluate: Called on the main process before and after training, with the model in eval
            mode; its numbers go into the log and the result. By default retrieval on the held-out
            videos, where `data` is a path and videos are held out.
        on_log: Called with every log entry, on the main process.
        world: The processes; this one alone if absent.
        show_progress: Whether progress is written to stderr.
        extend: Allow more `epochs` than a finished run was started with. The learning rate then
            follows the schedule of the longer run.

    Raises:
        ConfigError: If the run was started with other settings or data.
        CheckpointError: If the run folder cannot be written, or a checkpoint cannot be read.
        DataError: If no video is left to train on.
        IndexMismatchError: If the features are not of the kind the model takes, or the teacher.
        VideoCLIPError: If the loss is no longer finite.

    Source: paper, sections 3 and 5.3.
    """
    world, out = world or World(), Path(out)
    config = named_recipe(config, RECIPES) if isinstance(config, str) else config
    if init_from is None and config.model.num_bridge_classes:
        init_from = "starter"
    if isinstance(init_from, str | Path):
        init_from = Embedder.from_pretrained(init_from)
    if isinstance(init_from, Embedder):
        tokenizer = tokenizer or init_from.tokenizer
        init_from = init_from.model
    if init_from is not None:
        # The recipe names a kind of backbone, a trained model the very one.
        known = replace(init_from.config, backbone_fingerprint=config.model.backbone_fingerprint)
        if changed := differences(to_dict(config.model), to_dict(known)):
            raise ConfigError(f"the model to start from has other settings: {'; '.join(changed)}")
    if tokenizer is None and isinstance(data, NarratedCorpus):
        tokenizer = data.tokenizer
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = Tokenizer.from_vocab(tokenizer or text_folder() / "vocab.txt")

    if isinstance(data, NarratedCorpus):
        corpus = data
    else:
        if config.train_backbone and frame_encoder is None:
            backbone = load_backbone(config.model.backbone, str(world.device))
            assert isinstance(backbone, ImageBackbone)  # the config has checked it
            frame_encoder = FrameEncoder(backbone, config.frames_at_once)
        corpus = narrated_corpus(
            data,
            config,
            tokenizer,
            features=features,
            out=out,
            frame_encoder=frame_encoder,
            world=world,
            show_progress=show_progress,
        )
        if evaluate is None and (num_held_out := config.num_held_out(len(corpus))):
            _, held_out = corpus.split(num_held_out, config.seed)
            evaluate = held_out_retrieval(config, held_out)

    if config.train_backbone != (frame_encoder is not None):
        raise ConfigError("train_backbone and frame_encoder go together: give both or neither")
    if frame_encoder is None:
        check_features(config.model, corpus.store.spec)
    else:
        frame_encoder.check(corpus.store, config.model)
    teacher = load_teacher(config, corpus.store.spec, tokenizer)
    with torch.random.fork_rng([world.device] if world.device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        model = init_from or VideoCLIP(config.model)
    if frame_encoder is None:
        model.config = with_fingerprint(model.config, corpus.store.spec)
    embedder = Embedder(model, tokenizer, world.device)  # checks that they belong together
    fingerprint = embedder.fingerprint if init_from else "random"
    if frame_encoder is not None:
        fingerprint += f" on {frame_encoder.fingerprint}"
        trained = out.resolve() / "model" / BACKBONE_FOLDER
        model.frame_encoder = frame_encoder
        model.config = replace(model.config, backbone=f"image:{trained}")
    with report_dead_workers():
        return train(
            config,
            NarratedSource(config, corpus, fingerprint, world, teacher),
            ContrastiveLoss(model, config.loss),
            out,
            tokenizer=tokenizer,
            evaluate=evaluate,
            on_log=on_log,
            world=world,
            show_progress=show_progress,
            extend=extend,
        )


def narrated_corpus(
    data: Path | str,
    config: PretrainConfig,
    tokenizer: Tokenizer,
    *,
    features: FeatureReader | Path | str | None = None,
    out: Path,
    frame_encoder: FrameEncoder | None = None,
    world: World,
    show_progress: bool = True,
) -> NarratedCorpus:
    """Return the narrated videos of a path, with features that are computed if need be.

    `data` is a folder of videos with subtitles beside them, or of released HowTo100M shards; with
    `features` also a caption file in the form of HowTo100M. The other arguments are those of
    `pretrain`: features that are not there are computed into `out`, by the main process, and
    videos that are left out are listed on stderr.

    Raises:
        ConfigError: If `data` is a caption file and there are no features.
        DataError: If no video has both features and subtitles.
    """
    data = Path(data)
    if (data / "train_meta.pkl").is_file():
        model = config.model
        spec = FeatureSpec(
            dim=model.feature_dim,
            features_per_second=model.features_per_second,
            backbone=model.backbone,
            normalized=model.normalized_features,
            fingerprint="released",
        )
        shards = ShardFolder(data, "train", spec)
        return NarratedCorpus(shards, shards, tokenizer=tokenizer)
    if data.is_file() and features is None:
        raise ConfigError(f"{data} has no videos: name the store of their features, --features")
    visible = show_progress and world.on_main
    if isinstance(features, str | Path):
        kind = FrameStore if frame_encoder else FeatureStore
        store: FeatureReader = kind.open(features)
    elif features is not None:
        store = features
    else:
        store = _compute_features(data, out, config, frame_encoder, world, visible)
    if data.is_file():
        corpus = NarratedCorpus.from_captions(store, _captions(data, store), tokenizer)
    else:
        corpus = NarratedCorpus.from_folder(data, store, tokenizer)
    for video_id, reason in list(corpus.left_out.items())[:LISTED_VIDEOS]:
        print_line(f"left out: {video_id} {reason}", visible)
    if len(corpus.left_out) > LISTED_VIDEOS:
        rest = len(corpus.left_out) - LISTED_VIDEOS
        print_line(f"left out: {rest} more; see videoclip prepare", visible)
    if not len(corpus):
        raise DataError("no video here has both features and subtitles", data)
    return corpus


def _compute_features(
    data: Path,
    out: Path,
    config: PretrainConfig,
    frame_encoder: FrameEncoder | None,
    world: World,
    visible: bool,
) -> FeatureReader:
    """Store the frames or features of all videos in a folder, on the main process."""
    folder = out / ("frames" if frame_encoder else "features")
    if world.on_main:
        if frame_encoder:
            files, unread = find_videos([data])
            videos = name_videos([file.path for file in files])
            print_line(f"frames of {len(videos)} videos go to {folder}", visible)
            frames = FrameStore.open_or_create(folder, frame_encoder.frames)
            failed = unread | store_frames(videos, frames, frame_encoder)
        else:
            backbone = load_backbone(config.model.backbone, str(world.device))
            print_line(f"features of the videos in {data} go to {folder}", visible)
            with FeatureStore.open_or_create(folder, backbone.spec) as store:
                failed = extract_features([data], store, backbone).failed
        for path, reason in failed.items():
            print_line(f"left out: {path}: {reason}", visible)
    world.barrier()
    return FrameStore.open(folder) if frame_encoder else FeatureStore.open(folder)


def _captions(path: Path, store: FeatureReader) -> dict[str, Sequence[Cue]]:
    """Return the cleaned cues of the store's videos; the file may have a million others."""
    captions: dict[str, Sequence[Cue]] = dict.fromkeys(sorted(store.video_ids), ())
    for video_id, cues in read_captions(path):
        if video_id in captions:
            captions[video_id] = clean_cues(cues)
    return captions
