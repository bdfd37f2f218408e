"""Fine-tuning: a trained model, taught the training part of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from videoclip.config import FinetuneConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.distributed import World
from videoclip.embedding import Embedder, with_features
from videoclip.evaluation import evaluate
from videoclip.training.clip_lessons import ClipLessons
from videoclip.training.per_second_lessons import PerSecondLessons, answer_labels, answer_steps
from videoclip.training.per_second_objective import ClassLoss, LabelTextLoss, StepLoss
from videoclip.training.train import Evaluation, Lessons, RunResult, train
from videoclip.training.training_part import (
    Places,
    hold_out,
    training_clips,
    training_labels,
    training_steps,
)

__all__ = ["finetune"]


def finetune(
    config: FinetuneConfig,
    model: Path | str | Embedder,
    features: Path | str | FeatureStore,
    annotations: Path | str,
    folder: Path | str,
    *,
    training_annotations: Path | str | None = None,
    watch: Callable[[Mapping[str, Any]], None] | None = None,
    world: World | None = None,
    shown: bool = True,
) -> RunResult:
    """Fine-tune a model on a benchmark and score its test before and after.

    The videos of `config.validation_videos` are held out of the training part; of all epochs the
    one with the lowest loss on them is kept. The test is looked at before and after, and decides
    nothing. Source: released fine-tuning, which chose on the test set.

    Args:
        config: The run.
        model: To start from: a model folder or hub id, "starter", or an Embedder, whose model is
            trained in place.
        features: Store with the features of all videos.
        annotations: Folder with the benchmark's files, or the file of its test.
        folder: Run folder, as of `pretrain`; the same call continues a broken run.
        training_annotations: Folder or file of the training part, where it is another.
        watch: Told every entry of the log, on the main process.
        world: The processes; this one alone if absent.
        shown: Whether progress is written to stderr.

    Returns:
        What has become of it; `before` and `after` are the test's measures by name.

    Raises:
        ConfigError: If the run was started with other settings or data.
        CheckpointError: If the run folder cannot be written, or a checkpoint cannot be read.
        DataError: If an annotation file is missing or broken, or no video is left to train on.
        IndexMismatchError: If the features are not of the kind the model takes.
        VideoCLIPError: If the loss stops being finite.
    """
    world = world or World()
    if not isinstance(features, FeatureStore):
        with FeatureStore.open(features) as store:
            return finetune(
                config,
                model,
                store,
                annotations,
                folder,
                training_annotations=training_annotations,
                watch=watch,
                world=world,
                shown=shown,
            )
    if not isinstance(model, Embedder):
        model = Embedder.from_pretrained(model)
    # An embedder of our own: the given one may already have said what its fingerprint is.
    start = Embedder(model.model, model.tokenizer, world.device)
    start.model.config = with_features(start.config, features.spec)
    places = Places(Path(annotations), Path(training_annotations or annotations))
    trained, lessons = _lessons(config, start, features, places, world)

    def score(embedder: Embedder) -> Evaluation:
        result = evaluate(config.benchmark, embedder, features, annotations, config.evaluate)
        return {measure.name: measure.value for measure in result.outcome.measures}

    return train(
        config,
        lessons,
        folder,
        model=trained.model,
        tokenizer=trained.tokenizer,
        start=start,
        keep_best=True,
        evaluate=score,
        watch=watch,
        world=world,
        shown=shown,
    )


def _lessons(
    config: FinetuneConfig, start: Embedder, store: FeatureStore, places: Places, world: World
) -> tuple[Embedder, Lessons[Any]]:
    """What is to be trained, and on what: the one place where the benchmarks differ."""
    num_held_out, seed = config.validation_videos, config.seed
    if config.benchmark == "crosstask":
        videos = list(map(answer_steps, training_steps(places, store)))
        parts = hold_out(videos, num_held_out, seed)
        return start, PerSecondLessons(config, StepLoss, parts, start, store, world)
    if config.benchmark == "coin":
        labelled, texts = training_labels(places, store)
        told = texts if config.head == "texts" else ()
        parts = hold_out([answer_labels(video, told) for video in labelled], num_held_out, seed)
        if told:
            return start, PerSecondLessons(config, LabelTextLoss, parts, start, store, world)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            headed = start.model.with_classes(texts)
        trained = Embedder(headed, start.tokenizer, world.device)
        return trained, PerSecondLessons(config, ClassLoss, parts, trained, store, world)
    clips = hold_out(training_clips(config.benchmark, places, store), num_held_out, seed)
    return start, ClipLessons(config, clips, start, store, world)
