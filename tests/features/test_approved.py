"""Complete results of reading videos and computing features, compared with what was approved."""

import os
import pickle
import signal
import socket
import sys
import tarfile
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from torch import nn

from tests import approved
from tests.features.ray_in_process import Death, RayInProcess
from tests.features.test_cluster import WORK, Seconds
from tests.features.toy_backbones import MeanColour
from tests.library.colours import ColourBackbone
from tests.make_video import number_shown, write_sound, write_video
from videoclip.config import ModelConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.features import (
    backbones,
    cluster,
    contained,
    decode,
    extract,
    frame_backbone,
    frame_times,
    video_file,
    workers,
)
from videoclip.features.decode import CentreCrop, Fit, ShorterSide, Squash
from videoclip.features.frame_backbone import FrameBackbone
from videoclip.features.frame_times import FrameTimes
from videoclip.features.preprocessing import SquashCrop


def test_frame_times():
    timestamps = np.array([0, 30, 10, 20, 60, 40, 50, 90, 70, 80])  # B-frames
    is_key = np.array([1, 0, 0, 0, 1, 0, 0, 1, 0, 0], bool)
    is_visible = np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 1], bool)
    facts = dict(per_packet=True, time_base=Fraction(1, 100), origin=Fraction(10), duration=0.9)
    times = FrameTimes(timestamps, is_key, is_visible, **facts)
    gap = FrameTimes(
        np.array([0, 100, 20_000, 50_000]),
        np.array([1, 0, 1, 1], bool),
        np.ones(4, bool),
        True,
        Fraction(1, 100),
        Fraction(0),
        700.0,
    )
    hidden = FrameTimes(timestamps, is_key & ~is_visible, is_visible, **facts)
    video = object.__new__(decode._Video)
    video.path, video.times, video._first = Path("v.mp4"), times, ((64, 48), 90)
    odd = decode.Frame(SimpleNamespace(width=5, height=4, rotation=89.7), Fraction(4, 3), {})
    asked = np.array([-1.0, 0.0, 0.05, 0.1, 0.149, 0.35, 0.5, 0.799, 2.0])

    def packet(pts, dts, duration=4, key=False, hides=False, size=1):
        names = {"pts": pts, "dts": dts, "duration": duration, "is_keyframe": key}
        return SimpleNamespace(**names, is_discard=hides, size=size)

    streams = {
        "in order": [
            packet(5, 5, key=True),
            packet(9, 9),
            packet(13, 13, None),
            packet(0, 0, size=0),
        ],
        "reordered": [
            packet(4, 0, key=True),
            packet(12, 4),
            packet(8, 8),
            packet(2, 9, hides=True),
        ],
        "without pts": [packet(None, 3, key=True), packet(None, None), packet(None, 11, None)],
        "constant": [packet(4, 0, key=True), packet(8, 4), packet(12, 8)],
        "hidden": [packet(4, 0, hides=True)],
        "none": [],
    }
    approved.check(
        "features-frame-times",
        {
            "of visible frames": video.info(),
            "of odd pixels": [odd.display_size, odd.rotation],
            "on screen": times.on_screen(asked),
            "nearest keyframe": [times.nearest_keyframe(asked), hidden.nearest_keyframe(asked)],
            "seconds": times.seconds(timestamps),
            "cut": [times.cut, gap.cut, gap.seconds(gap.timestamps)],
            "plans": {
                str(wanted): frame_times.plan_packets(timestamps, is_key, np.array(wanted))
                for wanted in ([], [0], [10], [30], [50], [60], [70], [90], [20, 80])
            },
            "plan without keyframes": frame_times.plan_packets(
                timestamps, np.zeros(10, bool), np.array([20])
            ),
            "numbers": [
                frame_times.num_samples(*x)
                for x in ((0.1, 1), (10.4, 1), (10.5, 1), (10.6, 1), (10, 0.5), (3, 2.5))
            ],
            "times": frame_times.sample_times(2.2, 2.0),
            "read": {
                name: [
                    frame_times.read_frame_times(packets, Fraction(1, 20), origin, 5.0, reorders)
                    and vars(
                        frame_times.read_frame_times(
                            packets, Fraction(1, 20), origin, 5.0, reorders
                        )
                    )
                    .values()
                    .__repr__()
                    for origin, reorders in ((None, True), (Fraction(1, 2), False))
                ]
                for name, packets in streams.items()
            },
        },
    )


NO_TIMESTAMPS = av.format.Flags.no_timestamps.value


def test_frames_that_are_sent(monkeypatch):
    """What of each frame is sent at once, and what when it is asked for."""
    converted = []

    class Whole:
        display_size, rotation = (4, 3), 90

        def __init__(self, name):
            self.name = name

        def rgb(self, resize=None):
            converted.append([self.name, str(resize)])
            return f"{self.name} by {resize}"

    first, second = Whole("first"), Whole("second")
    monkeypatch.setattr(decode, "sample_frames", lambda *_, mode: [first, first, second, second])
    sent = contained._send_frames(Path("v"), 1.0, "exact")
    replies = [next(sent), sent.send(("a rule",)), sent.send(("another",))]
    replies += [next(sent), next(sent), sent.send((None,)), next(sent)]
    sent.close()
    stopped = []

    def helper(name, code):
        return SimpleNamespace(
            name=name,
            process=SimpleNamespace(poll=lambda: code),
            stop=lambda: stopped.append(name),
        )

    idle = [helper("idle", None), helper("dead", -9), helper("dead, too", 1)]
    monkeypatch.setattr(contained, "_idle", idle)
    monkeypatch.setattr(contained, "_Helper", lambda: helper("new", None))
    taken = [contained._take_helper().name for _ in range(2)]
    approved.check(
        "features-sent", {"replies": replies, "converted": converted, "helpers": [taken, stopped]}
    )


