"""Complete results of reading captions, features and archives, and of drawing clips and batches."""

import io
import json
import os
import pickle
import sys
import tarfile
import zlib
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import approved
from tests.approved import outcome
from videoclip.config import ClipConfig, PlanConfig
from videoclip.data import batch_plan, sources
from videoclip.data.batch_plan import BatchPlan, make_plan, nearest, needs_vectors, video_vectors
from videoclip.data.captions import Cue, clean_cues, clean_text, join_cues, unroll
from videoclip.data.clips import (
    Narration,
    candidate_tokens,
    clip_tokens,
    draw_clip_pair,
    overlap_ratio,
)
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.data.frame_store import FrameSpec, FrameStore
from videoclip.data.narrated import NarratedCorpus, narrate
from videoclip.data.released import ShardFolder, deduplicate_cues
from videoclip.data.remote_store import RemoteFeatureStore
from videoclip.data.sources import (
    address_of,
    archive_of,
    list_files,
    open_binary,
    read_bytes,
    read_range,
    read_ranges,
    status_of,
    write_archive,
)
from videoclip.data.subtitles import (
    find_narrations,
    pair_subtitles,
    parse_subtitles,
    read_subtitles,
    read_text,
    to_webvtt,
)
from videoclip.data.tokenizer import Tokenizer, pad_tokens
from videoclip.data.windows import average_windows, sliding_windows
from videoclip.errors import DataError, IndexMismatchError

SUBTITLES = {
    "plain.srt": "1\r\n00:00:01,5 --> 00:00:02,25\r\n<i>Hello</i>\r\n\r\n2\r\n00:00:02,000 --> "
    "00:00:05,000\r\n>> {\\an8}So &amp;amp; now,\r\n- go [Music] on\r\n\r\n\r\nName\r\n"
    "0:59:59.999 --> 1:00:00.001 X1:40\r\n10\r\n\r\n-->\r\n",
    "one.srt": "00:07 --> 00:04\nbackwards --> here\n7\n00:09 --> 00:09\n7",
    "bad.srt": "1\n00:00:1 -> 2\n",
    "worse.srt": "\n1\n00:00:1 --> 2\n",
    "indented.srt": "00:01 --> 00:02\na\n\n  00:00:1 --> 2\n",
    "arrow.srt": " 00:01 --> 00:02\nsee 1: --> there\n\n3\n\n00:03 --> 00:04x\n",
    "empty.srt": " \n",
    "rolling.vtt": "WEBVTT\nKind: captions\n\nSTYLE\n::cue {}\n\n"
    "00:01.000 --> 00:03.000 align:start\n"
    " \nnow<00:01.5><c> push</c><00:02.0><c> it</c>\n\n00:03.000 --> 00:03.010\nnow push it\n \n\n"
    "00:03.010 --> 00:05.000\nnow push it\nto the right\n\nNOTE --> a comment\n\n00:05.000 --> "
    "00:05.010\nto the right\n \n\nname\n00:05.010 --> 00:07.000\nto the right\n<v Ann>and \u266a "
    "wait\n\nNOTE\nmore\n\n00:30.000 --> 00:31.000\nand wait\n\n00:31.2 --> 00:33\nNOTE not said\n",
    "empty.vtt": "WEBVTT\n",
    "a.ass": "[Script Info]\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, "
    "MarginV, Effect, Text\nDialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\b1}Bold\\Nline\n"
    "Comment: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,hidden\n"
    "Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,{\\p1}m 0 0{\\p0}\n",
    "b.ssa": "nothing of the kind",
    "whisper.json": {
        "segments": [{"start": 1, "end": 2.5, "text": " two\nlines "}, {"text": None}]
    },
    "columns.json": {"start": [0, 3], "end": [2, 4], "text": ["a", float("nan")]},
    "short.json": {"start": [0, 3], "end": [2], "text": ["a", "b"]},
    "durations.json": [
        {"start": 4, "duration": 1.5, "text": "late"},
        {"start": 1, "end": 2, "duration": 9, "text": "x"},
    ],
    "json3.json": {
        "events": [
            {"tStartMs": 1500, "dDurationMs": 500, "segs": [{"utf8": "a "}, {"utf8": "b"}, {}, 3]},
            {"tStartMs": 2500, "segs": [{"utf8": "no end"}]},
            {"dDurationMs": 1},
        ]
    },
    "timeless.json": {"events": [{"segs": [{"utf8": "a"}]}]},
    "unknown.json": {"caption": "a"},
    "list.json": [1],
    "cut.json": '[\n{"start": 1',
    "far.json": [{"start": 0, "end": 3_600_000.5, "text": "a"}],
    "below.json": [{"start": -3_600_001, "end": 1, "text": "a"}],
    "infinite.json": [{"start": 0, "end": float("inf"), "text": "a"}],
    "text.json": [{"start": 0, "end": 1, "text": 3}],
    "a.txt": "words",
}


@pytest.fixture
def subtitles(tmp_path):
    folder = tmp_path / "subtitles"
    folder.mkdir()
    for name, content in SUBTITLES.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_bytes(text.encode())
    (folder / "utf16.srt").write_bytes("00:01 --> 00:02\nÄpfel".encode("utf-16"))
    (folder / "big.srt").write_bytes("\ufeff00:01 --> 00:02\nÄpfel".encode("utf-16-be"))
    (folder / "mark.srt").write_bytes("\ufeff00:01 --> 00:02\nÄpfel".encode())
    (folder / "western.srt").write_bytes(
        "00:01 --> 00:02\nDie Äpfel schälen für Müller".encode("cp1252")
    )
    (folder / "binary.srt").write_bytes(bytes(range(256)) * 4)
    (folder / "folder.vtt").mkdir()
    return folder


def short(cues):
    if isinstance(cues, str):
        return cues
    return [[cue.start, cue.end, cue.text] for cue in cues]


