"""ActivityNet Captions, QVHighlights, Charades-STA, NExT-QA and one's own table, made up."""

import json

import pytest

from videoclip.benchmarks.activitynet import read_activitynet_moments, read_activitynet_paragraphs
from videoclip.benchmarks.charades import read_charades
from videoclip.benchmarks.examples import (
    MomentExample,
    MultipleChoiceExample,
    RetrievalExample,
)
from videoclip.benchmarks.nextqa import read_nextqa
from videoclip.benchmarks.qvhighlights import read_qvhighlights
from videoclip.benchmarks.table import read_table
from videoclip.errors import DataError


def test_activitynet_sentences_become_a_paragraph(write):
    video = {"duration": 9.0, "timestamps": [[0, 3], [2, 9]], "sentences": ["A.", "  B runs."]}
    path = write("val_1.json", {"v_x": video})
    assert read_activitynet_paragraphs(path.parent) == [RetrievalExample("v_x", "A. B runs.")]
    assert read_activitynet_moments(path.parent) == [
        MomentExample("v_x_0", "v_x", "A.", ((0.0, 3.0),), 9.0),
        MomentExample("v_x_1", "v_x", "B runs.", ((2.0, 9.0),), 9.0),
    ]
    write("val_1.json", {"v_x": video | {"sentences": ["A."]}})
    with pytest.raises(DataError, match="video 'v_x': 1 sentences but 2 timestamps"):
        read_activitynet_paragraphs(path)


def test_qvhighlights_may_keep_its_answers(write):
    row = {"qid": 5, "query": "a girl cooks", "duration": 150, "vid": "x_1.0_2.0"}
    rows = [row | {"relevant_windows": [[82, 150], [2, 8]]}, row | {"qid": 6}]
    path = write("highlight_val_release.jsonl", "\n".join(map(json.dumps, rows)))
    first, second = read_qvhighlights(path.parent)
    assert first == MomentExample(
        "5", "x_1.0_2.0", "a girl cooks", ((82.0, 150.0), (2.0, 8.0)), 150.0
    )
    assert second.moments == ()
    write("highlight_val_release.jsonl", "\n".join(map(json.dumps, [row, row])))
    with pytest.raises(DataError, match=r":2: qid 5 occurs twice"):
        read_qvhighlights(path)


def test_qvhighlights_have_marks_of_every_two_seconds(write):
    row = {"qid": 5, "query": "a girl cooks", "duration": 7, "vid": "x_1.0_2.0"}
    row |= {"relevant_clip_ids": [1], "saliency_scores": [[4, 2, 0]]}
    path = write("highlight_val_release.jsonl", json.dumps(row))
    assert read_qvhighlights(path)[0].saliency == ((0, 0, 0), (4, 2, 0), (0, 0, 0))
    write("highlight_val_release.jsonl", json.dumps(row | {"relevant_clip_ids": [3]}))
    with pytest.raises(DataError, match=r":1: marks clip 3, but the video has 3: fix the row"):
        read_qvhighlights(path)
    for wrong in (
        {"saliency_scores": [[4, 2]]},
        {"saliency_scores": [[5, 2, 0]]},
    ):
        write("highlight_val_release.jsonl", json.dumps(row | wrong))
        with pytest.raises(DataError, match=r":1: needs 3 marks from 0 to 4 of a clip"):
            read_qvhighlights(path)
    write("highlight_val_release.jsonl", json.dumps(row | {"relevant_clip_ids": []}))
    with pytest.raises(DataError, match=r":1: 0 relevant_clip_ids but 1 saliency_scores"):
        read_qvhighlights(path)


def test_charades_lines(write):
    path = write("charades_sta_test.txt", "3MSZA 24.3 30.4##person turns on.\nAB 8.0 7.0##x.\n")
    assert read_charades(path.parent) == [
        MomentExample("1", "3MSZA", "person turns on.", ((24.3, 30.4),)),
        MomentExample("2", "AB", "x.", ((7.0, 8.0),)),
    ]
    write("charades_sta_test.txt", "3MSZA 24.3 30.4##a\n3MSZA 24.3\n")
    with pytest.raises(DataError, match=r"test\.txt:2: expected 'VIDEO start end##sentence'"):
        read_charades(path)


def test_nextqa_rows(write):
    header = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    row = "40,369,640,480,how,1,6,CH,a,b,c,d,e\n"
    path = write("val.csv", header + row)
    assert read_nextqa(path.parent) == [
        MultipleChoiceExample("40_6", "40", ("a", "b", "c", "d", "e"), 1, "how", "CH")
    ]
    write("val.csv", header + row + row)
    with pytest.raises(DataError, match=r"val\.csv:3: question '40_6' occurs twice"):
        read_nextqa(path)


EXPECTED = [RetrievalExample("kitchen", "chop", 12.5, 18.0), RetrievalExample("garden", "plant")]


def test_a_table_of_ones_own(write):
    text = "text,start,video,end,more\nchop,12.5,kitchen,18,x\nplant,,garden,,\n"
    assert read_table(write("own.csv", text)) == EXPECTED
    lines = [
        {"video": "kitchen", "start": 12.5, "end": 18, "text": "chop"},
        {"video": "garden", "text": "plant", "start": None},
    ]
    assert read_table(write("own.jsonl", "\n".join(map(json.dumps, lines)))) == EXPECTED
    assert read_table(write("plain.csv", "video,text\ngarden,plant\n")) == EXPECTED[1:]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("kitchen,1,,chop", r"own\.csv:2: only 'start' is given: give start and end, or neither"),
        ("kitchen,3,2,chop", r"own\.csv:2: a span must be"),
        ("kitchen,1,two,chop", r"own\.csv:2: 'end' must be a number, got 'two'"),
        ("kitchen,1,2, ", r"own\.csv:2: 'text' is blank"),
    ],
)
def test_rows_of_ones_own_that_make_no_sense(write, row, message):
    with pytest.raises(DataError, match=message):
        read_table(write("own.csv", f"video,start,end,text\n{row}\n"))


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(DataError, match="is a folder: name the"):
        read_table(tmp_path)
