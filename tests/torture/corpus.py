"""Hostile input by a seeded generator: damaged videos, subtitles, moments, and state of our own.

Small valid files are made first. Each hostile file is one of them, changed at one random place by
one random rule: bits, cut and repeated ranges, parts of the container (atoms, EBML elements, RIFF
chunks, transport packets), timestamps, tags, texts, JSON values.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.make_video import numbered_picture, write_video

X264 = {"codec": "libx264", "x264-params": "cpu-independent=1"}  # else its bytes differ by chance
CODECS = {
    ".mp4": X264 | {"sound_seconds": 3.0},
    ".mkv": X264 | {"sound_seconds": 3.0},
    ".webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8},
    ".avi": {"codec": "mpeg4"},
    ".ts": {"codec": "mpeg2video", "rate": 25},
}
TAG = "a title that is thirty letters"
EXTREMES = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)

SRT = "".join(
    f"{n + 1}\n00:00:0{n},000 --> 00:00:0{n},800\nchop the onion {n}\n\n" for n in range(3)
)
VTT = "WEBVTT\n\nNOTE made\n\n" + SRT.replace(",", ".")
CUES: list[Any] = [{"start": n, "end": n + 0.8, "text": f"chop the onion {n}"} for n in range(3)]
EVENTS = [
    {"tStartMs": 1000 * n, "dDurationMs": 800, "segs": [{"utf8": f"chop {n}"}]} for n in range(3)
]
SUBTITLES: dict[str, list[Any]] = {
    ".srt": [SRT],
    ".vtt": [VTT],
    ".json": [
        CUES,
        {"segments": CUES},
        {"events": EVENTS},
        {key: [cue[key] for cue in CUES] for key in ("start", "end", "text")},
    ],
}
VALUES: tuple[Any, ...] = (
    *(None, True, 5, -1, 0.5, "", "x", "\ud800", [], {}, [[]], [None], {"a": 1}, 10**400, -(2**63)),
    *(float("nan"), float("inf"), 1e308, "9" * 5000, 10**18, "\x1b[31m", "=1+1", "../../etc"),
)


# --- valid files -------------------------------------------------------------------------------


def write_clips(folder: Path) -> dict[str, Path]:
    """Write a valid video of three seconds for each container, with a tag; by suffix."""
    folder.mkdir(parents=True)
    clips = {}
    for suffix, options in CODECS.items():
        rate = int(options.get("rate", 10))
        plain = write_video(folder / f"plain{suffix}", 3 * rate, g=rate, **{"rate": 10} | options)
        clips[suffix] = remux(plain, folder / f"clip{suffix}")
        plain.unlink()
    return clips


def remux(
    source: Path, target: Path, retime: Callable[[int, int], int] = lambda index, ticks: ticks
) -> Path:
    """Copy packets into another file with a tag; `retime` maps a packet's number and ticks."""
    options = {"fflags": "+bitexact"}  # no random identifiers
    with av.open(str(source)) as container, av.open(str(target), "w", options=options) as output:
        output.metadata["title"] = TAG
        streams = {s.index: output.add_stream_from_template(s) for s in container.streams}
        for index, packet in enumerate(container.demux()):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = (retime(index, t) for t in (packet.pts, packet.dts))
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return target


# --- damage to bytes ---------------------------------------------------------------------------


