"""The benchmarks: for each, what it reads and how it is scored. Adding one is adding a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from videoclip.benchmarks.activitynet import read_activitynet_paragraphs
from videoclip.benchmarks.charades import read_charades
from videoclip.benchmarks.coin import read_coin
from videoclip.benchmarks.crosstask import read_crosstask
from videoclip.benchmarks.didemo import read_didemo_moments, read_didemo_paragraphs
from videoclip.benchmarks.examples import (
    MomentExample,
    MultipleChoiceExample,
    RetrievalExample,
)
from videoclip.benchmarks.msrvtt import read_msrvtt_1k
from videoclip.benchmarks.msrvtt_qa import read_msrvtt_qa
from videoclip.benchmarks.nextqa import read_nextqa
from videoclip.benchmarks.qvhighlights import read_qvhighlights
from videoclip.benchmarks.table import read_table
from videoclip.benchmarks.youcook2 import read_youcook2
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

__all__ = ["BENCHMARKS", "Benchmark"]

Run = Callable[[Path, Provider, FeatureStore, EvaluateConfig, Progress | None], Outcome]


@dataclass(frozen=True)
class Benchmark:
    """A test with a name.

    Attributes:
        summary: What it asks, in a line.
        files: What its folder must hold.
        run: Reads the annotations and scores a model.
    """

    summary: str
    files: str
    run: Run


def _retrieval(read: Callable[[Path], list[RetrievalExample]]) -> Run:
    return lambda path, *rest: evaluate_retrieval(read(path), *rest)


def _choice(read: Callable[[Path], list[MultipleChoiceExample]]) -> Run:
    return lambda path, *rest: evaluate_multiple_choice(read(path), *rest)


def _moments(read: Callable[[Path], list[MomentExample]]) -> Run:
    return lambda path, *rest: evaluate_moments(read(path), *rest)


def _didemo(
    path: Path,
    provider: Provider,
    store: FeatureStore,
    config: EvaluateConfig,
    progress: Progress | None,
) -> Outcome:
    other = path / "val_data.json"
    prior = read_didemo_moments(other) if other.is_file() else None
    return evaluate_didemo(read_didemo_moments(path), prior, provider, store, config, progress)


def _coin(
    path: Path,
    provider: Provider,
    store: FeatureStore,
    config: EvaluateConfig,
    progress: Progress | None,
) -> Outcome:
    test, training = read_coin(path), read_coin(path, "train").videos
    if provider.classes:
        labeller = head_labeller(test.labels, provider, store, config)
    else:
        labeller = zero_shot_labeller(test.labels, training, provider, store, config)
    return evaluate_labels(test, labeller, store, config, progress)


def _crosstask(
    path: Path,
    provider: Provider,
    store: FeatureStore,
    config: EvaluateConfig,
    progress: Progress | None,
) -> Outcome:
    assign = step_assigner(provider, store, config)
    return evaluate_steps(read_crosstask(path), assign, store, config, progress)


BENCHMARKS: dict[str, Benchmark] = {
    "youcook2": Benchmark(
        "text-to-clip retrieval in recipes",
        "youcook_val.pkl with youcookii_annotations_trainval.json, or validation_youcook.csv",
        _retrieval(read_youcook2),
    ),
    "msrvtt": Benchmark(
        "text-to-video retrieval, the 1k-A test",
        "MSRVTT_JSFUSION_test.csv",
        _retrieval(read_msrvtt_1k),
    ),
    "msrvtt_qa": Benchmark(
        "multiple choice among captions", "MSR_MC_test.csv", _choice(read_msrvtt_qa)
    ),
    "didemo": Benchmark(
        "the moment of a sentence among 21",
        "test_data.json, and val_data.json for the prior",
        _didemo,
    ),
    "didemo_paragraph": Benchmark(
        "paragraph-to-video retrieval", "test_data.json", _retrieval(read_didemo_paragraphs)
    ),
    "coin": Benchmark("a label for every second", "COIN.json, taxonomy.xlsx", _coin),
    "crosstask": Benchmark("where the steps of a task happen", "crosstask_release/", _crosstask),
    "activitynet": Benchmark(
        "paragraph-to-video retrieval", "val_1.json", _retrieval(read_activitynet_paragraphs)
    ),
    "qvhighlights": Benchmark(
        "all moments of a query", "highlight_val_release.jsonl", _moments(read_qvhighlights)
    ),
    "charades": Benchmark(
        "the moment of a sentence", "charades_sta_test.txt", _moments(read_charades)
    ),
    "nextqa": Benchmark("multiple choice on why and how", "val.csv", _choice(read_nextqa)),
    "csv": Benchmark(
        "text-to-clip retrieval in videos of one's own",
        "a .csv or .jsonl file with video,start,end,text",
        _retrieval(read_table),
    ),
}
"""By the name one types."""
