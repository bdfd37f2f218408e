"""Scores of a model on public benchmarks, with intervals and trivial baselines beside them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from videoclip.benchmarks import load_benchmarks
from videoclip.benchmarks.crosstask import CrossTask
from videoclip.benchmarks.examples import LabelledSplit
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.evaluation.encoders import DualEncoder, EmbedderEncoder, FrameEncoder
from videoclip.evaluation.localization import evaluate_steps, step_localizer
from videoclip.evaluation.moment_retrieval import evaluate_didemo, evaluate_moments
from videoclip.evaluation.outcome import Outcome
from videoclip.evaluation.published import PUBLISHED
from videoclip.evaluation.result import Result
from videoclip.evaluation.retrieval import evaluate_retrieval
from videoclip.evaluation.segmentation import (
    evaluate_labels,
    head_segmenter,
    zero_shot_segmenter,
)
from videoclip.evaluation.videoqa import evaluate_multiple_choice
from videoclip.types import OnProgress

__all__ = ["FRAMES", "Result", "evaluate"]

FRAMES = "frames"
"""Name of the baseline that embeds frames with the backbone alone."""


def evaluate(
    benchmark: str,
    model: Path | str | Embedder | DualEncoder,
    features: Path | str | FeatureStore,
    annotations: Path | str,
    config: EvaluateConfig | None = None,
    on_progress: OnProgress | None = None,
    *,
    device: str = "auto",
) -> Result:
    """Score a model on a benchmark.

    Args:
        benchmark: A name in `load_benchmarks()`; "csv" for a table of your own.
        model: A model folder or hub id, "starter", "frames" (the backbone alone), an `Embedder`,
            or anything with the methods of a `DualEncoder`.
        features: Store with the features of the benchmark's videos.
        annotations: Folder with the benchmark's own files, or the file.
        config: How to score.
        on_progress: Called with the number of videos done and in all.
        device: Torch device for a model that is given by name.

    Raises:
        ConfigError: If there is no such benchmark.
        DataError: If an annotation file is missing or damaged, or no video has features.
        IndexMismatchError: If the features are not of the kind the model takes.
    """
    benchmarks = load_benchmarks()
    if benchmark not in benchmarks:
        near = difflib.get_close_matches(benchmark, benchmarks, n=1)
        hint = f"perhaps you meant '{near[0]}'; " if near else ""
        raise ConfigError(f"unknown benchmark '{benchmark}'; {hint}known: {', '.join(benchmarks)}")
    if not isinstance(features, FeatureStore):
        with FeatureStore.open(features) as store:
            return evaluate(
                benchmark, model, store, annotations, config, on_progress, device=device
            )
    encoder = _encoder(model, features, device)
    encoder.check(features.spec)
    examples = benchmarks[benchmark].read(Path(annotations))
    score = PROTOCOLS[benchmarks[benchmark].protocol]
    outcome = score(examples, encoder, features, config or EvaluateConfig(), on_progress)
    return Result(benchmark, encoder.name, outcome, PUBLISHED.get(benchmark, ()))


def _encoder(
    model: Path | str | Embedder | DualEncoder, store: FeatureStore, device: str
) -> DualEncoder:
    if isinstance(model, (Path, str)):
        if str(model) == FRAMES:
            return FrameEncoder(store.spec.backbone, device)
        model = Embedder.from_pretrained(model, device)
    return EmbedderEncoder(model) if isinstance(model, Embedder) else model


def _labels(
    examples: tuple[LabelledSplit, LabelledSplit],
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None,
) -> Outcome:
    test, training = examples
    if encoder.classes:
        segmenter = head_segmenter(test.labels, encoder, store, config)
    else:
        segmenter = zero_shot_segmenter(test.labels, training.videos, encoder, store, config)
    return evaluate_labels(test, segmenter, store, config, on_progress)


def _steps(
    examples: CrossTask,
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None,
) -> Outcome:
    locate = step_localizer(encoder, store, config)
    return evaluate_steps(examples, locate, store, config, on_progress)


PROTOCOLS: Mapping[str, Callable[..., Outcome]] = {
    "retrieval": evaluate_retrieval,
    "multiple_choice": evaluate_multiple_choice,
    "moments": evaluate_moments,
    "chunks": evaluate_didemo,
    "labels": _labels,
    "steps": _steps,
}
"""The function that scores a model, by `Benchmark.protocol`.

Each takes what `Benchmark.read` returned, an encoder, a feature store, an `EvaluateConfig` and a
progress callback.
"""
