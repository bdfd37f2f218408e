from fractions import Fraction

import av
import numpy as np
import pytest

from tests.make_video import number_shown, numbered_picture, write_video
from videoclip.errors import ConfigError
from videoclip.features import video_file
from videoclip.features.decode import CentreCrop, Fit, Squash, grab_frame, probe, sample_frames
from videoclip.features.frame_times import Action, sample_times


def numbers(path, per_second=1.0, **options):
    return [number_shown(frame.rgb()) for frame in sample_frames(path, per_second, **options)]


def pixels(path, per_second):
    return [frame.rgb(Squash(40, 24)).tobytes() for frame in sample_frames(path, per_second)]


@pytest.fixture
def decode_everything(monkeypatch):
    """The naive twin: call it, and from then on every packet is decoded."""

    def all_of_them(timestamps, is_key, wanted):
        return np.full(len(timestamps), Action.DECODE, dtype=np.int8)

    return lambda: monkeypatch.setattr(video_file, "plan_packets", all_of_them)


# Groups of 12 with B-pictures, closed and open, of every decoder that may skip and some that may
# not; the containers differ in what they say about time.
KINDS = {
    "h264": {"suffix": "mp4", "g": 12, "bf": 3, "b_strategy": 0, "b-pyramid": "normal"},
    "h264-open": {"suffix": "mkv", "g": 12, "bf": 3, "x264-params": "open-gop=1:b-adapt=0"},
    "h264-ts": {"suffix": "ts", "g": 12, "bf": 2},
    "h264-avi": {"suffix": "avi", "g": 12, "bf": 2},
    "hevc": {"suffix": "mp4", "codec": "libx265", "x265-params": "log-level=none:keyint=12"},
    "hevc-10bit": {"suffix": "mkv", "codec": "libx265", "pix_fmt": "yuv420p10le"},
    "mpeg4": {"suffix": "avi", "codec": "mpeg4", "bf": 2, "g": 12},
    "mpeg2": {"suffix": "ts", "codec": "mpeg2video", "bf": 2, "g": 12, "rate": 25},
    "mpeg1": {"suffix": "mpg", "codec": "mpeg1video", "bf": 2, "g": 12, "rate": 25},
    "vp8": {"suffix": "webm", "codec": "libvpx", "g": 12},
    "vp9": {"suffix": "webm", "codec": "libvpx-vp9", "g": 12, "lag-in-frames": 5},
    "mjpeg": {"suffix": "mov", "codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_second", [1.0, 3.1, 30.0])
def test_pixels_are_those_of_decoding_everything(tmp_path, kind, per_second, decode_everything):
    options = dict(KINDS[kind])
    path = write_video(tmp_path / f"clip.{options.pop('suffix')}", 45, **options)
    clever = pixels(path, per_second)
    decode_everything()
    assert clever == pixels(path, per_second)


@pytest.mark.parametrize("name", ["jspsych_fish.mp4", "vllama_boat.mp4", "opencv_box.mp4"])
def test_pixels_of_real_clips_too(shared, name, decode_everything):
    path = shared / "videos" / name
    clever = pixels(path, 1.0)
    decode_everything()
    assert clever == pixels(path, 1.0)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_each_sample_is_the_middle_of_its_second(tmp_path, suffix):
    path = write_video(tmp_path / f"clip.{suffix}", 35, bf=3)
    assert numbers(path) == [5, 15, 25]
    assert numbers(path, 2.0) == [2, 7, 12, 17, 22, 27, 32]
    assert sample_times(probe(path).duration, 1.0).tolist() == [0.5, 1.5, 2.5]
    assert len(list(sample_frames(path, 1.0))) == 3


def test_a_low_rate_repeats_pictures_and_shares_their_arrays(tmp_path):
    first, second, third = list(sample_frames(write_video(tmp_path / "clip.mp4", 3, rate=2), 4.0))[
        :3
    ]
    assert number_shown(first.rgb()) == number_shown(second.rgb()) == 0
    assert first.rgb() is second.rgb()
    assert number_shown(third.rgb()) == 1


def test_fast_takes_the_nearest_keyframe(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 60, g=12, sc_threshold=0)
    assert numbers(path, mode="fast") == [0, 12, 24, 36, 48, 48]


def test_a_variable_rate_follows_the_clock(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 6, times=[0, 1, 2, 30, 31, 60])
    assert numbers(path) == [2, 2, 2, 4, 4, 4]
    assert probe(path).duration == pytest.approx(6.1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_late_start_is_second_zero(tmp_path, suffix):
    path = write_video(tmp_path / f"clip.{suffix}", 25, times=range(20, 45))
    assert numbers(path) == [5, 15]


def test_a_single_picture_is_one_sample(tmp_path):
    assert numbers(write_video(tmp_path / "clip.mp4", 1)) == [0]


def test_stamps_that_cannot_be_true_are_replaced_by_the_order(tmp_path):
    """H.264 with B-pictures in AVI: the stamps of packets are those of decoding."""
    assert numbers(write_video(tmp_path / "clip.avi", 35, bf=2)) == [4, 14, 24, 34]


def test_sound_longer_than_the_pictures_adds_no_samples(tmp_path):
    assert numbers(write_video(tmp_path / "clip.mkv", 20, sound_seconds=6)) == [5, 15]


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_pictures_of_phones_come_upright(tmp_path, degrees):
    upright = np.zeros((40, 80, 3), np.uint8)
    upright[:20, :40, 0] = 255  # red in the upper left corner
    stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    path = write_video(tmp_path / "clip.mp4", [stored] * 3, rotation=degrees)
    (frame,) = sample_frames(path, 1.0)
    assert frame.rgb().shape == upright.shape
    assert np.abs(frame.rgb().astype(int) - upright)[5:15, 5:35].max() < 40
    assert frame.rgb()[25:, :, 0].max() < 40
    assert frame.rgb(Squash(20, 10)).shape == (10, 20, 3)
    info = probe(path)
    assert (info.width, info.height, info.rotation) == (80, 40, degrees % 360)


def test_pixels_that_are_not_square_are_widened(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 3, pixel_aspect=Fraction(2))
    (frame,) = sample_frames(path, 1.0)
    assert frame.rgb().shape == (48, 160, 3)
    assert frame.rgb(CentreCrop(24, 20)).shape == (20, 20, 3)
    assert probe(path).width == 160


def test_odd_sizes(tmp_path):
    pictures = [numbered_picture(number, 81, 47) for number in range(12)]
    path = write_video(tmp_path / "clip.mp4", pictures, pix_fmt="yuv444p")
    assert numbers(path) == [5]
    assert (probe(path).width, probe(path).height) == (81, 47)


def test_a_frame_answers_several_rules(tmp_path):
    frame = next(sample_frames(write_video(tmp_path / "clip.mp4", 12), 1.0))
    assert frame.rgb().shape == (48, 80, 3)
    assert frame.rgb(Squash(30, 30)).shape == (30, 30, 3)
    assert frame.rgb(Fit(40)).shape == (24, 40, 3)
    whole = frame.rgb(Squash(53, 32))
    np.testing.assert_array_equal(frame.rgb(CentreCrop(32, 32)), whole[:, 10:42])


def test_pixels_equal_those_of_pyav(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 12)
    with av.open(str(path)) as container:
        naive = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][5]
    np.testing.assert_array_equal(next(sample_frames(path, 1.0)).rgb(), naive)


def test_probe_counts(tmp_path):
    info = probe(write_video(tmp_path / "clip.mp4", 35))
    assert (info.duration, info.num_frames, info.frame_rate) == (3.5, 35, 10.0)
    assert (info.width, info.height, info.rotation) == (80, 48, 0)


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_recording_that_begins_between_keyframes_is_the_same_to_all(tmp_path, suffix):
    """What comes before its first keyframe cannot be decoded: that frame stands for it."""
    whole = write_video(tmp_path / f"whole.{suffix}", 35, g=12, bf=0)
    part = tmp_path / f"part.{suffix}"
    with av.open(whole) as source, av.open(part, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [*source.demux(video=0)][1:-1]:
            packet.stream = stream
            target.mux(packet)
    info = probe(part)  # which decodes the first frame
    assert (info.num_frames, info.width, info.height) == (34, 80, 48)
    assert number_shown(grab_frame(part, 0.0)) == 12
    assert numbers(part)[1:] == [16, 26]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_grabbing_seeks_to_the_same_picture_as_sampling(tmp_path, suffix):
    codec = {"avi": "mpeg4"}.get(suffix, "libx264")
    path = write_video(tmp_path / f"clip.{suffix}", 45, g=12, bf=2, codec=codec)
    times = sample_times(probe(path).duration, 3.0)
    for time, frame in zip(times, sample_frames(path, 3.0), strict=True):
        np.testing.assert_array_equal(grab_frame(path, time), frame.rgb())
    assert number_shown(grab_frame(path, 99.0)) == 44
    assert number_shown(grab_frame(path, -1.0)) == 0
    assert grab_frame(path, 2.0, Fit(40)).shape == (24, 40, 3)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_senseless_rate_is_refused(tmp_path, rate):
    with pytest.raises(ConfigError, match="must be positive"):
        next(sample_frames(write_video(tmp_path / "clip.mp4", 3), rate))
