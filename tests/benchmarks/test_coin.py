"""COIN's files, made up."""

from zipfile import ZipFile, sizeFileHeader

import pytest
from openpyxl import Workbook

from videoclip.benchmarks import coin
from videoclip.benchmarks.examples import LabelledVideo, Segment
from videoclip.errors import DataError


def video(subset="testing", segments=((1, 2.0, 5.5, "cut"),), **changes):
    return {
        "duration": 60.5,
        "class": "MakeTea",
        "subset": subset,
        "recipe_type": 3,
        "annotation": [{"id": str(i), "segment": [s, e], "label": t} for i, s, e, t in segments],
    } | changes


@pytest.fixture
def taxonomy(tmp_path):
    """Write a workbook with a sheet of domains and one of labels."""

    def taxonomy(labels):
        book = Workbook()
        book.active.append(["Domains"])
        sheet = book.create_sheet()
        sheet.append(["Target Id", "Target Label", "Action Id", "Action Label"])
        for i, text in labels:
            sheet.append([0, "MakeTea", i, text])
        path = tmp_path / "taxonomy.xlsx"
        book.save(path)
        return path

    return taxonomy


def test_the_two_splits(write):
    database = {"a": video(), "b": video("training", [(2, 0, 9, "cut")]), "c": video("validation")}
    path = write("COIN.json", {"database": database})
    test = coin.read_coin(path.parent)
    assert test.labels == ("cut", "cut")
    assert [v.video_id for v in test.videos] == ["a", "c"]
    assert test.videos[0] == LabelledVideo("a", 60.5, (Segment(2.0, 5.5, 1),), "MakeTea")
    assert [v.video_id for v in coin.read_coin(path, "train").videos] == ["b"]


def test_a_list_of_tables_is_read_alike(write):
    path = write("COIN.json", [{"a": video()}, {"b": video()}])
    assert [v.video_id for v in coin.read_coin(path).videos] == ["a", "b"]
    with pytest.raises(DataError, match="id 'a' occurs twice"):
        coin.read_coin(write("COIN.json", [{"a": video()}, {"a": video()}]))


def test_the_taxonomy_names_labels_that_never_occur(write, taxonomy):
    path = write("COIN.json", {"database": {"a": video(segments=[(3, 0, 1, "pour")])}})
    with pytest.raises(DataError, match=r"labels \[1, 2\] \(2 in all\) never occur; add taxonomy"):
        coin.read_coin(path)
    taxonomy([(1, "cut"), (2, "cut"), (3, "pour")])
    assert coin.read_coin(path).labels == ("cut", "cut", "pour")
    taxonomy([(1, "cut"), (2, "cut"), (3, "stir")])
    with pytest.raises(DataError, match=r"taxonomy\.xlsx: label 3 is 'stir', not 'pour'"):
        coin.read_coin(path)


def test_other_workbooks(taxonomy, tmp_path):
    book = taxonomy([(1, "cut"), (1, "pour")])
    assert [len(sheet) for sheet in coin._read_sheets(book)] == [1, 3]
    with pytest.raises(DataError, match=r"row 3: Action Id 1 occurs twice"):
        coin.read_taxonomy(book)
    whole = book.read_bytes()
    with ZipFile(book) as archive:
        sheet = archive.getinfo("xl/worksheets/sheet2.xml")
    content = sheet.header_offset + sizeFileHeader + len(sheet.filename)
    for damaged in (whole[:200], whole[:content] + b"\xff" * 8 + whole[content + 8 :]):
        book.write_bytes(damaged)
        with pytest.raises(DataError, match=r"not an \.xlsx workbook"):
            coin.read_taxonomy(book)
    Workbook().save(tmp_path / "empty.xlsx")
    with pytest.raises(DataError, match="no sheet with columns"):
        coin.read_taxonomy(tmp_path / "empty.xlsx")


@pytest.mark.parametrize(
    ("database", "message"),
    [
        (
            {"a": video(segments=[(1, 0, 1, "cut"), (1, 2, 3, "pour")])},
            "video 'a', segment 1: label 1 is 'cut' elsewhere, 'pour' here",
        ),
        ({"a": video(segments=[(0, 0, 1, "cut")])}, "label ids begin at 1, got 0"),
        ({"a": video(segments=[(1, 4, 1, "cut")])}, "video 'a', segment 0: a span must be"),
        ({"a": video(segments=[])}, "no labelled segment at all"),
        ({"a": "text"}, "expected a table of fields, got 'text'"),
    ],
)
def test_rows_that_make_no_sense(write, database, message):
    with pytest.raises(DataError, match=message):
        coin.read_coin(write("COIN.json", {"database": database}))
