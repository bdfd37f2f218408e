"""What can be wrong with a file, said in one line with file, row and remedy."""

import codecs
import gzip
import json
import zipfile

import pytest

from videoclip.benchmarks import files, load_benchmarks
from videoclip.errors import DataError
from videoclip.synthetic.annotate import annotation_files
from videoclip.synthetic.world import SyntheticConfig, SyntheticWorld


def test_a_file_is_found_by_itself_in_its_folder_or_gzipped(tmp_path):
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(b'{"x": 1}'))
    assert files.find_file(packed, "other") == packed
    assert files.find_file(tmp_path, "a.json", "b.json") == packed
    assert files.read_json(packed) == {"x": 1}
    with pytest.raises(DataError, match=r"no a\.json or c\.json in this folder; put it there"):
        files.find_file(tmp_path, "a.json", "c.json")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        files.find_file(tmp_path / "nowhere", "a.json")


def test_an_archive_with_one_json_file(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/data.json", json.dumps([1, 2]))
        archive.writestr("readme.txt", "hello")
    assert files.read_json(path) == [1, 2]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.json", "[]")
    with pytest.raises(DataError, match=r"holds 2 \.json files: unpack it"):
        files.read_json(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="truncated or not a zip archive"):
        files.read_json(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"a": 1, "b": [1, 2',
            r"x\.json:1: breaks off at column \d+: fix or download it again",
        ),
        (
            '{"a": 1,\n "b": "cut in ha',
            r"x\.json:2: breaks off at column 7: fix or download it again",
        ),
        ('{"a": 1,\n "a": 2}', r"x\.json: 'a' occurs twice: remove one"),
        ("video,start", r"x\.json:1: not JSON"),
    ],
)
def test_broken_json(write, content, message):
    with pytest.raises(DataError, match=message):
        files.read_json(write("x.json", content))


def test_broken_bytes(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8 text"):
        files.read_json(path)
    half = tmp_path / "x.json.gz"
    half.write_bytes(gzip.compress(b"[1, 2, 3]")[:-6])
    with pytest.raises(DataError, match="truncated or not gzip"):
        files.read_json(half)
    half.write_bytes(b"[1, 2, 3]")
    with pytest.raises(DataError, match="truncated or not gzip"):
        files.read_json(half)
    with pytest.raises(DataError, match="no such file: check the path"):
        files.read_json(tmp_path / "nothing.json")


def test_json_lines_say_the_line(write):
    path = write("x.jsonl", '{"a": 1}\n\n{"a": \n')
    rows = files.read_json_lines(path)
    assert next(rows).integer("a") == 1
    with pytest.raises(DataError, match=r"x\.jsonl:3: breaks off"):
        next(rows)
    with pytest.raises(DataError, match=r"y\.jsonl:1: expected a table of fields, got \[1\]"):
        next(files.read_json_lines(write("y.jsonl", "[1]")))


def test_rows_are_found_by_column_name(write):
    path = write("x.csv", '\ufeffend,start,text\n5,1,"a, ""b"""\n\n9,6,é\n')
    rows = list(files.read_rows(path, ("start", "end")))
    assert [(r.line, r.number("start"), r.text("text")) for r in rows] == [
        (2, 1.0, 'a, "b"'),
        (4, 6.0, "é"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3", r"x\.csv:3: 1 of 2 fields: fix or remove the row"),
        ("a,b\n1,2,3\n", r"x\.csv:2: 3 of 2 fields"),
        ("a,c\n1,2\n", r"x\.csv:1: no column 'b' in the header 'a,c'; wrong file\?"),
        ("", r"x\.csv:1: no column 'a' or 'b'"),
        ('a,b\n1,"2\n', r"x\.csv:2: not a table"),
    ],
)
def test_broken_tables(write, content, message):
    with pytest.raises(DataError, match=message):
        list(files.read_rows(write("x.csv", content), ("a", "b")))


def test_fields_are_typed(tmp_path):
    values = {"t": " a ", "n": "2.5", "i": 3, "l": [1], "d": {}, "blank": " ", "nan": float("nan")}
    record = files.Record(values, tmp_path, "row")
    assert record.text("t") == "a"
    assert record.number("n") == 2.5
    assert record.integer("i") == 3
    assert record.choice("i", 4) == 3
    assert record.items("l") == [1]
    assert record.table("d") == {}
    assert record.span([1, 2.5]) == (1.0, 2.5)
    for call, message in [
        (lambda: record.text("x"), "row: no field 'x' "),
        (lambda: record.text("i"), "'i' must be a text, got 3"),
        (lambda: record.text("blank"), "'blank' is blank"),
        (lambda: record.number("t"), "'t' must be a number"),
        (lambda: record.number("nan"), "'nan' must be a number"),
        (lambda: record.integer("n"), r"'n' must be a whole number, got 2\.5"),
        (lambda: record.choice("i", 3), r"'i' must be in 0\.\.2, got 3"),
        (lambda: record.items("d"), "'d' must be a list"),
        (lambda: record.table("l"), "'l' must be a table"),
        (lambda: record.span([2, 1]), "a span must be"),
        (lambda: record.span([1, 1]), "a span must be"),
        (lambda: record.span("1,2"), "a span must be"),
        (lambda: record.span([float("nan"), 2]), "a span must be"),
    ]:
        with pytest.raises(DataError, match=message):
            call()
    assert record.span([1, 1], allow_empty=True) == (1.0, 1.0)


def test_repeats_are_named(write):
    rows = list(files.read_rows(write("x.csv", "a\n1\n2\n1\n"), ("a",)))
    with pytest.raises(DataError, match=r"x\.csv:4: id '1' occurs twice: remove one"):
        files.unique(rows, "id", lambda row: row.text("a"))


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """The files of a synthetic world for all benchmarks."""
    folder = tmp_path_factory.mktemp("annotations")
    world = SyntheticWorld(SyntheticConfig(seed=2, num_tasks=20, num_new_tasks=4, num_steps=40))
    for name, text in annotation_files(world, [world.video(i) for i in range(12)]).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["gzip", "byte order mark", "Windows line ends"])
@pytest.mark.parametrize(
    "name, place",
    [
        ("youcook2", "youcook2"),
        ("youcook2", "youcook2/youcookii_annotations_trainval.json"),
        ("msrvtt", "msrvtt"),
        ("msrvtt_qa", "msrvtt_mc"),
        ("msrvtt_qa", "msrvtt_mc/msrvtt_multi_choice_qa.jsonl"),
        ("didemo", "didemo"),
        ("coin", "coin"),
        ("csv", "steps.csv"),
    ],
)
def test_packed_and_marked_files_are_read_as_plain_ones(annotations, tmp_path, name, place, kind):
    read = load_benchmarks()[name].read
    copy = tmp_path / "copy"
    for path in [p for p in annotations.rglob("*") if p.is_file()]:
        target = copy / path.relative_to(annotations)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        if kind == "gzip":
            target.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        elif kind == "byte order mark":
            target.write_bytes(codecs.BOM_UTF8 + content)
        else:
            target.write_bytes(content.replace(b"\n", b"\r\n"))
    is_packed = kind == "gzip" and (annotations / place).is_file()
    found = read(copy / (f"{place}.gz" if is_packed else place))
    assert found == read(annotations / place) and found
