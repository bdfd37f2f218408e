"""Scores of a model on public benchmarks, with intervals and trivial baselines beside them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from videoclip.benchmarks import load_benchmarks
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError, DataError, unknown
from videoclip.evaluation.alignment import evaluate_alignment
from videoclip.evaluation.localization import evaluate_steps
from videoclip.evaluation.moment_retrieval import evaluate_didemo, evaluate_moments
from videoclip.evaluation.outcome import Outcome, Result
from videoclip.evaluation.paragraphs import evaluate_paragraphs
from videoclip.evaluation.retrieval import evaluate_retrieval
from videoclip.evaluation.segmentation import evaluate_labels
from videoclip.evaluation.trial import BackboneEncoder, EmbedderEncoder, TextVideoEncoder, Trial
from videoclip.evaluation.videoqa import evaluate_multiple_choice
from videoclip.types import OnProgress

__all__ = ["FRAMES", "Result", "evaluate"]

FRAMES = "frames"
"""Name of the baseline that embeds frames with the backbone alone."""


def evaluate(
    benchmark: str,
    model: Path | str | Embedder | TextVideoEncoder,
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
            or anything with the methods of a `TextVideoEncoder`.
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
        raise ConfigError(unknown("benchmark", benchmark, benchmarks))
    if not isinstance(features, FeatureStore):
        with FeatureStore.open(features) as store:
            return evaluate(
                benchmark, model, store, annotations, config, on_progress, device=device
            )
    encoder = _encoder(model, features, device)
    encoder.check(features.spec)
    examples = benchmarks[benchmark].read(Path(annotations))
    test = examples[0] if isinstance(examples, tuple) else examples
    if not test:
        raise DataError("no example in the test split: name other annotations", annotations)
    score = PROTOCOLS[benchmarks[benchmark].protocol]
    outcome = score(examples, Trial(encoder, features, config or EvaluateConfig(), on_progress))
    return Result(benchmark, encoder.name, outcome, benchmarks[benchmark].published)


def _encoder(
    model: Path | str | Embedder | TextVideoEncoder, store: FeatureStore, device: str
) -> TextVideoEncoder:
    if isinstance(model, (Path, str)):
        if str(model) == FRAMES:
            return BackboneEncoder(store.spec.backbone, device)
        model = Embedder.from_pretrained(model, device)
    return EmbedderEncoder(model) if isinstance(model, Embedder) else model


PROTOCOLS: Mapping[str, Callable[..., Outcome]] = {
    "retrieval": evaluate_retrieval,
    "search": partial(evaluate_retrieval, join_texts=True),
    "paragraphs": evaluate_paragraphs,
    "multiple_choice": evaluate_multiple_choice,
    "moments": evaluate_moments,
    "chunks": evaluate_didemo,
    "labels": evaluate_labels,
    "steps": evaluate_steps,
    "alignment": evaluate_alignment,
}
"""The function that scores a model, by `Benchmark.protocol`.

Each takes what `Benchmark.read` returned, and a `Trial`.
"""
