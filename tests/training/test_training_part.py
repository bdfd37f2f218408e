"""What is learned from is never what is tested."""

import json

import numpy as np
import pytest

from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import DataError
from videoclip.training.finetune import (
    training_clips,
    training_labels,
    training_steps,
    without_test_videos,
)

SPEC = FeatureSpec(4, 1.0, "test", True, "none")


@pytest.fixture
def store(tmp_path):
    with FeatureStore.create(tmp_path / "store", SPEC) as store:
        for i in range(6):
            store.append(f"video{i}", np.ones((40, 4), np.float16))
        yield store


@pytest.fixture
def msrvtt(tmp_path):
    """Six captioned videos with features and one without; video5 is in every test and list."""
    folder = tmp_path / "msrvtt"
    folder.mkdir()
    ids = [f"video{i}" for i in range(7)]
    videos = [{"video_id": v, "category": 1, "split": "train"} for v in ids]
    sentences = [
        {"sen_id": 2 * i + j, "video_id": v, "caption": f"{word} {i}"}
        for i, v in enumerate(ids)
        for j, word in enumerate(("cut", "stir"))
    ]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    (folder / "MSRVTT_train.9k.csv").write_text("video_id\n" + "\n".join(ids[1:]) + "\n")
    (folder / "MSRVTT_JSFUSION_test.csv").write_text(
        "key,vid_key,video_id,sentence\nret0,msr5,video5,cut 5\n"
    )
    (folder / "MSR_MC_test.csv").write_text(
        "key\tvid_key\ta1\ta2\ta3\ta4\ta5\tanswer\n0\tmsr5\ta\tb\tc\td\te\t0\n"
    )
    return folder


@pytest.mark.parametrize("benchmark", ["msrvtt", "msrvtt_qa"])
def test_msrvtt_without_the_videos_of_its_test(msrvtt, store, benchmark):
    examples = training_clips(benchmark, msrvtt, msrvtt, store)
    assert {e.video_id for e in examples} == {"video1", "video2", "video3", "video4"}
    assert [e.text for e in examples[:2]] == ["cut 1", "stir 1"]


def test_questions_prefer_the_list_without_official_test_videos(msrvtt, store):
    (msrvtt / "MSRVTT_train.7k.csv").write_text("video_id\nvideo2\nvideo3\n")
    examples = training_clips("msrvtt_qa", msrvtt, msrvtt, store)
    assert {e.video_id for e in examples} == {"video2", "video3"}


def test_lists_of_test_videos_alone_are_refused(msrvtt, store):
    (msrvtt / "MSRVTT_train.9k.csv").write_text("video_id\nvideo5\n")
    with pytest.raises(DataError, match=r"not in the test .2 examples were left out"):
        training_clips("msrvtt", msrvtt, msrvtt, store)


def test_a_video_of_two_tasks_may_not_be_learned_in_one_and_tested_in_the_other(tmp_path, store):
    folder = tmp_path / "crosstask"
    (folder / "annotations").mkdir(parents=True)
    with FeatureStore.create(tmp_path / "many", SPEC) as many:
        rows = [(1, f"v{i}") for i in range(34)] + [(2, f"v{i}") for i in range(34)]
        for task, video in rows:
            (folder / "annotations" / f"{task}_{video}.csv").write_text("1,0,4\n")
            if video not in many:
                many.append(video, np.ones((9, 4), np.float16))
        tasks = "".join(f"{t}\ntask\nurl\n1\nstir\n\n" for t in (1, 2))
        (folder / "tasks_primary.txt").write_text(tasks)
        (folder / "videos.csv").write_text("".join(f"{t},{v},url\n" for t, v in rows))
        (folder / "videos_val.csv").write_text("")
        training = training_steps(folder, many)
    # Thirty of each task are drawn; four of each are tested, and none of those is learned.
    assert 60 - 8 <= len(training) < 60
    assert len({v.video_id for v in training}) in range(26, 31)


def test_labels_of_a_file_that_has_a_video_in_one_part_only(tmp_path, store):
    def video(subset):
        segment = {"id": "1", "label": "cut", "segment": [0, 4]}
        return {"duration": 9, "class": "Tea", "subset": subset, "annotation": [segment]}

    path = tmp_path / "COIN.json"
    database = {"video0": video("training"), "video1": video("testing"), "gone": video("training")}
    path.write_text(json.dumps({"database": database}))
    videos, labels = training_labels(path, path, store)
    assert [v.video_id for v in videos] == ["video0"] and labels == ("cut",)


def test_what_is_left_is_in_order():
    class Of:
        def __init__(self, video_id):
            self.video_id = video_id

    kept = without_test_videos([Of("b"), Of("a"), Of("c"), Of("b")], {"a"}, None)
    assert [e.video_id for e in kept] == ["b", "c", "b"]