def test_the_side_that_asks(tmp_path, monkeypatch):
    """What is sent to a helper process, and what becomes of its answers and its death."""
    found = {}

    def ask(name, answers, is_ready=True, is_heard=True):
        calls = []

        def recv():
            if isinstance(answer := answers.pop(0), BaseException):
                raise answer
            return answer

        def end(what):
            return lambda: calls.append(what)

        helper = object.__new__(contained._Helper)
        helper._connection = SimpleNamespace(
            send=lambda message: calls.append(["send", message]),
            poll=lambda seconds: calls.append(["poll", seconds]) or is_heard,
            recv=recv,
            close=end("close"),
            closed=False,
        )
        helper._is_ready, helper._is_busy = is_ready, False
        helper.process = SimpleNamespace(kill=end("kill"), wait=end("wait"), returncode=-9)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                answer = approved.outcome(partial(helper.ask, Path("v.mp4"), ("message",)))
            except KeyboardInterrupt:
                answer = "interrupted"
        found[name] = [answer, helper._is_busy, calls, [str(one.message) for one in warned]]

    ask("first", [True, (True, "an item", None, ["careful", "odd"])], is_ready=False)
    ask("last", [(False, "the end", None, [])])
    ask("error", [(False, None, ValueError("x"), [])])
    ask("does not start", [EOFError()], is_ready=False)
    ask("died", [EOFError()])
    ask("stuck", [ConnectionResetError()], is_heard=False)
    ask("interrupted", [KeyboardInterrupt()])
    asked = []
    helper = SimpleNamespace(
        ask=lambda path, message: asked.append([path, *map(str, message)]) or (True, 5),
        rest=lambda: asked.append("rest"),
    )
    monkeypatch.setattr(contained, "_take_helper", lambda: helper)
    monkeypatch.setattr(contained, "_reads_here", False)
    monkeypatch.chdir(tmp_path)
    list(contained.stream(Path("v.mp4"), len, "text", memory=3))
    approved.check("features-asking", [found, [asked[0][1], *asked[0][3:], asked[1]]], TMP=tmp_path)


def test_what_a_decoder_is_told(monkeypatch):
    """Frames that are skipped, times that go back, and errors."""
    told = []

    class Codec:
        def __init__(self, name, error=None):
            self.name, self.error = name, error

        def decode(self, packet):
            told.append([self.name, self.skip_frame])
            if self.error:
                raise self.error
            return [packet]

        def flush_buffers(self):
            told.append([self.name, "flushed"])

    def decoded(codec, plan=()):
        container = SimpleNamespace(demux=lambda stream: [SimpleNamespace(size=1)] * 6)
        stream = SimpleNamespace(codec_context=codec)
        frames = video_file._decode(container, stream, np.array(plan, np.int8), Path("x"))
        return approved.outcome(lambda: len([frame for frame in frames if frame]))

    found = {name: decoded(Codec(name), (3, 2, 1, 0, 3, 2)) for name in ("h264", "vp9")}
    found["without a plan"] = decoded(Codec("x", av.error.InvalidDataError(1, "bad")))
    found["no memory"] = decoded(Codec("y", av.error.MemoryError(12, "no memory")), (3,) * 9)
    frames = [SimpleNamespace(pts=pts) for pts in (0, 20, 10, 20, 30, None)]
    stream = SimpleNamespace(sample_aspect_ratio=None)
    times = FrameTimes(
        np.array([0, 20, 10, 30]),
        np.ones(4, bool),
        np.ones(4, bool),
        True,
        Fraction(1, 100),
        Fraction(0),
        0.4,
    )
    monkeypatch.setattr(video_file, "open_video", lambda path: nullcontext((None, stream)))
    monkeypatch.setattr(video_file, "_decode", lambda *_: iter(frames))
    wanted = np.array([0, 30])
    rising = [one[0] for one in video_file.decode_frames(Path("x"), times, wanted)]
    approved.check("features-decoder", [found, told, rising])


def test_streams_that_say_little(monkeypatch):
    """Rates that are guessed, starts before 0, and codecs that are not there."""

    def packet(pts, duration=None):
        more = {"is_keyframe": True, "is_discard": False, "size": 1}
        return SimpleNamespace(
            pts=pts, dts=pts, duration=duration, time_base=Fraction(1, 20), **more
        )

    def read(codec=None, start=None, promised=None, guessed=None, disposition=0, flags=0):
        stream = SimpleNamespace(
            disposition=disposition,
            codec_context=codec,
            average_rate=None,
            guessed_rate=guessed,
            time_base=Fraction(1, 20),
            discard="none",
        )
        sound = SimpleNamespace(discard="none")
        container = SimpleNamespace(
            streams=Streams([stream, sound]),
            start_time=start,
            duration=promised,
            format=SimpleNamespace(flags=flags),
            demux=lambda *streams: [
                packet(int((start or 0) / 50_000)),
                packet(200),
                *([] if streams else [packet(380, 20)]),  # the sound ends later
            ],
        )
        monkeypatch.setattr(video_file, "open_container", lambda path: nullcontext(container))
        times = video_file.find_frame_times(Path("v.mp4"))
        return [times.duration, times.per_packet, sound.discard.name, vars(stream.codec_context)]

    class Streams(list):
        audio = ()

        def best(self, kind):
            return self[0]

    def codec():
        return SimpleNamespace(has_b_frames=False)

    second = 1_000_000
    approved.check(
        "features-streams",
        {
            "guessed rate": read(codec(), guessed=Fraction(5)),
            "no rate": read(codec()),
            "begins before 0": read(codec(), start=-2 * second, promised=13 * second),
            "cut off": approved.outcome(lambda: read(codec(), promised=22 * second)),
            "longer sound": read(codec(), promised=int(20.6 * second)),
            "a guessed length": read(codec(), promised=90 * second, flags=NO_TIMESTAMPS)[0],
            "nearly whole": read(codec(), promised=11 * second),
            "no codec": approved.outcome(read),
            "a cover": approved.outcome(lambda: read(codec(), disposition=1024)),
        },
    )


SIZES = [(1920, 1080), (3, 7), (100, 100), (1, 4000)]


