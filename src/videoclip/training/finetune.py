"""Fine-tuning: a trained model on the training split of a benchmark, scored on its test split."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from videoclip.benchmarks import load_benchmarks
from videoclip.benchmarks.coin import read_coin
from videoclip.benchmarks.crosstask import read_crosstask, released_split
from videoclip.benchmarks.examples import ExampleT, LabelledVideo, RetrievalExample, StepVideo
from videoclip.benchmarks.files import find_file, read_video_ids
from videoclip.benchmarks.msrvtt import read_msrvtt_pairs
from videoclip.benchmarks.table import read_table
from videoclip.benchmarks.youcook2 import JSON_NAME, read_youcook2_json
from videoclip.config import FinetuneConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.data.narrated import split_indices
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, DataError
from videoclip.evaluation import evaluate
from videoclip.evaluation.outcome import Evaluation
from videoclip.evaluation.trial import with_features
from videoclip.features.backbones import with_fingerprint
from videoclip.recipes import FINETUNING, named_recipe
from videoclip.training.clips import ClipSource
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.logging import OnLog, print_line
from videoclip.training.per_second import (
    ClassLoss,
    LabelTextLoss,
    PerSecondSource,
    StepLoss,
    label_example,
    step_example,
)
from videoclip.training.run import RunResult, train
from videoclip.training.trainer import BatchSource, Loss

LARGEST_HELD_OUT_SHARE = 10
"""At most one training video in this many is held out."""
CAPTIONS = ("MSRVTT_data.json", "MSRVTT_data.merged_from_official.json")
VIDEO_LISTS = {
    "msrvtt": ("MSRVTT_train.9k.csv",),
    # The questions are about the official test videos, of which the 9k list has 1,990.
    "msrvtt_qa": ("MSRVTT_train.7k.csv", "MSRVTT_train.csv", "MSRVTT_train.9k.csv"),
}


def finetune(
    config: FinetuneConfig | str,
    model: Path | str | Embedder,
    features: Path | str | FeatureStore,
    annotations: Path | str,
    out: Path | str,
    *,
    training_annotations: Path | str | None = None,
    on_log: OnLog | None = None,
    world: World | None = None,
    show_progress: bool = True,
    extend: bool = False,
) -> RunResult:
    """Fine-tune a model on a benchmark and score its test split before and after.

    `config.validation_videos` videos of the training split are held out, at most a tenth; the epoch
    with the lowest loss on them is kept. The test split is evaluated before and after, and decides
    nothing. Source: released fine-tuning, which chose on the test split.

    Args:
        config: The run, or the name of a recipe, such as "youcook2".
        model: Model to start from: a folder or hub id, "starter", or an Embedder, whose model is
            trained in place.
        features: Store with the features of all videos.
        annotations: Folder with the benchmark's files, or the file of its test split.
        out: Run folder, as of `pretrain`; the same call continues an interrupted run.
        training_annotations: Folder or file of the training split, if it is another.
        on_log: Called with every log entry, on the main process.
        world: The processes; this one alone if absent.
        show_progress: Whether progress is written to stderr.
        extend: Allow more `epochs` than a finished run was started with, see `pretrain`.

    Returns:
        The outcome; `before` and `after` are the measures of the test split by name.

    Raises:
        ConfigError: If the run was started with other settings or data.
        CheckpointError: If the run folder cannot be written, or a checkpoint cannot be read.
        DataError: If an annotation file is missing or broken, or no video is left to train on.
        IndexMismatchError: If the features are not of the kind the model takes.
        VideoCLIPError: If the loss is no longer finite.
    """
    world = world or World()
    config = named_recipe(config, FINETUNING) if isinstance(config, str) else config
    if not isinstance(model, Embedder):
        model = Embedder.from_pretrained(model)
    # A new one: the given one may have computed its fingerprint, and its model is about to change.
    untrained = Embedder(model.model, model.tokenizer, world.device)
    with ExitStack() as opened:
        if not isinstance(features, FeatureStore):
            features = opened.enter_context(FeatureStore.open(features))
            features.verify() if world.on_main else features.trust()
        untrained.model.config = with_fingerprint(untrained.config, features.spec)
        test, training = Path(annotations), Path(training_annotations or annotations)
        visible = show_progress and world.on_main
        source, loss = _source_and_loss(config, untrained, features, training, test, world, visible)

        def score(embedder: Embedder) -> Evaluation:
            result = evaluate(config.benchmark, embedder, features, annotations, config.evaluate)
            return {measure.name: measure.value for measure in result.outcome.measures}

        return train(
            config,
            source,
            loss,
            out,
            tokenizer=model.tokenizer,
            untrained=untrained,
            keep_best=True,
            evaluate=score,
            on_log=on_log,
            world=world,
            show_progress=show_progress,
            extend=extend,
        )


def _source_and_loss(
    config: FinetuneConfig,
    embedder: Embedder,
    store: FeatureStore,
    training: Path,
    test: Path,
    world: World,
    visible: bool,
) -> tuple[BatchSource[Any], Loss[Any]]:
    """Return the data and the loss of a benchmark: all that benchmarks differ in."""

    def split(examples: Sequence[ExampleT]) -> tuple[list[ExampleT], list[ExampleT]]:
        num_videos = len({example.video_id for example in examples})
        held_out = num_held_out(config.validation_videos, num_videos)
        if held_out == 0 < config.validation_videos:
            print_line("one training video: none is held out, so the last epoch is kept", visible)
        elif held_out < config.validation_videos:
            print_line(
                f"{held_out} of {num_videos} training videos are held out for validation, at most "
                f"a tenth, instead of {config.validation_videos}",
                visible,
            )
        return hold_out(examples, held_out, config.seed)

    model = embedder.model
    if config.benchmark == "crosstask":
        steps = split(list(map(step_example, training_steps(training, store))))
        return PerSecondSource(config, steps, embedder, store, world), StepLoss(model)
    if config.benchmark == "coin":
        labelled, texts = training_labels(training, test, store)
        label_texts = texts if config.head == "texts" else ()
        labels = split([label_example(video, label_texts) for video in labelled])
        if label_texts:
            return PerSecondSource(config, labels, embedder, store, world), LabelTextLoss(model)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            model = model.with_classes(texts)
        headed = Embedder(model, embedder.tokenizer, world.device)
        return PerSecondSource(config, labels, headed, store, world), ClassLoss(model)
    if model.config.num_cross_layers and config.chunk_pairs:
        raise ConfigError("a re-ranker needs whole batches of pairs: set chunk_pairs to 0")
    clips = split(training_clips(config.benchmark, training, test, store))
    return ClipSource(config, clips, embedder, store, world), ContrastiveLoss(model, config.loss)


def training_clips(
    benchmark: str, training: Path, test: Path, store: FeatureStore
) -> list[RetrievalExample]:
    """Return the training pairs of a retrieval or VideoQA benchmark whose videos have features.

    Args:
        benchmark: Its name.
        training: Folder or file of the training split.
        test: Folder or file of the test split, as `evaluate` takes it.
        store: Features of all videos.

    Raises:
        DataError: If a file is missing or broken, or no training video has features.
    """
    if benchmark == "youcook2":
        examples = read_youcook2_json(find_file(training, JSON_NAME), "train")
    elif benchmark == "csv":
        examples = read_table(training)
    else:
        videos = read_video_ids(find_file(training, *VIDEO_LISTS[benchmark]))
        wanted = [video for video in videos if video in store] or videos
        examples = read_msrvtt_pairs(find_file(training, *CAPTIONS), wanted)
    tested = {example.video_id for example in load_benchmarks()[benchmark].read(test)}
    return without_test_videos(with_features(examples, store)[0], tested, training)


def training_steps(folder: Path, store: FeatureStore) -> list[StepVideo]:
    """Return the released training videos of CrossTask that have features and steps.

    A video of several tasks may be in both parts: it is then left out of this one.
    """
    benchmark = read_crosstask(folder)
    present, _ = with_features(benchmark.videos, store)
    training, test = released_split(present, benchmark.validation, set(store.video_ids))
    with_steps = [video for video in training if video.segments]
    return without_test_videos(with_steps, {video.video_id for video in test}, folder)


def training_labels(
    training: Path, test: Path, store: FeatureStore
) -> tuple[list[LabelledVideo], tuple[str, ...]]:
    """Return the training videos of COIN that have features, and the texts of all labels."""
    coin = read_coin(training, "train")
    tested = {video.video_id for video in read_coin(test).videos}
    present, _ = with_features(coin.videos, store)
    return without_test_videos(present, tested, training), coin.labels


def without_test_videos(
    examples: Sequence[ExampleT], test: Collection[str], path: Path
) -> list[ExampleT]:
    """Return the examples of videos that are not in the test split.

    Raises:
        DataError: If none is left.
    """
    kept = [example for example in examples if example.video_id not in test]
    if not kept:
        raise DataError(
            f"no video to train on that has features and is not in the test ({len(examples)} "
            "examples were left out): name the training split with --training-annotations",
            path,
        )
    return kept


def num_held_out(wanted: int, num_videos: int) -> int:
    """Return how many videos to hold out: `wanted`, at most a tenth or one, and none of one."""
    return min(wanted, max(1, num_videos // LARGEST_HELD_OUT_SHARE), num_videos - 1)


def hold_out(
    examples: Sequence[ExampleT], num_videos: int, seed: int
) -> tuple[list[ExampleT], list[ExampleT]]:
    """Return the examples to train on, and those of `num_videos` held-out videos.

    The same seed holds out the same videos; the order of examples is kept.

    Raises:
        DataError: If no video would be left to train on.
    """
    videos = sorted({example.video_id for example in examples})
    chosen = {videos[i] for i in split_indices(len(videos), num_videos, seed)[1]}
    training = [example for example in examples if example.video_id not in chosen]
    return training, [example for example in examples if example.video_id in chosen]
