from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tests import make_video
from tests.library.colours import write_video
from videoclip.errors import ConfigError, DataError, DecodeError
from videoclip.features import contained
from videoclip.features.decode import Squash, probe, sample_frames
from videoclip.output import clip
from videoclip.output.clip import cut_clip, cut_moments, write_thumbnail
from videoclip.zeroshot.moments import Moment


@pytest.fixture(autouse=True)
def read_here(monkeypatch):
    """Cut in this process, where coverage is measured; test_contained has the other."""
    monkeypatch.setattr(contained, "_reads_here", True)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(
        tmp_path_factory.mktemp("v") / "a b'ü.mp4",
        ["red", "green", "blue", "yellow", "white", "black"],
        frame_rate=8,
    )


def cut(video, start, end, out, **options):
    cut_clip(video, start, end, out, **options)
    return out


def frames_of(path):
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24").mean(axis=(0, 1))
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize(("start", "end"), [(1.0, 3.0), (0.0, 0.5), (2.125, 4.875), (5.0, 99.0)])
def test_exactly_the_frames_of_the_span_are_there(video, tmp_path, start, end):
    clip = cut(video, start, end, tmp_path / "deep" / "clip.mp4")
    whole = frames_of(video)
    expected = whole[round(start * 8) : round(end * 8)]
    found = frames_of(clip)
    assert len(found) == len(expected)
    assert np.abs(np.array(found) - np.array(expected)).max() < 6
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_the_frame_on_screen_when_the_clip_begins_belongs_to_it(video, tmp_path):
    clip = cut(video, 1.06, 1.3, tmp_path / "clip.mp4")
    assert len(frames_of(clip)) == 3  # those of 1.0, 1.125 and 1.25


def test_a_time_that_binary_numbers_miss_is_the_frame_meant(tmp_path):
    video = write_video(tmp_path / "v.mp4", ["red", "green", "blue"], frame_rate=10)
    for start, end in ((0.3, 0.7), (1.1, 2.3)):  # 0.3 is a little less than 3 / 10
        clip = cut(video, start, end, tmp_path / "clip.mp4")
        assert len(frames_of(clip)) == round(10 * (end - start))


def test_webm_holds_its_own_codecs(shared, tmp_path):
    source = shared / "videos" / "bigbuckbunny.mp4"
    clip = cut(source, 1.0, 1.5, tmp_path / "clip.webm")
    with av.open(str(clip)) as container:
        codecs = {stream.type: stream.codec_context.name for stream in container.streams}
        seconds = sum(f.samples / f.sample_rate for f in container.decode(audio=0))
    assert codecs["video"] == "vp9" or "vp9" in codecs["video"]
    assert codecs["audio"] in ("opus", "libopus")
    assert seconds == pytest.approx(0.5, abs=0.05)


def test_a_fast_cut_begins_at_the_keyframe_before(video, tmp_path):
    clip = cut(video, 2.5, 4.0, tmp_path / "clip.mp4", fast=True)
    first = next(sample_frames(clip, 8.0)).rgb(Squash(1, 1))[0, 0]
    assert first[2] > 150 and first[0] < 80  # blue, from second 2 on
    assert probe(clip).duration == pytest.approx(2.0, abs=0.13)