def test_sizes():
    rules = [Squash(4, 5), Fit(10), ShorterSide(8), CentreCrop(8, 6), SquashCrop(9, 7, "area", 5)]
    rules.append(CentreCrop(9, 6))  # as much at each end as can be
    wrong = [
        partial(Squash, 0, 5),
        partial(Fit, 0),
        partial(ShorterSide, -1),
        partial(CentreCrop, 5, 6),
        partial(CentreCrop, 5, 0),
    ]
    frame = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)
    from videoclip.features.preprocessing import scale_frame, size_of

    approved.check(
        "features-sizes",
        {
            "scaled": {str(rule): [rule.scaled(*size) for size in SIZES] for rule in rules},
            "crops": [rule.crop for rule in rules],
            "frames": [
                decode.resample_frames(frame[None], 1.0, 1.0).__next__().rgb(rule)[..., 0]
                for rule in rules
            ],
            "by Pillow": [scale_frame(frame, rule)[..., 0] for rule in rules],
            "sizes": [size_of(rule) for rule in (rules[0], rules[3], rules[4])],
            "errors": [approved.outcome(call) for call in wrong],
        },
    )


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Videos of many kinds, by name; their pictures say their own number."""
    folder = tmp_path_factory.mktemp("films")
    kinds = {
        "plain.mp4": {},
        "b-frames.mkv": {"pictures": 40, "bf": 3, "g": 12},
        "old.avi": {"codec": "mpeg4", "g": 10},
        "turned.mp4": {"pictures": 12, "rotation": 90},
        "wide.mkv": {"pictures": 12, "pixel_aspect": Fraction(2, 1)},
        "uneven.mkv": {"pictures": 8, "times": [0, 1, 2, 9, 10, 11, 30, 31]},
        "gap.mkv": {"pictures": 4, "times": [0, 5, 3000, 3005]},
        "sound.mp4": {"pictures": 10, "sound_seconds": 3.0},
        "one.mp4": {"pictures": 1},
    }
    for name, options in kinds.items():
        write_video(folder / name, options.pop("pictures", 30), **options)
    return folder


def shown(frames):
    """The numbers on frames, such as "0 1 x 5 2"."""
    numbers = [number_shown(frame.rgb()) for frame in frames]
    runs = [(number, len(list(run))) for number, run in groupby(numbers)]
    return " ".join(f"{number} x {count}" if count > 1 else f"{number}" for number, count in runs)


def test_videos_of_many_kinds(films):
    found = {}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for path in sorted(films.iterdir()):
            frame = next(decode.sample_frames(path, 1.0))
            found[path.name] = {
                "facts": vars(decode.probe(path)),
                "samples": [shown(decode.sample_frames(path, rate)) for rate in (1.0, 2.3)],
                "keyframes": shown(decode.sample_frames(path, 2.0, mode="fast")),
                "grabbed": [
                    number_shown(decode.grab_frame(path, time))
                    for time in (-1.0, 0.0, 0.55, 1.2, 99.0)
                ],
                "size": [frame.display_size, frame.rotation, frame.rgb(Fit(20)).shape],
                "contained": [
                    vars(contained.probe(path)) == vars(decode.probe(path)),
                    number_shown(contained.grab_frame(path, 0.55)),
                    shown(contained.sample_frames(path, 2.3)),
                    [
                        f.rgb(Squash(4, 3)).shape
                        for f in islice(contained.sample_frames(path, 1), 2)
                    ],
                ],
            }
    texts = list(dict.fromkeys(str(one.message) for one in warned))
    known = decode._video(films / "plain.mp4")
    assert decode._video(films / "plain.mp4") is known
    os.utime(films / "plain.mp4", (1, 1))
    assert decode._video(films / "plain.mp4") is not known  # it may be another video now
    approved.check("features-videos", {"videos": found, "warnings": texts}, TMP=films)


def test_what_cannot_be_read(films, tmp_path, monkeypatch):
    """Every message about a video."""
    content = (films / "b-frames.mkv").read_bytes()
    whole = (films / "plain.mp4").read_bytes()
    files = {
        "empty.mp4": b"",
        "text.mp4": b"no video at all",
        "cut.mkv": content[: len(content) // 3],
        "cut.mp4": whole[: len(whole) // 2],
        "playlist.mp4": b"ffconcat version 1.0\nfile plain.mp4\n",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    damaged = bytearray(content)
    for start in range(len(content) // 4, len(content) - 400, 700):
        damaged[start : start + 300] = bytes(300)
    (tmp_path / "damaged.mkv").write_bytes(damaged)
    write_sound(tmp_path / "sound.mp4")
    write_sound(tmp_path / "cover.mp4", cover=True)
    write_video(tmp_path / "none.mp4", 0)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    names = [*sorted(path.name for path in tmp_path.iterdir()), "absent.mp4", "a*.mp4", "~/x.mp4"]
    names += ["C:\\x.mp4", "a\\b.mp4", "http:/x/y.mp4", "file:/x.mp4"]

    def read(path):
        return len(list(decode.sample_frames(path, 1.0)))

    errors = {name: approved.outcome(partial(read, tmp_path / name)) for name in names}
    errors |= {
        f"grab {name}": approved.outcome(partial(decode.grab_frame, tmp_path / name, 0.5))
        for name in ("empty.mp4", "none.mp4", "absent.mp4")
    }
    errors["no rate"] = approved.outcome(lambda: next(decode.sample_frames(films / "plain.mp4", 0)))
    with monkeypatch.context() as patch:
        for name, hours in (("long", 0.0005), ("as long as may be", 0.001)):
            decode._latest_video.cache_clear()
            patch.setattr(video_file, "MAX_HOURS", hours)
            errors[name] = approved.outcome(partial(read, films / "plain.mp4"))
    with monkeypatch.context() as patch:
        patch.setattr(video_file, "MAX_FRAMES", 5)
        errors["many frames"] = approved.outcome(partial(read, films / "old.avi"))
    with monkeypatch.context() as patch:
        patch.setattr(decode, "MAX_PIXELS", 100)
        frame = next(decode.sample_frames(films / "old.avi", 1.0))
        errors["large"] = approved.outcome(frame.rgb)
        width, height = frame.display_size
        patch.setattr(decode, "MAX_PIXELS", width * height)
        errors["as large as may be"] = frame.rgb().shape
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    for rate in (0, -1.0, np.inf, "5"):
        errors[f"rate {rate}"] = approved.outcome(
            partial(lambda r: next(decode.resample_frames(frames, r, 1.0)), rate)
        )
    for wrong in (frames[0], frames.astype(float), frames[..., :2], frames[:0]):
        errors[f"frames {wrong.dtype} {wrong.shape}"] = approved.outcome(
            partial(lambda f: next(decode.resample_frames(f, 1.0, 1.0)), wrong)
        )
    reasons = [MemoryError(), ValueError("two\nlines"), PermissionError(13, "Denied"), KeyError()]
    reasons += [OSError(5, "Input/output Error"), av.error.InvalidDataError(1, "bad"), OSError("x")]
    errors["reasons"] = [video_file._reason(tmp_path / "text.mp4", error) for error in reasons]
    stream = contained.sample_frames(films / "plain.mp4", 1.0)
    first, _ = next(stream), next(stream)
    errors["an earlier frame"] = approved.outcome(partial(first.rgb, Squash(2, 2)))
    stream.close()

    def refuse(packet):
        raise av.error.InvalidDataError(1, "bad")

    codec = SimpleNamespace(name="x", decode=refuse, flush_buffers=lambda: None)
    broken = SimpleNamespace(demux=lambda stream: [SimpleNamespace(size=1)] * 30)
    plan = np.full(20, 3, np.int8)
    decoded = video_file._decode(broken, SimpleNamespace(codec_context=codec), plan, Path("x"))
    errors["broken frames"] = approved.outcome(partial(list, decoded))
    ends = (None, 0, 3, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGXCPU)
    errors["ends"] = [contained.exit_cause(end) for end in ends]
    errors["aspects"] = [
        str(video_file.pixel_aspect_of(SimpleNamespace(sample_aspect_ratio=aspect)))
        for aspect in (
            None,
            Fraction(0),
            Fraction(10),
            Fraction(11),
            Fraction(1, 10),
            Fraction(1, 11),
        )
    ]
    approved.check("features-unreadable", errors, TMP=tmp_path, FILMS=films)


def test_videos_are_found_and_named(tmp_path, monkeypatch):
    for name in ("b.MP4", "a.mkv", "x/b.mp4", "x/b.webm", "x/.hidden.mp4", ".h/c.mp4", "x/n.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "a.mkv")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(tmp_path / "a.mkv", "in/t.mp4")
        archive.add(tmp_path / "x/n.txt", "in/t.txt")
    with tarfile.open(tmp_path / "texts.tar", "w") as archive:
        archive.add(tmp_path / "x/n.txt", "t.txt")
    (tmp_path / "bad.tar").write_text("no archive")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s.mp4")[-100:]) if len(str(tmp_path)) < 90 else None
    listening.close()
    (tmp_path / "s.mp4").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe.mp4")
    given = {
        "all": ([tmp_path], {}),
        "archives": ([tmp_path], {"archives": True}),
        "named": ([tmp_path / "x/n.txt", tmp_path / "x", tmp_path / "x/b.mp4"], {}),
        "absent": ([tmp_path / "no.mp4", tmp_path / "empty", tmp_path / "x/../a.mkv"], {}),
        "an archive": ([tmp_path / "shard.tar", tmp_path / "texts.tar"], {"archives": True}),
        "odd": ([os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")], {}),
    }
    found = {}
    for name, (paths, options) in given.items():
        files, failed = extract.find_videos(paths, **options)
        assert all(file.mtime_ns > 0 for file in files)
        found[name] = [[str(f.path), f.size] for f in files] + [
            {str(k): v for k, v in failed.items()}
        ]

    def unreadable(folder, onerror):
        onerror(PermissionError(13, "Permission denied", folder))
        return ()

    with monkeypatch.context() as patch:
        patch.setattr(extract.os, "walk", unreadable)
        found["unreadable"] = [extract.find_videos([tmp_path / "empty"])[1]]
    names = extract.name_videos(
        [
            Path(p)
            for p in ("/a/c.mp4", "/b/c.mp4", "/b/d.mkv", "/b/d.mp4", "/x/b/e.mp4", "/y/b/e.mp4")
        ]
        + [Path(p) for p in ("/z/f.g.mp4", "/a/c.mp4")]
    )
    approved.check(
        "features-found",
        {
            "found": found,
            "named": {str(path): name for path, name in names.items()},
            "in": [str(p) for p in extract.videos_in(tmp_path / "x")],
            "none in": approved.outcome(partial(extract.videos_in, tmp_path / "empty")),
        },
        TMP=tmp_path,
    )


class InChunks(MeanColour):
    """Features of two a second, up to three at once."""

    def features_for(self, path):
        chunks = list(super().features_for(path))
        for i in range(0, len(chunks), 3):
            yield np.concatenate(chunks[i : i + 3])


class Doubles(MeanColour):
    def features_for(self, path):
        return (chunk.astype(np.float64) for chunk in super().features_for(path))


def test_extraction(made_videos, tmp_path, monkeypatch):
    """What is reported and stored."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").hardlink_to(made_videos / f"{name}.mp4")
    for name in ("broken", "nan"):
        (tmp_path / f"{name}.mp4").hardlink_to(made_videos / "sub/c d.mp4")
    (tmp_path / "text.mp4").write_text("")
    calls, seconds, reports = [], [], []
    with FeatureStore.create(tmp_path / "store", MeanColour().spec) as store:
        for _ in range(2):
            report = extract.extract_features(
                [tmp_path, tmp_path / "no.mp4"],
                store,
                MeanColour(),
                num_workers=0,
                on_progress=lambda *state: calls.append(state),
                on_video_seconds=seconds.append,
            )
            reports.append(report.as_dict() | {"seconds": report.seconds > 0})
        stored = [store.video_ids, store.read("b")[18:22]]
    files = sorted(p.name for p in (tmp_path / "store").iterdir())
    whole = extract.ExtractReport(("a", "b"), ("c",), {Path("d"): "x"}, 2.0, 100.4)
    store = FeatureStore.create(tmp_path / "other", FeatureSpec(4, 1.0, "x", True, "y"))
    errors = [
        approved.outcome(partial(extract.extract_features, [tmp_path], store, MeanColour())),
        approved.outcome(partial(extract.extract_features, [tmp_path], "store", MeanColour())),
        approved.outcome(partial(extract.extract_features, [tmp_path], store, "starter")),
        approved.outcome(
            lambda: list(
                extract.compute_features(MeanColour, [], tmp_path / "locks", num_workers=-1)
            )
        ),
    ]
    locks, others = (extract.VideoLocks(tmp_path / "locks") for _ in range(2))
    one, two = Path("/v/1.mp4"), Path("/v/2.mp4")
    with locks, others:
        held = [locks.acquire(one), others.acquire(one), others.acquire(two), locks.acquire(two)]
        locks.release(one)
        held += [others.acquire(one), sorted(p.name for p in (tmp_path / "locks").iterdir())]
    later = extract.VideoLocks(tmp_path / "locks")
    with later:
        held += [later.acquire(one), later.acquire(two)]
    with (
        monkeypatch.context() as patch,
        FeatureStore.create(tmp_path / "of two", MeanColour.spec) as store,
    ):

        def add_first(load, paths, locks, is_missing, *others):
            with FeatureStore.open(tmp_path / "of two") as other:
                other.append(paths[0].stem, np.ones((3, 3)))
            return (workers.Failed(path, "x") for path in paths if is_missing(path))

        together = []
        patch.setattr(extract, "compute_features", add_first)
        report = extract.extract_features(
            [tmp_path / "a.mp4", tmp_path / "b.mp4"],
            store,
            MeanColour(),
            on_progress=lambda *state: together.append(state),
        )
        together.append([report.skipped, report.done, len(report.failed)])
    counted = []
    features = extract.features_of(MeanColour(), tmp_path / "a.mp4", counted.append)
    double = extract.features_of(Doubles(), tmp_path / "a.mp4")
    in_chunks, chunks = InChunks(spec=replace(MeanColour.spec, features_per_second=2.0)), []
    with FeatureStore.create(tmp_path / "of chunks", in_chunks.spec) as store:
        extract.extract_features(
            [tmp_path / "a.mp4"], store, in_chunks, num_workers=0, on_video_seconds=chunks.append
        )
    approved.check(
        "features-extraction",
        {
            "reports": reports,
            "calls": calls,
            "seconds": seconds[::9],
            "seconds of chunks": [chunks[:3], chunks[-1], len(chunks)],
            "stored": stored,
            "files": files,
            "text": str(whole),
            "errors": errors,
            "locks": held,
            "with another process": together,
            "of doubles": [double[::11], np.array_equal(double, features)],
            "features": [features[::11], counted[:3], len(counted)],
        },
        TMP=tmp_path,
    )


