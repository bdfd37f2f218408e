"""The functions that score a model, one for each kind of benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from videoclip.benchmarks.crosstask import CrossTask
from videoclip.benchmarks.examples import LabelledSplit, MomentExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.evaluation.encoders import DualEncoder
from videoclip.evaluation.localization import evaluate_steps, step_localizer
from videoclip.evaluation.moment_retrieval import evaluate_didemo, evaluate_moments
from videoclip.evaluation.outcome import Outcome
from videoclip.evaluation.retrieval import evaluate_retrieval
from videoclip.evaluation.segmentation import evaluate_labels
from videoclip.evaluation.segmenters import head_segmenter, zero_shot_segmenter
from videoclip.evaluation.videoqa import evaluate_multiple_choice
from videoclip.types import OnProgress

__all__ = ["PROTOCOLS"]


def _chunks(
    examples: tuple[list[MomentExample], list[MomentExample] | None],
    encoder: DualEncoder,
    store: FeatureStore,
    config: EvaluateConfig,
    on_progress: OnProgress | None,
) -> Outcome:
    return evaluate_didemo(*examples, encoder, store, config, on_progress)


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
    "chunks": _chunks,
    "labels": _labels,
    "steps": _steps,
}
"""The function that scores a model, by `Benchmark.protocol`.

Each takes what `Benchmark.read` returned, a encoder, a feature store, an `EvaluateConfig` and a
progress callback.
"""
