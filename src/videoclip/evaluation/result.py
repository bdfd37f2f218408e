"""What a model scored on a benchmark, beside trivial and published numbers, as table and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from videoclip.evaluation.outcome import Baseline, Measure, Outcome

__all__ = ["Result"]

LISTED_VIDEOS = 5


@dataclass(frozen=True)
class Result:
    """One evaluation; `str()` is its table.

    Attributes:
        benchmark: Its name in `load_benchmarks()`.
        model: Which model.
        outcome: Everything measured.
        published: Numbers of the paper.
    """

    benchmark: str
    model: str
    outcome: Outcome
    published: tuple[Baseline, ...] = ()

    def __getitem__(self, name: str) -> float:
        """Return one of our numbers by the name of its measure."""
        return {m.name: m.value for m in self.outcome.measures}[name]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but rows and plots as plain dicts, ready for JSON."""
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
        """Return a header and a row a measure: ours, its interval, everything beside it."""
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
        """Say which model, with which settings, on how much; and what was left out."""
        outcome = self.outcome
        settings = ", ".join(f"{name}: {_plain(value)}" for name, value in outcome.settings.items())
        absent = list(dict.fromkeys(m.video_id for m in outcome.missing))
        left_out = "none left out"
        if absent:
            more = "; --json lists all" if len(absent) > LISTED_VIDEOS else ""
            left_out = f"{len(absent):,} left out ({', '.join(absent[:LISTED_VIDEOS])}{more})"
        return (
            f"{self.model}; {settings}; {outcome.num_examples:,} examples in "
            f"{outcome.num_videos:,} videos, {left_out}"
        )

    def notes(self) -> list[str]:
        """Return where the numbers beside ours are from."""
        others = (*self.outcome.baselines, *self.published)
        return [f"{c.name}: {c.note}" for c in others if c.note]

    def __str__(self) -> str:
        """Return the table with everything one has to know about it."""
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in table
        ]
        head = f"{self.benchmark}: {self.outcome.protocol}"
        return "\n".join([head, self.summary(), "", *lines, "", *self.notes()]).rstrip()


def _shown(measure: Measure, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value if measure.is_share else value:.1f}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
