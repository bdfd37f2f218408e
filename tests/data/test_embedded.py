import av
import numpy as np
import pytest

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


def write_video(path, tracks, folder):
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
            frame.pts = i
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux(source.streams.subtitles[0]):
                if packet.dts is not None:
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


def test_no_track_is_none_and_no_video_is_an_error(tmp_path):
    write_video(tmp_path / "a.mkv", [], tmp_path)
    assert read_embedded_subtitles(tmp_path / "a.mkv") is None
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DecodeError, match=r"text\.mp4: not a video") as error:
        read_embedded_subtitles(tmp_path / "text.mp4")
    assert "\n" not in str(error.value)
