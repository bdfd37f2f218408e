"""Bad input: each in one line that says what is wrong."""

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.make_video import number_shown, write_sound, write_video
from videoclip.errors import DecodeError
from videoclip.features import video_file
from videoclip.features.decode import Fit, ShorterSide, grab_frame, probe, sample_frames
from videoclip.features.video_file import find_frame_times, open_container, open_video


def why(path):
    with pytest.raises(DecodeError) as caught:
        list(sample_frames(path, 1.0))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "file is empty"),
        ("not a video\n" * 50, "not a video, or damaged"),
        ("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n", "not a video, or damaged"),
        ("1\n00:00:01,000 --> 00:00:02,000\nhello\n", "no video stream"),
    ],
    ids=["empty", "text", "playlist", "subtitles"],
)
def test_a_text_file_named_mp4(tmp_path, content, reason):
    path = tmp_path / "clip.mp4"
    path.write_text(content)
    assert reason in why(path)
    with pytest.raises(DecodeError, match=reason):
        grab_frame(path, 1.0)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_only(tmp_path, cover):
    assert why(write_sound(tmp_path / "clip.mp4", cover=cover)) == "the file contains only sound"


def test_no_pictures(tmp_path):
    assert "no video stream" in why(write_video(tmp_path / "clip.mp4", 0))


def test_missing_link_folder(tmp_path):
    assert why(tmp_path / "none.mp4") == "no such file"
    link = tmp_path / "link.mp4"
    link.symlink_to("gone/clip.mp4")
    assert why(link) == "a link to a file that does not exist"
    assert why(tmp_path) == "a folder; name one video file"