def flip_bits(data: bytearray, rng: np.random.Generator, count: int = 1) -> None:
    """Flip random bits."""
    for bit in rng.integers(8 * len(data), size=count):
        data[bit // 8] ^= 1 << bit % 8


def damage_bytes(data: bytearray, rng: np.random.Generator) -> str:
    """Damage any file without knowledge of its format; return what was done."""
    start, stop = sorted(rng.integers(len(data) + 1, size=2).tolist())
    part = bytes(data[start:stop])
    match rng.integers(8):
        case 0 | 1:
            flip_bits(data, rng, count := int(rng.choice([1, 10, 100, 1000])))
            return f"{count} bits"
        case 2:
            head = bytearray(data[:1024])
            flip_bits(head, rng, 10)
            data[:1024] = head
            return "header bits"
        case 3:
            del data[start:]
            return "cut off"
        case 4:
            del data[start:stop]
            return "range removed"
        case 5:
            data[start:start] = part
            return "range repeated"
        case 6:
            data[start:stop] = bytes(stop - start)
            return "range of zeros"
        case _:
            data[start:stop] = rng.bytes(stop - start)
            return "range of noise"


def parts_of(data: bytes, suffix: str) -> list[tuple[int, int, int]]:
    """Return (start, start of content, end) of all parts of a container, at any depth."""
    if suffix == ".ts":
        return [(i, i + 4, i + 188) for i in range(0, len(data) - 187, 188)]
    walk = {".mp4": _atoms, ".avi": _chunks}.get(suffix, _elements)
    return list(walk(data, 0, len(data)))


def _atoms(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    while start + 8 <= end:
        size, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        stop = start + size
        if not start + 8 <= stop <= end:
            return
        yield start, start + 8, stop
        if kind in {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf"}:
            yield from _atoms(data, start + 8, stop)
        start = stop


def _chunks(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    while start + 8 <= end:
        is_list = data[start : start + 4] in (b"RIFF", b"LIST")
        stop = min(end, start + 8 + int.from_bytes(data[start + 4 : start + 8], "little"))
        yield start, start + 8, stop
        if is_list:
            yield from _chunks(data, start + 12, stop)
        start = stop + stop % 2


def _elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    masters = "18538067 1f43b675 1654ae6b ae e0 e1 1549a966 1254c367 7373 67c8 1c53bb6b bb b7 a0"
    while start + 2 <= end:
        first = max(1, 9 - data[start].bit_length())
        kind = data[start : start + first].hex()
        body = start + first
        if body >= end:
            return
        width = max(1, 9 - data[body].bit_length())
        size = int.from_bytes(data[body : body + width]) & (1 << 7 * width) - 1
        content = body + width
        stop = min(end, content + size)
        yield start, content, stop
        if kind in masters.split():
            yield from _elements(data, content, stop)
        start = stop


def damage_parts(data: bytearray, rng: np.random.Generator, suffix: str) -> str:
    """Damage one part of a container; return what was done."""
    parts = parts_of(bytes(data), suffix)
    start, content, stop = parts[rng.integers(len(parts))]
    other = parts[rng.integers(len(parts))]
    number = int(rng.choice(EXTREMES)) if rng.random() < 0.7 else int(rng.integers(2**32))
    width = int(rng.choice([1, 2, 4, 8]))
    coded = (number % 256**width).to_bytes(width)
    match rng.integers(7):
        case 0:
            data[start:content] = rng.bytes(content - start)
            return "header of a part is noise"
        case 1:
            data[content - min(4, content - start) : content] = coded[-4:].rjust(4, b"\0")
            return "size of a part"
        case 2:
            del data[start:stop]
            return "part removed"
        case 3:
            data[other[0] : other[0]] = data[start:stop]
            return "part repeated elsewhere"
        case _:
            place = content + int(rng.integers(max(1, stop - content)))
            place -= (place - content) % width
            data[place : place + width] = coded
            return "number in a part"


# --- hostile files -----------------------------------------------------------------------------


def write_hostile_video(path: Path, clips: dict[str, Path], rng: np.random.Generator) -> str:
    """Write a damaged video; the suffix of `path` selects the container. Return what was done."""
    suffix, choice = path.suffix, rng.random()
    source = clips[suffix]
    if choice < 0.2:
        return f"timestamps: {_write_retimed(path, source, rng)}"
    data = bytearray(source.read_bytes())
    if choice < 0.3:
        place = data.find(TAG[:8].encode())
        noise = bytes(rng.integers(128, 256, size=len(TAG)).tolist())
        if place >= 0:
            data[place : place + len(TAG)] = noise
        what = "tags: not UTF-8"
    elif choice < 0.65:
        what = f"parts: {damage_parts(data, rng, suffix)}"
    else:
        what = f"bytes: {damage_bytes(data, rng)}"
    path.write_bytes(data)
    return what


def _write_retimed(path: Path, source: Path, rng: np.random.Generator) -> str:
    jump = int(10 ** rng.uniform(1, 10))
    place = int(rng.integers(2, 40))
    rules: dict[str, Callable[[int, int], int]] = {
        "a jump": lambda index, ticks: ticks + jump * (index >= place),
        "a jump in the last packets": lambda index, ticks: ticks + jump * (index >= 55),
        "stretched": lambda index, ticks: ticks * (1 + jump % 100_000),
        "late": lambda index, ticks: ticks + jump,
        "early": lambda index, ticks: ticks - jump,
        "one packet far ahead": lambda index, ticks: ticks + jump * (index == place),
    }
    what = str(rng.choice(list(rules)))
    try:
        remux(source, path, rules[what])
    except (av.FFmpegError, OverflowError):  # the muxer refuses: what it wrote remains
        what += " (cut off)"
    return what


def write_hostile_subtitles(path: Path, rng: np.random.Generator) -> str:
    """Write damaged subtitles of the kind of the suffix; return what was done."""
    originals = SUBTITLES[path.suffix]
    original = originals[rng.integers(len(originals))]
    if path.suffix == ".json" and rng.random() < 0.8:
        path.write_text(*(text := damage_json(original, rng))[:1])
        return f"values: {text[1]}"
    text = original if isinstance(original, str) else json.dumps(original)
    choice = rng.integers(5)
    if choice == 0:
        numbers = ["9" * int(rng.choice([3, 20, 400, 4300, 5000])), "-1", "²", "٣", "1e9"]
        digits = [i for i, letter in enumerate(text) if letter.isdigit()]
        place = int(rng.choice(digits))
        path.write_text(text[:place] + str(rng.choice(numbers)) + text[place + 1 :])
        return "odd number"
    if choice == 1:
        encoding = str(rng.choice(["utf-16", "utf-32", "utf-7", "cp037", "utf-16-be"]))
        path.write_bytes(text.encode(encoding))
        return f"as {encoding}"
    data = bytearray(text.encode())
    what = damage_bytes(data, rng)
    path.write_bytes(data)
    return f"bytes: {what}"


def damage_json(content: Any, rng: np.random.Generator) -> tuple[str, str]:
    """Return JSON with one odd value in a random place, and what it is."""
    content = json.loads(json.dumps(content))
    if rng.random() < 0.1:
        depth = int(rng.choice([100, 1000, 100_000]))
        return "[" * depth + "]" * (depth if rng.random() < 0.5 else 0), "deeply nested"
    places = list(_places(content))
    owner, key = places[rng.integers(len(places))]
    value = VALUES[rng.integers(len(VALUES))]
    if isinstance(owner, dict) and rng.random() < 0.2:
        del owner[key]
        return json.dumps(content), "a key is missing"
    owner[key] = value
    return json.dumps(content), f"{value!r:.20}"


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], (dict, list)):
            yield from _places(content[key])


def damage_state(folder: Path, rng: np.random.Generator) -> str:
    """Damage one file of a folder of ours (library, store, model); return what was done."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size)
    file = files[rng.integers(len(files))]
    if file.suffix == ".json" and rng.random() < 0.7:
        text, what = damage_json(json.loads(file.read_text()), rng)
        file.write_text(text)
    else:
        data = bytearray(file.read_bytes())
        if file.suffix == ".safetensors" and rng.random() < 0.5:
            head = bytearray(data[:2000])
            what = f"header: {damage_bytes(head, rng)}"
            data[:2000] = head
        elif rng.random() < 0.1:
            data, what = bytearray(), "empty"
        else:
            what = damage_bytes(data, rng)
        file.write_bytes(data)
    return f"{file.suffix or file.name}: {what}"


# --- files that are no videos, or odd ones -----------------------------------------------------


def write_odd_files(folder: Path, clips: dict[str, Path]) -> dict[str, str]:
    """Fill a folder with what is named like a video and is none, or an odd one; return names."""
    folder.mkdir(parents=True)
    made: dict[str, str] = {}

    def place(name: str, what: str) -> Path:
        made[name] = what
        return folder / name

    os.mkfifo(place("fifo.mp4", "FIFO"))
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # addresses are short
        server.bind("socket.mp4")
        os.chdir(here)
    place("socket.mp4", "socket")
    for device in ("zero", "null", "full", "random", "tty"):
        place(f"{device}.mkv", "link to a device").symlink_to(f"/dev/{device}")
    place("circle.mp4", "link to itself").symlink_to(folder / "circle.mp4")
    place("dangling.mp4", "link to nothing").symlink_to(folder / "nothing")
    (folder / "folder.mp4").mkdir()
    (folder / "folder.avi").mkdir()
    shutil.copy(clips[".avi"], place("folder.avi/inside.avi", "video in a folder named .avi"))
    clip = clips[".mp4"]
    shutil.copy(clip, place("new\nline.mp4", "name with a line break"))
    shutil.copy(clip, place("\x1b[31mred\x1b[0m.mp4", "name with escape characters"))
    shutil.copy(clip, place("=cmd|' !A0.mp4", "name that is a formula"))
    shutil.copy(clip, place("x" * 250 + ".mp4", "name of 254 letters"))
    shutil.copy(clip, place("-v.mp4", "name like an option"))
    shutil.copy(clip, place("a%d:b?.mp4", "name like a pattern or an address"))
    shutil.copy(clip, place(os.fsdecode(b"\xff\xfe.mp4"), "name that is not UTF-8"))
    texts = {
        "ffconcat.mp4": "ffconcat version 1.0\nfile 'neighbour.mp4'\n",
        "playlist.mp4": "#EXTM3U\n#EXTINF:3,\nneighbour.mp4\n",
        "stream.mp4": "v=0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash.mp4": "<?xml version='1.0'?><MPD><Period><BaseURL>neighbour.mp4</BaseURL></Period>"
        "</MPD>",
        "page.mp4": "<html><body>404 not found</body></html>\n" * 20,
        "script.avi": 'import "neighbour.mp4"\n',
        "image.mp4": "neighbour.mp4\n" * 3,
    }
    shutil.copy(clip, place("neighbour.mp4", "good neighbour"))
    for name, text in texts.items():
        place(name, f"text: {text[:8]}").write_text(text)
    place("empty.mp4", "empty").touch()
    place("byte.mp4", "one byte").write_bytes(b"\0")
    place("zeros.mp4", "zeros").write_bytes(bytes(100_000))
    place("archive.mp4", "ZIP").write_bytes(b"PK\3\4" + bytes(500))
    with place("sparse.mkv", "sparse file of 20 GB").open("wb") as file:
        file.truncate(20 << 30)
    for width, height in ((16_000, 2), (2, 16_000), (8192, 8192), (7680, 4320), (2, 2)):
        picture = np.zeros((height, width, 3), np.uint8)
        name = f"{width}x{height}.mkv"
        codec = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
        write_video(place(name, f"{width}x{height}"), [picture] * 2, rate=1, **codec)
    pictures = [numbered_picture(number) for number in range(16)]
    times = [number * 7200 * 10 for number in range(16)]
    write_video(place("30-hours.mp4", "16 frames in 30 hours"), pictures, times=times)
    write_video(place("30-hours.mkv", "16 frames in 30 hours"), pictures, times=times)
    times = [*range(15), 10**9]
    write_video(place("3-years.mkv", "last frame after 3 years"), pictures, times=times)
    aspect = Fraction(60_000, 1)
    write_video(place("aspect.mkv", "pixels 60,000 times as wide"), 10, pixel_aspect=aspect)
    write_video(place("none.mkv", "no frames"), 0)
    return made
