"""`videoclip evaluate`: numbers on a benchmark, with trivial baselines beside them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from videoclip.benchmarks import load_benchmarks
from videoclip.config import EvaluateConfig

__all__ = ["Evaluate"]

BENCHMARK_HELP = "; ".join(
    [
        f"One of {', '.join(load_benchmarks())}",
        '"csv" is a .csv or .jsonl file of your own with video,start,end,text.',
    ]
)


@dataclass(frozen=True)
class Evaluate:
    """Score a model on a benchmark: a table with chance, trivial answers and published numbers."""

    benchmark: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help=BENCHMARK_HELP)]
    features: Path
    """Feature store with the benchmark's videos, made by `videoclip extract`."""
    annotations: Path
    """Folder with the benchmark's own annotation files, or the file."""
    model: str = "starter"
    """Model folder or hub id; "starter"; or "frames", the backbone alone, where it has a text
    side."""
    config: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(
        default_factory=EvaluateConfig
    )
    json: bool = False
    """Print the numbers as JSON, with every video that was left out."""
    per_video: Path | None = None
    """CSV file to write what is known of each example or video to."""
    report: Path | None = None
    """HTML page to write, with the plots."""

    def run(self) -> int:
        """Evaluate, print, and write what was asked for."""
        from videoclip.evaluation import evaluate
        from videoclip.evaluation.report import write_report, write_rows

        live = sys.stderr.isatty()

        def progress(done: int, total: int) -> None:
            if live:
                end = "\n" if done == total else ""
                print(f"\r{done:,} of {total:,}", end=end, file=sys.stderr, flush=True)

        result = evaluate(
            self.benchmark, self.model, self.features, self.annotations, self.config, progress
        )
        print(json.dumps(result.to_dict(), indent=1) if self.json else result)
        if self.per_video is not None:
            write_rows(result.outcome, self.per_video)
        if self.report is not None:
            write_report(result, self.report)
        return 0
