import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.library.colours import write_video
from videoclip import preparation
from videoclip.data.captions import Cue
from videoclip.data.sources import list_files
from videoclip.data.subtitles import read_subtitles, to_webvtt
from videoclip.files import write_text
from videoclip.preparation import (
    CaptionQuality,
    CaptionReport,
    Prepared,
    assess,
    find_outliers,
    prepare_captions,
    prepare_videos,
    warnings_of,
    write_captions,
    write_shards,
)

GOOD = CaptionQuality(10, 100, 0.5, 0.0, 2.0, 0.0, 0.0)


def test_figures_by_hand():
    raw = [Cue(0, 2, "a b"), Cue(2, 2.01, "a b"), Cue(2.01, 4, "a b c d"), Cue(9, 13, "[Music]")]
    cues = [Cue(0, 2.0, "a b"), Cue(2.0, 4, "c d"), Cue(3, 5, "e")]
    quality = assess(raw, cues, duration=4.0)
    assert quality.num_cues == 3
    assert quality.num_words == 5
    assert quality.coverage == 1.0
    assert quality.duplication == pytest.approx(1 - 5 / 8)
    assert quality.words_per_second == 1.0
    assert quality.offset == 0.5
    assert quality.overrun == 1.0
    within = [Cue(0, 4, "a"), Cue(1, 2, "b"), Cue(3, 5, "c")]  # the second ends first
    assert assess(within, within, 10.0).coverage == 0.5
    assert assess(within[:2], within[:2], 3.0).overrun == 1.0
    assert assess([Cue(1, 1, "a")], [Cue(1, 1, "a")], 2.0).words_per_second == float("inf")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"overrun": 30.0}, ["runs 30 s past"]),
        ({"coverage": 0.01}, ["covers only 1%"]),
        ({"words_per_second": 9.0}, ["9.0 words per second"]),
    ],
)
def test_what_looks_wrong_is_said(change, words):
    found = warnings_of(CaptionQuality(**(vars(GOOD) | change)))
    assert [sentence[: len(start)] for sentence, start in zip(found, words, strict=True)] == words


def test_narration_that_lies_elsewhere_is_an_outlier():
    offsets = {"a": 0.0, "b": 1.0, "c": -1.0, "d": 0.5, "e": 12.0, "f": 0.0}
    assert find_outliers(offsets) == {"e": 11.75}
    assert find_outliers({"a": 0.0, "b": 90.0}) == {}
    spread = {str(i): 10.0 * i for i in range(9)}
    assert find_outliers(spread) == {}
    assert find_outliers(spread | {"8": 130.0}) == {}  # 4.5 times the median deviation of 20
    assert find_outliers(spread | {"8": 150.0}) == {"8": 110.0}


@pytest.mark.parametrize("spoken", [None, [Cue(0, 1, "heard")], []])
def test_words_come_from_the_file_then_the_track_then_the_speech(tmp_path, monkeypatch, spoken):
    track = [Cue(0, 1, "inside"), Cue(1, 2, "inside too")]
    monkeypatch.setattr(preparation, "read_embedded_subtitles", lambda path: track)
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nbeside\n")
    video = tmp_path / "a.mp4"
    transcribe = None if spoken is None else lambda path: spoken
    beside = prepare_captions(video, tmp_path / "a.srt", 2.0, transcribe)
    assert (beside.source, beside.cues) == ("file", (Cue(0.0, 1.0, "beside"),))
    inside = prepare_captions(video, None, 2.0, transcribe)
    assert (inside.source, inside.quality.coverage) == ("embedded", 1.0)

    track[:] = [Cue(0, 1, "[Music]")] if spoken else []
    last = prepare_captions(video, None, 2.0, transcribe)
    if spoken:
        assert (last.source, last.cues) == ("speech", (Cue(0, 1, "heard"),))
    else:
        assert (last.source, last.cues, last.quality) == ("none", (), None)


ROLLING = "\n\n".join(
    f"{i + 1}\n00:00:{2 * i:02d},000 --> 00:00:{2 * i + 4:02d},000\n{text}"
    for i, text in enumerate(["we cut", "we cut\nthe onion", "the onion\nand fry it"])
)


@pytest.mark.parametrize("source", ["file", "embedded", "speech"])
def test_quality_compares_what_was_read_with_what_is_written(tmp_path, monkeypatch, source):
    (tmp_path / "a.srt").write_text(ROLLING)
    raw = read_subtitles(tmp_path / "a.srt")
    read = preparation.parse_subtitles(tmp_path / "a.srt")
    assert raw != read  # captions that roll repeat each line
    track = read if source == "embedded" else None
    monkeypatch.setattr(preparation, "read_embedded_subtitles", lambda path: track)
    subtitles = tmp_path / "a.srt" if source == "file" else None
    found = prepare_captions(tmp_path / "a.mp4", subtitles, 16.0, lambda path: read)
    assert found == Prepared(source, tuple(raw), assess(read, raw, 16.0))
    assert found.quality.duplication == 1 - 7 / 11
    assert found.quality.coverage == 0.5


