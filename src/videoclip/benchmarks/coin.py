"""COIN: instruction videos whose seconds have one of 778 step labels, or none.

Files: COIN.json and, if present, taxonomy.xlsx, which has all labels. Labels are identified by id,
not text: 778 ids share 749 texts. The subset of the official test videos is "testing", although
the README of the benchmark says "validation".
"""

import zipfile
import zlib
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from videoclip.benchmarks.examples import Benchmark, LabelledSplit, LabelledVideo, Segment, paper
from videoclip.benchmarks.files import Record, entries, find_file, read_json, unique
from videoclip.errors import DataError

DAMAGED = (
    *(OSError, EOFError, LookupError, RuntimeError, TypeError, ValueError, AttributeError),
    *(SyntaxError, zipfile.BadZipFile, zlib.error),
)
"""Exceptions that reading a damaged workbook raises."""
SUBSETS = {"train": ("training",), "test": ("testing", "validation")}


def read_coin(path: Path, split: Literal["train", "test"] = "test") -> LabelledSplit:
    """Read the videos of a split.

    Args:
        path: COIN.json (or its folder): {"database": {id: video}}, or a list of such tables. If
            there is no taxonomy.xlsx beside it, the labels are those that occur in the whole file.
        split: "test" is the subset "testing" of the file.

    Raises:
        DataError: If a label has two texts, or ids up to the largest one are missing.
    """
    found = find_file(path, "COIN.json")
    records = _records(found)
    labels = _labels_in_use(records, found)
    taxonomy = found.parent / "taxonomy.xlsx"
    if taxonomy.is_file():
        named = read_taxonomy(taxonomy)
        for label, text in labels.items():
            if named.get(label) != text:
                raise DataError(f"label {label} is {named.get(label)!r}, not {text!r}", taxonomy)
        labels = named
    if missing := sorted(set(range(1, max(labels, default=0) + 1)) - set(labels)):
        raise DataError(
            f"labels {missing[:5]} ({len(missing)} in all) never occur; add taxonomy.xlsx", found
        )
    return LabelledSplit(
        tuple(labels[i] for i in sorted(labels)),
        tuple(
            LabelledVideo(r.key, r.number("duration"), _segments(r), r.text("class"))
            for r in records
            if r.text("subset") in SUBSETS[split]
        ),
    )


def read_taxonomy(path: Path) -> dict[int, str]:
    """Read taxonomy.xlsx: texts by label id (Action Id 1 to 778)."""
    for rows in _read_sheets(path):
        header = rows[0] if rows else ()
        if {"Action Id", "Action Label"} <= set(header):
            records = [
                Record(dict(zip(header, row, strict=False)), path, f"row {i}")
                for i, row in enumerate(rows[1:], start=2)
            ]
            labels = unique(records, "Action Id", lambda record: record.integer("Action Id"))
            return {number: label.text("Action Label") for number, label in labels.items()}
    raise DataError("no sheet with columns 'Action Id' and 'Action Label': wrong file?", path)


def _records(path: Path) -> list[Record]:
    top: Any = read_json(path)
    if isinstance(top, dict):
        tables = [Record(top, path).table("database")]
    else:
        tables = [Record(v, path, f"item {i}").values for i, v in enumerate(top)]
    videos = [video for table in tables for video in entries(table, path, "video")]
    return list(unique(videos, "id", lambda video: video.key).values())


def _labels_in_use(videos: list[Record], path: Path) -> dict[int, str]:
    labels: dict[int, str] = {}
    for row in chain.from_iterable(v.records("annotation", "segment") for v in videos):
        label, text = row.integer("id"), row.text("label")
        if label < 1:
            raise row.error(f"label ids begin at 1, got {label}")
        if labels.setdefault(label, text) != text:
            raise row.error(f"label {label} is {labels[label]!r} elsewhere, {text!r} here")
    if not labels:
        raise DataError("no labelled segment at all; wrong file?", path)
    return labels


def _segments(video: Record) -> tuple[Segment, ...]:
    rows = video.records("annotation", "segment")
    return tuple(Segment(*row.span(row.items("segment")), row.integer("id")) for row in rows)


def _read_sheets(path: Path) -> list[list[tuple[Any, ...]]]:
    """Return the rows of each sheet of a workbook.

    Raises:
        DataError: If the file is not a workbook.
    """
    from openpyxl import load_workbook  # imported here, since only this needs it

    try:
        with path.open("rb") as file:
            book = load_workbook(file, read_only=True, data_only=True)
            return [list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets]
    except DAMAGED as error:
        raise DataError(f"not an .xlsx workbook ({error}): download it again", path) from error


BENCHMARKS = {
    "coin": Benchmark(
        "labels",
        lambda path: (read_coin(path), read_coin(path, "train")),
        (
            paper(
                "zero-shot",
                {"frame accuracy": 0.589},
                "; every prediction was background (fairseq#4940)",
            ),
            paper("fine-tuned", {"frame accuracy": 0.687}),
        ),
    )
}