def test_who_computes_which_videos(tmp_path, monkeypatch):
    """The locks on videos, in their order, and the processes that compute."""
    calls, busy = [], ["busy", "busy as well"]

    class Locks:
        def __init__(self, folder):
            calls.append(["locks", folder.name])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            calls.append(["no locks"])

        def acquire(self, path, wait=False):
            calls.append(["acquire", path.name, wait])
            if not wait and path.name in busy:
                busy.remove(path.name)
                return False
            return True

        def release(self, path):
            calls.append(["release", path.name])

    def run(backbone, paths, *others):
        for path in paths:
            calls.append(["compute", path.name, backbone, *others[:3]])
            yield workers.Failed(path, "x")

    with monkeypatch.context() as patch:
        patch.setattr(extract, "VideoLocks", Locks)
        patch.setattr(extract, "_run", run)
        paths = [Path(name) for name in ("a", "busy", "not wanted", "b", "busy as well")]
        options = (lambda path: path.name != "not wanted", 3, "auto")
        for result in extract.compute_features(lambda: "loaded", paths, tmp_path / "l", *options):
            calls.append(["result", result.path.name])
    shared = []
    monkeypatch.setattr(extract, "num_cores", lambda: 8)
    monkeypatch.setattr(extract, "_compute_one", lambda *one: ["here", one[1].name])
    monkeypatch.setattr(
        extract, "run_on_cluster", lambda work, paths, *how: shared.append(["cluster", *how[:4]])
    )
    monkeypatch.setattr(
        extract, "run_in_workers", lambda work, paths, *how: shared.append(["workers", *how[:2]])
    )
    monkeypatch.setattr(
        extract, "run_in_threads", lambda work, paths, *how: shared.append(["threads", how[0]])
    )
    for device, num_videos, num_workers, address in (
        ("cuda:1", 3, 2, "auto"),
        ("cuda:1", 3, None, None),
        ("cuda", 1, None, None),
        ("cpu", 3, None, "local"),
        ("cpu", 3, None, None),
        ("cpu", 20, None, None),
        ("cpu", 1, None, None),
        ("cpu", 3, 5, None),
        ("cpu", 3, 0, None),
    ):
        backbone, videos = SimpleNamespace(device=device), iter([Path("a")])
        made = extract._run(backbone, videos, num_videos, num_workers, address, print)
        shared += made or ()
    approved.check("features-shared", {"locks": calls, "processes": shared})


