import csv
import dataclasses
import io
import json
import xml.etree.ElementTree as ET
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import opentimelineio as otio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.make_video import write_video
from videoclip.data.subtitles import read_subtitles
from videoclip.errors import ConfigError, DataError
from videoclip.output.edl import FrameRate, choose_rate, find_rate, to_edl, to_fcpxml
from videoclip.output.formats import (
    export_moments,
    read_moments,
    to_csv,
    to_table,
    to_webvtt,
)
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.results import Timeline

RATES = {
    "23.976": FrameRate(Fraction(24000, 1001)),
    "24": FrameRate(Fraction(24)),
    "25": FrameRate(Fraction(25)),
    "29.97 drop": FrameRate(Fraction(30000, 1001), True),
    "29.97": FrameRate(Fraction(30000, 1001)),
    "30": FrameRate(Fraction(30)),
    "50": FrameRate(Fraction(50)),
    "59.94 drop": FrameRate(Fraction(60000, 1001), True),
    "60": FrameRate(Fraction(60)),
}
FILM = Path("/videos/ein Film.mp4")
MOMENTS = [
    Moment(
        *(FILM, 61.5, 75.25, "chop <the> onion & cry"),
        confidence="high",
        duration=700.0,
        frame_rate=25.0,
    ),
    Moment(
        *(Path("/videos/b.mp4"), 0.0, 4.0, "two\nlines"),
        confidence="low",
        duration=60.0,
        frame_rate=25.0,
    ),
    Moment(FILM, 599.9, 660.1, "", duration=700.0, frame_rate=25.0),
]


def naive_drop_frame(frame, nominal):
    """Count names one frame after the other, leaving out those that are dropped."""
    hours = minutes = seconds = frames = 0
    for _ in range(frame):
        frames += 1
        if frames == nominal:
            frames, seconds = 0, seconds + 1
        if seconds == 60:
            seconds, minutes = 0, minutes + 1
            if minutes % 10:
                frames = nominal // 15
        if minutes == 60:
            minutes, hours = 0, hours + 1
    return f"{hours:02d}:{minutes:02d}:{seconds:02d};{frames:02d}"


@pytest.mark.parametrize("nominal", [30, 60])
@pytest.mark.parametrize(
    "frame", [0, 1, 1799, 1800, 3597, 3598, 17981, 17982, 17984, 36000, 107892]
)
def test_drop_frame_names_equal_counting(nominal, frame):
    rate = FrameRate(Fraction(nominal * 1000, 1001), is_drop=True)
    assert rate.timecode(frame) == naive_drop_frame(frame, nominal)


@given(st.sampled_from(sorted(RATES)), st.integers(0, 24 * 3600 * 23))
def test_timecode_equals_that_of_opentimelineio(name, frame):
    rate = RATES[name]
    time = otio.opentime.RationalTime(frame, float(rate.exact))
    theirs = otio.opentime.to_timecode(time, float(rate.exact), rate.is_drop)
    assert rate.timecode(frame) == theirs


@pytest.mark.parametrize(
    ("measured", "exact", "is_drop"),
    [
        (23.976, Fraction(24000, 1001), False),
        (24.0, Fraction(24), False),
        (47.952, Fraction(48000, 1001), False),
        (29.96, Fraction(30000, 1001), True),
        (30.001, Fraction(30), False),
        (59.94, Fraction(60000, 1001), True),
        (15.02, Fraction(15), False),
        (0.3, Fraction(1), False),
    ],
)
def test_measured_rates_are_taken_for_standard_ones(measured, exact, is_drop):
    assert find_rate(measured) == FrameRate(exact, is_drop)


def test_drop_frame_exists_at_two_rates_only():
    with pytest.raises(ConfigError, match=r"29\.97 and 59\.94, not at 25"):
        find_rate(25.0, is_drop=True)
    assert not find_rate(29.97, is_drop=False).is_drop
    with pytest.raises(ConfigError, match="positive"):
        FrameRate(Fraction(0))


