"""What the table is to show, each claim as one number with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videoclip.ablation.run import Finished
from videoclip.ablation.seconds import Counts
from videoclip.ablation.table import Interval, compare, compare_with, quotient, reduction

__all__ = ["Claim", "claims", "markdown"]

OURS = "small"
PAIRS = (
    ("overlap against strict alignment", "paper-shuffled", "paper-aligned", "R@1"),
    ("overlap against strict alignment", "paper-shuffled", "paper-aligned", "segment F1"),
    ("overlap against strict alignment", "paper-shuffled", "paper-aligned", "F1 in order"),
    ("overlap against strict alignment, ours", "small-no-lead", "small-aligned", "R@1"),
    ("overlap against strict alignment, ours", "small-no-lead", "small-aligned", "segment F1"),
    ("overlap and a lead against strict alignment", OURS, "small-aligned", "R@1"),
    ("overlap and a lead against strict alignment", OURS, "small-aligned", "segment F1"),
    ("retrieved batches against random ones", "paper", "paper-shuffled", "R@1"),
    ("mined batches against random ones", OURS, "small-shuffled", "R@1"),
    ("mined batches against random ones", OURS, "small-shuffled", "R@5"),
    ("mined batches against random ones", OURS, "small-shuffled", "segment F1"),
    ("mined by the finished model against by itself", "small-teacher", OURS, "R@1"),
    ("a lead of 3 s against none", OURS, "small-no-lead", "R@1"),
    ("short texts against long ones", OURS, "small-long-texts", "R@1"),
    ("two encoders against one", "paper", "paper-shared", "R@1"),
    ("ours against the paper's method", OURS, "paper", "R@1"),
    ("ours against the paper's method", OURS, "paper", "segment F1"),
    ("the re-ranker's order against the towers'", "small-reranked", "small-cross", "R@1"),
    ("training with a re-ranker against without", "small-cross", OURS, "R@1"),
)
"""(what, better row, other row, measure): points of difference."""

AGAINST_TRIVIAL = {
    "segment F1": "segment F1",
    "F1 in order": "segment F1",
    "foreground accuracy": "foreground accuracy",
    "foreground in order": "foreground accuracy",
    "step recall": "step recall",
}
"""Measure of ours -> measure of what needs no model, which knows the order anyway."""


@dataclass(frozen=True)
class Claim:
    """One number of one world.

    Attributes:
        world: Name of the world.
        text: What is compared.
        interval: The number; a share or a difference of shares.
        seeds: How many seeds it rests on.
    """

    world: str
    text: str
    interval: Interval
    seeds: int


def claims(
    runs: Sequence[Finished], trivial: Mapping[str, Mapping[str, Counts]]
) -> Iterator[Claim]:
    """Yield what can be said from the runs there are.

    Args:
        runs: All finished runs.
        trivial: By world, what needs no model.
    """
    for world in dict.fromkeys(run.world for run in runs):
        found: dict[str, dict[int, Counts]] = {}
        for run in runs:
            if run.world == world:
                found.setdefault(run.row, {})[run.seed] = run.counts

        def both(
            row: str, other: str, found: dict[str, dict[int, Counts]] = found
        ) -> list[tuple[Counts, Counts]]:
            ours, theirs = found.get(row, {}), found.get(other, {})
            return [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]

        for text, row, other, name in PAIRS:
            if pairs := both(row, other):
                difference = compare(*_stacks(pairs, name, name))
                yield Claim(world, f"{name}: {text}, difference", difference, len(pairs))
        if pairs := both(OURS, "paper"):
            share = reduction(*_stacks(pairs, "R@1", "R@1"))
            text = f"R@1: errors of `paper` that `{OURS}` does not make, share"
            yield Claim(world, text, share, len(pairs))
        if alone := both(OURS, OURS):
            new = quotient(*_stacks(alone, "R@1 held out", "R@1 seen"))
            yield Claim(world, "R@1: held-out combinations over seen ones, ratio", new, len(alone))
            order = compare(*_stacks(alone, "direction", "direction, order hidden"))
            text = "direction: clips against their mean pictures, difference"
            yield Claim(world, text, order, len(alone))
            for who, counts in trivial.get(world, {}).items():
                for name, trivial_name in AGAINST_TRIVIAL.items():
                    ours = _stacks(alone, name, name)[0]
                    text = f"{name}: `{OURS}` against {who}, difference"
                    difference = compare_with(ours, counts[trivial_name])
                    yield Claim(world, text, difference, len(alone))


def _stacks(
    pairs: Sequence[tuple[Counts, Counts]], name: str, other: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(S, V, 2) of one measure of the first and one of the second of each pair."""
    return np.array([a[name] for a, _ in pairs]), np.array([b[other] for _, b in pairs])


def markdown(found: Sequence[Claim]) -> str:
    """Return claims as a Markdown table, in percent."""
    rows = ["| world | what | % | 95 % interval | seeds |", "| --- | --- | --- | --- | --- |"]
    for claim in found:
        value, low, high = (
            100 * x for x in (claim.interval.value, claim.interval.low, claim.interval.high)
        )
        rows.append(
            f"| `{claim.world}` | {claim.text} | {value:.1f} | {low:.1f} .. {high:.1f} "
            f"| {claim.seeds} |"
        )
    return "\n".join(rows) + "\n"