def test_subtitles(subtitles, tmp_path):
    found = {}
    for path in [*sorted(subtitles.iterdir()), subtitles / "absent.srt"]:
        raw, clean = (
            outcome(lambda read=read, path=path: short(read(path)))
            for read in (parse_subtitles, read_subtitles)
        )
        found[path.name] = {"raw": raw} | ({} if clean == raw else {"clean": clean})
    with pytest.MonkeyPatch.context() as patch:
        stdin = io.TextIOWrapper(io.BytesIO("Äpfel".encode("utf-16")))
        patch.setattr(sys, "stdin", stdin)
        found["standard input"] = read_text(Path("-"))
    found["as WebVTT"] = to_webvtt([Cue(0.0015, 3599.9996, "a <b> & 'c'"), Cue(3600, 7325.5, "")])
    found["absent text"] = outcome(lambda: read_text(tmp_path / "absent.txt"))
    approved.check("subtitles", found, TMP=tmp_path)


def test_which_subtitles_belong_to_a_video(tmp_path):
    names = (
        *("a.en.vtt", "a.de.srt", "a.srt", "b.de.vtt", "b.en-US.json", "b.en.srt", "c.part.vtt"),
        *("c.part.en.vtt", "d.ASS", "d.notes.vtt", "e.txt", "deep/a.vtt", "deep/f.vtt"),
        *(
            "n.o.en.vtt",
            "y/l.vtt",
            "b/c/l.vtt",
            "cam/2/g.vtt",
            "2/g.vtt",
            "other/f.srt",
            "h.fr.vtt",
            "h.de.vtt",
            "h.EN.srt",
        ),
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    both = json.dumps({"text": "of the web", "caption": "of a person"}).encode()
    write_archive(tmp_path / "001.tar", {"m.json": both})
    write_archive(tmp_path / "000.tar", {"k.txt": b"k", "z/k.mp4": tmp_path / "a.srt"})
    videos = [tmp_path / f"{stem}.mp4" for stem in ("a", "b", "c", "c.part", "d", "e", "h", "f")]
    ids = ("a", "c.part", "f", "g", "2/g", "cam/2/g", "k", "deep/a", "no/f", "e", "l", "n.o")
    found = {
        "beside": pair_subtitles([*videos, tmp_path / "nowhere" / "a.mp4"]),
        "below": find_narrations(tmp_path, ids),
        "of two texts": short(read_subtitles(tmp_path / "001.tar" / "m.json")),
        "no folder": outcome(lambda: find_narrations(tmp_path / "none", ids)),
    }
    approved.check("subtitles-found", found, TMP=tmp_path)


def test_captions():
    texts = (
        *(
            "<b>bold</b> and <00:01.5> {\\i1}x{\\i0}",
            ">>> WHO: yes",
            "\u2013 no\n- never",
            "-5 degrees",
        ),
        *(
            "[Applause] a [x [y] z] b",
            "\u266a la \u266b",
            "&lt;i&gt;a&lt;/i&gt; &amp;nbsp;b",
            "a\u200bb\u00adc",
        ),
        *(
            "stir[Music]it\u266anow",
            "<BR>a<br />b",
            "2 < 3 > 1",
            "<v Roger Bingham>We",
            "",
            "a\x00\x1fb",
            "\ud800 x",
        ),
    )
    cues = [
        *(Cue(3, 2, "later"), Cue(-2, 1, "before"), Cue(-3, -1, "never"), Cue(0, 9, "<b></b>")),
        *(Cue(4, 8, "same"), Cue(6, 9, "same"), Cue(9, 10, "same"), Cue(5, 7, "[noise]")),
        *(Cue(12, 20, "long"), Cue(12, 13, "also"), Cue(14, 15, "inside"), Cue(2, 2, "point")),
    ]
    screens = {
        "rolling": [
            (0, 2, "a b"),
            (2, 4, "a b c d"),
            (4, 4.1, "c d"),
            (4.1, 6, "c d e"),
            (6, 8, "e f"),
        ],
        "repeated by the speaker": [(0, 1, "go"), (1, 2, "go"), (2, 3, "go"), (3, 4, "stop")],
        "held": [
            (0, 2, "go"),
            (2, 2.1, "go"),
            (2.1, 4, "go on"),
            (4, 4.05, "go on"),
            (4.05, 5, "on we go"),
        ],
        "paused": [
            (0, 1, "a b"),
            (1.4, 2, "a b c"),
            (2.6, 3, "a b c"),
            (3.6, 5, "b c d"),
            (5, 6, "c d"),
        ],
        "held before a repeat": [
            *((0, 2, "go"), (2, 2.05, "go"), (2.05, 4, "go"), (4, 4.05, "go"), (4.05, 6, "go on")),
            *((6, 6.05, "on"), (6.05, 8, "on we"), (8, 8.05, "we")),
        ],
        "shorter than its line": [
            *((0, 5, "a b"), (1, 1.05, "a b"), (2, 4, "a b c d"), (3, 3.1, "c d")),
            *((3, 6, "c d e f"),),
        ],
        "one word at a time": [
            *((0, 1, "x stir"), (1, 2, "stir now"), (2, 3, "stir now it goes")),
            *((3, 4, "it goes a"), (4, 5, "it goes a way"), (5, 6, "way off")),
        ],
        "paused at the limit": [
            (0, 1, "go"),
            (1.5, 2.5, "go on"),
            (2.5, 4, "go on we"),
            (4, 5, "on we do"),
        ],
        "whole lines after a pause": [
            *((0, 1, "a b c"), (1, 2, "b c d"), (2, 3, "c d e"), (4, 5, "d e"), (5, 6, "d e f")),
        ],
        "said twice": [(0, 1, "a b"), (1, 2, "a b"), (2, 3, "a b c")],
        "held as long as can be": [
            (0, 0.1, "go"),
            (0.1, 2, "go"),
            (2, 4, "go on now"),
            (4, 5, "go on now we"),
        ],
        "half": [(0, 1, "a b"), (1, 2, "b c"), (2, 3, "x y"), (3, 4, "x y z")],
        "two lines": [
            (0, 1, "a b c d"),
            (1, 2, "c d e"),
            (2, 3, "d e f"),
            (3, 4, "e f g"),
            (4, 5, "f g h"),
        ],
    }
    found = {
        "texts": {text: clean_text(text) for text in texts if "\ud800" not in text},
        "surrogate": clean_text(texts[-1]),
        "clean": short(clean_cues(cues)),
        "unrolled": {
            name: short(unroll([Cue(*cue) for cue in rows])) for name, rows in screens.items()
        },
        "joined": {
            f"{seconds} {pause}": short(join_cues(clean_cues(cues), seconds, pause))
            for seconds in (0, 8, 17)
            for pause in (0, 1, 3)
        },
        "joined inside": short(join_cues([Cue(0, 5, "a"), Cue(1, 3, "b"), Cue(5, 6, "c")], 5, 0)),
        "nothing": [clean_cues([]), unroll([]), join_cues([], 1, 1)],
    }
    repeats = [
        *(Cue(0, 1, "so we\ngo "), Cue(1, 2, " "), Cue(0.5, 3, "we go"), Cue(2, 4, "so we go up")),
        *(
            Cue(5, 6, "so we go up the"),
            Cue(5.5, 8, "the hill"),
            Cue(9, 10, "lull"),
            Cue(9.5, 11, "a b"),
        ),
        Cue(10, 12, "b c"),
    ]
    for name, coin in (("heads", True), ("tails", False)):
        found[f"without repeats, {name}"] = short(deduplicate_cues(repeats, lambda coin=coin: coin))
    approved.check("captions", found)


NARRATIONS = {
    "steady": [(2 * i, 2 * i + 1.5, 3 + i % 4) for i in range(12)],
    "pauses": [
        (0.5, 1, 5),
        (1, 2, 0),
        (4, 6, 9),
        (6.2, 7.4, 2),
        (7.5, 20, 30),
        (21, 21, 4),
        (40, 41, 6),
    ],
    "one": [(7, 7.2, 3)],
    "late": [(50, 60, 5), (61, 70, 70)],
}
STRATEGIES = {
    "default": {},
    "lead": {"lead_seconds": 5, "max_video_seconds": 6, "max_text_tokens": 16},
    "back": {"lead_seconds": -9, "min_text_tokens": 1, "max_text_tokens": 4, "min_iou": 0.3},
    "iou": {"min_iou": 0.9, "max_iou_tries": 3, "lead_seconds": 1, "max_text_span_seconds": 5},
    "sentence": {"max_pause_seconds": 0.3, "min_text_tokens": 30, "max_text_tokens": 30},
    "pause": {"max_pause_seconds": 1.5, "strategy": "aligned", "max_video_seconds": 9},
    "aligned": {"strategy": "aligned", "lead_seconds": 4},
    "aligned iou": {
        "strategy": "aligned",
        "lead_seconds": 3,
        "min_iou": 0.6,
        "max_video_seconds": 5,
    },
    "start": {"strategy": "start", "max_video_seconds": 7},
    "mil_nce": {"strategy": "mil_nce"},
    "mil_nce 2": {
        "strategy": "mil_nce",
        "num_candidates": 2,
        "mil_nce_min_seconds": 1.0,
        "mil_nce_clip_seconds": 0.5,
    },
}


def narration_of(rows):
    starts, ends, counts = map(list, zip(*rows, strict=True))
    ids, first = [], 0
    for count in counts:
        ids.append(np.arange(first, first + count, dtype=np.int32))
        first += count
    return Narration(np.array(starts, float), np.array(ends, float), tuple(ids))


def test_clip_pairs():
    found = {}
    for name, rows in NARRATIONS.items():
        narration = narration_of(rows)
        for strategy, settings in STRATEGIES.items():
            config, rng = ClipConfig(**settings), np.random.default_rng(5)
            for seconds in (1, 24, 60):
                pairs = [draw_clip_pair(narration, seconds, config, rng, 20) for _ in range(6)]
                words = [clip_tokens(narration, pair, 12) for pair in pairs]
                texts = candidate_tokens(narration, pairs[-1], 4, 3)
                assert all(ids.dtype == np.int32 for ids in words)
                found[f"{name}, {strategy}, {seconds} s"] = [
                    " ".join(
                        f"{p.text_start}:{p.text_end}/{p.video_start}:{p.video_end}" for p in pairs
                    ),
                    " ".join(f"{ids.sum()}" for ids in words),
                    " ".join(f"{ids.tolist()}" for ids in texts),
                    " ".join(f"{overlap_ratio(narration, p, 2):.3f}" for p in pairs[:3]),
                ]
    exact = narration_of([(0, 4, 3), (4, 8, 3)])
    half = ClipConfig(
        strategy="aligned",
        min_video_seconds=1,
        max_video_seconds=2,
        min_iou=0.5,
        min_text_tokens=1,
        max_text_tokens=3,
    )
    found["pauses: exactly half, 24 s"] = [
        [draw_clip_pair(exact, 8, half, rng) for _ in range(2)],
        draw_clip_pair(exact, 8, replace(half, min_iou=0.51, max_iou_tries=1), rng),
        rng.random(),
    ]
    paused = narration_of([(0, 1, 3), (2.5, 3, 3), (4.5, 5, 3), (6.6, 7, 3)])
    sentence = ClipConfig(max_pause_seconds=1.5, min_text_tokens=30, max_text_tokens=30)
    found["pauses as long as can be"] = [
        draw_clip_pair(paused, 9, sentence, np.random.default_rng(seed)) for seed in range(3)
    ]
    found["errors"] = [
        outcome(lambda: draw_clip_pair(narration, 0, ClipConfig(), rng)),
        outcome(lambda: draw_clip_pair(narration_of([(0, 1, 1)])[:0], 1, ClipConfig(), rng)),
        outcome(
            lambda: draw_clip_pair(Narration(np.zeros(0), np.zeros(0), ()), 1, ClipConfig(), rng)
        ),
        outcome(lambda: Narration(np.zeros(2), np.zeros(1), ())),
    ]
    digests = {
        key: zlib.crc32(json.dumps(approved.plain(value)).encode()) for key, value in found.items()
    }
    shown = {
        key: value for key, value in found.items() if key.startswith("pauses") or key == "errors"
    }
    shown = {key: value for key, value in shown.items() if not key.endswith((" 1 s", " 60 s"))}
    rest = [digest for key, digest in digests.items() if key not in shown]
    approved.check("clip-pairs", {"pairs": shown, "digests of the others": rest})


PLANS = {
    "consecutive": {"kind": "consecutive", "videos_per_batch": 5},
    "shuffled": {"kind": "shuffled", "videos_per_batch": 5},
    "retrieval": {"videos_per_batch": 4, "num_neighbours": 8},
    "retrieve k": {"videos_per_batch": 4, "num_neighbours": 4},
    "retrieve all": {"videos_per_batch": 30, "num_neighbours": 30},
    "later": {"videos_per_batch": 4, "num_neighbours": 8, "first_epoch": 3},
    "mined": {"kind": "mined", "videos_per_batch": 4},
    "mined without the nearest": {"kind": "mined", "videos_per_batch": 4, "drop_nearest": 2},
    "mined below": {"kind": "mined", "videos_per_batch": 4, "max_similarity": 0.2},
    "mined none": {"kind": "mined", "videos_per_batch": 4, "drop_nearest": 99},
}


def test_batch_plans(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(22, 3)).astype(np.float32)
    vectors[5] = vectors[6] + 0.01  # nearly a tie
    found = {}
    for parts in (4096, 8):
        monkeypatch.setattr(batch_plan, "_PART_SIZE", parts)
        monkeypatch.setattr(batch_plan, "_BASE_ROWS", parts)
        monkeypatch.setattr(batch_plan, "_QUERY_ROWS", parts // 2)
        for name, settings in PLANS.items():
            config = PlanConfig(**settings)
            plan = make_plan(config, 22, seed=3, epoch=2, vectors=vectors)
            found[f"{name}, parts of {parts}"] = [" ".join(map(str, g)) for g in plan.groups]
        found[f"nearest, parts of {parts}"] = nearest(vectors, np.array([5, 0, 6, 21]), 5)
    found["needs vectors"] = {
        name: [needs_vectors(PlanConfig(**settings), epoch) for epoch in (1, 2, 3)]
        for name, settings in PLANS.items()
    }
    clips, texts = rng.normal(size=(2, 3, 4, 2)).astype(np.float16)
    found["vectors"] = video_vectors(clips, texts)
    plan = make_plan(PlanConfig(**PLANS["shuffled"]), 6, seed=4, epoch=1)
    path = tmp_path / "plan.json"
    BatchPlan(plan.groups, (0.25, 0.75)).save(path)
    found["file"] = path.read_text()
    found["read"] = [BatchPlan.load(path), len(plan)]
    mined = PlanConfig(kind="mined", videos_per_batch=2)
    vectors[3, 1] = np.inf
    for name, content in {
        "no list": "{}",
        "cut": "{",
        "text": '{"groups": [["a"]], "leads": []}',
    }.items():
        (tmp_path / name).write_text(content)
        found[name] = outcome(lambda name=name: BatchPlan.load(tmp_path / name))
    found["absent"] = outcome(lambda: BatchPlan.load(tmp_path / "absent"))
    found["errors"] = [
        outcome(lambda: make_plan(mined, 22, seed=3, epoch=2)),
        outcome(lambda: make_plan(mined, 23, seed=3, epoch=2, vectors=vectors)),
        outcome(lambda: make_plan(mined, 21, seed=3, epoch=2, vectors=vectors)),
        outcome(lambda: make_plan(mined, 22, seed=3, epoch=2, vectors=vectors)),
    ]
    monkeypatch.setattr(batch_plan, "_PART_SIZE", 8)
    alike = torch.zeros(40, 3)
    alike[::8] = 9 * torch.cat([torch.eye(3), -torch.eye(2, 3)])
    found["parts of much alike"] = [
        [len(part) for part in batch_plan._parts(alike, np.random.default_rng(seed))]
        for seed in range(12)
    ]
    asked = []
    monkeypatch.setattr(
        batch_plan,
        "nearest",
        lambda vectors, seeds, count, device: asked.append(device) or seeds[:, None],
    )
    some = PlanConfig(videos_per_batch=4, num_neighbours=8)
    make_plan(some, 40, seed=3, epoch=2, vectors=alike.numpy(), device="gpu")
    assert asked == ["gpu"]
    approved.check("batch-plans", found, TMP=tmp_path)


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "stir", "the", "soup", "##s", "now", ".", "cafe", "5")
SPEC = FeatureSpec(2, 2.0, "made-up", False, "f1")


def tree(folder):
    """Files below a folder: their size; crc32 of texts; members of archives with theirs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            name, content = path.relative_to(folder).as_posix(), path.read_bytes()
            found[name] = len(content)
            if path.suffix == ".tar":
                with tarfile.open(path) as tar:
                    found[name] = [f"{member.name} {member.size}" for member in tar]
            elif path.name == "checksums.json":  # of weights, whose last bits differ by machine
                found[name] = len(json.loads(content)["sha256"])
            elif path.suffix in (".txt", ".md", ".vtt", ".csv", ".json"):
                found[name] = zlib.crc32(content.replace(str(folder.parent).encode(), b""))
    return found


def test_a_feature_store(tmp_path):
    folder = tmp_path / "store"
    store = FeatureStore.create(folder, SPEC)
    rows = np.arange(24, dtype=np.float32).reshape(12, 2) / 3
    store.append("a", rows[:5])
    store.append("ü/b", rows[5:6].tolist())
    store.append("\udcff", rows[6:])
    found = {
        "files": {
            path.name: path.read_text() if path.suffix == ".json" else path.read_bytes().hex()
            for path in sorted(folder.iterdir())
            if path.suffix in (".json", ".bin")
        },
        "repr": repr(store),
        "ids": [name.encode("utf-8", "surrogateescape") for name in store.video_ids],
        "has": ["a" in store, "b" in store, 3 in store, len(store), store.num_unfinished],
        "numbers": [store.num_features("a"), store.checksum("a"), store.num_features("\udcff")],
        "rows": [
            store.read("a", 1, 3),
            store.read("a", -2),
            store.read("a", 4, 99),
            store.read("a", 9),
        ],
        "windows": store.read_windows([("a", 0, 2), ("\udcff", 5, 6), ("a", 3, 3), ("ü/b", 0, 1)]),
        "no windows": store.read_windows([]),
        "differences": SPEC.differences(FeatureSpec(2, 2.5, "other", True, "f1")),
        "damaged": store.damaged(),
    }
    errors = {
        "width": lambda: store.append("c", rows[:, :1]),
        "flat": lambda: store.append("c", rows[0]),
        "none": lambda: store.append("c", rows[:0]),
        "no name": lambda: store.append("", rows),
        "too large": lambda: store.append("c", rows * 1e5),
        "not finite": lambda: store.append("c", np.full((1, 2), np.nan)),
        "twice": lambda: store.append("a", rows),
        "window": lambda: store.read_windows([("a", 3, 6)]),
        "window before": lambda: store.read_windows([("a", -1, 2)]),
        "window backwards": lambda: store.read_windows([("a", 2, 1)]),
        "unknown": lambda: store.read("c"),
        "create": lambda: FeatureStore.create(folder, SPEC),
        "open": lambda: FeatureStore.open(tmp_path / "none"),
        "other": lambda: FeatureStore.open_or_create(
            folder, FeatureSpec(3, 2.0, "s3d", False, "f1")
        ),
        "spec": lambda: FeatureSpec(0, 1.0, "a", False, ""),
        "rate": lambda: FeatureSpec(1, float("inf"), "a", False, ""),
        "no rate": lambda: FeatureSpec(1, 0.0, "a", False, ""),
        "backbone": lambda: FeatureSpec(1, 1.0, "", False, ""),
        "file": lambda: FeatureStore.create(folder / "store.json", SPEC),
    }
    found["errors"] = {name: outcome(call) for name, call in errors.items()}
    num_open = len(list(Path("/proc/self/fd").glob("*")))
    with pytest.raises(IndexMismatchError) as mismatch:
        FeatureStore.open_or_create(folder, FeatureSpec(3, 2.0, "s3d", False, "f1"))
    assert mismatch.value and len(list(Path("/proc/self/fd").glob("*"))) == num_open
    closed = FeatureStore.open(folder)
    closed.trust()
    closed.close()
    reopened = FeatureStore.open(folder)  # whose file has the number of the closed one
    with reopened, pytest.raises(OSError, match="Bad file descriptor"):
        closed.read("a", 0, 1)
    with FeatureStore.open(folder) as other:
        other.append("later", rows[:2])
        with pytest.raises(DataError, match="is in the store already"):
            store.append("later", rows[:1])
        found["with another"] = [store.video_ids[3:], len(store), len(other), store.num_unfinished]
        with (folder / "features.bin").open("ab") as file:
            file.write(bytes(9))
        found["unfinished"] = [store.num_unfinished, other.num_unfinished]
        store.append("last", rows[:1])
        found["after unfinished"] = [store.read("last"), store.num_unfinished]
        found["pickled"] = [pickle.loads(pickle.dumps(store)).video_ids[3:], store.damaged()]
    with (folder / "features.bin").open("r+b") as file:
        file.seek(10 * 2 * 2)
        file.write(b"\1")
    with FeatureStore.open(folder) as again:
        found["damage"] = [
            *(
                outcome(again.verify),
                [n.encode("utf-8", "surrogateescape") for n in again.damaged()],
            ),
            outcome(lambda: again.read("\udcff", 0, 1)),
        ]
        found["read in part"] = [outcome(lambda: again.read("a", 1, 2)), outcome(store.verify)]
        found["windows of damaged ones"] = [
            outcome(lambda: again.read_windows([("\udcff", 0, 1)])),
            outcome(lambda: store.read_windows([("\udcff", 4, 5)])),  # compared before
            [n.encode("utf-8", "surrogateescape") for n in store.damaged()],
        ]
        again.trust()
        found["trusted"] = again.read("\udcff", 4, 5)
    with RemoteFeatureStore.open(f"file://{folder}") as remote:
        found["remote"] = {
            "repr": repr(remote).replace(folder.as_uri(), "ADDRESS"),
            "windows": remote.read_windows([("ü/b", 0, 1), ("a", 1, 2), ("a", 0, 1)]),
            "rows": [remote.read("a", 3), remote.read("a", 1, 3)],
            "none": [remote.read_windows([]), remote.verify(), remote.refresh()],
            "writable": remote.read("a").flags.writeable,
            "errors": [
                outcome(lambda: remote.append("c", rows)),
                outcome(lambda: remote.read("\udcff")),
                outcome(lambda: remote.read_windows([("a", 0, 6)])),
            ],
        }
        with FeatureStore.open(folder) as other:
            other.append("after", rows[:2])
        remote.refresh()
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "a.json").write_text("{}")
        elsewhere = outcome(lambda: RemoteFeatureStore.open(f"file://{tmp_path / 'other'}"))
        found["remote"]["elsewhere"] = elsewhere.replace(tmp_path.as_uri(), "ADDRESS")
        found["remote"]["later"] = [remote.video_ids[4:], remote.read("after", 0, 1)]
    with FeatureStore.open(folder) as shrunk:
        shrunk.trust()
        with (folder / "features.bin").open("r+b") as file:
            file.truncate(7 * 4)
        found["shrunk"] = outcome(lambda: shrunk.read_windows([("\udcff", 0, 3)]))
    found["cut"] = outcome(lambda: FeatureStore.open(folder))
    records = (folder / "index.bin").read_bytes()
    for name, content in {
        "zeros at the end": records[:64] + bytes(32),
        "half": records[:80],
    }.items():
        (folder / "index.bin").write_bytes(content)
        with FeatureStore.open(folder) as cut:
            found[name] = [repr(cut), cut.num_unfinished]
    (folder / "index.bin").write_bytes(records[32:64])
    found["without the first record"] = outcome(lambda: FeatureStore.open(folder))
    (folder / "index.bin").write_bytes(records[:80])
    (folder / "index.bin").write_bytes(bytes(32) + (folder / "index.bin").read_bytes())
    found["record"] = outcome(lambda: FeatureStore.open(folder))
    (folder / "store.json").write_text('{"format": 2}')
    found["format"] = outcome(lambda: FeatureStore.open(folder))
    (folder / "store.json").write_text('{"format": 1, "spec": {"dim": "2"}}')
    found["no spec"] = outcome(lambda: FeatureStore.open(folder))
    (folder / "store.json").write_text("[]")
    found["no table"] = outcome(lambda: FeatureStore.open(folder))
    approved.check("feature-store", found, TMP=tmp_path, BYTE="\udcff")


def test_features_that_are_written_in_pieces(tmp_path, monkeypatch):
    """The system may write less than it was asked to."""
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, rest, at: write(handle, rest[:5], at))
    rows = np.arange(12, dtype=np.float16).reshape(6, 2)
    with FeatureStore.create(tmp_path / "store", SPEC) as store:
        for name in ("first", "second"):
            store.append(name, rows)
    with FeatureStore.open(tmp_path / "store") as again:
        assert again.video_ids == ["first", "second"] and again.damaged() == []
        assert np.array_equal(again.read("second"), rows)


def test_a_frame_store(tmp_path):
    frames = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
    spec = FrameSpec(2, 3, 1.0, "squash")
    store = FrameStore.open_or_create(tmp_path, spec)
    found = {
        "number": store.append("a/b", iter(frames)),
        "append": [store.append("ü", frames[:1]), store.append(".hidden", frames[1:2])],
        "files": {path.name: path.read_bytes()[:40].hex() for path in sorted(tmp_path.iterdir())},
        "spec": store.spec,
        "ids": store.video_ids,
        "has": ["a/b" in store, "b" in store, 3 in store],
        "numbers": [store.num_features("a/b"), store.checksum("a/b"), store.checksum("ü")],
        "windows": [
            [list(rows.shape), str(rows.dtype), int(rows.sum())]
            for rows in store.read_windows(
                [("a/b", 1, 3), ("a/b", 4, 9), ("ü", 1, 1), ("a/b", 3, 2)]
            )
        ],
    }
    errors = {
        "shape": lambda: store.append("c", [frames[0, :1]]),
        "type": lambda: store.append("c", [frames[0].astype(np.int16)]),
        "none": lambda: store.append("c", []),
        "unknown": lambda: store.num_features("c"),
        "other": lambda: FrameStore.open_or_create(tmp_path, FrameSpec(2, 3, 2.0, "squash")),
        "absent": lambda: FrameStore.open(tmp_path / "none"),
    }
    found["errors"] = {name: outcome(call) for name, call in errors.items()}
    path = tmp_path / "a%2Fb.rgb"
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\0" + content[21:])
    (tmp_path / ".a.partial-3.rgb").write_bytes(b"")
    found["damaged"] = [outcome(FrameStore.open(tmp_path).verify), store.video_ids]
    found["damaged since it was read"] = [
        outcome(lambda: int(store.read_windows([("a/b", 0, 5)])[0].sum())),
        outcome(store.verify),
    ]
    trusted = FrameStore.open(tmp_path)
    trusted.trust()
    found["trusted"] = int(trusted.read_windows([("a/b", 0, 5)])[0].sum())
    path.write_bytes(content[:-4])
    found["without checksum"] = [store.checksum("a/b"), outcome(FrameStore.open(tmp_path).verify)]
    path.write_bytes(content[:-5])
    found["cut"] = outcome(lambda: store.num_features("a/b"))
    path.write_bytes(b"")
    found["empty"] = outcome(lambda: store.num_features("a/b"))
    (tmp_path / "frames.json").write_text("{}}")
    found["no spec"] = outcome(lambda: FrameStore.open(tmp_path))
    approved.check("frame-store", found, TMP=tmp_path)


def test_a_narrated_corpus(tmp_path):
    tokenizer = Tokenizer(WORDS)
    store = FeatureStore.create(tmp_path / "store", SPEC)
    for number, (name, length) in enumerate(
        {"b": 9, "a": 40, "d": 1, "e": 6, "f": 4, "g": 8}.items()
    ):
        store.append(name, np.arange(2 * length).reshape(length, 2) / 7 + number)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.vtt").write_text("WEBVTT\n\n00:00.500 --> 00:03.000\n" + "stir the soup " * 9)
    (folder / "b.srt").write_text("00:03 --> 00:04\nnow the soups\n\n00:05 --> 00:06\nstir\n")
    (folder / "d.json").write_text('[{"start": 0, "end": 1, "text": "stir"}]')
    (folder / "f.srt").write_text("no time")
    (folder / "g.srt").write_text("00:00 --> 00:02\n[Music]\n\n00:09 --> 00:10\nsoup")
    corpus = NarratedCorpus.from_folder(folder, store, tokenizer)
    cues = [Cue(0, 3_600_000.0, "stir"), Cue(4.6, 5, "soup")]
    captions = {"z": cues, "e": cues, "b": [], "d": [Cue(0, 1, "")], "a": cues[:1]}
    other = NarratedCorpus.from_captions(store, captions, tokenizer)
    config = ClipConfig(clips_per_video=3, min_video_seconds=1, max_video_seconds=5)

    def drawn(corpus, index, **settings):
        rng, changed = np.random.default_rng(2), config.__class__(**{**vars(config), **settings})
        return [
            [pair.features[:, 0], [ids.tolist() for ids in pair.texts], pair.span]
            for pair in corpus.draw(index, changed, rng, 7)
        ]

    some = corpus.select([1, 0])
    found = {
        "ids": corpus.video_ids,
        "left out": corpus.left_out,
        "videos": list(corpus),
        "seconds": [corpus.num_seconds(i) for i in range(len(corpus))],
        "other": [other.video_ids, other.left_out, list(other), other[:1] == other[0:1]],
        "drawn": drawn(corpus, 1),
        "of one row": drawn(corpus, 2),
        "candidates": drawn(corpus, 1, strategy="mil_nce", num_candidates=3),
        "from the start": [
            [ids.tolist() for ids in pair.texts]
            for pair in corpus.draw(
                *(1, ClipConfig(strategy="start", clips_per_video=1)),
                *(np.random.default_rng(1), 3),
            )
        ],
        "long candidates": drawn(corpus, 0, strategy="mil_nce", num_candidates=2),
        "selected": [some.video_ids, some.left_out == corpus.left_out, some.tokenizer is tokenizer],
        "split": [part.video_ids for seed in (0, 1) for part in corpus.split(1, seed)],
        "not split": [part.video_ids for part in corpus.split(0, 3)],
        "error": outcome(lambda: corpus.split(3, 0)),
        "some": NarratedCorpus.from_folder(folder, store, tokenizer, ["d", "c"]).left_out,
        "cut": [
            len(v.narration.token_ids[0]) for v in narrate({"a": [Cue(0, 1, "5" * 200)]}, tokenizer)
        ]
        + [
            len(v.narration.token_ids[0])
            for v in narrate({"a": [Cue(0, 1, "5 " * 200)]}, tokenizer)
        ],
    }
    slow = FeatureStore.create(tmp_path / "slow", FeatureSpec(2, 0.3, "made-up", False, "f1"))
    slow.append("a", np.arange(24).reshape(12, 2))
    slow.append("b", np.arange(2).reshape(1, 2))
    late = NarratedCorpus.from_captions(
        slow, {"a": [Cue(0, 9, "stir"), Cue(9, 50, "soup")], "b": cues}, tokenizer
    )
    found["slow"] = [
        [late.num_seconds(0), late.num_seconds(1)],
        drawn(late, 0),
        late.left_out,
        drawn(late, 1)[0],
        [
            late.draw_pairs(0, ClipConfig(strategy="start"), np.random.default_rng(1), longest)[0]
            for longest in (1, 20)
        ],
    ]
    approved.check("narrated-corpus", found, TMP=tmp_path)


def test_a_tokenizer(tmp_path):
    tokenizer = Tokenizer(WORDS)
    cased = Tokenizer([*WORDS, "The", "Soup", "[MASK]"])
    texts = ["Stir the SOUPS now.", "", "café 55 5", "the [SEP] x", "\ud800 soup", "now,\tnow"]
    (tmp_path / "twice.txt").write_text("[PAD]\na\na\n")
    (tmp_path / "latin.txt").write_bytes(b"\xff\n")
    (tmp_path / "short.txt").write_text("[PAD]\n[UNK]\n")
    wide = tmp_path / "wide"
    wide.mkdir()
    Tokenizer([*WORDS, "\u3000"]).save(wide)
    assert Tokenizer.from_folder(wide).word_pieces[-1] == "\u3000"
    tokenizer.save(tmp_path)
    found = {
        "ids": tokenizer.encode_batch(texts),
        "same": [tokenizer.encode(text) for text in texts if text.isascii()],
        "cased": cased.encode_batch(texts),
        "texts": [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts)],
        "attributes": {name: value for name, value in vars(tokenizer).items() if name[0] != "_"},
        "cased attributes": [cased.fingerprint, cased.vocab_size],
        "file": (tmp_path / "vocab.txt").read_text(),
        "read": Tokenizer.from_folder(tmp_path).fingerprint,
        "padded": pad_tokens([[5, 6], np.zeros(0), [7]], 9),
        "errors": [
            outcome(lambda name=name: Tokenizer.from_vocab(tmp_path / name))
            for name in ("twice.txt", "latin.txt", "short.txt", "absent.txt")
        ],
    }
    approved.check("tokenizer", found, TMP=tmp_path)


def test_windows():
    found = {
        f"{sizes}": sliding_windows(*sizes)
        for sizes in ((0, 4, 2), (1, 4, 4), (4, 4, 2), (5, 4, 2), (9, 4, 3), (10, 4, 3), (8, 4, 4))
    }
    windows = sliding_windows(7, 4, 2)
    values = np.arange(2 * sum(stop - start for start, stop in windows), dtype=np.float32) ** 2
    found["mean"] = average_windows(values.reshape(-1, 2), windows)
    approved.check("windows", found)


def test_archives(tmp_path, monkeypatch):
    path = tmp_path / "shards" / "0.TAR"
    (tmp_path / "note.txt").write_text("on the disk")
    write_archive(path, {"./b.txt": b"inside", "sub/ü.mp4": tmp_path / "note.txt", "empty": b""})
    (tmp_path / "no.tar").write_text("text")
    (tmp_path / "folder.tar").mkdir()
    with open_binary(path / "sub/ü.mp4") as file:
        steps = [
            file.seek(3),
            file.read(2),
            file.tell(),
            file.seek(-4, 2),
            file.read(),
            file.read(1),
        ]
        steps += [
            file.seek(-99, 1),
            file.read(4),
            file.seek(50),
            file.read(),
            file.readable(),
            file.seekable(),
        ]
    again = tmp_path / "again.tar"
    with tarfile.open(again, "w") as tar:
        folder, link = tarfile.TarInfo("./folder"), tarfile.TarInfo("link")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "b.txt"
        tar.addfile(folder)
        tar.addfile(link)
        sparse = tarfile.TarInfo("sparse")
        sparse.type = tarfile.GNUTYPE_SPARSE
        tar.addfile(sparse)
        member = tarfile.TarInfo("./a.txt")
        member.size, member.mtime = 2, 12.75
        tar.addfile(member, io.BytesIO(b"ab"))
    listed = [[list(list_files(again)), status_of(again / "a.txt").st_mtime_ns]]
    write_archive(again, {"c.txt": b"c"})
    listed.append(list(list_files(again)))
    changed_at = again.stat().st_mtime_ns
    write_archive(again, {"d.txt": b"d" * 20_000})
    os.utime(again, ns=(changed_at, changed_at))
    listed.append(list(list_files(again)))

    class Storage:
        size = staticmethod(lambda name: 4)

        def cat_file(self, name, start, end):
            assert start < 4, "a range beyond the end of an object is an error"
            return b"abcd"[start:end]

        def cat_ranges(self, names, starts, ends, on_error):
            assert on_error == "raise", "an error must not be taken for content"
            return [b"abcd"[start:end] for start, end in zip(starts, ends, strict=True)]

    with monkeypatch.context() as patch:
        patch.setattr(sources, "_storage", lambda address: nullcontext((Storage(), "key")))
        both = read_ranges(Path("s3://b/key"), [(0, 2), (3, 4)])
        ranges = [read_range(Path("s3://b/key"), *ends) for ends in ((4,), (2,), (1, 3))]
    found = {
        "ranges": [*ranges, both],
        "listed again": listed,
        "listed": sorted(map(str, list_files(path.parent))) + sorted(map(str, list_files(path))),
        "content": [
            read_bytes(path / "b.txt"),
            read_bytes(path / "empty"),
            read_bytes(tmp_path / "note.txt"),
        ],
        "steps": steps,
        "sizes": [status_of(path / name).st_size for name in ("b.txt", "empty")],
        "times": [status_of(path / name).st_mtime_ns for name in ("b.txt", "empty")],
        "archives": [
            archive_of(p)
            for p in (path, path / "x" / "y", tmp_path / "folder.tar", "s3://b/c.tar/d")
        ],
        "addresses": [
            address_of(text)
            for text in ("s3://b/c", Path("s3://b/c"), "file:/a", "/a", "C:/a", "gs:///b")
        ],
        "errors": [
            outcome(lambda: read_bytes(path / "absent")),
            outcome(lambda: list(list_files(tmp_path / "no.tar"))),
            outcome(lambda: status_of(tmp_path / "no.tar" / "a")),
            outcome(lambda: read_bytes(Path("nothing://b/c"))),
        ],
    }
    approved.check("archives", found, TMP=tmp_path)


def write_shards(folder, number=0, **changes):
    arrays = {
        "train_0.npy": np.arange(10, dtype=np.float16).reshape(5, 2),
        "train_0_s": np.array([0, 3, 5]),
        "spans": np.array([[0, 1], [1, 2.5], [0.5, 4]], np.float32),
        "spans_s": np.array([0, 1, 3]),
        "ids": np.array([[4, 5, -1], [6, -1, -1], [7, 8, 9]]),
        "ids_s": np.array([0, 1, 3]),
        **changes,
    }
    names = {
        "train_0.npy": "train_0_data.npy",
        "train_0_s": "train_0_starts.npy",
        "spans": "raw_caption_dedup.bert-base-uncased.train_0.startends_data.npy",
        "spans_s": "raw_caption_dedup.bert-base-uncased.train_0.startends_starts.npy",
        "ids": "raw_caption_dedup.bert-base-uncased.train_0.caps_ids_data.npy",
        "ids_s": "raw_caption_dedup.bert-base-uncased.train_0.caps_ids_starts.npy",
    }
    for key, array in arrays.items():
        np.save(folder / names[key].replace("train_0", f"train_{number}"), array)


def test_released_shards(tmp_path):
    (tmp_path / "train_meta.pkl").write_bytes(pickle.dumps({3: ["w1", "w0"], 0: ["v1", "v0"]}))
    write_shards(tmp_path)
    write_shards(tmp_path, 3, ids=np.array([[7, -1, -1], [-1, -1, -1], [4, 0, 4]]))
    both = ShardFolder(tmp_path, "train", SPEC)
    (tmp_path / "train_meta.pkl").write_bytes(pickle.dumps({0: ["v1", "v0"]}))
    shards = ShardFolder(tmp_path, "train", SPEC)
    found = {
        "videos": list(shards[:]),
        "last": shards[-1].video_id,
        "backwards": [video.video_id for video in shards[::-1]],
        "from the end": [video.video_id for video in shards[-1:]],
        "both": [both.video_ids, [ids for v in both[1:] for ids in v.narration.token_ids]],
        "numbers": [
            len(shards),
            shards.video_ids,
            shards.num_features("v1"),
            shards.checksum("v0"),
        ],
        "windows": shards.read_windows([("v0", 0, 1), ("v1", 1, 9)]),
        "unknown": outcome(lambda: shards.num_features("v2")),
        "pickled": [
            pickle.loads(pickle.dumps(shards)).checksum("v1"),
            len(pickle.dumps(shards)) < 500,  # without its arrays
        ],
    }
    damages = {
        "spans": {"spans": np.zeros((3, 3), np.float32)},
        "order": {"ids_s": np.array([0, 4, 3])},
        "count": {"train_0_s": np.array([0, 5])},
        "start": {"spans_s": np.array([1, 2, 3])},
        "rows": {"ids": np.zeros((4, 3), np.int64)},
        "width": {"train_0.npy": np.zeros((5, 3), np.float16)},
    }
    for name, changes in damages.items():
        write_shards(tmp_path, **changes)
        found[name] = outcome(lambda: ShardFolder(tmp_path, "train", SPEC))
    (tmp_path / "train_0_data.npy").write_bytes(b"")
    found["cut"] = outcome(lambda: ShardFolder(tmp_path, "train", SPEC))
    (tmp_path / "train_meta.pkl").write_bytes(pickle.dumps([1]))
    found["no table"] = outcome(lambda: ShardFolder(tmp_path, "train", SPEC))
    found["no split"] = outcome(lambda: ShardFolder(tmp_path, "val", SPEC))
    approved.check("released-shards", found, TMP=tmp_path)


def test_plans_over_many_videos_use_each_once():
    """A check of the approved plans that needs no approval: `mined` is a partition."""
    vectors = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    plan = make_plan(
        PlanConfig(kind="mined", videos_per_batch=6), 50, seed=1, epoch=1, vectors=vectors
    )
    assert set(Counter(sum(plan.groups, ())).values()) == {1}
