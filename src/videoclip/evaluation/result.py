"""What a model scored on a benchmark, beside trivial and published numbers, as table and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from videoclip.evaluation.outcome import Comparison, Measure, Outcome

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """What a model scored on a benchmark, beside trivial and published numbers.

    Attributes:
        benchmark: Its name in `BENCHMARKS`.
        model: Which model.
        outcome: Everything measured.
        published: Numbers of the paper.
    """

    benchmark: str
    model: str
    outcome: Outcome
    published: tuple[Comparison, ...] = ()

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

    def __str__(self) -> str:
        """Return a table: a row a measure, a column for us and for everything beside us."""
        outcome = self.outcome
        others = (*outcome.baselines, *self.published)
        table = [["", "this model", "95 % interval", *(c.name for c in others)]]
        table += [
            [
                m.name,
                _shown(m, m.value),
                f"{_shown(m, m.low)} .. {_shown(m, m.high)}",
                *(_shown(m, c.values.get(m.name)) for c in others),
            ]
            for m in outcome.measures
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        settings = ", ".join(f"{name}: {_plain(value)}" for name, value in outcome.settings.items())
        notes = [f"{c.name}: {c.note}" for c in others if c.note]
        return "\n".join(
            [
                f"{self.benchmark}: {outcome.protocol}",
                f"{self.model}; {settings}",
                f"{outcome.num_examples:,} examples in {outcome.num_videos:,} videos; "
                f"{self._missing()}",
                "",
                *lines,
                "",
                *notes,
            ]
        ).rstrip()

    def _missing(self) -> str:
        ids = list(dict.fromkeys(m.video_id for m in self.outcome.missing))
        if not ids:
            return "none left out"
        listed = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
        return f"{len(ids):,} left out ({listed}; all, with reasons, with --json)"


def _shown(measure: Measure, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if measure.is_share else f"{value:.1f}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