class Sums(FrameBackbone):
    """Two numbers a unit of frames; records what is computed."""

    name = "sums"
    frames_per_second = 2.0
    frames_per_feature = 2
    frames_per_batch = 6

    def __init__(self):
        super().__init__(nn.Linear(1, 1), None, "cpu")
        self.spec = self.make_spec(2, "0123", normalized=True)
        self.batches = []

    def prepare(self, frame):
        return frame.pixels

    def features_of(self, frames):
        self.batches.append([len(frames), frames[:, 0, 0, 0].tolist()])
        sums = [part.float().mean() for part in torch.split(frames, 2)]
        return torch.stack([torch.stack(sums), torch.ones(len(sums))], dim=1)


class OfOne(Sums):
    frames_per_second = 1.0
    frames_per_feature = 1
    name = "of one"


def load(source, device):
    return Sums()


class Shown:
    """A frame of one brightness."""

    def __init__(self, level):
        self.pixels = picture(level)


def picture(level, side=32):
    return np.full((side, side, 3), level, np.uint8)


def test_frames_through_a_network():
    levels = [10, 10, 12, 14, 60, 60, 60, 60, 100, 110, 60, 60, 200, 7, 50, 50, 50]
    backbone = Sums()
    frames = [one for level, run in groupby(levels) for one in [Shown(level)] for _ in run]
    chunks = list(backbone.features_from(frames))
    still = Sums()
    long = list(still.features_from(Shown(9) for _ in range(300)))
    base = picture(100)
    block, spread = base.copy(), base.copy()
    block[:16, :16] += 8
    spread[::2] += 8
    small = [picture(5, 3), picture(12, 3), picture(14, 3)]
    at_rate = backbone.at_rate(5)
    fast = frame_backbone.with_keyframes(OfOne())
    again = pickle.loads(pickle.dumps(at_rate))
    network = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        for number, tensor in enumerate(network.state_dict().values()):
            tensor.fill_(number)
    approved.check(
        "features-backbone",
        {
            "chunks": chunks,
            "batches": backbone.batches,
            "still": [[c.shape for c in long], still.batches],
            "spec": backbone.spec,
            "at another rate": [at_rate.spec, at_rate.frames_per_second],
            "at the highest rate": backbone.at_rate(1000).frames_per_second,
            "of keyframes": [fast.spec, fast.mode],
            "pickled": [again.spec, again.mode, backbone.__reduce__()[1][1:]],
            "same": [
                frame_backbone._is_same_frame(*pair)
                for pair in (
                    (base, base),
                    (base, picture(107)),
                    (base, picture(108)),
                    (base, block),
                    (base, spread),
                    (base, base[:16]),
                    small[:2],
                    small[::2],
                    (picture(5, 35), picture(12, 35)),
                    (picture(5, 35), picture(14, 35)),
                )
            ],
            "ahead": list(frame_backbone._prefetch(iter(range(5)), 2)),
            "fingerprints": [
                frame_backbone.fingerprint(network, "x"),
                frame_backbone.fingerprint(network, ("x", 1)),
                backbones.keyframe_fingerprint("abc"),
            ],
            "errors": [
                approved.outcome(partial(backbone.at_rate, rate))
                for rate in (0, float("inf"), 1000.5)
            ]
            + [
                approved.outcome(partial(frame_backbone.with_keyframes, backbone)),
                approved.outcome(partial(frame_backbone.with_keyframes, MeanColour())),
            ],
        },
    )


