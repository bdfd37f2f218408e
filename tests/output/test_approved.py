"""Complete files, clips, figures and pages, compared with what was approved."""

import io
import json
import os
import re
import sys
import zlib
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests import approved
from tests.library.colours import write_video
from tests.make_video import number_shown, write_sound
from tests.make_video import write_video as write_numbers
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from videoclip.features import contained
from videoclip.model.videoclip import VideoCLIP
from videoclip.output import clip, edl, figures, formats, html, playback, player, run_page, terminal
from videoclip.output import timeline as timelines
from videoclip.output.edl import FrameRate, find_rate
from videoclip.output.run_page import RunPage
from videoclip.zeroshot.confidence import LEVELS
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.results import Timeline


@pytest.fixture(autouse=True)
def read_here(tmp_path, monkeypatch):
    """Read videos in this process, and draw with the one font that is everywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contained, "_reads_here", True)
    monkeypatch.setattr(figures, "FONTS", ("DejaVu Sans",))


@pytest.fixture
def moments(tmp_path):
    """Moments of a video that is here and of one that is gone."""
    video = write_video(tmp_path / "a video.mp4", ["red", "blue", "green", "white"] * 5)
    found = Moment(video, 0.25, 3.0, "chop, the\nonion", 1.0, 0.5, 2.5, "high", 2.0, 1.0)
    facts = {"duration": 20.0, "frame_rate": 29.97}
    return [
        replace(found, **facts, has_all_words=True, words="first cut"),
        Moment(video, 12.0, 13.5, "fry", confidence="low", similarity=0.25, **facts),
        Moment(video, 13.5, 13.501, "", confidence="none", **facts),
        Moment(Path("gone & away.mkv"), 61.0, 3725.5, "=stir", frame_rate=25.0),
    ]


def test_formats(moments, tmp_path):
    of_one = [moments[1], moments[0], moments[2]]
    told = []
    written = {
        name: formats.export_moments(some, name, "A  title\nof two lines", on_message=told.append)
        for name, some in (
            ("csv", moments),
            ("json", moments[:1]),
            ("edl", moments),
            ("fcpxml", of_one),
            ("vtt", of_one),
            ("fiftyone", moments),
            ("labelstudio", moments),
        )
    }
    spans = [(0.0, 9.0), (12.5, 30.0), (31.0, 35.0), (60.0, 75.9), (75.9, 90.0), (120.0, 125.0)]
    spans += [(137.0, 4000.0), (3999.0, 4001.0)]
    chapters = [Moment(Path("v"), *span, label=f"part {i}") for i, span in enumerate(spans)]
    lines = {}
    for name, some in (
        ("all", chapters),
        ("late", chapters[3:]),
        ("early", [replace(chapters[1], start=4.0)]),
        ("one", chapters[:1]),
        ("at the limits", [replace(chapters[0], start=a, end=b) for a, b in AT_LIMITS]),
        ("just below", [replace(chapters[0], start=a, end=b) for a, b in BELOW_LIMITS]),
    ):
        messages = []
        lines[name] = [formats.to_youtube(some, messages.append).splitlines(), messages]
    table = [{"a": "+1", "b": -1, "c": "x\ry"}, {"a": "\tq", "b": None, "c": "@"}]
    unknown = replace(moments[1], frame_rate=None)
    wrong = {
        "none": partial(formats.export_moments, [], "csv"),
        "two videos": partial(formats.to_webvtt, moments),
        "chapters of two": partial(formats.to_youtube, moments),
        "no rate": partial(formats.to_fiftyone, [unknown]),
        "edit list without rate": partial(formats.export_moments, [unknown], "edl"),
    }
    approved.check(
        "output-formats",
        {
            "written": {
                name: [text[:5], json.loads(text)] if text[0] in "[{" else text.splitlines()
                for name, text in written.items()
            },
            "messages": told,
            "chapters": lines,
            "frames": [
                formats._frames(Moment(Path("v"), *span, frame_rate=100.0))
                for span in ((4.35, 4.35), (4.35, 5.0), (0.0, 0.07), (0.0, 0.075))
            ],
            "same start": formats.to_webvtt([replace(of_one[0], end=end) for end in (20, 19, 21)]),
            "table": formats.to_table(table),
            "empty table": formats.to_table([]),
            "errors": {name: approved.outcome(call) for name, call in wrong.items()},
        },
        TMP=tmp_path,
    )


AT_LIMITS = [(10.0, 20.0), (30.0, 40.0), (40.0, 55.0), (50.0, 52.0), (65.0, 65.5)]
BELOW_LIMITS = [(9.9, 20.0), (29.9, 39.9), (39.8, 54.0), (49.9, 52.0), (61.9, 62.0)]
INPUTS = {
    "one": '{"path": "a.mp4", "start": 1, "end": 2.5, "name": "n", "confidence": "low"}',
    "searches": '[{"query": "q", "moments": [{"path": "a", "start": 0, "end": 1, "label": null}]}]',
    "timeline": '{"path": "t", "labels": ["x"], "spans": [{"start": 1, "end": 2, "words": "w"}]}',
    "names": '{"path": "a", "start": 1, "end": 1, "name": "n", "query": "q", "words": "w"}',
    "odd query": '{"query": ["q"], "moments": [{"path": "a", "start": 0, "end": 1}]}',
    "empty list": "[]",
    "empty": "  ",
    "no json": "{",
    "other": '{"a": 5}',
    "deep": "[" * 3000,
    "surrogate": '["\\ud800"]',
    "no path": '{"start": 1, "end": 2}',
    "reversed": '{"path": "a", "start": 2, "end": 1}',
    "negative": '{"path": "a", "start": -2, "end": 1}',
    "not finite": '{"path": "a", "start": 0, "end": NaN}',
    "confidence": '{"path": "a", "start": 0, "end": 1, "confidence": "sure"}',
    "text": '{"path": "a", "start": "x", "end": 1}',
    "null byte": '{"path": "a\\u0000", "start": 0, "end": 1}',
}


def test_moments_are_read(tmp_path, monkeypatch):
    found = {}
    for name, text in INPUTS.items():
        (tmp_path / "m.json").write_text(text)
        read = approved.outcome(partial(formats.read_moments, tmp_path / "m.json"))
        found[name] = read if isinstance(read, str) else [repr(m) + m.label for m in read]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    found["terminal"] = approved.outcome(partial(formats.read_moments, "-"))
    found["absent"] = approved.outcome(partial(formats.read_moments, tmp_path / "no.json"))
    approved.check("output-read", found, TMP=tmp_path)


def test_timecode(moments, tmp_path):
    rates = {name: find_rate(name) for name in (23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 12.4)}
    rates["non-drop"] = find_rate(29.97, is_drop=False)
    frames = [0, 1, 1799, 1800, 1801, 17981, 17982, 107892, 2589407]
    messages = []
    chosen = [
        edl.choose_rate(some, given, drop, messages.append)
        for some, given, drop in (
            (moments, None, None),
            (moments[:2], None, False),
            (moments, 60.0, None),
            ([replace(moments[0], frame_rate=30.1), moments[3], moments[3]], None, None),
        )
    ]
    approved.check(
        "output-timecode",
        {
            "rates": {
                str(name): [str(r.exact), r.is_drop, r.nominal, r.frames(61.5)]
                for name, r in rates.items()
            },
            "codes": {str(name): [r.timecode(f) for f in frames] for name, r in rates.items()},
            "chosen": [[str(rate.exact), rate.is_drop] for rate in chosen],
            "messages": messages,
            "beyond the end": re.findall(
                "<asset .*?>", edl.to_fcpxml([replace(moments[3], duration=60.0)], rates[25.0])
            ),
            "non-drop list": edl.to_edl(moments[:1], rates["non-drop"]).splitlines(),
            "errors": [
                approved.outcome(call)
                for call in (
                    partial(FrameRate, Fraction(0)),
                    partial(find_rate, 25.0, is_drop=True),
                    partial(edl.choose_rate, [replace(moments[0], frame_rate=None)]),
                )
            ],
        },
        TMP=tmp_path,
    )


def content_of(path):
    """Numbers and times of the pictures of a file, and its sound."""
    with av.open(str(path)) as container:
        streams = {stream.type: stream for stream in container.streams}
        frames = list(container.decode(video=0))
        pictures = [
            [number_shown(frame.to_ndarray(format="rgb24")), round(float(frame.time), 3)]
            for frame in frames
        ]
        keys = [i for i, frame in enumerate(frames) if frame.key_frame]
        facts = [container.format.name, *(s.codec_context.name for s in streams.values())]
    size = [streams["video"].width, streams["video"].height, streams["video"].pix_fmt]
    sound = []
    if "audio" in streams:
        with av.open(str(path)) as container:
            sound = [round(f.time * f.sample_rate) for f in container.decode(audio=0)]
    rates = [s.rate for kind, s in streams.items() if kind == "audio"]
    shown = [pictures[:3], pictures[-1], len(pictures), keys]
    return [facts, size, *shown, sound[:2], len(sound), rates]


def test_clips(tmp_path):
    video = write_numbers(tmp_path / "v.mp4", 40, sound_seconds=4.0, g=10, sc_threshold=0)
    odd = [np.full((31, 45, 3), 30 * i, np.uint8) for i in range(4)]
    write_numbers(tmp_path / "odd.mkv", odd, pix_fmt="yuv444p")
    write_numbers(tmp_path / "turned.mp4", 6, rotation=270)
    write_numbers(tmp_path / "b.mkv", 40, bf=3, g=12)
    with av.open(str(tmp_path / "r.mkv"), "w") as file:  # sound of a rate that Opus does not take
        tracks = [file.add_stream("mpeg4", rate=10), file.add_stream("pcm_s16le", rate=11025)]
        tracks[0].width = tracks[0].height = 32
        tracks[0].pix_fmt = "yuv420p"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 11025), np.int16), "s16", "mono")
        sound.sample_rate = 11025
        black = np.zeros((32, 32, 3), np.uint8)
        pictures = [av.VideoFrame.from_ndarray(black, "rgb24") for _ in range(10)]
        for track, frames in zip(tracks, (pictures, [sound]), strict=True):
            for frame in [*frames, None]:
                file.mux(track.encode(frame))
    cuts = {
        "fast, of Matroska": (tmp_path / "b.mkv", 1.3, 2.0, "b.mp4", {"fast": True}),
        "fast, from the start": (tmp_path / "b.mkv", 0.0, 1.0, "s.mkv", {"fast": True}),
        "exact": (video, 1.05, 2.0, "x.mp4", {}),
        "padded": (video, 0.2, 0.5, "p.mkv", {"padding": 0.25}),
        "across keyframes": (video, 0.5, 2.5, "k.mp4", {}),
        "within a picture": (video, 1.52, 1.56, "i.mp4", {}),
        "to the end": (video, 3.5, 99.0, "e.mov", {}),
        "fast": (video, 1.55, 2.25, "f.mp4", {"fast": True}),
        "fast and padded": (video, 2.1, 2.2, "g.mkv", {"fast": True, "padding": 0.3}),
        "odd": (tmp_path / "odd.mkv", 0.1, 0.3, "o.mp4", {}),
        "turned": (tmp_path / "turned.mp4", 0.0, 0.2, "t.mp4", {}),
        "webm": (video, 1.0, 1.3, "w.webm", {}),
        "webm of an odd rate": (tmp_path / "r.mkv", 0.0, 0.4, "r.webm", {}),
    }
    found = {}
    for name, (source, start, end, out, options) in cuts.items():
        span = clip.cut_clip(source, start, end, tmp_path / "out" / out, **options)
        found[name] = [list(span), content_of(tmp_path / "out" / out)]
    wrong = {
        "empty": (video, 1.0, 1.0, "a.mp4", {}),
        "negative": (video, -1.0, 1.0, "a.mp4", {}),
        "endless": (video, 0.0, float("inf"), "a.mp4", {}),
        "padding": (video, 0.0, 1.0, "a.mp4", {"padding": -1}),
        "beyond": (video, 4.0, 5.0, "a.mp4", {}),
        "extension": (video, 0.0, 1.0, "a.xyz", {}),
        "does not fit": (video, 0.0, 1.0, "a.webm", {"fast": True}),
        "no video": (write_sound(tmp_path / "s.mp4"), 0.0, 0.5, "a.mp4", {}),
        "absent": (tmp_path / "no.mp4", 0.0, 1.0, "a.mp4", {}),
        "itself": (video, 0.0, 1.0, "../v.mp4", {}),
    }
    errors = {
        name: approved.outcome(partial(clip.cut_clip, *span, tmp_path / "out" / out, **options))
        for name, (*span, out, options) in wrong.items()
    }
    some = [
        Moment(video, 0.0, 0.2, "Größe: a/b " + "long " * 20),
        Moment(tmp_path / "no.mp4", 0.0, 1.0),
        Moment(tmp_path / "odd.mkv", 0.0, 0.2, "odd"),
        Moment(video, 1.25, 1.5),
    ]
    failed = []
    long = tmp_path / f"{'long' * 30}.mp4"
    long.hardlink_to(video)
    named = [
        [path.name, moment.start, moment.end]
        for fast in (False, True)
        for path, moment in clip.cut_moments(some, tmp_path / "cut", failed, fast=fast)
    ]
    named += [
        [str(p), m.start] for p, m in clip.cut_moments(some[2:], tmp_path / "clips.of 2", failed)
    ]
    named += [clip._clip_name(7, Moment(long, 0.25, 1.0), fast=True)]
    named += [clip.write_thumbnail(Moment(long, 0.0, 1.0), tmp_path / "thumbs").name]
    named += [
        [str(p), m.start] for p, m in clip.cut_moments(some[3:], tmp_path / "one.mp4", failed, 0.5)
    ]
    thumbnail = clip.write_thumbnail(replace(some[3], best=1.3456), tmp_path / "thumbs")
    with Image.open(thumbnail) as image:
        pictured = [thumbnail.name, image.format, image.size, number_shown(np.asarray(image))]
    approved.check(
        "output-clips",
        {
            "cuts": found,
            "errors": errors,
            "files": sorted(path.name for path in (tmp_path / "out").iterdir()),
            "named": named,
            "failed": [str(error) for error in failed],
            "thumbnail": pictured,
        },
        TMP=tmp_path,
    )


def test_packets_are_copied(monkeypatch):
    """Which packets of a file reach a fast cut, and with which times."""
    picture, sound = SimpleNamespace(index=0), SimpleNamespace(index=3)
    rows = [  # stream, pts and dts in quarters of a second, whether of a keyframe
        (sound, 0, 0, True),
        (picture, 6, 5, False),
        (picture, None, 6, True),
        (picture, 8, None, True),
        (picture, 8, 7, True),
        (sound, 7, 7, True),
        (sound, 8, 8, True),
        (picture, 10, 8, False),
        (picture, 9, 9, True),
        (sound, None, 10, True),
        (picture, 15, 10, False),
        (picture, 16, 11, False),
        (sound, 16, 16, True),
        (picture, 12, 12, False),
        (picture, None, None, False),
    ]
    found = {}
    for name, start_time, best in (
        ("both", 1_000_000, [picture, sound]),
        ("only pictures", None, [picture, None]),
        ("only sound", 0, [sound, None]),
    ):
        calls = []
        container = SimpleNamespace(
            start_time=start_time,
            streams=SimpleNamespace(best={"video": best[0], "audio": best[1]}.get),
            seek=lambda time, calls=calls: calls.append(["seek", time]),
            demux=lambda streams: (
                SimpleNamespace(
                    stream=stream, pts=pts, dts=dts, is_keyframe=key, time_base=Fraction(1, 4)
                )
                for stream, pts, dts, key in rows
                if stream in streams
            ),
        )
        target = SimpleNamespace(
            mux=lambda packet, calls=calls: calls.append([packet.stream, packet.pts, packet.dts])
        )
        monkeypatch.setattr(clip, "open_container", lambda path, c=container: nullcontext(c))
        monkeypatch.setattr(clip, "_create", lambda path, t=target: nullcontext(t))
        monkeypatch.setattr(clip, "_add_copied_stream", lambda t, stream: f"copy {stream.index}")
        start = clip._copy(Path("a"), Fraction(3, 2), Fraction(3), Path("b"))
        found[name] = [str(start), *calls]
    approved.check("output-packets", found)


def test_frames_of_several_streams():
    """Sound that is stored ahead of its pictures does not end them."""
    rows = [("video", 2), ("sound", 3), ("sound", None), ("sound", 9), ("video", 4), ("sound", 5)]
    rows += [("video", 7), ("video", 8), ("sound", 4), ("video", 20)]

    def packet(stream, pts):
        frame = SimpleNamespace(pts=pts, time_base=Fraction(1, 4))
        return SimpleNamespace(stream=stream, decode=lambda: [frame])

    sought, found = [], {}
    for streams, start_time in ((["video", "sound"], 0), (["video"], 500_000)):
        container = SimpleNamespace(
            start_time=start_time,
            seek=sought.append,
            demux=lambda streams: (packet(*row) for row in rows if row[0] in streams),
        )
        decoded = clip._decode(container, streams, Fraction(3, 4), Fraction(2))
        found[" ".join(streams)] = [[s, frame.pts, str(time)] for s, frame, time in decoded]
    approved.check("output-decoded", [found, sought])


def test_sound_is_trimmed():
    made = av.AudioFrame.from_ndarray(np.arange(100, dtype=np.float32)[None], "fltp", "mono")
    packed = av.AudioFrame.from_ndarray(np.arange(200, dtype=np.int16)[None], "s16", "stereo")
    found = []
    for frame in (made, packed):
        frame.sample_rate = 100
        for time, duration in ((-0.25, 0.5), (0.0, 5.0), (0.3, 0.5), (-1.0, 2.0), (0.4, 0.4)):
            kept = clip._trim_samples(frame, Fraction(time), Fraction(duration))
            found.append(
                kept and [kept.samples, kept.to_ndarray()[0, [0, -1]], str(kept.time_base)]
            )
    approved.check("output-sound", found)


def drawn(figure):
    """What is drawn: texts, boxes, lines and pictures with their places and colours."""
    from matplotlib.colors import to_hex

    figure.canvas.draw()
    found = [[round(value) for value in figure.get_size_inches() * 72]]
    for axes in figure.axes:
        found.append([axes.get_xlim(), axes.get_ylim(), axes.get_title(), axes.get_xlabel()])
        for text in axes.texts:
            place = [*text.get_position(), text.get_size(), to_hex(text.get_color()), text.get_ha()]
            found.append([text.get_text(), *place])
        for patch in axes.patches:
            box = patch.get_window_extent().bounds
            found.append(["box", *np.round(box, 1), to_hex(patch.get_facecolor()), patch.get_gid()])
        for line in axes.lines:
            points = [np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)]
            found.append(["line", points, to_hex(line.get_color()), line.get_linestyle()])
        for line in axes.collections:
            found.append(["lines", [np.round(p.vertices, 1) for p in line.get_paths()][:1]])
        for image in axes.images:
            shown = image.get_array()
            found.append(["image", image.get_extent(), shown.shape, image.get_gid()])
    return [json.dumps(approved.plain(one), ensure_ascii=False) for one in found]


def test_timelines(moments, tmp_path, monkeypatch):
    video = moments[0].path
    some = (
        Moment(video, 0.0, 9.0, "chop the onion", confidence="high"),
        Moment(video, 9.0, 9.5, "fry & stir", confidence="low"),
        Moment(
            video,
            12.0,
            20.0,
            "a label that is longer than the space beside the drawing " * 2,
            confidence="none",
        ),
        Moment(video, 10.0, 12.0, "chop the onion"),
    )
    labels = ("chop the onion", "fry & stir", some[2].label, "serve")
    timeline = Timeline(video, 20.0, 8.0, labels, some, 1.25)
    plain = timelines.draw_timeline(replace(timeline, duration=8000.0, moments=some[:1]))
    wide = write_numbers(tmp_path / "wide.mp4", 30)
    of_wide = timelines.grab_stills(replace(timeline, path=wide, duration=3.0))
    scale = (timelines.WIDTH - timelines.MARGIN - timelines._left(timeline)) / 20.0
    lines = []
    for more in (0.5, 6.0, 18.0):  # pixels beside the times of a moment
        end = (figures.text_width("0:00.0-0:02.1", 12) + more) / scale
        one = timelines.draw_timeline(replace(timeline, moments=(replace(some[0], end=end),)))
        texts = [text.get_text() for axes in one.axes for text in axes.texts]
        lines.append([text for text in texts if text.startswith("0:00.0-")])
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(timelines, "probe", lambda path: SimpleNamespace(width=40, height=80))
        patch.setattr(
            timelines,
            "grab_frame",
            lambda *what: asked.append(what[1:]) or np.zeros((80, 40, 3), np.uint8),
        )
        upright = timelines.grab_stills(replace(timeline, duration=3.0))
    stills = timelines.grab_stills(timeline)
    figure = timelines.draw_timeline(timeline, stills[:2])
    page = html.timeline_page(timeline, figure, tmp_path / "page.html")
    elsewhere = html.timeline_page(timeline, plain, tmp_path / "x" / "page.html")
    svg = figures.to_svg(figure, "A title <&>")
    shapes = re.findall(r'<(?:g|image) class="plays"[^>]*data-start="([^"]*)"|<title>([^<]*)', svg)
    png = Image.open(io.BytesIO(figures.to_png(figure)))
    approved.check(
        "output-timelines",
        {
            "drawn": drawn(figure),
            "plain": drawn(plain)[:4] + drawn(plain)[-6:],
            "boxes": [line for line in drawn(plain) if line.startswith('["box"')][2:4],
            "times beside moments": lines,
            "stills of an upright video": [len(upright), upright[0][0].shape, *asked[:2]],
            "stills of a wide video": [
                len(of_wide),
                of_wide[0][0].shape,
                [[number_shown(pixels), s] for pixels, s in of_wide[::3]],
            ],
            "stills": [
                len(stills),
                stills[0][0].shape,
                [s for _, s in stills][::9],
                stills[3][0][5, 5],
            ],
            "ticks": {
                d: str(timelines._ticks(d))
                for d in (0.5, 11.9, 12.0, 12.1, 24.0, 43200.0, 61.0, 1e4, 1e5)
            },
            "shapes": shapes[:9],
            "png": [png.size, png.mode, sorted(png.info)],
            "pictures": [
                re.findall(r" ([\w:-]+)=", tag) for tag in re.findall("<image[^>]*>", svg)
            ],
            "svg": [svg[:150], "<style" in svg, "data:image/jpeg" in svg, " id=" in svg[:900]],
            "page": without_svg(page),
            "elsewhere": re.findall("src=.*mp4", elsewhere),
            "shortened": [figures.shorten("a long text of words", w, 14) for w in (20, 60, 999)],
            "colours": [timelines._mix_with_white("#0072b2", share) for share in (0.0, 0.3, 1.0)],
            "brightness": [timelines._luminance(c) for c in ("#ff0000", "#00ff00", "#0000ff")],
        },
        TMP=tmp_path,
    )


def without_svg(page):
    """The lines of a page; of figures, pictures and its own style and script their checksum."""
    page = re.sub(r"<svg.*?</svg>", "SVG", page, flags=re.DOTALL)
    page = re.sub(r"data:image/jpeg;base64,[^\"]*", "JPEG", page)
    for tag in ("style", "script"):
        page = re.sub(
            rf"<{tag}>.*?</{tag}>",
            lambda match: f"<{match[0][1:6]} {zlib.crc32(match[0].encode())}",
            page,
            flags=re.DOTALL,
        )
    return page.splitlines()


def test_pages(moments, tmp_path):
    video = moments[0].path
    page = html.search_page(["a <query>", "nothing"], [moments, [moments[2]]], tmp_path / "p.html")
    (tmp_path / "c.mp4").write_bytes(b"abc")
    approved.check(
        "output-pages",
        {
            "search": without_svg(page),
            "addresses": [
                html._address(video, page)
                for page in (None, tmp_path / "x.html", tmp_path / "y/x.html")
            ],
            "without values": approved.outcome(partial(html.render, "search.html")),
            "files": [html._file_as_url(tmp_path / "c.mp4"), figures.data_url(b"x")],
        },
        TMP=tmp_path,
    )


def test_figures():
    runs = [
        ("one", [(1, 2.5), (3, 1.25)], []),
        ("two", np.array([[2, 3.0], [4, 0.5]]), [(4, 0.75)]),
    ]
    figure = figures.draw_losses(runs)
    log = [{"update": i, "loss": float(i % 7)} for i in range(100)] + [{"update": 100}]
    legend = figure.legends[0]
    approved.check(
        "output-figures",
        {
            "losses": drawn(figure),
            "legend": [legend.get_title().get_text(), *(t.get_text() for t in legend.get_texts())],
            "averaged": [figures.average_losses(log)[::13], figures.average_losses(log[:3])],
            "none": figures.average_losses([{"update": 1}]),
            "few": len(figures.average_losses(log)),
        },
    )


def test_the_page_of_a_run(tmp_path, monkeypatch):
    corpus = tiny_corpus(tmp_path / "store", num_videos=3)
    config = tiny_config()
    paths = {corpus.video_ids[0]: write_video(tmp_path / "v.mp4", ["red", "blue"] * 20)}
    page = RunPage(VideoCLIP(config.model), corpus, config, tokenizer(), paths, is_held_out=False)
    calls = []
    model, page._model = (
        page._model,
        SimpleNamespace(
            training=False,
            eval=lambda: "model",
            train=calls.append,
            similarity=lambda *of: calls.append(of) or torch.zeros(1),
        ),
    )
    with monkeypatch.context() as patch:
        patch.setattr(run_page, "embed_batch", lambda model, batch: ("videos", "texts"))
        page.similarities()
    page._model = model
    drawn_losses, draw = [], run_page.draw_losses
    monkeypatch.setattr(
        run_page, "draw_losses", lambda runs: draw([drawn_losses.append(r) or r for r in runs])
    )
    page._before = np.eye(len(page.moments), dtype=np.float32)
    page.similarities = lambda: np.roll(page._before, 1, axis=0)
    log = [
        {"update": i, "loss": 3.0 / i, "temperature": 0.1 * i, "pairs_per_second": 5.0, "lr": 0.1}
        for i in (1, 2, 3)
    ] + [{"update": 3, "validation_loss": 1.5}]
    text = page.render("a run", "in one line", [("R@1", "0.1", "0.2")], log)
    approved.check(
        "output-run",
        {
            "losses": drawn_losses,
            "compared": calls,
            "page": without_svg(text)[:60],
            "moments": [[m.path.name, m.start, m.end, m.label] for m in page.moments[::5]],
            "series": drawn(run_page._draw_series(log)),
            "matrices": drawn(run_page._draw_matrices(np.eye(2), -np.eye(2)))[:7],
            "no moments": run_page._thumbnail(Moment(tmp_path / "no.mp4", 0, 1), tmp_path),
        },
        TMP=tmp_path,
    )


def test_playback(tmp_path, monkeypatch):
    codecs = {}

    def read(path):
        return codecs[path.name]

    monkeypatch.setattr(playback, "_read_codecs", read)
    found = {}
    for name in ("a.mp4", "a.MOV", "a.m4v", "a.mkv", "a.webm", "a.avi"):
        for video, pixels, sound in (
            ("h264", "yuv420p", "aac"),
            ("h264", "yuvj420p", ""),
            ("h264", "yuv422p", "aac"),
            ("av1", "yuv420p", "opus"),
            ("vp9", "yuv420p", "vorbis"),
            ("h264", "yuv420p", "opus"),
            ("hevc", "yuv420p", "aac"),
        ):
            codecs[name] = video, pixels, sound
            kind = playback.playback_of(tmp_path / name)
            found.setdefault(name, []).append(f"{video} {pixels} {sound}: {' '.join(kind)}")
    monkeypatch.undo()
    real = write_numbers(tmp_path / "r.mkv", 3, sound_seconds=0.5)
    read = playback._read_codecs(real)
    codec = SimpleNamespace(
        codec=SimpleNamespace(canonical_name="av1"), name="libdav1d", pix_fmt=None
    )
    best = dict.fromkeys(("video", "audio"), SimpleNamespace(codec_context=codec)).get
    container = SimpleNamespace(streams=SimpleNamespace(best=best))
    monkeypatch.setattr(playback, "open_container", lambda path: nullcontext(container))
    approved.check("output-playback", [found, read, playback._read_codecs(real)])


def test_players(moments, tmp_path, monkeypatch):
    started, here = [], []
    monkeypatch.setattr(
        player.subprocess,
        "Popen",
        lambda command, **o: started.append([command, sorted(o.items(), key=str)]),
    )
    monkeypatch.setattr(
        player.shutil, "which", lambda name: f"/bin/{name}" if name in here else None
    )
    told = []
    for system, programs in (
        ("linux", ["mpv", "vlc"]),
        ("linux", ["vlc"]),
        ("linux", ["ffplay", "xdg-open"]),
        ("darwin", ["open"]),
        ("plan9", ["xdg-open"]),
        ("linux", []),
    ):
        monkeypatch.setattr(player.sys, "platform", system)
        here[:] = programs
        told.append(approved.outcome(partial(player.play, moments[1])))
    here[:] = ["vlc"]
    told.append(player.play(replace(moments[1], path=Path("a video.mp4"))))
    told.append(
        approved.outcome(partial(player.play, replace(moments[3], path=tmp_path / "gone.mp4")))
    )
    monkeypatch.undo()
    approved.check("output-players", [told, started], TMP=tmp_path)


def test_pictures_on_terminals(moments, monkeypatch):
    terminals = {
        "kitty": {"TERM": "xterm-kitty"},
        "ghostty": {"TERM": "xterm-ghostty"},
        "konsole": {"KONSOLE_VERSION": "1"},
        "iTerm": {"TERM_PROGRAM": "iTerm.app"},
        "WezTerm": {"TERM_PROGRAM": "WezTerm"},
        "by ssh": {"LC_TERMINAL": "iTerm2"},
        "plain": {"TERM": "xterm"},
        "tmux": {"TERM": "xterm-kitty", "TMUX": "1"},
        "screen": {"TERM": "screen.kitty", "TERM_PROGRAM": "WezTerm"},
        "none": {},
    }
    found = {}
    for is_terminal in (True, False):
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda i=is_terminal: i))
        for name, variables in terminals.items():
            monkeypatch.setattr(os, "environ", variables)
            made = terminal.picture_maker()
            found[f"{name} {is_terminal}"] = made and made(moments[0])[:12]
    monkeypatch.undo()
    grabbed = []
    monkeypatch.setattr(
        terminal,
        "grab_frame",
        lambda *what: grabbed.append(what[1:]) or np.zeros((2, 2, 3), np.uint8),
    )
    monkeypatch.setenv("KONSOLE_VERSION", "1")
    monkeypatch.delenv("TMUX", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
        terminal.picture_maker()(moments[0])
    approved.check(
        "output-terminals",
        [
            found,
            grabbed,
            [terminal._kitty(bytes(n))[-40:] for n in (3, 3072, 3073)],
            terminal._kitty(bytes(3073))[:30],
            terminal._iterm(b"abcd"),
        ],
    )


def test_levels_have_colours():
    approved.check("output-levels", [timelines.OPACITY[level] for level in ("", *LEVELS)])
