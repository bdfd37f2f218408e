import json

import pytest

from videoclip.errors import DataError
from videoclip.library.metadata import metadata_of, read_metadata

TABLE = 'video,camera,take,note\na.mp4,left,1,\nsub/b,right,2.5,"two\nlines"\n'
EXPECTED = {
    "a.mp4": {"camera": "left", "take": 1.0, "note": None},
    "sub/b": {"camera": "right", "take": 2.5, "note": "two\nlines"},
}


def test_csv_and_json_say_the_same(tmp_path):
    (tmp_path / "m.csv").write_text("\ufeff" + TABLE, encoding="utf-8")
    rows = [{"video": name, **values} for name, values in EXPECTED.items()]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "object.json").write_text(json.dumps(EXPECTED))
    for name in ("m.csv", "list.json", "object.json"):
        assert read_metadata(tmp_path / name) == EXPECTED


def test_videos_are_found_by_path_end_of_path_name_or_stem():
    table = {"b": {"x": 1.0}, "sub/b.mp4": {"x": 2.0}, "/v/c.mp4": {"x": 3.0}}
    paths = ["/v/b.mp4", "/v/sub/b.mp4", "/v/c.mp4", "/v/d.mp4"]
    found = metadata_of(table, paths)
    assert {path: values["x"] for path, values in found.items()} == {
        "/v/b.mp4": 1.0,
        "/v/sub/b.mp4": 2.0,
        "/v/c.mp4": 3.0,
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "camera\nleft\n", r"m\.csv:2: no column names the video"),
        ("m.csv", "video,x\na,1,2\n", r"m\.csv:2: 3 of 2 fields"),
        ("m.json", "{", r"m\.json:1: breaks off"),
        ("m.json", "[1]", "row 1: expected a table of fields"),
        ("m.json", '[{"video": "a", "x": [1]}]', "row 1: expected a text or a number"),
        ("m.json", "3", "expected a list of rows"),
    ],
)
def test_mistakes_name_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_metadata(tmp_path / name)


def test_unreadable_files_are_said(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_metadata(tmp_path / "absent.csv")
    (tmp_path / "m.csv").write_bytes(b"video\n\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_metadata(tmp_path / "m.csv")


def test_numbers_that_are_not_finite_stay_text(tmp_path):
    (tmp_path / "m.csv").write_text("video,x\na,nan\n")
    assert read_metadata(tmp_path / "m.csv") == {"a": {"x": "nan"}}


def test_the_row_with_the_longest_matching_path_counts():
    table = {"a": {"n": 1.0}, "a.mp4": {"n": 2.0}, "x/a.mp4": {"n": 3.0}, "/v/x/a.mp4": {"n": 4.0}}
    for longest in (4.0, 3.0, 2.0, 1.0):
        assert metadata_of(table, ["/v/x/a.mp4"]) == {"/v/x/a.mp4": {"n": longest}}
        table.popitem()
    assert metadata_of(table, ["/v/x/a.mp4"]) == {}
