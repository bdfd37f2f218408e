"""YouCook2's files, made up."""

import pickle

import numpy as np
import pytest

from videoclip.benchmarks import youcook2
from videoclip.benchmarks.examples import RetrievalExample
from videoclip.errors import DataError


def video(subset="validation", **changes):
    annotations = [
        {"segment": [2, 6], "id": 0, "sentence": "chop the onion"},
        {"segment": [7, 12], "id": 1, "sentence": " fry it "},
    ]
    return {
        "duration": 12.5,
        "subset": subset,
        "recipe_type": "226",
        "annotations": annotations,
    } | (changes)


@pytest.fixture
def database(write):
    def database(**videos):
        return write(youcook2.JSON_NAME, {"database": videos})

    return database


def test_json_by_split(database):
    path = database(a_b=video(), c=video("training"))
    assert youcook2.read_youcook2_json(path) == [
        RetrievalExample("a_b", "chop the onion", 2.0, 6.0),
        RetrievalExample("a_b", "fry it", 7.0, 12.0),
    ]
    assert {e.video_id for e in youcook2.read_youcook2_json(path, "train")} == {"c"}
    assert youcook2.read_youcook2(path.parent) == youcook2.read_youcook2_json(path, "val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 11}, "video 'a', annotation 1: segment ends at 12 s, after the video"),
        ({"annotations": [{"segment": [1, 2], "id": 4, "sentence": "x"}]}, "id 4 is out of order"),
        ({"annotations": {}}, "'annotations' must be a list"),
    ],
)
def test_rows_that_make_no_sense(database, changes, message):
    with pytest.raises(DataError, match=message):
        youcook2.read_youcook2_json(database(a=video(**changes)))


def test_another_benchmarks_file(write):
    with pytest.raises(DataError, match=r"no field 'database' \(there are: .*wrong file"):
        youcook2.read_youcook2_json(write("x.json", {"videos": []}))


def test_csv_has_end_before_start_and_keeps_two_texts_of_one_span(write):
    path = write(
        "validation_youcook.csv",
        "end,start,task,text,video_id\n60,47,226,pick,a\n60,47,226,pick again,a\n",
    )
    assert youcook2.read_youcook2(path.parent) == [
        RetrievalExample("a", "pick", 47.0, 60.0),
        RetrievalExample("a", "pick again", 47.0, 60.0),
    ]
    path = write("validation_youcook.csv", "end,start,task,text,video_id\n40,47,226,pick,a\n")
    with pytest.raises(DataError, match=r"validation_youcook\.csv:2: a span must be"):
        youcook2.read_youcook2(path)


def test_pickle_names_clips_of_the_json_file(database, tmp_path):
    database(a_b=video())
    clips = [{"id": "a_b_1", "caption": "fry", "2d": np.zeros(3), "3d": np.float32(1)}]
    (tmp_path / "youcook_val.pkl").write_bytes(pickle.dumps(clips, protocol=2))
    assert youcook2.read_youcook2(tmp_path) == [RetrievalExample("a_b", "fry it", 7.0, 12.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"id": "a_b_2"}], "item 0: clip 'a_b_2' is not in youcookii"),
        ([{"id": "nobody_0"}], "clip 'nobody_0' is not in"),
        ({"id": "a_b_0"}, "holds a dict, not a list of clips"),
        ([print], "not a pickle of plain data .it asks for builtins.print.: do not trust it"),
        ([np.random.default_rng], "do not trust it"),
    ],
)
def test_pickles_that_are_refused(database, tmp_path, content, message):
    annotations = database(a_b=video())
    path = tmp_path / "youcook_val.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        youcook2.read_youcook2_pickle(path, annotations)


def test_a_pickle_cut_in_half(database, tmp_path):
    path = tmp_path / "youcook_val.pkl"
    path.write_bytes(pickle.dumps([{"id": "a_0", "2d": np.zeros(9)}])[:-30])
    with pytest.raises(DataError, match="not a pickle of plain data"):
        youcook2.read_youcook2_pickle(path, database(a=video()))
    with pytest.raises(DataError, match="no such file"):
        youcook2.read_youcook2_pickle(tmp_path / "nothing.pkl", database(a=video()))