def ranges_of(timeline):
    clips = list(timeline.find_clips())
    return [
        (clip.source_range.start_time.to_seconds(), clip.source_range.duration.to_seconds())
        for clip in clips
    ]


@pytest.mark.parametrize("name", RATES)
def test_an_edit_list_comes_back_from_opentimelineio(name):
    rate = RATES[name]
    text = to_edl(MOMENTS, rate, "my cut")
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=float(rate.exact))
    assert timeline.name == "my cut"
    assert [clip.name for clip in timeline.find_clips()] == [
        "ein Film.mp4",
        "b.mp4",
        "ein Film.mp4",
    ]
    frame = float(1 / rate.exact)
    for moment, (start, duration) in zip(MOMENTS, ranges_of(timeline), strict=True):
        assert start == pytest.approx(moment.start, abs=0.51 * frame)
        assert duration == pytest.approx(moment.end - moment.start, abs=1.01 * frame)
    record = text.splitlines()[3].split()[-2]
    assert record == ("01:00:00;00" if rate.is_drop else "01:00:00:00")


@pytest.mark.parametrize("name", RATES)
def test_fcpxml_comes_back_from_opentimelineio(name):
    rate = RATES[name]
    text = export_moments(MOMENTS, "fcpxml", "my cut", rate)
    collection = otio.adapters.read_from_string(text, "fcpx_xml")
    timeline = next(iter(collection.find_children(descended_from_type=otio.schema.Timeline)))
    frame = 1 / int(rate.exact)  # the adapter counts in whole rates: 23 at 23.976
    for moment, (start, duration) in zip(MOMENTS, ranges_of(timeline), strict=True):
        assert start == pytest.approx(moment.start, abs=1.6 * frame)
        assert duration == pytest.approx(moment.end - moment.start, abs=1.6 * frame)


@pytest.mark.parametrize("name", RATES)
def test_fcpxml_times_are_whole_frames_nearest_to_the_moments(name):
    rate = RATES[name]
    root = ET.fromstring(export_moments(MOMENTS, "fcpxml", "my cut", rate))
    at = Fraction(0)
    for moment, clip in zip(MOMENTS, root.iter("asset-clip"), strict=True):
        start, length, offset = (
            Fraction(clip.get(key).removesuffix("s")) for key in ("start", "duration", "offset")
        )
        assert all((time * rate.exact).denominator == 1 for time in (start, length, offset))
        assert abs(start - Fraction(moment.start)) <= 1 / rate.exact / 2
        assert abs(start + length - Fraction(moment.end)) <= 1 / rate.exact / 2
        assert offset == at
        at += length


def test_fcpxml_says_which_videos_have_sound(tmp_path):
    silent = write_video(tmp_path / "silent.mp4")
    loud = write_video(tmp_path / "loud.mp4", sound_seconds=1.0)
    moments = [Moment(path, 0.0, 0.5) for path in (silent, loud, tmp_path / "elsewhere.mp4")]
    root = ET.fromstring(export_moments(moments, "fcpxml", "my cut", RATES["25"]))
    sounds = {asset.get("name"): asset.get("hasAudio") for asset in root.iter("asset")}
    assert sounds == {"silent": None, "loud": "1", "elsewhere": None}
    (asset,) = [a for a in root.iter("asset") if a.get("name") == "loud"]
    assert (asset.get("audioRate"), asset.get("audioChannels")) == ("8000", "2")
    assert asset.get("audioSources") == "1"


def test_webvtt_is_read_by_our_own_reader(tmp_path):
    one = [moment for moment in MOMENTS if "Film" in moment.video_id]
    path = tmp_path / "chapters.vtt"
    path.write_text(to_webvtt(one), encoding="utf-8")
    assert to_webvtt(one[::-1]) == to_webvtt(one)  # in order of time
    cues = read_subtitles(path)
    assert [(cue.start, cue.end) for cue in cues] == [(61.5, 75.25), (599.9, 660.1)]
    assert [cue.text for cue in cues] == ["chop <the> onion & cry", "moment"]