@pytest.mark.parametrize("fast", [False, True])
def test_sound_is_cut_with_the_pictures(shared, tmp_path, fast):
    clip = cut(shared / "videos/bigbuckbunny.mp4", 1.0, 3.0, tmp_path / "clip.mp4", fast=fast)
    with av.open(str(clip)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        seconds = sum(f.samples / f.sample_rate for f in container.decode(audio=0))
    assert seconds == pytest.approx(3.0 if fast else 2.0, abs=1.1 if fast else 0.05)


def test_what_cannot_be_cut_is_said_and_leaves_nothing(video, tmp_path):
    with pytest.raises(ConfigError, match="end after its start"):
        cut_clip(video, 3.0, 2.0, tmp_path / "c.mp4")
    with pytest.raises(DecodeError, match="ends at 6 s, before 50 s"):
        cut_clip(video, 50, 51, tmp_path / "c.mp4", fast=True)
    with pytest.raises(DecodeError, match="not a video"):
        (tmp_path / "no.mp4").write_text("no video")
        cut_clip(tmp_path / "no.mp4", 0, 1, tmp_path / "c.mp4")
    with pytest.raises(DecodeError, match="no such file"):
        cut_clip(tmp_path / "absent.mp4", 0, 1, tmp_path / "no.mp4")
    with pytest.raises(DataError, match="cannot be written"):
        cut_clip(video, 0, 1, tmp_path / "no.mp4" / "c.mp4")
    with pytest.raises(ConfigError, match=r"'\.xyz' is not a video file extension"):
        cut_clip(video, 0, 1, tmp_path / "c.xyz")
    with pytest.raises(ConfigError, match="webm cannot hold h264"):
        cut_clip(video, 0, 1, tmp_path / "c.webm", fast=True)
    assert [path.name for path in tmp_path.iterdir()] == ["no.mp4"]


def test_padding_is_added_on_both_sides_as_far_as_the_video_goes(video, tmp_path):
    clip = tmp_path / "clip.mp4"
    assert cut_clip(video, 2.0, 3.0, clip, padding=0.5) == (1.5, 3.5)
    assert len(frames_of(clip)) == 16
    assert cut_clip(video, 0.25, 5.5, clip, padding=1.0) == (0.0, 6.0)
    assert len(frames_of(clip)) == 48
    assert cut_clip(video, 2.75, 3.0, clip, padding=0.25, fast=True) == (2.0, 3.25)
    for padding in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="padding must be"):
            cut_clip(video, 2.0, 3.0, clip, padding=padding)
    for start, end in ((float("nan"), 1.0), (0.0, float("nan")), (0.0, float("inf"))):
        with pytest.raises(ConfigError, match="end after its start"):
            cut_clip(video, start, end, clip)


@pytest.mark.parametrize(("rotation", "corner"), [(90, (4, 0)), (-90, (0, 2)), (180, (2, 4))])
def test_a_rotated_frame_is_turned_counter_clockwise(rotation, corner):
    pixels = np.zeros((3, 5, 3), np.uint8)
    pixels[0, 0] = 255
    frame = SimpleNamespace(rotation=rotation, to_ndarray=lambda format: pixels)
    upright = clip._rotate_upright(frame).to_ndarray(format="rgb24")
    assert upright.shape[:2] == ((3, 5) if rotation == 180 else (5, 3))
    assert tuple(np.argwhere(upright[..., 0])[0]) == corner


