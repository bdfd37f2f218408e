"""COIN: instruction videos whose seconds have one of 778 step labels, or none.

Files: COIN.json and, if present, taxonomy.xlsx, which has all labels. Labels are identified by id,
not text: 778 ids share 749 texts. The subset of the official test videos is "testing", although
the README of the benchmark says "validation".
"""

import fnmatch
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from videoclip.benchmarks.examples import Benchmark, LabelledSplit, LabelledVideo, Segment, paper
from videoclip.benchmarks.files import Record, entries, find_file, read_json, unique
from videoclip.errors import DataError

XLSX = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
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
        header = {text: column for column, text in rows[0].items()} if rows else {}
        if {"Action Id", "Action Label"} <= set(header):
            records = [
                Record({name: row.get(column) for name, column in header.items()}, path, f"row {i}")
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
    return list(unique(videos, "video", lambda video: video.key).values())


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


def _read_sheets(path: Path) -> list[list[dict[str, str]]]:
    """Return the sheets of a workbook as rows of {column letters: text}; empty cells are absent.

    Raises:
        DataError: If the file is not a workbook.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = fnmatch.filter(archive.namelist(), "xl/worksheets/sheet*.xml")
            strings = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
            shared = ["".join(s.itertext()) for s in strings.iter(f"{XLSX}si")]
            sheets = [ElementTree.fromstring(archive.read(name)) for name in names]
    except (OSError, KeyError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise DataError(f"not an .xlsx workbook ({error}): download it again", path) from error
    return [[_cells(row, shared) for row in sheet.iter(f"{XLSX}row")] for sheet in sheets]


def _cells(row: ElementTree.Element, shared: list[str]) -> dict[str, str]:
    cells = {}
    for cell in row.iter(f"{XLSX}c"):
        column = cell.get("r", "").rstrip("0123456789")
        if cell.get("t") == "inlineStr":
            cells[column] = "".join(cell.itertext())
        elif value := cell.findtext(f"{XLSX}v"):
            cells[column] = shared[int(value)] if cell.get("t") == "s" else value
    return cells


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
