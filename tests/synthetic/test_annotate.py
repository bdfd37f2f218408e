"""Every format is read back by the reader of its benchmark and compared with the scenario."""

from __future__ import annotations

import csv

import pytest

from videoclip.benchmarks.coin import read_coin
from videoclip.benchmarks.crosstask import read_crosstask, released_split
from videoclip.benchmarks.didemo import read_didemo_moments
from videoclip.benchmarks.files import read_video_ids
from videoclip.benchmarks.howto100m import read_captions, read_task_titles
from videoclip.benchmarks.msrvtt import (
    read_msrvtt_1k,
    read_msrvtt_captions,
    read_msrvtt_pairs,
    read_msrvtt_qa,
)
from videoclip.benchmarks.table import read_table
from videoclip.benchmarks.youcook2 import read_youcook2_csv, read_youcook2_json
from videoclip.library.metadata import read_metadata
from videoclip.synthetic.annotate import annotation_files, descriptions
from videoclip.synthetic.narrate import label, narrate
from videoclip.synthetic.world import SyntheticConfig, SyntheticWorld

NUM_VIDEOS = 60
COLOUR_OF = {
    "crimson": "red", "tangerine": "orange", "golden": "yellow", "emerald": "green",
    "navy": "blue", "violet": "purple", "ivory": "white", "dark": "black",
}  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return SyntheticWorld(SyntheticConfig(seed=8, twin_share=0.2, num_tasks=30, num_new_tasks=10))


@pytest.fixture(scope="module")
def videos(world):
    return [world.video(i) for i in range(NUM_VIDEOS)]


@pytest.fixture(scope="module")
def test_videos(videos):
    return [v for v in videos if v.split == "test"]


