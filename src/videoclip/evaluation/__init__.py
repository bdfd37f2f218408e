"""Numbers on benchmarks: neutral examples, embedded once, scored by pure metrics."""

from __future__ import annotations

import difflib
from pathlib import Path

from videoclip.benchmarks import load_benchmarks
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.embedding import Embedder
from videoclip.errors import ConfigError
from videoclip.evaluation.encoders import DualEncoder, EmbedderEncoder, FrameEncoder
from videoclip.evaluation.published import PUBLISHED
from videoclip.evaluation.registry import PROTOCOLS
from videoclip.evaluation.result import Result
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
        model: A model folder or hub id, "starter", "frames" (the backbone alone), an Embedder, or
            anything that offers what a `DualEncoder` does.
        features: Store with the features of the benchmark's videos.
        annotations: Folder with the benchmark's own files, or the file.
        config: How to score.
        on_progress: Called with the number of videos done and in all.
        device: Torch device for a model that is given by name.

    Raises:
        ConfigError: If there is no such benchmark.
        DataError: If an annotation file is missing or broken, or no video has features.
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
