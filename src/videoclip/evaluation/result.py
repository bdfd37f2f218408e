"""Result of a benchmark as a table and as JSON, with baselines and published numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from videoclip.benchmarks.examples import Baseline
from videoclip.evaluation.outcome import Measure, Outcome

LISTED_VIDEOS = 5


@dataclass(frozen=True)
class Result:
    """One evaluation; `str()` is its table.

    Attributes:
        benchmark: Its name in `load_benchmarks()`.
        model: Name of the model.
        outcome: Measures, baselines and plots.
        published: Numbers of the paper.
    """

    benchmark: str
    model: str
    outcome: Outcome
    published: tuple[Baseline, ...] = ()

    def __getitem__(self, name: str) -> float:
        """Return the model's value of a measure by its name."""
        return {m.name: m.value for m in self.outcome.measures}[name]

    def to_dict(self) -> dict[str, Any]:
        """Return everything except rows and plots as plain values for JSON."""
        outcome = self.outcome
        return {
            "benchmark": self.benchmark,
            "model": self.model,
            "protocol": outcome.protocol,
            "settings": dict(outcome.settings),
            "measures": {
                m.name: {"value": m.value, "interval": [m.low, m.high]} for m in outcome.measures
            },
            "baselines": {c.name: dict(c.values) for c in outcome.baselines},
            "published": {c.name: {**c.values, "source": c.note} for c in self.published},
            "num_examples": outcome.num_examples,
            "num_videos": outcome.num_videos,
            "missing": [{"video_id": m.video_id, "reason": m.reason} for m in outcome.missing],
        }

    def table(self) -> list[list[str]]:
        """Return a header, and a row per measure: value, interval, baselines, published values."""
        others = (*self.outcome.baselines, *self.published)
        return [
            ["", "this model", "95 % interval", *(c.name for c in others)],
            *(
                [
                    m.name,
                    _shown(m, m.value),
                    f"{_shown(m, m.low)} .. {_shown(m, m.high)}",
                    *(_shown(m, c.values.get(m.name)) for c in others),
                ]
                for m in self.outcome.measures
            ),
        ]

    def summary(self) -> str:
        """Return one line: model, settings, number of examples, and the videos left out."""
        outcome = self.outcome
        settings = ", ".join(f"{name}: {_plain(value)}" for name, value in outcome.settings.items())
        left = list(dict.fromkeys(m.video_id for m in outcome.missing))
        left_out = "none left out"
        if left:
            more = "; --json lists all" if len(left) > LISTED_VIDEOS else ""
            left_out = f"{len(left):,} left out ({', '.join(left[:LISTED_VIDEOS])}{more})"
        return (
            f"{self.model}; {settings}; {outcome.num_examples:,} examples in "
            f"{outcome.num_videos:,} videos, {left_out}"
        )

    def notes(self) -> list[str]:
        """Return the sources of the baselines and published numbers."""
        others = (*self.outcome.baselines, *self.published)
        return [f"{c.name}: {c.note}" for c in others if c.note]

    def __str__(self) -> str:
        """Return the table with its summary and notes."""
        head = f"{self.benchmark}: {self.outcome.protocol}"
        table = align_columns(self.table())
        return "\n".join([head, self.summary(), "", table, "", *self.notes()]).rstrip()


def align_columns(table: Sequence[Sequence[str]]) -> str:
    """Return the rows of a table as lines, the first column to the left and others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in table
    )


def _shown(measure: Measure, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value if measure.is_share else value:.1f}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
