"""The cells of an .xlsx file, which is a zip archive of XML, without a spreadsheet library."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from videoclip.errors import DataError

__all__ = ["read_sheets"]

_NS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_sheets(path: Path) -> list[list[dict[str, str]]]:
    """Return the sheets of a workbook as rows of {column letters: text}; empty cells are absent.

    Raises:
        DataError: If it is not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                (n for n in archive.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", n)),
                key=lambda name: int(re.findall(r"\d+", name)[0]),
            )
            strings = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
            shared = ["".join(s.itertext()) for s in strings.iter(f"{_NS}si")]
            sheets = [ElementTree.fromstring(archive.read(name)) for name in names]
    except (OSError, KeyError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise DataError(f"not an .xlsx workbook ({error}): download it again", path) from error
    return [[_cells(row, shared) for row in sheet.iter(f"{_NS}row")] for sheet in sheets]


def _cells(row: ElementTree.Element, shared: list[str]) -> dict[str, str]:
    cells = {}
    for cell in row.iter(f"{_NS}c"):
        column = cell.get("r", "").rstrip("0123456789")
        if cell.get("t") == "inlineStr":
            cells[column] = "".join(cell.itertext())
        elif value := cell.findtext(f"{_NS}v"):
            cells[column] = shared[int(value)] if cell.get("t") == "s" else value
    return cells