def test_youtube_chapters_begin_at_zero_and_last_ten_seconds():
    moments = [Moment(Path("v.mp4"), t, t + 5, f"step {t}") for t in (12, 15, 40, 3700)]
    text = export_moments(moments, "youtube")
    assert text == "0:00 Intro\n0:12 step 12\n0:40 step 40\n1:01:40 step 3700\n"
    assert export_moments(moments[::-1], "youtube") == text  # in order of time
    assert export_moments([Moment(Path("v.mp4"), 4, 8, "a")], "youtube") == "0:00 a\n"
    ten = [Moment(Path("v.mp4"), t, t + 5, f"step {t}") for t in (0, 10, 19, 20)]
    assert export_moments(ten, "youtube") == "0:00 step 0\n0:10 step 10\n0:20 step 20\n"


def test_json_comes_back(tmp_path):
    path = tmp_path / "moments.json"
    path.write_text(export_moments(MOMENTS, "json"))
    assert read_moments(path) == MOMENTS
    assert json.loads(path.read_text())[0]["video_id"] == "ein Film"


def test_csv_is_a_table():
    lines = export_moments(MOMENTS[:1], "csv").splitlines()
    assert lines[0] == "path,start,end,name,confidence,is_deleted"
    assert lines[1] == "/videos/ein Film.mp4,61.500,75.250,chop <the> onion & cry,high,True"


def test_what_search_prints_can_be_read(tmp_path):
    row = {"path": "a.mp4", "start": 1, "end": 2, "words": "hello", "frame_rate": None}
    nested = [{"query": "a cat", "moments": [row]}]
    path = tmp_path / "moments.json"
    path.write_text(json.dumps(nested))
    assert read_moments(path) == [Moment(Path("a.mp4"), 1.0, 2.0, "a cat", words="hello")]
    path.write_text(json.dumps([row]))
    assert read_moments(path) == [Moment(Path("a.mp4"), 1.0, 2.0, "hello", words="hello")]
    path.write_text(
        json.dumps({"label": "all", "path": "b.mp4", "moments": [row | {"label": "a"}]})
    )
    (own,) = read_moments(path)
    assert (own.path, own.label) == (Path("a.mp4"), "a")


def test_what_segment_prints_can_be_read(tmp_path):
    labels = ("chop", "fry", "eat")
    moments = tuple(
        Moment(Path("a.mp4"), start, start + 4, label, confidence="high", duration=9, frame_rate=25)
        for start, label in ((0.0, "chop"), (4.0, "fry"))
    )
    path = tmp_path / "timeline.json"
    path.write_text(json.dumps(Timeline(Path("a.mp4"), 9, 25, labels, moments, 1.0).as_dict()))
    assert read_moments(path) == list(moments)


@pytest.mark.parametrize("text", ["{", '"hello"', '[{"path": "a", "start": "x", "end": 1}]', "[1]"])
def test_other_json_is_refused(tmp_path, text):
    path = tmp_path / "moments.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"moments\.json"):
        read_moments(path)


def test_an_edit_list_of_different_frame_rates_takes_the_commonest():
    messages = []
    mixed = [Moment(Path("c.mp4"), 0, 1, frame_rate=30.0), *MOMENTS]
    rate = choose_rate(mixed, on_message=messages.append)
    assert rate == FrameRate(Fraction(25))
    (message,) = messages
    assert message.startswith("the frame rates of the videos are 25, 30; took 25, the commonest")
    assert export_moments(mixed, "edl", on_message=messages.append) == to_edl(mixed, rate)
    assert messages == [message] * 2
    assert choose_rate(mixed, 30.0, on_message=messages.append) == FrameRate(Fraction(30))
    assert len(messages) == 2


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t"])
def test_a_table_holds_no_formula(mark):
    moment = Moment(Path(f"{mark}cmd.mp4"), 0, 1, f"{mark}1")
    ((path, *_, name, _, _),) = list(csv.reader(io.StringIO(to_csv([moment]))))[1:]
    assert (path, name) == (f"'{mark}cmd.mp4", f"'{mark}1")
    assert to_table([{"number": -1.5, "text": "a-b"}]) == "number,text\n-1.5,a-b\n"
    assert to_table([]) == ""
    assert to_table([{"text": "a\r=1"}]) == "text\na =1\n"