def test_no_permission(tmp_path):
    """In a process of its own, as root may read everything."""
    path = write_video(tmp_path / "clip.mp4", 3)
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if os.geteuid() == 0:
            folder.chmod(0o755)
    code = (
        "import os, sys\n"
        "from videoclip.features.decode import probe\n"
        "from videoclip.errors import DecodeError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: probe(sys.argv[1])\n"
        "except DecodeError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert result.stdout == f"{path}: no permission to read it\n", result.stderr


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi"])
def test_cut_off(tmp_path, suffix):
    codec = {"webm": "libvpx", "avi": "mpeg4"}.get(suffix, "libx264")
    whole = write_video(tmp_path / f"whole.{suffix}", 100, codec=codec).read_bytes()
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    expected = "not a video, or damaged" if suffix == "mp4" else "is cut off after"
    assert expected in why(path)


def test_cut_off_though_its_first_frame_is_late(tmp_path):
    whole, path = tmp_path / "whole.mkv", tmp_path / "clip.mkv"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(0).integers(256, size=(100, 48, 64, 3), dtype=np.uint8)
        for number, pixels in enumerate(noise):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 200 + number, Fraction(1, 10)  # from second 20 on
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert find_frame_times(whole).duration == 10
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "the file is cut off after 2" in why(path) and "of 30.0 s" in why(path)


def moov_first(path):
    """Write an MP4 whose index comes first, as served on the web, and return its bytes."""
    import av

    plain = write_video(path.with_name("plain.mp4"), 100)
    with (
        av.open(str(plain)) as source,
        av.open(str(path), "w", options={"movflags": "+faststart"}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return path.read_bytes()


def test_cut_off_after_its_index(tmp_path):
    path = tmp_path / "clip.mp4"
    whole = moov_first(path)
    path.write_bytes(whole[: len(whole) // 2])
    assert "of 10.0 s; copy or download it again" in why(path)


def test_a_few_damaged_pictures_are_bridged_and_many_are_not(tmp_path):
    path = tmp_path / "clip.mp4"
    whole = moov_first(path)
    data = whole.index(b"mdat") + 8
    path.write_bytes(whole[:-100] + bytes(100))
    shown = [number_shown(frame.rgb()) for frame in sample_frames(path, 1.0)]
    assert shown[:9] == [5, 15, 25, 35, 45, 55, 65, 75, 85]
    path.write_bytes(whole[:data] + bytes(len(whole) - data))
    assert "frames are damaged; copy or download it again" in why(path)
    with pytest.raises(DecodeError, match="damaged"):
        grab_frame(path, 1.0)


def test_random_bytes(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    assert "not a video, or damaged" in why(path)


@pytest.mark.parametrize(
    "name",
    ["with space.mp4", "quo'te\".mp4", "emoji 😀.mp4", "a:b %03d [1].mp4", "x" * 240 + ".mp4"],
)
def test_names_of_every_kind(tmp_path, name):
    write_video(tmp_path / "plain.mp4", 12).rename(tmp_path / name)
    assert probe(tmp_path / name).num_frames == 12


def test_a_relative_name_is_not_taken_for_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(Path("a.mp4"), 1).rename("data:a.mp4")
    with open_container(Path("data:a.mp4")) as container:
        assert len(container.streams.video) == 1


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    write_video(tmp_path / "plain.mp4", 12).rename(path)
    assert probe(path).num_frames == 12


def test_ffmpeg_keeps_silent(tmp_path, capfd):
    path = tmp_path / "clip.mp4"
    whole = moov_first(path)
    path.write_bytes(whole[: len(whole) // 2])
    why(path)
    assert capfd.readouterr() == ("", "")


def test_one_thread_decodes(tmp_path):
    with open_video(write_video(tmp_path / "clip.mp4", 3)) as (_, stream):
        assert stream.codec_context.thread_count == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_hours_apart_are_few_samples(tmp_path, suffix):
    times = [number * 72_000 for number in range(16)]
    path = write_video(tmp_path / f"clip{suffix}", 16, times=times)
    with pytest.warns(UserWarning, match="s without frames are left out"):
        frames = list(sample_frames(path, 1.0))
    assert 15 * 120 <= len(frames) <= 16 * 120
    assert [number_shown(frame.rgb()) for frame in frames[::120]] == [*range(len(frames[::120]))]
    assert probe(path).duration <= 16 * 120


def test_a_video_of_too_many_hours_is_refused(tmp_path):
    path = write_video(tmp_path / "clip.mkv", 800, times=[n * 1100 for n in range(800)])
    assert why(path) == "claims to last more than 24 hours; split it"


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "device.mp4"):
        assert "not a regular file" in why(tmp_path / name)
        with pytest.raises(DecodeError, match="not a regular file"):
            grab_frame(tmp_path / name, 1.0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_tags_need_not_be_utf8(tmp_path, suffix):
    path = write_video(tmp_path / f"clip{suffix}", 10, codec="mpeg4")
    with av.open(str(path)) as container, av.open(str(tmp_path / f"x{suffix}"), "w") as output:
        output.metadata["title"] = "a title of many letters"
        stream = output.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    content = (tmp_path / f"x{suffix}").read_bytes()
    assert b"a title of many" in content
    path.write_bytes(content.replace(b"a title of many", b"\xff\xfe\x80 title \xe9 man"))
    assert probe(path).num_frames == 10


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile 'neighbour.mp4'\n", "#EXTM3U\n#EXTINF:3,\nneighbour.mp4\n"],
)
def test_a_text_that_names_another_file_is_not_followed(tmp_path, text):
    write_video(tmp_path / "neighbour.mp4", 10)
    (tmp_path / "clip.mp4").write_text(text)
    assert "not a video, or damaged" in why(tmp_path / "clip.mp4")


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a%d.jpg", "a.png", "png.jpg", "a.webp"])
def test_a_picture_is_a_video_of_one_frame(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    kind = "PNG" if "png" in name else "WEBP" if "webp" in name else "JPEG"
    Image.fromarray(noise).save(tmp_path / name, kind)  # of more than 2 kB
    Image.new("RGB", (64, 64)).save(tmp_path / "a1.jpg")  # what "a%d.jpg" would mean to FFmpeg
    frames = list(sample_frames(tmp_path / name, 1.0))
    assert len(frames) == 1
    assert probe(tmp_path / name).width == 640


def test_a_name_too_long_for_the_system(tmp_path):
    assert "name too long" in why(tmp_path / ("x" * 500))


def test_frames_of_any_shape_are_read_or_refused(tmp_path):
    wide = [np.zeros((2, 16_000, 3), np.uint8)]
    path = write_video(tmp_path / "wide.mkv", wide)
    with pytest.raises(ValueError, match="is larger than"):
        next(sample_frames(path, 1.0)).rgb(ShorterSide(256))
    assert grab_frame(path, 0.0, Fit(320)).shape == (1, 320, 3)
    with pytest.raises(DecodeError, match=r"wide\.mkv: cannot be read .a frame scaled to"):
        grab_frame(path, 0.0, ShorterSide(256))
    odd = write_video(tmp_path / "odd.mkv", 10, pixel_aspect=Fraction(60_000))
    assert next(sample_frames(odd, 1.0)).display_size == (80, 48)


def test_a_video_that_ends_before_it_starts_lasts_one_frame(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", 10)
    never = replace(find_frame_times(path), duration=-5.0)
    monkeypatch.setattr(video_file, "read_frame_times", lambda *given, **more: never)
    monkeypatch.setattr(video_file, "_promised_duration", lambda container: 0.0)
    assert find_frame_times(path).duration == 0.1
