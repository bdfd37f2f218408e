"""The functions that score a model, one for each kind of benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from videoclip.benchmarks.crosstask import CrossTask
from videoclip.benchmarks.examples import LabelledSplit, MomentExample
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.evaluation.clips import Progress
from videoclip.evaluation.labellers import head_labeller, zero_shot_labeller
from videoclip.evaluation.localization import evaluate_steps, step_assigner
from videoclip.evaluation.moment_retrieval import evaluate_didemo, evaluate_moments
from videoclip.evaluation.outcome import Outcome
from videoclip.evaluation.providers import Provider
from videoclip.evaluation.retrieval import evaluate_retrieval
from videoclip.evaluation.segmentation import evaluate_labels
from videoclip.evaluation.videoqa import evaluate_multiple_choice

__all__ = ["PROTOCOLS"]


def _chunks(
    examples: tuple[list[MomentExample], list[MomentExample] | None],
    provider: Provider,
    store: FeatureStore,
    config: EvaluateConfig,
    progress: Progress | None,
) -> Outcome:
    return evaluate_didemo(*examples, provider, store, config, progress)


def _labels(
    examples: tuple[LabelledSplit, LabelledSplit],
    provider: Provider,
    store: FeatureStore,
    config: EvaluateConfig,
    progress: Progress | None,
) -> Outcome:
    test, training = examples
    if provider.classes:
        labeller = head_labeller(test.labels, provider, store, config)
    else:
        labeller = zero_shot_labeller(test.labels, training.videos, provider, store, config)
    return evaluate_labels(test, labeller, store, config, progress)


def _steps(
    examples: CrossTask,
    provider: Provider,
    store: FeatureStore,
    config: EvaluateConfig,
    progress: Progress | None,
) -> Outcome:
    assign = step_assigner(provider, store, config)
    return evaluate_steps(examples, assign, store, config, progress)


PROTOCOLS: Mapping[str, Callable[..., Outcome]] = {
    "retrieval": evaluate_retrieval,
    "multiple_choice": evaluate_multiple_choice,
    "moments": evaluate_moments,
    "chunks": _chunks,
    "labels": _labels,
    "steps": _steps,
}
"""The function that scores a model, by `Benchmark.protocol`.

Each takes what `Benchmark.read` returned, a provider, a feature store, an `EvaluateConfig` and a
progress callback.
"""