def test_what_a_format_cannot_hold_is_said():
    with pytest.raises(DataError, match="of 2; choose one with --video"):
        export_moments(MOMENTS, "vtt")
    with pytest.raises(DataError, match="no moments"):
        export_moments([], "csv")
    with pytest.raises(DataError, match="unknown; choose one"):
        export_moments([Moment(Path("c.mp4"), 0, 1)], "edl")
    with pytest.raises(DataError, match="cannot be read"):
        read_moments("/nowhere/moments.json")


def test_the_shortest_event_of_an_edit_list_is_one_frame():
    text = to_edl([Moment(FILM, 1.0, 1.001), Moment(FILM, 2.0, 3.0)], RATES["25"])
    events = [line.split()[-4:] for line in text.splitlines() if line[:3].isdigit()]
    assert events == [
        ["00:00:01:00", "00:00:01:01", "01:00:00:00", "01:00:00:01"],
        ["00:00:02:00", "00:00:03:00", "01:00:00:01", "01:00:01:01"],
    ]


@pytest.mark.parametrize("name", RATES)
def test_timecode_starts_again_after_24_hours(name):
    rate = RATES[name]
    sign = ";" if rate.is_drop else ":"
    skipped = rate.nominal // 15 if rate.is_drop else 0  # in nine of ten minutes
    one_day = 144 * (600 * rate.nominal - 9 * skipped)
    assert rate.timecode(one_day - 1) == f"23:59:59{sign}{rate.nominal - 1:02d}"
    assert rate.timecode(one_day) == f"00:00:00{sign}00"


def test_every_line_of_an_edit_list():
    assert to_edl(MOMENTS[:2], RATES["29.97 drop"]).splitlines() == [
        "TITLE: videoclip",
        "FCM: DROP FRAME",
        "",
        "001  AX       V     C        00:01:01;15 00:01:15;07 01:00:00;00 01:00:13;22",
        "* FROM CLIP NAME: ein Film.mp4",
        "* SOURCE FILE: /videos/ein Film.mp4",
        "* COMMENT: chop <the> onion & cry",
        "",
        "002  AX       V     C        00:00:00;00 00:00:04;00 01:00:13;22 01:00:17;22",
        "* FROM CLIP NAME: b.mp4",
        "* SOURCE FILE: /videos/b.mp4",
        "* COMMENT: two lines",
    ]
    plain = to_edl(MOMENTS[2:], RATES["29.97"], "t" * 99)
    assert plain.startswith(f"TITLE: {'t' * 70}\nFCM: NON-DROP FRAME\n") and "COMMENT" not in plain


def test_every_element_of_fcpxml():
    text = to_fcpxml([*MOMENTS[:1], Moment(FILM, 80.0, 81.0)], RATES["25"])
    assert text.splitlines() == [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<!DOCTYPE fcpxml>",
        '<fcpxml version="1.8">',
        "  <resources>",
        '    <format id="r1" frameDuration="1/25s" />',
        '    <asset id="r2" name="ein Film" src="file:///videos/ein%20Film.mp4" start="0s" '
        'duration="700s" hasVideo="1" format="r1" />',
        "  </resources>",
        "  <library>",
        '    <event name="videoclip">',
        '      <project name="videoclip">',
        '        <sequence format="r1" tcStart="0s" tcFormat="NDF" duration="368/25s">',
        "          <spine>",
        '            <asset-clip name="chop &lt;the&gt; onion &amp; cry" ref="r2" offset="0s" '
        'start="1538/25s" duration="343/25s" format="r1" tcFormat="NDF">',
        "              <note>confidence: high</note>",
        "            </asset-clip>",
        '            <asset-clip name="ein Film" ref="r2" offset="343/25s" start="80s" '
        'duration="1s" format="r1" tcFormat="NDF" />',
        "          </spine>",
        "        </sequence>",
        "      </project>",
        "    </event>",
        "  </library>",
        "</fcpxml>",
    ]
    dropped = to_fcpxml(MOMENTS[:1], RATES["29.97 drop"])
    assert dropped.count('tcFormat="DF"') == 2 and '"1001/30000s"' in dropped


