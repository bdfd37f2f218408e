"""The real annotation files: every count that is published or known."""

import itertools
import json
import tarfile
from collections import Counter

import numpy as np
import pytest

from videoclip.benchmarks import (
    activitynet,
    charades,
    coin,
    crosstask,
    didemo,
    files,
    howto100m,
    msrvtt,
    nextqa,
    qvhighlights,
    youcook2,
)
from videoclip.evaluation.metrics.frames import label_targets
from videoclip.library.metadata import read_metadata


@pytest.fixture(scope="module")
def real(shared):
    return shared / "annotations" / "files"


def num_videos(examples):
    return len({example.video_id for example in examples})


def test_howto100m(real):
    folder = real / "howto100m"
    videos = read_metadata(folder / "recovered_rows.HowTo100M_v1.csv")
    titles = howto100m.read_task_titles(folder / "recovered_rows.task_ids.csv")
    captions = dict(howto100m.read_captions(folder / "recovered_rows.caption.json"))
    assert (len(videos), len(titles)) == (14, 8)
    assert {v: len(cues) for v, cues in captions.items()} == {
        "nVbIUDjzWY4": 172,
        "HnTLh99gcxY": 84,
        "rwmt7Cbuvfs": 47,
    }
    overlaps = {
        video_id: sum(a.end > b.start for a, b in itertools.pairwise(cues))
        for video_id, cues in captions.items()
    }
    assert overlaps == {"nVbIUDjzWY4": 167, "HnTLh99gcxY": 73, "rwmt7Cbuvfs": 0}
    ids = files.read_video_ids(folder / "how2_s3d_val.lst")
    assert len(ids) == 23_834 and all(len(i) == 11 for i in ids)
    assert len(files.read_video_ids(folder / "htm_holdout_vid.txt")) == 1_000


def test_youcook2(real):
    path = real / "youcook2" / youcook2.JSON_NAME
    train, val = (youcook2.read_youcook2_json(path, split) for split in ("train", "val"))
    assert (num_videos(train), num_videos(val)) == (1_333, 457)
    assert (len(train), len(val)) == (10_337, 3_492)  # 13,829 in all
    clips = youcook2.read_youcook2(real / "youcook2")  # the csv
    assert (len(clips), num_videos(clips)) == (3_350, 436)
    assert len({(c.video_id, c.start, c.end) for c in clips}) == 3_349  # one span has two texts
    assert set(clips) <= set(val)


def test_msrvtt(real):
    folder = real / "msrvtt"
    pairs = msrvtt.read_msrvtt_1k(folder)
    assert (len(pairs), num_videos(pairs)) == (1_000, 1_000)
    train = files.read_video_ids(folder / "MSRVTT_train.9k.csv")
    assert len(train) == 9_000 and not set(train) & {p.video_id for p in pairs}
    assert len(files.read_video_ids(folder / "MSRVTT_train.7k.csv")) == 7_010
    assert all(q.choices[q.answer] for q in msrvtt.read_msrvtt_qa(real / "msrvtt_mc"))


@pytest.mark.slow
def test_all_captions_of_msrvtt(real):
    folder = real / "msrvtt"
    pairs = msrvtt.read_msrvtt_1k(folder)
    train, seven = (files.read_video_ids(folder / f"MSRVTT_train.{n}k.csv") for n in (9, 7))
    videos = msrvtt.read_msrvtt_captions(folder / "MSRVTT_data.merged_from_official.json.gz")
    assert len(videos) == 10_000 and {len(v.captions) for v in videos} == {20}
    splits = [sum(v.split == split for v in videos) for split in msrvtt.SPLITS]
    assert splits == [6_513, 497, 2_990]
    # The list for 1k-A has most of the official test, which the questions are about.
    tested = {v.video_id for v in videos if v.split == "test"}
    assert (len(tested & set(train)), len(tested & set(seven))) == (1_990, 0)
    official = {v.video_id: set(v.captions) for v in videos}
    edited = sum(p.text not in official[p.video_id] for p in pairs)
    assert edited == 32  # 35 with the blanks at the ends that both files have
    questions = msrvtt.read_msrvtt_qa(real / "msrvtt_mc")
    captions = {i: c for v in videos for i, c in zip(v.caption_ids, v.captions, strict=True)}
    assert [captions[i] for i in (143897, 169115)] == [q.choices[q.answer] for q in questions]


def test_the_official_archive_of_msrvtt(real):
    videos = msrvtt.read_msrvtt_captions(real / "msrvtt" / "test_videodatainfo.json.zip")
    assert (len(videos), sum(len(v.captions) for v in videos)) == (2_990, 59_800)


def test_msrvtt_qa_as_a_table(shared):
    path = shared / "annotations" / "excerpts" / "msrvtt_mc" / "MSR_MC_test.reconstructed.csv"
    lines = msrvtt.read_msrvtt_qa(path.with_name("msrvtt_multi_choice_qa.jsonl"))
    assert msrvtt.read_msrvtt_qa(path) == lines


