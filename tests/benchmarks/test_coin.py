"""COIN's files, made up."""

import zipfile

import pytest

from videoclip.benchmarks import coin
from videoclip.benchmarks.examples import LabelledVideo, Segment
from videoclip.errors import DataError

NS = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


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
        rows = [("Target Id", "Target Label", "Action Id", "Action Label")]
        rows += [("0", "MakeTea", str(i), text) for i, text in labels]
        shared = [cell for row in rows for cell in row if not cell.isdigit()]
        cells = "".join(
            f'<row r="{r}">'
            + "".join(
                f'<c r="{c}{r}"><v>{cell}</v></c>'
                if cell.isdigit()
                else f'<c r="{c}{r}" t="s"><v>{shared.index(cell)}</v></c>'
                for c, cell in zip("ABCD", row, strict=True)
            )
            + "</row>"
            for r, row in enumerate(rows, start=1)
        )
        domains = '<row r="1"><c r="A1" t="inlineStr"><is><t>Domains</t></is></c><c r="B1"/></row>'
        strings = "".join(f"<si><r><t>{s}</t></r></si>" for s in shared)
        path = tmp_path / "taxonomy.xlsx"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("xl/sharedStrings.xml", f"<sst {NS}>{strings}</sst>")
            for number, sheet in ((1, domains), (2, cells)):
                archive.writestr(
                    f"xl/worksheets/sheet{number}.xml",
                    f"<worksheet {NS}><sheetData>{sheet}</sheetData></worksheet>",
                )
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
    with pytest.raises(DataError, match="video 'a' occurs twice"):
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
    book.write_bytes(book.read_bytes()[:200])
    with pytest.raises(DataError, match=r"not an \.xlsx workbook"):
        coin.read_taxonomy(book)
    with zipfile.ZipFile(tmp_path / "empty.xlsx", "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst {NS}/>")
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {NS}/>")
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