def test_backbones_are_loaded_and_compared(tmp_path, monkeypatch):
    monkeypatch.delenv("VIDEOCLIP_S3D", raising=False)
    spec = FeatureSpec(8, 2.0, "image:x", True, "f1")
    fits = ModelConfig(
        feature_dim=8, features_per_second=2.0, backbone="image:x", normalized_features=True
    )
    from dataclasses import replace

    known = replace(fits, backbone_fingerprint="f1", backbone="image:moved")
    fast = replace(spec, fingerprint=backbones.keyframe_fingerprint("f1"))
    pairs = {
        "fits": (fits, spec),
        "everything": (ModelConfig(normalized_features=False), spec),
        "another name": (replace(fits, backbone="s3d"), spec),
        "moved": (known, spec),
        "keyframes": (known, fast),
        "keyframes first": (replace(known, backbone_fingerprint=fast.fingerprint), spec),
        "another version": (replace(known, backbone_fingerprint="f2"), spec),
        "imported": (replace(known, backbone="image:x"), replace(spec, fingerprint="imported")),
    }
    for name, text in {"odd": "{}", "text": "x", "list": "[1]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    wrong = ["s4d", "startr", str(tmp_path / "odd"), str(tmp_path / "text"), str(tmp_path / "list")]
    (tmp_path / "s3d").mkdir()
    (tmp_path / "s3d/config.json").write_text('{"backbone": "starter"}')
    monkeypatch.chdir(tmp_path)  # a folder of that name is not meant
    wrong += [str(tmp_path), "motion:x", "starter:y", "image", "video:", "s3d"]
    with monkeypatch.context() as patch:
        module = SimpleNamespace(load=lambda source, device: MeanColour())
        patch.setattr(backbones.importlib, "import_module", lambda name: module)
        one_rate = approved.outcome(partial(backbones.load_backbone, "s3d:x", "cpu", 2.0))
    approved.check(
        "features-backbones",
        {
            "differences": {n: backbones.feature_differences(*pair) for n, pair in pairs.items()},
            "checked": {
                n: approved.outcome(partial(backbones.check_features, *pair))
                for n, pair in pairs.items()
            },
            "fingerprints": [
                backbones.with_fingerprint(*pair).backbone_fingerprint
                for pair in (pairs["fits"], pairs["moved"], pairs["imported"], pairs["keyframes"])
            ],
            "errors": {
                name.replace(str(tmp_path), "TMP"): approved.outcome(
                    partial(backbones.load_backbone, name)
                )
                for name in wrong
            }
            | {"one rate": one_rate},
        },
        TMP=tmp_path,
    )


class Silent:
    """A worker process that dies, or says nothing."""

    exitcode, is_alive = -9, True

    def join(self):
        self.is_alive = False

    kill = terminate = join


def test_messages_of_workers(monkeypatch):
    def worker(messages, exitcode=-9, ready=True):
        made = object.__new__(workers._Worker)
        made.path, made.alive, made._ready, made._heard = Path("/v/a.mp4"), True, ready, 0.0
        made._process = Silent()
        made._process.exitcode = exitcode

        def recv():
            if not messages:
                raise EOFError
            return messages.pop(0)

        made.connection = SimpleNamespace(recv=recv)
        return made

    def told(made, times=1):
        return [approved.outcome(made.receive) for _ in range(times)] + [
            str(made.path),
            made.alive,
            made._ready,
        ]

    stuck = worker([])
    monkeypatch.setattr(workers.time, "monotonic", lambda: 1000.0)
    heard = []
    for since, is_heard in ((900.0, True), (700.0, False), (699.0, False)):
        stuck._heard = since
        stuck.end_if_stuck(is_heard)
        heard.append([stuck._heard, stuck._process.is_alive])
    failed = workers.Failed(Path("x"), "why")
    approved.check(
        "features-workers",
        {
            "counted": told(worker([3, failed]), 2),
            "first": told(worker([True, 5], ready=False)),
            "died": told(worker([])),
            "ended": told(worker([], exitcode=3)),
            "never ready": told(worker([], ready=False)),
            "stuck": told(stuck),
            "heard": heard,
            "gpus": [
                approved.outcome(partial(cluster._gpu_share, resources, number))
                for resources, number in (
                    ({"GPU": 2.0}, 3),
                    ({"GPU": 4}, 2),
                    ({}, 1),
                    ({"GPU": 1}, 7),
                )
            ],
        },
    )


def test_fast_features_of_colours(made_videos):
    backbone = frame_backbone.with_keyframes(ColourBackbone())
    found = extract.features_of(backbone, made_videos / "a.mp4").argmax(axis=1)
    approved.check("features-colours", ["".join(map(str, found)), backbone.spec])


def talkative(*words):
    """Yields words and what it is sent, warns, and says when it is closed."""
    try:
        warnings.warn(f"about {words[0]}", stacklevel=1)
        for word in words:
            got = yield f"{word} of {number_of(words)}"
            if got:
                warnings.warn(f"got {got}", stacklevel=1)
                yield got
        return "end"
    finally:
        CLOSED.append(words[0])


def number_of(words):
    if "bad" in words:
        raise ValueError("a bad word")
    return len(words)


CLOSED = []


def test_the_process_that_reads_videos(tmp_path, monkeypatch):
    """What it answers, with its other end and its limits replaced."""
    messages = [
        (tmp_path, talkative, ("a", "b"), 7),
        (None,),
        ("x",),
        (None,),
        (tmp_path, talkative, ("c", "d", "e"), 8),
        (),
        (tmp_path, talkative, ("bad",), 9),
        (tmp_path, talkative, ("last",), 9),
        (None,),
    ]
    sent, calls = [], []

    class OtherEnd:
        def recv(self):
            if not messages:
                raise EOFError
            calls.append(["recv", list(CLOSED)])
            return messages.pop(0)

        def send(self, message):
            if isinstance(message, tuple):
                goes_on, item, error, warned = message
                notes = error and [note.splitlines()[0] for note in error.__notes__]
                message = [goes_on, item, error, notes, list(warned)]
            sent.append(message)

    def record(name, result=None):
        return lambda *args, **options: (
            calls.append([name, *map(str, args), *sorted(map(str, options))]) or result
        )

    @contextmanager
    def limits(memory):
        calls.append(["limits", memory])
        yield
        calls.append(["no limits"])

    monkeypatch.setattr(contained, "Connection", lambda handle: OtherEnd())
    monkeypatch.setattr(contained.signal, "signal", record("signal"))
    monkeypatch.setattr(
        contained.threading, "Thread", record("thread", SimpleNamespace(start=record("start")))
    )
    monkeypatch.setattr(contained.os, "open", record("open", 77))
    monkeypatch.setattr(contained.os, "dup2", record("dup2"))
    monkeypatch.setattr(contained.os, "chdir", record("chdir"))
    monkeypatch.setattr(contained, "read_here", record("read here"))
    monkeypatch.setattr(contained, "_limits", limits)
    with warnings.catch_warnings():
        contained.serve(5)
    monkeypatch.undo()
    import resource

    limited = []
    given = {
        resource.RLIMIT_DATA: (-1, -1),
        resource.RLIMIT_CPU: (7, 9),
        resource.RLIMIT_CORE: (1, 1),
    }
    monkeypatch.setattr(resource, "getrlimit", given.get)
    monkeypatch.setattr(resource, "setrlimit", lambda *limit: limited.append(limit))
    monkeypatch.setattr(resource, "getpagesize", lambda: 1000)
    monkeypatch.setattr(
        contained, "Path", lambda path: SimpleNamespace(read_text=lambda: "1 2 3 4 5 60 7")
    )
    monkeypatch.setattr(contained.time, "process_time", lambda: 3.2)
    with pytest.raises(ValueError), contained._limits(500):
        limited.append("within")
        raise ValueError("x")
    given[resource.RLIMIT_CPU] = (-1, -1)
    given[resource.RLIMIT_DATA] = (60_100, -1)
    with contained._limits(500):
        limited.append("within")
    monkeypatch.undo()
    approved.check(
        "features-helper",
        {"sent": sent, "calls": calls, "closed": CLOSED[:], "limits": limited},
        TMP=tmp_path,
    )
    CLOSED.clear()


def shown_of(result):
    """What a result holds, short."""
    if isinstance(result, workers.Failed):
        return [result.path.stem, result.reason]
    return [result.path.stem, list(result.features.shape)]


def test_videos_on_a_cluster(monkeypatch):
    """What Ray is asked for and in which order, and what becomes of each video."""
    monkeypatch.setattr(cluster, "load_work", lambda pickled, num_threads: WORK[num_threads])
    found = {}

    def run(name, names, workers=None, address="auto", gpu=False, setup=None, **resources):
        ray = RayInProcess(**({"CPU": 3.0} | resources))
        monkeypatch.setitem(sys.modules, "ray", ray)
        WORK[1], counts, results = Seconds(), [], []
        if setup:
            setup(ray)

        def read():
            paths = iter([Path(f"{name}.mp4") for name in names])
            for result in cluster.run_on_cluster(
                str, paths, len(names), address, workers, gpu, counts.append
            ):
                results.append(shown_of(result))
            return len(results)

        end = approved.outcome(read)
        options = [worker.options for worker in ray.started]
        found[name] = {
            "end": end,
            "results": results,
            "tried": WORK[1].tried,
            "counted": counts,
            "workers": [len(options), *options[:1]],
            "killed": sorted(ray.started.index(worker) for worker in ray.killed),
            "calls": [str(call) for call in ray.calls],
            "waits": sorted(set(ray.timeouts)),
        }
        WORK.clear()

    run("all", ["3", "1", "4 bug", "5 unread", "2 dies once", "6 dies"])
    run("two asked", ["3", "1", "4"], workers=2)
    run("one", ["3"], workers=5, address="local")
    run("local", ["3", "1"], address="local")
    run("gpu", ["1", "2", "3"], gpu=True, GPU=1.0, CPU=9.0)
    run("no gpu", ["1"], gpu=True)
    run("connected", ["1"], setup=lambda ray: setattr(ray, "is_connected", True))
    run("no port", ["1"], address="host:x")
    closed = []
    monkeypatch.setattr(
        cluster.socket,
        "create_connection",
        lambda address, timeout: SimpleNamespace(close=lambda: closed.append([*address, timeout])),
    )
    run("reached", ["1"], address="host:5")
    found["connections closed"] = closed
    run(
        "in turns",
        ["2 dies", "1", "1 dies once", "4"],
        setup=lambda r: setattr(r, "takes_turns", 1),
    )

    def never(pickled, num_threads):
        raise Death

    monkeypatch.setattr(cluster, "load_work", never)
    run("never", ["1", "2"], workers=2)
    clock, seen = iter(np.arange(0.0, 4000.0, 45.0)), []
    monkeypatch.setattr(cluster.time, "monotonic", lambda: float(next(clock)))
    exceptions = SimpleNamespace(RayError=RuntimeError)

    class Stuck:
        def __init__(self, name, counts):
            self.progress = SimpleNamespace(remote=lambda: (name, counts.pop(0)))

    ray = SimpleNamespace(
        wait=lambda asked, num_returns, timeout: (
            seen.append([num_returns, timeout])
            or ([one for one in asked if one[1] is not None], [])
        ),
        get=lambda future: future[1],
        exceptions=exceptions,
        kill=lambda worker: seen.append("killed"),
    )
    watch = cluster._Watch(ray)
    slow, still = Stuck("slow", list(range(30))), Stuck("still", [5] * 20)
    silent = Stuck("silent", [None] * 20)
    busy = [(slow, Path("slow")), (still, Path("still")), (silent, Path("silent"))]
    for _ in range(11):
        watch.end_stuck(busy)
        seen.append(sorted(map(str, watch.ended)))
        busy = [(w, p) for w, p in busy if p not in watch.ended]
    again = [(Stuck("again", [5] * 9), Path("again"))]
    for busy in (again, again, *[[(slow, Path("slow"))]] * 9, again, again):
        watch.end_stuck(busy)  # what is tried again later has its time anew
    seen.append(sorted(map(str, watch.ended)))
    found["watch"] = seen
    approved.check("features-cluster", found)


def test_videos_in_processes(monkeypatch):
    """Which process gets which video, and what a process does with it."""
    calls, names = [], ["3", "1 dies", "2", "4", "5 unread"]

    class InProcess:
        def __init__(self, work, threads):
            self.number, self.alive, self.path = sum(c[0] == "new" for c in calls), True, None
            self.connection, self.messages = self, []
            calls.append(["new", self.number, pickle.loads(work).__name__, threads])

        def start(self, path):
            calls.append(["start", self.number, path.stem])
            self.path = path
            seconds, _, fate = path.stem.partition(" ")
            done = workers.Computed(path, np.zeros((int(seconds), 2)), None)
            if fate:
                done = workers.Failed(path, fate)
                self.alive = fate != "dies"
            self.messages = [2, done]

        def receive(self):
            message = self.messages.pop(0)
            if not self.messages:
                self.path = None
            return message

        def end_if_stuck(self, is_heard):
            calls.append(["heard", self.number, is_heard])

        def stop(self):
            calls.append(["stop", self.number])

    started, main = [], sys.modules["__main__"]

    class Context:
        def Pipe(self):
            return "ours", SimpleNamespace(close=lambda: started.append("theirs is closed"))

        def Process(self, target, args, daemon):
            return SimpleNamespace(
                start=lambda: started.append([args[1:], daemon, sys.modules["__main__"] is main])
            )

    with monkeypatch.context() as patch:
        patch.setattr(workers.multiprocessing, "get_context", lambda kind: Context())
        for work in (b"of a module", b"of __main__"):
            workers._Worker(work, 3)
    monkeypatch.setattr(workers, "_Worker", InProcess)
    monkeypatch.setattr(
        workers,
        "wait",
        lambda ready, timeout: calls.append(["wait", len(ready), timeout]) or ready[:1],
    )
    counts = []
    results = [
        shown_of(result)
        for result in workers.run_in_workers(
            print, iter([Path(f"{name}.mp4") for name in names]), 2, 3, counts.append
        )
    ]
    monkeypatch.undo()
    sent, inbox = [], ["a", "b"]

    def recv():
        if not inbox:
            raise EOFError
        return inbox.pop(0)

    connection = SimpleNamespace(recv=recv, send=sent.append)
    for name in ("end_with_parent", "read_here"):
        monkeypatch.setattr(workers, name, lambda name=name: sent.append(name))
    monkeypatch.setattr(workers.signal, "signal", lambda *args: sent.append([str(a) for a in args]))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: sent.append(f"{number} threads"))
    with warnings.catch_warnings():
        workers._serve(connection, pickle.dumps(count_letters), 3)
        sent.append(warnings.showwarning.__name__)
    approved.check(
        "features-processes",
        {"started": started, "calls": calls, "results": results, "counts": counts, "served": sent},
    )


def count_letters(path, on_features):
    on_features(len(path))
    return path.upper()
