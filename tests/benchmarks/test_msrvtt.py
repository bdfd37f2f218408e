"""MSR-VTT's files and its multiple-choice questions, made up."""

import pytest

from videoclip.benchmarks import files, msrvtt
from videoclip.benchmarks.examples import MultipleChoiceExample, RetrievalExample
from videoclip.benchmarks.msrvtt import read_msrvtt_qa
from videoclip.errors import DataError

HEADER = "key,vid_key,video_id,sentence\n"


def info(**changes):
    videos = [
        {"id": 7, "video_id": "video7", "category": 3, "start time": 1.5, "end time": 9.0}
        | {"split": "train"},
        {"id": 8, "video_id": "video8", "category": 0, "start time": 0.0, "end time": 2.0}
        | {"split": "test"},
    ]
    sentences = [
        {"sen_id": 0, "video_id": "video8", "caption": "a dog"},
        {"sen_id": 1, "video_id": "video7", "caption": "a cat"},
        {"sen_id": 2, "video_id": "video8", "caption": "dogs run"},
    ]
    return {"info": {}, "videos": videos, "sentences": sentences} | changes


def test_1k(write):
    path = write("MSRVTT_JSFUSION_test.csv", HEADER + "ret0,msr9770,video9770,a person, typing\n")
    with pytest.raises(DataError, match=r":2: 5 of 4 fields"):
        msrvtt.read_msrvtt_1k(path)
    write("MSRVTT_JSFUSION_test.csv", HEADER + "ret0,msr9770,video9770,a person types\n")
    assert msrvtt.read_msrvtt_1k(path.parent) == [RetrievalExample("video9770", "a person types")]
    write("MSRVTT_JSFUSION_test.csv", HEADER + "ret0,msr1,video2,x\n")
    with pytest.raises(DataError, match=r":2: msr1 is not video2"):
        msrvtt.read_msrvtt_1k(path)
    write("MSRVTT_JSFUSION_test.csv", HEADER + "ret0,msr1,video1,x\nret0,msr2,video2,y\n")
    with pytest.raises(DataError, match=r":3: key 'ret0' occurs twice"):
        msrvtt.read_msrvtt_1k(path)


def test_sentences_are_gathered_by_video(write):
    first, second = msrvtt.read_msrvtt_captions(write("MSRVTT_data.json", info()))
    assert first == msrvtt.CaptionedVideo("video7", "train", 3, ("a cat",), (1,))
    assert second.captions == ("a dog", "dogs run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": []}, "video 0: has no sentence"),
        (
            {"sentences": [{"sen_id": 0, "video_id": "video9", "caption": "x"}]},
            "sentence 0: no video 'video9'",
        ),
        ({"videos": [{"video_id": "video7"}] * 2}, "video 1: video 'video7' occurs twice"),
        (
            {
                "videos": [
                    {"video_id": v, "split": "dev", "category": 1} for v in ("video7", "video8")
                ]
            },
            "split must be one of train, validate, test, got 'dev'",
        ),
        ({"sentences": info()["sentences"] * 2}, "sentence 3: sen_id 0 occurs twice"),
    ],
)
def test_files_that_do_not_fit_together(write, changes, message):
    with pytest.raises(DataError, match=message):
        msrvtt.read_msrvtt_captions(write("MSRVTT_data.json", info(**changes)))


def test_pairs_of_a_list(write):
    captions = write("MSRVTT_data.json", info())
    ids = files.read_video_ids(write("list.csv", "video_id\nvideo8\n"))
    pairs = msrvtt.read_msrvtt_pairs(captions, ids)
    assert [p.text for p in pairs] == ["a dog", "dogs run"]
    with pytest.raises(DataError, match=r"no 'video9' \(1 videos missing\): wrong split"):
        msrvtt.read_msrvtt_pairs(captions, ["video9"])


QUESTION = MultipleChoiceExample("mc0", "video9770", ("a", "b", "c", "d", "e"), 2)


def test_questions_are_read_by_column_name(write):
    path = write(
        "MSR_MC_test.csv",
        "answer\tvid_key\tkey\ta5\ta1\ta2\ta3\ta4\tmore\n2\tmsr9770\tmc0\te\ta\tb\tc\td\t1\n",
    )
    assert read_msrvtt_qa(path.parent) == [QUESTION]
    write("MSR_MC_test.csv", "key,vid_key,a1,a2,a3,a4,a5,answer\n")
    with pytest.raises(DataError, match=r":1: no column 'key' or"):
        read_msrvtt_qa(path)


@pytest.mark.parametrize(
    ("options", "answer", "message"),
    [
        (["a", "b", "c", "d", "e"], "2", None),
        (["a", "b", "c", "d"], "2", ":1: needs 5 options"),
        (["a", "b", "c", "d", " "], "2", ":1: needs 5 options"),
        (["a", "b", "c", "d", "e"], "5", r":1: 'answer' must be in 0\.\.4"),
    ],
)
def test_questions_as_json_lines(write, options, answer, message):
    row = {"qid": "mc0", "clip_name": "video9770", "title": "msr1", "answer": answer}
    path = write("msrvtt_multi_choice_qa.jsonl", row | {"options": options})
    if message is None:
        assert read_msrvtt_qa(path.parent) == [QUESTION]
    else:
        with pytest.raises(DataError, match=message):
            read_msrvtt_qa(path)
