from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from videoclip import preparation
from videoclip.data.captions import Cue, clean_cues
from videoclip.errors import DecodeError
from videoclip.preparation import read_embedded_subtitles

SRT = """1
00:00:00,500 --> 00:00:01,250
{text} <i>world</i>
and all, of you

2
00:00:01,250 --> 00:00:03,000
the end
"""
CUES = [Cue(0.5, 1.25, "hello world and all, of you"), Cue(1.25, 3.0, "the end")]


def write_video(path, tracks, folder, start=0):
    """A small video with a subtitle track for each (language, text, disposition)."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=5)
        video.width = video.height = 64
        sources, streams = [], []
        for number, (language, text, disposition) in enumerate(tracks):
            (folder / f"{number}.srt").write_text(SRT.format(text=text))
            source = av.open(str(folder / f"{number}.srt"))
            stream = out.add_stream_from_template(source.streams.subtitles[0])
            stream.metadata["language"] = language
            stream.disposition = disposition
            sources.append(source)
            streams.append(stream)
        for i in range(15):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            frame.pts = i + 5 * start
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux(source.streams.subtitles[0]):
                if packet.dts is not None:
                    packet.pts = packet.dts = packet.pts + round(start / packet.time_base)
                    packet.stream = stream
                    out.mux(packet)
            source.close()


def test_a_track_is_read_with_its_times(tmp_path):
    write_video(tmp_path / "a.mkv", [("eng", "hello", 0)], tmp_path)
    assert clean_cues(read_embedded_subtitles(tmp_path / "a.mkv")) == CUES


def test_the_best_track_is_chosen(tmp_path):
    default, forced = av.stream.Disposition.default, av.stream.Disposition.forced
    tracks = [("ger", "hallo", default), ("eng", "forced", forced), ("eng", "hello", 0)]
    write_video(tmp_path / "a.mkv", tracks, tmp_path)
    assert clean_cues(read_embedded_subtitles(str(tmp_path / "a.mkv"))) == CUES


def test_times_count_from_the_start_of_the_video(tmp_path):
    write_video(tmp_path / "a.mkv", [("eng", "hello", 0)], tmp_path, start=4)
    assert clean_cues(read_embedded_subtitles(tmp_path / "a.mkv")) == CUES


def test_english_is_preferred_however_it_is_written_and_then_the_default_track(tmp_path):
    default = av.stream.Disposition.default
    tracks = [("ger", "hallo", default), ("ENG", "later", 0), ("ENG", "hello", default)]
    write_video(tmp_path / "a.mkv", tracks, tmp_path)
    assert clean_cues(read_embedded_subtitles(tmp_path / "a.mkv")) == CUES


def test_tracks_of_pictures_are_no_text_and_damaged_letters_are_replaced(monkeypatch):
    pictures = SimpleNamespace(codec_context=SimpleNamespace(name="hdmv_pgs_subtitle"))
    container = SimpleNamespace(streams=SimpleNamespace(subtitles=[pictures]))
    monkeypatch.setattr(preparation, "open_container", lambda path: nullcontext(container))
    assert preparation._read_track(Path("a.mkv")) is None
    rects = [SimpleNamespace(dialogue=b"a\xffb"), SimpleNamespace(dialogue=b"c")]
    track = SimpleNamespace(decode=lambda packet: rects)
    assert preparation._text(track, None) == "a\ufffdb\nc"


def test_no_track_is_none_and_no_video_is_an_error(tmp_path):
    write_video(tmp_path / "a.mkv", [], tmp_path)
    assert read_embedded_subtitles(tmp_path / "a.mkv") is None
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DecodeError, match=r"text\.mp4: not a video") as error:
        read_embedded_subtitles(tmp_path / "text.mp4")
    assert "\n" not in str(error.value)
