"""Pre-training: from narrated videos to a model folder; the same call continues a broken run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from videoclip.benchmarks.howto100m import read_captions
from videoclip.config import ClipConfig, ModelConfig, PretrainConfig, to_dict
from videoclip.data.captions import Cue, clean_cues
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.frame_store import FrameStore
from videoclip.data.narrated import FeatureReader, NarratedCorpus, split_indices
from videoclip.data.released import ShardFolder
from videoclip.data.sources import is_plain
from videoclip.data.subtitles import find_narrations
from videoclip.data.tokenizer import Tokenizer
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, DataError
from videoclip.evaluation.held_out import (
    Choice,
    choose_weight,
    held_out_retrieval,
    interpolate,
    reciprocal_ranks,
)
from videoclip.evaluation.outcome import Evaluation
from videoclip.features.backbones import Backbone, load_backbone, with_fingerprint
from videoclip.features.extract import extract_features, find_videos, name_videos, videos_in
from videoclip.features.frame_encoder import FrameEncoder, store_frames
from videoclip.files import write_output
from videoclip.model.hub import BACKBONE_FOLDER
from videoclip.model.videoclip import VideoCLIP
from videoclip.output.run_page import RunPage
from videoclip.recipes import RECIPES, named_recipe, starter
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.logging import OnLog, print_line
from videoclip.training.narrated import (
    NarratedSource,
    fit_gates,
    load_teacher,
    report_dead_workers,
)
from videoclip.training.run import RunResult, train
from videoclip.training.run_folder import differences, read_log, refuse_changes
from videoclip.types import RealArray
from videoclip.weights.files import text_folder

LISTED_VIDEOS = 5
RETRIEVAL_CLIPS_PER_VIDEO = 4
SCORED_CLIPS_PER_VIDEO = 16
MOST_SCORED_VIDEOS = 256
"""Held-out videos that choices are made on; more would not make them better."""
RELEASED_FILE = "train_meta.pkl"


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
    page: bool = False,
) -> RunResult:
    """Pre-train a model on narrated videos.

    Args:
        config: The run, or the name of a recipe, such as "small".
        data: A corpus; or a folder of videos with subtitles beside them, or of released HowTo100M
            shards; with `features` also a caption file in the form of HowTo100M.
        out: Run folder. A run that is already there continues from its last checkpoint; on a CPU
            the weights end up bit-identical to those of an uninterrupted run.
        features: Features of the videos in `data`; if absent, they are computed into `out` by the
            main process.
        tokenizer: The vocabulary of the words, or its vocab.txt; it is saved with the model. By
            default that of the corpus, else that of bert-base-uncased.
        init_from: Model to start from: a model of `config.model`, trained in place; a folder, a hub
            id, "starter" or any dual encoder. If it has no re-ranker and `config.model` has, a
            random one is added. By default the dual encoder that `config.model` names
            (the recipe "starter"), else random weights.
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
        page: Write OUT/index.html: losses, speed, and what the model finds before and after.

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
    config, start, tokenizer = _start(config, init_from, tokenizer, data)

    # Everything that can be refused is refused before features are computed.
    videos: list[str] = []
    if isinstance(data, NarratedCorpus):
        store: FeatureReader | None = data.store
    else:
        data = Path(data)
        store = _open_store(data, features, config)
        videos = _narrated_videos(data, config) if store is None else []
        if config.train_backbone and frame_encoder is None:
            backbone = load_backbone(config.model.backbone, str(world.device))
            frame_encoder = FrameEncoder(backbone, config.frames_at_once)
    if config.train_backbone != (frame_encoder is not None):
        raise ConfigError("train_backbone and frame_encoder go together: give both or neither")
    if frame_encoder is not None:
        frame_encoder.check(store, config.model)
        backbone = frame_encoder.backbone
    elif store is None:
        backbone = load_backbone(config.model.backbone, str(world.device))
    spec = backbone.spec if store is None else store.spec
    teacher = load_teacher(config, spec, tokenizer)
    with torch.random.fork_rng([world.device] if world.device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        model = start or VideoCLIP(config.model)
    if frame_encoder is None:
        model.config = with_fingerprint(model.config, spec)
    embedder = Embedder(model, tokenizer, world.device)  # checks that they belong together
    if world.on_main:
        refuse_changes(out, to_dict(config), extend=extend)

    visible = show_progress and world.on_main
    if isinstance(data, NarratedCorpus):
        corpus = data
    else:
        if store is None:
            store = _compute_features(data, out, frame_encoder or backbone, world, visible)
        elif isinstance(store, FeatureStore | FrameStore):
            store.verify() if world.on_main else store.trust()
        corpus = _join(data, store, tokenizer, videos, visible)

    fingerprint = embedder.fingerprint if start else "random"
    if frame_encoder is not None:
        fingerprint += f" on {frame_encoder.fingerprint}"
    source = NarratedSource(config, corpus, fingerprint, world, teacher)
    if evaluate is None and not isinstance(data, NarratedCorpus):
        evaluate = _default_evaluation(source, visible)
    if model.dual_encoder is not None:
        fit_gates(model, source)
    if frame_encoder is not None:
        trained = out.resolve() / "model" / BACKBONE_FOLDER
        model.frame_encoder = frame_encoder
        model.config = replace(model.config, backbone=f"image:{trained}")
    run_page = _run_page(source, tokenizer, data, model) if page and world.on_main else None
    with report_dead_workers():
        result = train(
            config,
            source,
            ContrastiveLoss(model, config.loss),
            out,
            tokenizer=tokenizer,
            choose=_choice(source, model),
            evaluate=evaluate,
            on_log=on_log,
            world=world,
            show_progress=show_progress,
            extend=extend,
        )
    if run_page is not None:
        content = run_page.render(out.name, str(result), result.measures(), read_log(out))
        write_output(out / "index.html", content)
    return result


def _start(
    config: PretrainConfig,
    init_from: VideoCLIP | Embedder | Path | str | None,
    tokenizer: Tokenizer | Path | str | None,
    data: object,
) -> tuple[PretrainConfig, VideoCLIP | None, Tokenizer]:
    """Return the settings of the run, the model to start from if any, and the vocabulary."""
    start = init_from or config.model.dual_encoder or None
    if isinstance(start, str | Path):
        start = Embedder.from_pretrained(start)
    if isinstance(start, Embedder):
        tokenizer = tokenizer or start.tokenizer
        start = start.model
    if start is not None:
        config = _on_top_of(config, start.config)
        if config.model.num_cross_layers and not start.config.num_cross_layers:
            with torch.random.fork_rng([]):
                torch.manual_seed(config.seed)
                start = start.with_reranker(config.model.num_cross_layers)
        # The recipe names a kind of backbone, a trained model the very one.
        known = replace(
            start.config,
            backbone_fingerprint=config.model.backbone_fingerprint,
            dual_encoder_fingerprint=config.model.dual_encoder_fingerprint,
        )
        if changed := differences(to_dict(config.model), to_dict(known)):
            raise ConfigError(f"the model to start from has other settings: {'; '.join(changed)}")
    if tokenizer is None and isinstance(data, NarratedCorpus):
        tokenizer = data.tokenizer
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = Tokenizer.from_vocab(tokenizer or text_folder() / "vocab.txt")
    return config, start, tokenizer


def _default_evaluation(
    source: NarratedSource, visible: bool
) -> Callable[[Embedder], Evaluation] | None:
    """Return retrieval on the held-out videos; if there are none, print why and return None."""
    if len(source.held_out):
        return partial(_retrieval, source)
    if share := source.config.validation_share:
        print_line(
            f"no retrieval before and after training: {share:g} of {len(source.training)} narrated "
            "videos is less than one to hold out; give more videos",
            visible,
        )
    return None


def _choice(source: NarratedSource, model: VideoCLIP) -> Callable[[VideoCLIP], Choice] | None:
    """Return how the held-out videos decide what is used of a trained model; None: all of it."""
    num_videos = min(len(source.held_out), MOST_SCORED_VIDEOS)
    if model.dual_encoder is not None:
        scores = partial(_scores, source, source.config.clips, num_videos)
        return partial(interpolate, num_videos=num_videos, scores=scores)
    if model.config.num_cross_layers:
        # Like queries, which describe what a clip shows and not what is near it.
        aligned = replace(source.config.clips, strategy="aligned")
        scores = partial(_scores, source, aligned, num_videos)
        return partial(choose_weight, num_videos=num_videos, scores=scores)
    return None


def _retrieval(source: NarratedSource, embedder: Embedder) -> Evaluation:
    """Return retrieval measures of a few aligned clips of each held-out video."""
    num_videos, config = len(source.held_out), source.config
    clips = replace(config.clips, strategy="aligned", clips_per_video=RETRIEVAL_CLIPS_PER_VIDEO)
    batches = source.held_out_clips(clips, num_videos)
    return held_out_retrieval(embedder.model, batches, num_videos, config.seed)


def _scores(
    source: NarratedSource, clips: ClipConfig, num_videos: int, model: VideoCLIP
) -> RealArray:
    """Return (V, N) reciprocal ranks of N texts of each of the first held-out videos."""
    clips = replace(clips, clips_per_video=SCORED_CLIPS_PER_VIDEO)
    return reciprocal_ranks(model, source.held_out_clips(clips, num_videos), num_videos)


def _run_page(
    source: NarratedSource, tokenizer: Tokenizer, data: object, model: VideoCLIP
) -> RunPage:
    """Return the page of a run, with thumbnails where `data` is a folder of videos."""
    paths: dict[str, Path] = {}
    if isinstance(data, Path) and (data.is_dir() or not is_plain(data)):
        files, _ = find_videos([data], archives=True)
        paths = {name: path for path, name in name_videos([file.path for file in files]).items()}
    is_held_out = len(source.held_out) > 1
    corpus = source.held_out if is_held_out else source.training
    return RunPage(model, corpus, source.config, tokenizer, paths, is_held_out=is_held_out)


def _on_top_of(config: PretrainConfig, start: ModelConfig) -> PretrainConfig:
    """Return a recipe for learning on top of the starter with another dual encoder in its place.

    Raises:
        ConfigError: If settings of the model were changed, which are those of the dual encoder.
    """
    named, usual = config.model, starter().model
    if start.dual_encoder == named.dual_encoder or "" in (start.dual_encoder, named.dual_encoder):
        return config
    if changed := differences(to_dict(usual), to_dict(named)):
        raise ConfigError(
            f"the settings of the model come from the model to start from: leave out what changes "
            f"them ({'; '.join(changed)})"
        )
    return replace(config, model=start)


def _open_store(
    data: Path, features: FeatureReader | Path | str | None, config: PretrainConfig
) -> FeatureReader | None:
    """Return where the features of narrated videos are, or None if they must be computed."""
    model = config.model
    if (data / RELEASED_FILE).is_file():
        spec = FeatureSpec(
            dim=model.feature_dim,
            features_per_second=model.features_per_second,
            backbone=model.backbone,
            normalized=model.normalized_features,
            fingerprint="released",
        )
        return ShardFolder(data, "train", spec)
    if data.is_file() and is_plain(data) and features is None:
        raise ConfigError(f"{data} has no videos: name the store of their features, --features")
    if isinstance(features, str | Path):
        return (FrameStore if config.train_backbone else FeatureStore).open(features)
    return features


def _narrated_videos(folder: Path, config: PretrainConfig) -> list[str]:
    """Return the ids of the videos in a folder, some of which have subtitles.

    Raises:
        DataError: If there is no such folder, or too few videos have subtitles.
    """
    names = list(name_videos(videos_in(folder, archives=True)).values())
    num_narrated = sum(path is not None for path in find_narrations(folder, names).values())
    if not num_narrated:
        raise DataError(f"none of the {len(names)} videos has subtitles beside it", folder)
    # Refuse to hold out all of them; that features may be missing for some is known only later.
    split_indices(num_narrated, config.num_held_out(num_narrated), config.seed)
    return names


def _compute_features(
    data: Path, out: Path, encoder: FrameEncoder | Backbone, world: World, visible: bool
) -> FeatureReader:
    """Store the features of all videos in a folder, or their frames, on the main process."""
    store: type[FrameStore | FeatureStore]
    store = FrameStore if isinstance(encoder, FrameEncoder) else FeatureStore
    folder = out / ("frames" if store is FrameStore else "features")
    if world.on_main:
        files, unread = find_videos([data], archives=True)
        print_line(f"{folder.name} of {len(files)} videos go to {folder}", visible)
        if isinstance(encoder, FrameEncoder):
            videos = name_videos([file.path for file in files])
            frames = FrameStore.open_or_create(folder, encoder.frames)
            failed = unread | store_frames(videos, frames, encoder)
        else:
            with FeatureStore.open_or_create(folder, encoder.spec) as written:
                failed = extract_features([data], written, encoder).failed
        for path, reason in failed.items():
            print_line(f"left out: {path}: {reason}", visible)
    world.barrier()
    return store.open(folder)


def _join(
    data: Path, store: FeatureReader, tokenizer: Tokenizer, videos: Sequence[str], visible: bool
) -> NarratedCorpus:
    """Join features with their narration; list the videos that are left out on stderr.

    Args:
        data: Folder of videos with subtitles, caption file, or folder of released shards.
        store: The features.
        tokenizer: The vocabulary.
        videos: The videos to take, if not all that the store has.
        visible: Whether anything is printed.

    Raises:
        DataError: If no video has both features and subtitles.
    """
    if isinstance(store, ShardFolder):
        corpus = NarratedCorpus(store, store, tokenizer=tokenizer)
    elif data.is_file() and is_plain(data):
        corpus = NarratedCorpus.from_captions(store, _captions(data, store), tokenizer)
    else:
        known = set(store.video_ids)
        chosen = [video for video in videos if video in known] if videos else None
        corpus = NarratedCorpus.from_folder(data, store, tokenizer, chosen)
    for video_id, reason in list(corpus.left_out.items())[:LISTED_VIDEOS]:
        print_line(f"left out: {video_id} {reason}", visible)
    if len(corpus.left_out) > LISTED_VIDEOS:
        rest = len(corpus.left_out) - LISTED_VIDEOS
        print_line(f"left out: {rest} more; see videoclip prepare", visible)
    if not len(corpus):
        raise DataError("no video here has both features and subtitles", data)
    return corpus


def _captions(path: Path, store: FeatureReader) -> dict[str, Sequence[Cue]]:
    """Return the cleaned cues of the store's videos; the file may have a million others."""
    captions: dict[str, Sequence[Cue]] = dict.fromkeys(sorted(store.video_ids), ())
    for video_id, cues in read_captions(path):
        if video_id in captions:
            captions[video_id] = clean_cues(cues)
    return captions