def test_fiftyone_has_frames_by_absolute_path():
    content = json.loads(export_moments(MOMENTS, "fiftyone"))
    assert content["classes"] == ["chop <the> onion & cry", "moment", "two lines"]
    assert content["labels"].keys() == {str(FILM), "/videos/b.mp4"}
    first, last = content["labels"][str(FILM)]
    assert first == {
        "label": 0,
        "support": [1538, 1882],  # 61.5 s is where frame 1537.5 would be
        "attributes": {"similarity": 0.0, "confidence_level": "high"},
    }
    assert last["label"] == 1 and last["attributes"]["confidence_level"] == "unknown"
    assert content["labels"]["/videos/b.mp4"][0]["support"] == [1, 100]


def test_labelstudio_has_a_task_for_each_video():
    tasks = json.loads(export_moments(MOMENTS, "labelstudio"))
    assert [task["data"]["video"] for task in tasks] == [str(FILM), "/videos/b.mp4"]
    (prediction,) = tasks[1]["predictions"]
    assert prediction["result"] == [
        {
            "id": "moment-2",
            "from_name": "moments",
            "to_name": "video",
            "type": "timelinelabels",
            "value": {"ranges": [{"start": 1, "end": 100}], "timelinelabels": ["two lines"]},
        }
    ]
    assert len(tasks[0]["predictions"][0]["result"]) == 2


@pytest.mark.parametrize("form", ["fiftyone", "labelstudio"])
def test_labels_in_frames_need_a_frame_rate(form):
    with pytest.raises(DataError, match="frame rate of a moment is not known"):
        export_moments([Moment(FILM, 1.0, 2.0)], form)


def test_json_keeps_everything_of_a_moment_but_its_parts(tmp_path):
    known = {"path": FILM, "confidence": "medium", "has_all_words": True, "parts": ()}
    values = {
        field.name: known.get(field.name, f"a {field.name}" if field.type is str else 2.5 + i)
        for i, field in enumerate(dataclasses.fields(Moment))
    }
    moment = Moment(**values)
    usual = {f.name for f in dataclasses.fields(Moment) if values[f.name] == f.default}
    assert usual == {"parts"}
    path = tmp_path / "moments.json"
    path.write_text(export_moments([moment, *MOMENTS], "json"))
    assert read_moments(path) == [moment, *MOMENTS]


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 300)), min_size=1, max_size=8))
def test_chapters_of_any_moments_are_what_the_site_takes(spans):
    moments = [Moment(FILM, a / 10, (a + n) / 10, f"m{i}") for i, (a, n) in enumerate(spans)]
    messages = []
    text = export_moments(moments, "youtube", on_message=messages.append)
    chapters = [line.split(" ", 1) for line in text.splitlines()]
    starts = [60 * int(minutes) + int(s) for minutes, s in (c[0].split(":") for c in chapters)]
    titles = [title for _, title in chapters]
    assert starts[0] == 0
    assert all(later - start >= 10 for start, later in pairwise(starts))
    shown = {title: start for start, title in zip(starts, titles, strict=True) if title[0] == "m"}
    left_out = sum(moment.label not in shown for moment in moments)
    assert any("left out" in message for message in messages) == (left_out > 0)
    assert not left_out or messages[0].startswith(f"{left_out} of {len(moments)} chapters")
    for moment in moments:
        if moment.label in shown:
            assert shown[moment.label] == int(moment.start) or shown[moment.label] == 0
    # What is between the moments holds none of them.
    for start, end, title in zip(starts, [*starts[1:], 10_000], titles):
        if title in ("...", "Intro"):
            assert not any(m.start < end and m.end >= start + 1 for m in moments if end < 10_000)
