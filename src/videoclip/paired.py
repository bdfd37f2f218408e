"""Two models on the same examples: paired intervals, and the examples that changed most."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videoclip.errors import DataError
from videoclip.evaluation.outcome import align_columns, bootstrap_interval
from videoclip.files import write_output
from videoclip.output.html import render
from videoclip.types import RealArray

NAMES = ("task", "example_id", "video_id", "start", "end", "text", "question", "answer")
"""Columns that say which example a row is of."""
HIGHER_IS_BETTER = ("IoU", "right", "frame accuracy", "edit score", "steps found")
CUTOFFS = (1, 5, 10)
NUM_CHANGES = 20
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Difference:
    """One number of two models.

    Attributes:
        name: Column of the files, or a recall computed from its ranks.
        first: Mean of the first model.
        second: Mean of the second one.
        low: Lower end of the 95 % interval of `second - first`, over resampled videos.
        high: Upper end.
        improved: Examples where the second model is better.
        worsened: Examples where it is worse.
    """

    name: str
    first: float
    second: float
    low: float
    high: float
    improved: int
    worsened: int


@dataclass(frozen=True)
class Change:
    """An example whose score differs: its names, and the score of both models."""

    names: Mapping[str, str]
    first: float
    second: float


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the examples that both were evaluated on; `str()` is a table.

    Attributes:
        files: What was compared.
        num_examples: In both files.
        num_unmatched: In one of them only.
        differences: By measure.
        score: The column that `changes` are of.
        changes: The examples that changed most, by how much.
    """

    files: tuple[str, str]
    num_examples: int
    num_unmatched: int
    differences: tuple[Difference, ...]
    score: str
    changes: tuple[Change, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts, ready for JSON."""
        return asdict(self)

    def table(self) -> list[list[str]]:
        """Return a header, and a row per measure."""
        head = ["", *self.files, "difference", "95 % interval", "improved", "worsened"]
        return [
            head,
            *(
                [
                    d.name,
                    f"{d.first:.4g}",
                    f"{d.second:.4g}",
                    f"{d.second - d.first:+.4g}",
                    f"{d.low:+.4g} .. {d.high:+.4g}",
                    str(d.improved),
                    str(d.worsened),
                ]
                for d in self.differences
            ),
        ]

    def changes_table(self) -> list[list[str]]:
        """Return a header, and a row per changed example."""
        rows = (
            [f"{c.first:.4g}", f"{c.second:.4g}", ", ".join(c.names.values())] for c in self.changes
        )
        return [[f"{self.score} before", "after", "example"], *rows]

    def summary(self) -> str:
        """Return one line: how many examples were compared."""
        unmatched = f"; {self.num_unmatched:,} are in one file only" if self.num_unmatched else ""
        return f"{self.num_examples:,} examples in both files{unmatched}"

    def save_page(self, path: Path | str) -> None:
        """Write an HTML page.

        Raises:
            DataError: If the file cannot be written.
        """
        write_output(Path(path), render("paired.html", comparison=self))

    def __str__(self) -> str:
        """Return the summary, the measures and the examples that changed most."""
        parts = [self.summary(), "", align_columns(self.table())]
        if self.changes:
            parts += ["", "changed most:"]
            parts += ["  ".join(row) for row in self.changes_table()]
        return "\n".join(parts)


def compare_examples(first: Path | str, second: Path | str, seed: int = 0) -> PairedComparison:
    """Compare two files of `videoclip evaluate --per-video`, example by example.

    Args:
        first: The model to compare with.
        second: The other model, on the same benchmark.
        seed: Of the resamples.

    Raises:
        DataError: If a file has no scores that can be compared, or they have no example in common.
    """
    files = Path(first), Path(second)
    rows = [_read(path) for path in files]
    common = [key for key in rows[0] if key in rows[1]]
    if not common:
        raise DataError(
            f"has no example in common with {files[0]}: evaluate both models on one benchmark",
            files[1],
        )
    directions = _directions(rows[0][common[0]])
    columns = [name for name in directions if name in rows[1][common[0]]]
    if not columns:
        raise DataError("has no column that can be compared, such as rank or IoU", files[1])
    numbers = {
        name: np.array(
            [[_number(of[key][name], path) for key in common] for of, path in zip(rows, files)]
        )
        for name in columns
    }
    videos = [rows[0][key].get("video_id", str(i)) for i, key in enumerate(common)]
    measures: dict[str, tuple[RealArray, int]] = {}
    for name, pair in numbers.items():
        if np.isfinite(pair).all():  # a moment that is missed has no rank
            measures[name] = pair, directions[name]
        if directions[name] < 0:
            for k in CUTOFFS:
                measures[name.replace("rank", f"R@{k}")] = (pair <= k).astype(np.float64), 1
    score = columns[0]
    finite = np.minimum(numbers[score], np.finfo(float).max)
    change = np.abs(finite[1] - finite[0])
    order = np.argsort(-change, kind="stable")
    return PairedComparison(
        files=(str(first), str(second)),
        num_examples=len(common),
        num_unmatched=len(rows[0]) + len(rows[1]) - 2 * len(common),
        differences=tuple(
            _difference(name, *pair, videos, seed) for name, pair in measures.items()
        ),
        score=score,
        changes=tuple(
            Change(
                {n: v for n, v in rows[0][common[i]].items() if n in NAMES},
                *numbers[score][:, i].tolist(),
            )
            for i in order[:NUM_CHANGES].tolist()
            if change[i] > 0
        ),
    )


def _read(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Return the rows of a file by their names; rows with the same names are numbered."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot be read as CSV ({reason}): check the path", path) from error
    seen: Counter[tuple[str, ...]] = Counter()
    found = {}
    for row in rows:
        if None in row or None in row.values():
            raise DataError("a row has another number of fields than the header", path)
        key = tuple(value for name, value in row.items() if name in NAMES)
        seen[key] += 1
        found[*key, str(seen[key])] = row
    return found


def _directions(row: Mapping[str, str]) -> dict[str, int]:
    """Return the columns that can be compared: 1 where higher is better, else -1."""
    known = {name: 1 for name in row if name in HIGHER_IS_BETTER}
    return {n: -1 for n in row if n.startswith("rank") or n == "mean rank"} | known


def _number(text: str, path: Path) -> float:
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return float(text)
    except ValueError:
        raise DataError(f"'{text}' is not a number: evaluate again", path) from None


def _difference(
    name: str, pair: RealArray, direction: int, videos: Sequence[str], seed: int
) -> Difference:
    gain = pair[1] - pair[0]
    low, high = bootstrap_interval(
        lambda items: float(gain[items].mean()), videos, np.random.default_rng(seed), NUM_RESAMPLES
    )
    better = direction * gain
    return Difference(
        name,
        float(pair[0].mean()),
        float(pair[1].mean()),
        float(low),
        float(high),
        int((better > 0).sum()),
        int((better < 0).sum()),
    )
