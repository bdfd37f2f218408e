"""HowTo100M's files, made up."""

import gzip
import json
import pickle
from pathlib import Path

import pytest

from videoclip.benchmarks import files, howto100m
from videoclip.data.captions import Cue
from videoclip.data.tokenizer import Tokenizer
from videoclip.errors import DataError
from videoclip.library.metadata import read_metadata


def test_videos_may_have_no_subcategory(write):
    path = write(
        "HowTo100M_v1.csv",
        "video_id,category_1,category_2,rank,task_id\n"
        "-a_b,Cars & Other Vehicles,Motorcycles,27,52907\n"
        "_c-d,Food and Entertaining,,3,0\n",
    )
    videos = read_metadata(path)
    assert videos["-a_b"] == {
        "category_1": "Cars & Other Vehicles",
        "category_2": "Motorcycles",
        "rank": 27,
        "task_id": 52907,
    }
    assert videos["_c-d"]["category_2"] is None


def test_task_titles_have_tabs_and_no_header(write):
    path = write("task_ids.csv", "0\tMake a Mexican Bean Toast\n52907\tPaint, then dry\n")
    assert howto100m.read_task_titles(path) == {
        0: "Make a Mexican Bean Toast",
        52907: "Paint, then dry",
    }
    with pytest.raises(DataError, match=r"task_ids\.csv:1: 1 of 2 fields"):
        howto100m.read_task_titles(write("task_ids.csv", "0,Make a Toast\n"))
    with pytest.raises(DataError, match=r":2: task 0 occurs twice"):
        howto100m.read_task_titles(write("task_ids.csv", "0\ta\n0\tb\n"))


def test_video_lists(write):
    assert files.read_video_ids(write("val.lst", "-a\n_b\n")) == ["-a", "_b"]
    with pytest.raises(DataError, match=r"val\.lst:3: video '-a' occurs twice"):
        files.read_video_ids(write("val.lst", "-a\n_b\n-a\n"))


CAPTIONS = {
    "one": {
        "start": [0.5, 2, 3, 4, 5],
        "end": [3.0, 4, 5, 6, 6.5],
        "text": ["hello\nthere", float("nan"), "  ", None, "a } b ] \\ é"],
    },
    "none": {"start": [], "end": [], "text": []},
    "_t-o": {"start": [1.0], "end": [1.0], "text": ["overlap"]},
}


@pytest.mark.parametrize("as_text", [True, False])
def test_a_pickle_has_the_same_captions(write, tmp_path, as_text):
    table = {name: json.dumps(value) if as_text else value for name, value in CAPTIONS.items()}
    path = tmp_path / "raw_caption_dedup.pkl"
    path.write_bytes(pickle.dumps(table))
    plain = write("raw_caption.json", json.dumps(CAPTIONS))
    assert list(howto100m.read_captions(path)) == list(howto100m.read_captions(plain))


def test_pickled_word_pieces_become_text(tmp_path):
    path = tmp_path / "captions.pickle"
    table = {"one": {"start": [0, 1], "end": [1, 2], "cap": [[4, 5, 6], [6]]}}
    path.write_bytes(pickle.dumps(table))
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "chop", "##ping", "onion"])
    assert dict(howto100m.read_captions(path, tokenizer)) == {
        "one": [Cue(0.0, 1.0, "chopping onion"), Cue(1.0, 2.0, "onion")]
    }
    with pytest.raises(DataError, match=r"video 'one': its captions are word-piece ids: .*--vocab"):
        list(howto100m.read_captions(path))
    table["one"]["cap"][1] = [7]
    path.write_bytes(pickle.dumps(table))
    with pytest.raises(DataError, match="no list of word-piece ids below 7: check --vocabulary"):
        list(howto100m.read_captions(path, tokenizer))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["one"], "not a table of captions"),
        ({"one": "{"}, "video 'one' is not valid JSON"),
        ({"one": {"start": [0], "end": [], "text": ["a"]}}, "1 starts, 0 ends and 1 texts"),
        ({"one": Path("/")}, "not a pickle of plain data"),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, message):
    path = tmp_path / "captions.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        list(howto100m.read_captions(path))


@pytest.mark.parametrize("characters", [1, 7, 64, 1 << 20])
def test_captions_are_streamed_whatever_the_piece(write, monkeypatch, characters):
    monkeypatch.setattr(howto100m, "CHARACTERS_AT_ONCE", characters)
    got = dict(howto100m.read_captions(write("raw_caption.json", CAPTIONS)))
    assert got == {
        "one": [Cue(0.5, 3.0, "hello there"), Cue(5.0, 6.5, "a } b ] \\ é")],
        "none": [],
        "_t-o": [Cue(1.0, 1.0, "overlap")],
    }


@pytest.mark.parametrize("cut", [0, 1, 5, 30, 60, 200, -1])
def test_captions_that_break_off(write, cut):
    whole = write("raw_caption.json", CAPTIONS).read_text()
    with pytest.raises(DataError, match=r"raw_caption\.json: "):
        list(howto100m.read_captions(write("raw_caption.json", whole[:cut])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected one of '{', got '\\['"),
        (
            "{" + ", ".join(['"a": {"start": [], "end": [], "text": []}'] * 2) + "}",
            "video 'a': occurs twice",
        ),
        ('{"a": [1]}', "expected one of '{', got"),
        ("{1: {}}", "expected one of '\"', got"),
        ('{"a": {"start": [1], "end": [2], "text": []}}', "video 'a': 1 starts, 1 ends and 0"),
        ('{"a": {"start": [3], "end": [2], "text": ["x"]}}', "video 'a': a span must be"),
    ],
)
def test_other_files_are_not_captions(write, content, message):
    with pytest.raises(DataError, match=message):
        list(howto100m.read_captions(write("raw_caption.json", content)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.json.gz", gzip.compress(b'{"a": {"start": [1], "end": [2]}}', mtime=0)[:-9],
         "truncated or not gzip"),
        ("fake.json.gz", b"{}", "truncated or not gzip"),
        ("latin.json", '{"a": {"start": [1], "end": [2], "text": ["é"]}}'.encode("latin-1"),
         "not UTF-8"),
        ("long.json", b'{"a": {"start": [' + b"1" * 5001 + b"]}}", "not JSON of this kind"),
        ("deep.json", b'{"a": {"start": ' + b"[" * 100_000, "not JSON of this kind"),
    ],
)  # fmt: skip
def test_damaged_caption_files_are_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: {words}"):
        list(howto100m.read_captions(tmp_path / name))