@pytest.mark.parametrize(
    ("name", "num_sentences", "num_paragraphs"),
    [("test_data.json", 4_021, 1_004), ("val_data.json", 4_180, 1_065)],
)
def test_didemo(real, name, num_sentences, num_paragraphs):
    sentences = didemo.read_didemo_moments(real / "didemo" / name)
    paragraphs = didemo.read_didemo_paragraphs(real / "didemo" / name)
    assert (len(sentences), num_videos(sentences)) == (num_sentences, num_paragraphs)
    assert len(paragraphs) == num_paragraphs
    spellings = {row["video"] for row in json.loads((real / "didemo" / name).read_text())}
    assert len(spellings) == {"test_data.json": 1_037, "val_data.json": 1_094}[name]
    odd = sum(len(s.moments) != 4 for s in sentences)
    assert odd == {"test_data.json": 12, "val_data.json": 15}[name]


@pytest.fixture(scope="module")
def official_coin(real):
    return coin.read_coin(real / "coin" / "schema_coin_valid.json.gz")


def test_coin(real, official_coin):
    assert len(official_coin.labels) == 778 and len(set(official_coin.labels)) == 749
    assert len(official_coin.videos) == 2_797
    assert len({v.task for v in official_coin.videos}) == 180
    assert sum(len(v.segments) for v in official_coin.videos) == 10_893
    taxonomy = coin.read_taxonomy(real / "coin" / "taxonomy.xlsx")
    assert tuple(taxonomy[i] for i in range(1, 779)) == official_coin.labels


@pytest.mark.slow
def test_coin_with_training_videos(real):
    path = real / "coin" / "COIN.reconstructed_10361.json.gz"
    train, test = (coin.read_coin(path, split) for split in ("train", "test"))
    assert (len(train.videos), len(test.videos)) == (7_564, 2_797)
    segments = [(v.task, s.label) for v in train.videos + test.videos for s in v.segments]
    assert (len(segments), len({task for task, _ in segments})) == (40_590, 180)
    # Labels are not known by their texts, not even within a task.
    pairs = {(task, train.labels[label - 1]) for task, label in segments}
    assert (len(train.labels), len(pairs)) == (778, 775)


def test_coin_always_background(official_coin):
    """The published zero-shot 58.9 % is the score of saying nothing at all."""
    videos = official_coin.videos
    frames = [label_targets(v.segments, int(np.ceil(v.duration))) for v in videos]
    share = np.mean(np.concatenate(frames) == 0)
    assert 0.586 < share < 0.589


def test_crosstask(real, tmp_path):
    with tarfile.open(real / "crosstask" / "crosstask_release.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    release = crosstask.read_crosstask(tmp_path)
    steps = [step for task in release.tasks.values() for step in task.steps]
    assert (len(release.tasks), len(steps), len(set(steps))) == (18, 133, 105)
    assert len(release.videos) == 2_750 and len(release.validation) == 360
    assert sum(len(v.segments) for v in release.videos) == 20_919
    overlaps = [a.end > b.start for v in release.videos for a, b in itertools.pairwise(v.segments)]
    assert sum(overlaps) == 1_053
    assert set(Counter(task for task, _ in release.validation).values()) == {20}
    related = crosstask.read_tasks(tmp_path / "crosstask_release" / "tasks_related.txt")
    assert "add vanilla_extract" in {s for task in related.values() for s in task.steps}
    assert (len(related), sum(len(t.steps) for t in related.values())) == (65, 571)
    keys = crosstask.read_video_keys(tmp_path / "crosstask_release" / "videos.csv")
    assert (len(keys), len({video_id for _, video_id in keys})) == (4_700, 4_607)
    everything = {v.video_id for v in release.videos}
    train, test = crosstask.released_split(release.videos, release.validation, everything)
    assert (len(train), len(test)) == (540, 1_850)


def test_the_rest(real):
    folder = real / "activitynet_captions"
    assert len(activitynet.read_activitynet_paragraphs(folder / "val_1.json")) == 4_917
    moments = qvhighlights.read_qvhighlights(real / "qvhighlights")
    assert len(moments) == 1_550 and all(m.moments for m in moments)
    hidden = qvhighlights.read_qvhighlights(real / "qvhighlights" / "highlight_test_release.jsonl")
    assert len(hidden) == 1_542 and not any(m.moments for m in hidden)
    test = charades.read_charades(real / "charades_sta")
    train = charades.read_charades(real / "charades_sta" / "charades_sta_train.txt")
    assert (len(test), num_videos(test)) == (3_720, 1_334)
    assert (len(train), num_videos(train)) == (12_408, 5_338)
    assert len(nextqa.read_nextqa(real / "nextqa")) == 4_996


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_videos"), [("val_2.json", 4_885), ("train_modified.json.gz", 10_009)]
)
def test_other_parts_of_activitynet(real, name, num_videos):
    path = real / "activitynet_captions" / name
    assert len(activitynet.read_activitynet_paragraphs(path)) == num_videos
