"""`videoclip evaluate`: score a model on a benchmark."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from videoclip.benchmarks import load_benchmarks
from videoclip.cli import options
from videoclip.config import EvaluateConfig
from videoclip.config.codec import require
from videoclip.errors import unknown

BENCHMARK_HELP = (
    f"One of {', '.join(load_benchmarks())}; csv: your own .csv or .jsonl file with the columns "
    "video, start, end, text."
)


@dataclass(frozen=True)
class Evaluate:
    """Score a model on a benchmark.

    Prints a table with chance, trivial baselines and published numbers beside the scores. The model
    "frames" is the backbone of the features alone, where it can embed text.
    """

    benchmark: Annotated[str, Positional, arg(metavar="BENCHMARK", help=BENCHMARK_HELP)]
    features: options.Features
    annotations: options.Annotations
    model: options.Model = None
    config: Annotated[EvaluateConfig, arg(name="")] = field(default_factory=EvaluateConfig)
    per_video: Annotated[Path | None, arg(metavar="FILE")] = None
    """CSV file to write, with one row for each example or video."""
    html: options.Html = None
    device: options.Device = options.AUTO
    json: options.Json = False

    def __post_init__(self) -> None:
        known = load_benchmarks()
        require(self.benchmark in known, unknown("benchmark", self.benchmark, known))

    def run(self) -> int:
        """Evaluate, print the table and write the files that were asked for."""
        from videoclip.evaluation import evaluate
        from videoclip.evaluation.report import render_report
        from videoclip.files import write_output
        from videoclip.output.formats import to_table

        result = evaluate(
            self.benchmark,
            options.model_of_features(self.model, self.features),
            self.features,
            self.annotations,
            self.config,
            options.progress_line("examples"),
            device=self.device,
        )
        print(json.dumps(result.to_dict(), indent=1) if self.json else result)
        if self.per_video is not None:
            write_output(self.per_video, to_table(result.outcome.rows))
        if self.html is not None:
            write_output(self.html, render_report(result))
        return 0