def test_the_report_as_a_table_and_for_programs(tmp_path):
    early = {f"v{i}": GOOD for i in range(5)}
    worse = {"late": {"offset": 12.0, "overrun": 30.5, "duplication": 0.25}, "v4": {"offset": -9.0}}
    quality = early | {name: CaptionQuality(**(vars(GOOD) | of)) for name, of in worse.items()}
    cues = (Cue(0.0, 1.0, "a"),)
    prepared = {name: Prepared("file", cues, of) for name, of in quality.items()}
    prepared["a video without"] = Prepared("none", (), None)
    report = CaptionReport(tmp_path, prepared, {Path("x.mp4"): "not a video"})
    problems = {
        "late": [
            "runs 30 s past the end of the video: another edit?",
            "captions are 12 s later than in the other videos",
        ],
        "v4": ["captions are 9 s earlier than in the other videos"],
    }
    assert report.warnings == {name: [] for name in quality} | problems
    assert report.captions == dict.fromkeys(quality, cues)
    good = "file        10       50%       0%      2.0"
    assert str(report).splitlines() == [
        "video            source    cues  coverage  repeats  words/s  warnings",
        *(f"{f'v{i}':<15}  {good}" for i in range(4)),
        f"v4               {good}  {problems['v4'][0]}",
        "late             file        10       50%      25%      2.0  "
        + "; ".join(problems["late"]),
        "a video without  none      no captions: can be searched by its frames, but not trained on",
        f"{tmp_path}: 6 with captions, 1 without, 1 failed; see {tmp_path / 'report.json'}",
    ]
    table = report.as_dict()
    assert table["failed"] == {"x.mp4": "not a video"}
    assert table["videos"]["a video without"] == {"source": "none", "warnings": []}
    late = vars(quality["late"]) | {"source": "file", "warnings": problems["late"]}
    assert table["videos"]["late"] == late and len(table["videos"]) == 7


CUES = [Cue(0.0, 1.5, "salt & pepper <3"), Cue(3661.25, 3662.0, "über --> alles")]


def test_what_is_written_is_read_back(tmp_path):
    for _ in range(2):
        write_text(tmp_path / "deep/a.vtt", to_webvtt(CUES))
        write_captions(tmp_path / "all.json", {"a": CUES, "b": []})
    assert read_subtitles(tmp_path / "deep/a.vtt") == CUES
    table = json.loads((tmp_path / "all.json").read_text())
    assert table["b"] == {"start": [], "end": [], "text": []}
    (tmp_path / "one.json").write_text(json.dumps(table["a"]))
    assert read_subtitles(tmp_path / "one.json") == CUES
    assert not list(tmp_path.glob("**/.*"))


def test_progress_counts_what_is_done_or_failed(tmp_path):
    videos, calls = tmp_path / "videos", []
    write_video(videos / "good.mp4", ["red"] * 2)
    (videos / "bad.mp4").write_text("no video")
    (videos / "gone.mp4").symlink_to(tmp_path / "nowhere")  # known before any work is done
    report = prepare_videos([videos], tmp_path / "out", on_progress=lambda *c: calls.append(c))
    assert sorted(path.name for path in report.failed) == ["bad.mp4", "gone.mp4"]
    assert calls == [(1, 2), (2, 2)]


def test_five_videos_are_enough_to_find_an_outlier():
    offsets = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 0.2, "e": 30.5}
    assert find_outliers(offsets) == {"e": 30.0}
    del offsets["a"]
    assert find_outliers(offsets) == {}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 20))
def test_an_archive_is_closed_once_its_videos_reach_the_size(tmp_path_factory, sizes, limit):
    folder = tmp_path_factory.mktemp("shards")
    videos = {f"v{i}": folder / f"v{i}.mp4" for i in range(len(sizes))}
    for path, size in zip(videos.values(), sizes, strict=True):
        path.write_bytes(b"x" * size)
    groups = [[]]
    for name, size in zip(videos, sizes, strict=True):
        if groups[-1] and sum(size for _, size in groups[-1]) >= limit:
            groups.append([])
        groups[-1].append((name, size))
    paths = write_shards(folder, videos, {"v0": [Cue(0.0, 1.0, "a")]}, shard_bytes=limit)
    assert [path.name for path in paths] == [f"{i:05d}.tar" for i in range(len(groups))]
    found = [[member.name for member in list_files(path)] for path in paths]
    assert found[0][:2] == ["v0.mp4", "v0.vtt"]
    stems = [[Path(name).stem for name in names if name.endswith(".mp4")] for names in found]
    assert stems == [[name for name, _ in group] for group in groups]


@pytest.mark.parametrize(("age", "is_read"), [(-1, True), (0, True), (1, False), (None, False)])
def test_speech_is_recognised_once_unless_the_video_is_newer(tmp_path, age, is_read):
    video, written = tmp_path / "a.mp4", tmp_path / "a.vtt"
    video.touch()
    if age is not None:
        write_text(written, to_webvtt([Cue(0.0, 1.0, "before")]))
        os.utime(written, (1e9, 1e9))
        os.utime(video, (1e9 + age, 1e9 + age))
    found = preparation._transcribe(lambda path: [Cue(0.0, 1.0, "again")], written, video)
    assert [cue.text for cue in found] == ["before" if is_read else "again"]