@pytest.fixture(scope="module")
def folder(world, videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotations")
    for name, text in annotation_files(world, videos).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_annotations_are_the_same_every_time(world, videos):
    again = SyntheticWorld(world.config)
    assert annotation_files(world, videos) == annotation_files(
        again, [again.video(i) for i in range(NUM_VIDEOS)]
    )


def test_more_videos_leave_the_rows_of_the_others_alone(world, videos):
    fewer, all_of_them = annotation_files(world, videos[:20]), annotation_files(world, videos)
    assert all_of_them["steps.csv"].startswith(fewer["steps.csv"])
    for name in ("msrvtt/MSRVTT_JSFUSION_test.csv", "msrvtt_mc/MSR_MC_test.csv"):
        assert all_of_them[name].startswith(fewer[name])


def test_plain_tables(world, videos, folder):
    expected = [
        (v.video_id, s.start, s.end, text)
        for v in videos
        for s, text in zip(v.shown, descriptions(world, v), strict=True)
    ]
    rows = read_table(folder / "steps.csv")
    assert [(r.video_id, r.start, r.end, r.text) for r in rows] == expected
    assert len(read_table(folder / "train.csv")) + len(read_table(folder / "test.csv")) == len(rows)
    with (folder / "steps.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    shown = [(v, s) for v in videos for s in v.shown]
    for row, (video, s) in zip(table, shown, strict=True):
        assert row["label"] == label(s.step) != row["opposite"]
        assert row["held_out"] == str(int(s.step.held_out))
        assert row["split"] == video.split
        assert (row["twin_of"] == "") == (video.root == video.index)
    assert {row["held_out"] for row in table if row["split"] == "train"} == {"0"}


def test_youcook2(world, videos, test_videos, folder):
    path = folder / "youcook2" / "youcookii_annotations_trainval.json"
    for split, chosen in (("train", None), ("val", test_videos)):
        clips = read_youcook2_json(path, split)
        shown = [
            (v.video_id, s.start, s.end)
            for v in (chosen or [v for v in videos if v.split == "train"])
            for s in v.shown
        ]
        for clip, (video_id, start, end) in zip(clips, shown, strict=True):
            assert clip.video_id == video_id
            assert abs(clip.start - start) <= 1
            assert abs(clip.end - end) <= 1
    assert read_youcook2_csv(folder / "youcook2" / "validation_youcook.csv") == clips


def test_msrvtt(world, videos, test_videos, folder):
    captioned = read_msrvtt_captions(folder / "msrvtt" / "MSRVTT_data.json")
    assert {v.video_id: v.split for v in captioned} == {v.video_id: v.split for v in videos}
    assert {len(v.captions) for v in captioned} == {20}
    pairs = read_msrvtt_1k(folder / "msrvtt")
    assert [p.video_id for p in pairs] == [v.video_id for v in test_videos]
    train = read_video_ids(folder / "msrvtt" / "MSRVTT_train.9k.csv")
    training = read_msrvtt_pairs(folder / "msrvtt" / "MSRVTT_data.json", train)
    assert len(training) == 20 * (len(videos) - len(test_videos))


def test_multiple_choice(videos, test_videos, folder):
    questions = read_msrvtt_qa(folder / "msrvtt_mc" / "MSR_MC_test.csv")
    assert read_msrvtt_qa(folder / "msrvtt_mc" / "msrvtt_multi_choice_qa.jsonl") == questions
    assert [q.video_id for q in questions] == [v.video_id for v in test_videos]
    assert len({q.answer for q in questions}) > 2
    for question, video in zip(questions, test_videos, strict=True):
        words = {COLOUR_OF.get(w, w) for w in question.choices[question.answer].split()}
        assert video.shown[0].step.colour in words
        assert len(set(question.choices)) == 5


def test_a_world_of_one_task_still_has_wrong_answers():
    world = SyntheticWorld(
        SyntheticConfig(
            num_tasks=2, num_new_tasks=2, num_steps=18, steps_per_video=(9, 9), test_share=1
        )
    )
    videos = [world.video(0)]
    rows = annotation_files(world, videos)["msrvtt_mc/MSR_MC_test.csv"].splitlines()
    assert len(set(rows[1].split("\t")[2:7])) == 5


def test_didemo(test_videos, folder):
    moments = read_didemo_moments(folder / "didemo")
    by_video = {v.video_id: v for v in test_videos}
    assert len(moments) > len(test_videos)
    for moment in moments:
        assert len(moment.moments) == 4
        usual = max(moment.moments, key=moment.moments.count)
        spans = [(s.start, s.end) for s in by_video[moment.video_id].shown]
        assert any(min(usual[1], end) - max(usual[0], start) >= 2 for start, end in spans)
        assert all(end <= moment.duration for _, end in moment.moments)


def test_coin(videos, test_videos, folder):
    for split, chosen in (
        ("train", [v for v in videos if v.split == "train"]),
        ("test", test_videos),
    ):
        coin = read_coin(folder / "coin", split)
        for read, video in zip(coin.videos, chosen, strict=True):
            assert (read.video_id, read.duration) == (video.video_id, video.duration)
            assert [(s.start, s.end, coin.labels[s.label - 1]) for s in read.segments] == [
                (s.start, s.end, label(s.step)) for s in video.shown
            ]


def test_crosstask(videos, test_videos, folder):
    crosstask = read_crosstask(folder / "crosstask")
    assert len(crosstask.videos) == len(videos)
    for read, video in zip(crosstask.videos, videos, strict=True):
        assert read.task.task_id == str(video.task.task_id)
        assert [(s.start, s.end, read.task.steps[s.label]) for s in read.segments] == [
            (s.start, s.end, label(s.step)) for s in video.shown
        ]
    everything = {v.video_id for v in videos}
    _, test = released_split(crosstask.videos, crosstask.validation, everything)
    assert {v.video_id for v in test} == {v.video_id for v in test_videos}


def test_howto100m(world, videos, folder):
    read = dict(read_captions(folder / "howto100m" / "raw_caption.json"))
    for video in videos:
        said = [(c.start, c.end, c.text) for c in narrate(video, world)]
        assert [(c.start, c.end, c.text) for c in read[video.video_id]] == said
    titles = read_task_titles(folder / "howto100m" / "task_ids.csv")
    rows = read_metadata(folder / "howto100m" / "HowTo100M_v1.csv")
    assert [titles[rows[v.video_id]["task_id"]] for v in videos] == [v.task.title for v in videos]
    assert len(rows) == len(videos)
    lists = [
        read_video_ids(folder / "howto100m" / f"how2_s3d_{split}.lst") for split in ("train", "val")
    ]
    assert sorted([*lists[0], *lists[1]]) == [v.video_id for v in videos]