@pytest.mark.parametrize(
    "size, settings, shown",
    [
        ((33, 35), {"pix_fmt": "yuv444p"}, (32, 34)),
        ((32, 48), {"rotation": 90}, (48, 32)),
        ((32, 48), {"pixel_aspect": Fraction(2)}, (64, 48)),
        ((32, 32), {"codec": "ffv1", "pix_fmt": "yuv420p10le"}, (32, 32)),
        ((32, 32), {"codec": "mpeg4"}, (32, 32)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_pictures_of_any_size_and_kind_are_cut_as_they_are_shown(
    tmp_path, size, settings, shown, suffix
):
    width, height = size
    pictures = [np.full((height, width, 3), 20 * i, np.uint8) for i in range(12)]
    source = make_video.write_video(tmp_path / "v.mkv", pictures, sound_seconds=1.2, **settings)
    clip = cut(source, 0.3, 0.9, tmp_path / f"clip{suffix}")
    info = probe(clip)
    assert (info.width, info.height) == shown
    assert info.duration == pytest.approx(0.6, abs=0.02)
    levels = [frame.mean() for frame in frames_of(clip)]
    assert levels == pytest.approx([60, 80, 100, 120, 140, 160], abs=8)
    with av.open(str(clip)) as container:
        sound = [frame for frame in container.decode(audio=0)]
    seconds = sum(frame.samples / frame.sample_rate for frame in sound)
    assert seconds == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_sound_stays_in_step_with_the_pictures(tmp_path, codec):
    """A click at 2 s, in sound that begins at 1 s; every picture of mjpeg is a keyframe."""
    source = tmp_path / "v.mkv"
    with av.open(str(source), "w") as target:
        video, audio = target.add_stream(codec, rate=10), target.add_stream("aac", rate=48_000)
        video.width = video.height = 32
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio.layout = "mono"
        for i in range(40):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * i, np.uint8), "rgb24")
            target.mux(video.encode(picture))
        samples = np.zeros((1, 2 * 48_000), np.float32)
        samples[:, 48_000:48_480] = 0.9
        for first in range(0, samples.shape[1], 1024):
            part = np.ascontiguousarray(samples[:, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
            frame.pts = 48_000 + first
            target.mux(audio.encode(frame))
        for stream in (video, audio):
            target.mux(stream.encode(None))

    def click(path):
        with av.open(str(path)) as container:
            return next(
                float(frame.pts * frame.time_base) + int(loud[0]) / frame.sample_rate
                for frame in container.decode(audio=0)
                if len(loud := np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.3))
            )

    assert click(source) == pytest.approx(2.0, abs=0.03)
    for start in (0.0, 0.55, 1.0, 1.5, 1.95):
        clip = cut(source, start, 2.6, tmp_path / f"{start}.mp4")
        assert click(clip) == pytest.approx(2.0 - start, abs=0.04)


def test_a_file_that_exists_is_no_target(video, tmp_path):
    target = tmp_path / "other.mp4"
    target.write_bytes(b"another video")
    failed = []
    moment = Moment(video, 1.0, 2.0)
    assert list(cut_moments([moment], target, failed)) == []
    assert [str(error) for error in failed] == [f"{target}: already exists; choose another file"]
    assert target.read_bytes() == b"another video"
    assert [path for path, _ in cut_moments([moment], tmp_path / "new.mp4", failed)] == [
        tmp_path / "new.mp4"
    ]


def test_names_are_short_enough_for_any_file_system_and_printable(video, tmp_path):
    """They may have 255 bytes, and a character of Chinese takes three."""
    long = tmp_path / f"{'視' * 80}.mp4"
    escape = tmp_path / "a\x1b[31m.mp4"
    for path in (long, escape):
        path.hardlink_to(video)
    moments = [Moment(long, 1.0, 2.0, label="頻" * 40), Moment(escape, 1.0, 2.0)]
    failed = []
    names = [path.name for path, _ in cut_moments(moments, tmp_path / "out", failed)]
    names += [write_thumbnail(moment, tmp_path / "out").name for moment in moments]
    assert failed == []
    assert names == [
        f"001_{'視' * 40}_1.0-2.0s_{'頻' * 26}.mp4",
        "002_a\N{REPLACEMENT CHARACTER}[31m_1.0-2.0s.mp4",
        f"{'視' * 53}-000001500.jpg",
        "a\N{REPLACEMENT CHARACTER}[31m-000001500.jpg",
    ]


def test_the_name_of_a_clip_has_the_end_that_was_cut(video, tmp_path):
    failed = []
    moments = [Moment(video, 4.5, 99_999.0), Moment(video, 1.0, 2.0, "Red!")]
    for fast in (False, True):
        found = list(cut_moments(moments, tmp_path, failed, 0.5, fast=fast))
        assert [path.name for path, _ in found] == [
            "001_a b'ü_4.5-6.0s.mp4",
            "002_a b'ü_1.0-2.0s_red.mp4",
        ]
        assert [moment.end for _, moment in found] == [6.0, 2.5]
    assert failed == []
