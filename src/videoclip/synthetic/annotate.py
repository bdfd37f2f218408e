"""The truth about a world, in the formats of the benchmarks, so that their readers evaluate it.

    steps.csv      every step with everything known about it; also a plain `video,start,end,text`
    train.csv, test.csv                 the same rows by split
    train_list.txt, test_list.txt       video ids by split
    youcook2/  msrvtt/  msrvtt_mc/  didemo/  coin/  crosstask/  howto100m/     as published

All is made from the scenarios alone. Training videos are "training" or "train" everywhere, test
videos "validation", "testing" or "test" as each benchmark has it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from videoclip.synthetic.captions import msrvtt
from videoclip.synthetic.narrate import narrate
from videoclip.synthetic.phrases import describe, label
from videoclip.synthetic.settings import generator
from videoclip.synthetic.text_files import Row, json_text, lines, table, video_url
from videoclip.synthetic.world import World, WorldVideo

__all__ = ["sentences", "truth"]

_CHUNK_SECONDS = 5
_NUM_CHUNKS = 6
_NUM_ANNOTATORS = 4
_LEAST_SECONDS = 2.0  # of a step must be in some chunk for anyone to mark it


def truth(world: World, videos: Sequence[WorldVideo]) -> dict[str, str]:
    """Return every annotation file of some videos: path below `annotations/` -> text."""
    train = [v for v in videos if v.split == "train"]
    test = [v for v in videos if v.split == "test"]
    return {
        "steps.csv": _steps(world, videos),
        "train.csv": _steps(world, train),
        "test.csv": _steps(world, test),
        "train_list.txt": lines(v.video_id for v in train),
        "test_list.txt": lines(v.video_id for v in test),
        **_youcook2(world, train, test),
        **msrvtt(world, train, test),
        "didemo/train_data.json": _didemo(world, train),
        "didemo/test_data.json": _didemo(world, test),
        "coin/COIN.json": _coin(videos),
        **_crosstask(world, videos, train),
        **_howto100m(world, videos, train, test),
    }


def sentences(world: World, video: WorldVideo) -> tuple[str, ...]:
    """Return a person's description of each shown step, in other words than the narration's."""
    rng = generator(world.config.seed, "sentences", video.index)
    return tuple(describe(s.step, rng, s.size, video.task.place) for s in video.shown)


def _steps(world: World, videos: Sequence[WorldVideo]) -> str:
    header = (
        "video", "start", "end", "text", "split", "label", "opposite", "action", "colour",
        "pattern", "shape", "size", "place", "held_out", "step", "task", "new_task", "twin_of",
    )  # fmt: skip
    rows: list[Row] = [header]
    for video in videos:
        task = video.task
        for shown, text in zip(video.shown, sentences(world, video), strict=True):
            step = shown.step
            opposite = label(world.opposite(step))
            twin_of = "" if video.root == video.index else f"video{video.root:05d}"
            rows.append(
                (
                    video.video_id, shown.start, shown.end, text, video.split, label(step),
                    opposite, step.action, step.colour, step.pattern, step.shape, shown.size,
                    task.place, int(step.held_out), step.step_id, task.task_id, int(task.new),
                    twin_of,
                )
            )  # fmt: skip
    return table(rows)


def _youcook2(
    world: World, train: Sequence[WorldVideo], test: Sequence[WorldVideo]
) -> dict[str, str]:
    database, rows = {}, []
    for video in (*train, *test):
        recipe = str(video.task.task_id)
        annotations: list[dict[str, Any]] = []
        for shown, sentence in zip(video.shown, sentences(world, video), strict=True):
            start = int(shown.start)
            end = max(start + 1, min(round(shown.end), int(video.duration)))
            annotations.append(
                {"segment": [start, end], "id": len(annotations), "sentence": sentence}
            )
            if video.split == "test":
                rows.append((end, start, recipe, sentence, video.video_id))
        database[video.video_id] = {
            "duration": video.duration,
            "subset": "training" if video.split == "train" else "validation",
            "recipe_type": recipe,
            "annotations": annotations,
            "video_url": video_url(video),
        }
    return {
        "youcook2/youcookii_annotations_trainval.json": json_text({"database": database}),
        "youcook2/validation_youcook.csv": table(
            [("end", "start", "task", "text", "video_id"), *rows]
        ),
    }


def _didemo(world: World, videos: Sequence[WorldVideo]) -> str:
    """Describe moments of the first 30 seconds, as four annotators mark them."""
    records: list[dict[str, Any]] = []
    for video in videos:
        rng = generator(world.config.seed, "didemo", video.index)
        chunks = min(_NUM_CHUNKS, int(np.ceil(video.duration / _CHUNK_SECONDS)))
        for shown, sentence in zip(video.shown, sentences(world, video), strict=True):
            edges = np.arange(chunks) * _CHUNK_SECONDS
            inside = np.minimum(shown.end, edges + _CHUNK_SECONDS) - np.maximum(shown.start, edges)
            if inside.max() < _LEAST_SECONDS:
                continue
            covered = np.flatnonzero(inside >= min(inside.max(), _CHUNK_SECONDS / 2))
            first, last = covered[0], covered[-1]
            slips = rng.choice([-1, 0, 1], size=(_NUM_ANNOTATORS, 2), p=[0.1, 0.8, 0.1])
            marked = np.clip(np.asarray([first, last]) + slips, 0, chunks - 1)
            records.append(
                {
                    "num_segments": chunks,
                    "description": sentence,
                    "dl_link": video_url(video),
                    "times": [[int(a), int(max(a, b))] for a, b in marked],
                    "video": f"{video.video_id}.mp4",
                    "annotation_id": len(records),
                }
            )
    return json_text(records)


def _coin(videos: Sequence[WorldVideo]) -> str:
    """Label every step; ids run from 1 without holes over the steps that occur."""
    steps = {s.step.step_id: s.step for v in videos for s in v.shown}
    ids = {step_id: str(i) for i, step_id in enumerate(sorted(steps), start=1)}
    database = {
        video.video_id: {
            "duration": video.duration,
            "class": video.task.title.title().replace(" ", ""),
            "video_url": video_url(video),
            "start": 0.0,
            "annotation": [
                {
                    "id": ids[s.step.step_id],
                    "segment": [s.start, s.end],
                    "label": label(s.step),
                }
                for s in video.shown
            ],
            "subset": "training" if video.split == "train" else "testing",
            "end": video.duration,
            "recipe_type": video.task.task_id,
        }
        for video in videos
    }
    return json_text({"database": database})


def _crosstask(
    world: World, videos: Sequence[WorldVideo], train: Sequence[WorldVideo]
) -> dict[str, str]:
    """List steps by task. The protocol leaves validation videos out: here, those of training."""
    present = {video.task.task_id for video in videos}
    blocks: dict[bool, list[str]] = {True: [], False: []}
    for task in world.tasks:
        steps = ",".join(label(step) for step in task.steps)
        block = (
            str(task.task_id),
            task.title,
            f"tasks/{task.task_id}",
            str(len(task.steps)),
            steps,
        )
        blocks[task.task_id in present].append(lines([*block, ""]))

    def listed(chosen: Sequence[WorldVideo]) -> str:
        return table((v.task.task_id, v.video_id, video_url(v)) for v in chosen)

    files = {
        "crosstask/tasks_primary.txt": "".join(blocks[True]),
        "crosstask/tasks_related.txt": "".join(blocks[False]),
        "crosstask/videos.csv": listed(videos),
        "crosstask/videos_val.csv": table(
            (v.task.task_id, v.video_id, video_url(v)) for v in train
        ),
    }
    for video in videos:
        name = f"crosstask/annotations/{video.task.task_id}_{video.video_id}.csv"
        number = {step.step_id: i for i, step in enumerate(video.task.steps, start=1)}
        files[name] = table((number[s.step.step_id], s.start, s.end) for s in video.shown)
    return files


def _howto100m(
    world: World,
    videos: Sequence[WorldVideo],
    train: Sequence[WorldVideo],
    test: Sequence[WorldVideo],
) -> dict[str, str]:
    captions = {}
    for video in videos:
        cues = narrate(video, world)
        captions[video.video_id] = {
            "start": [cue.start for cue in cues],
            "end": [cue.end for cue in cues],
            "text": [cue.text for cue in cues],
        }
    rows = [(v.video_id, "Toys", v.task.place, v.index, v.task.task_id) for v in videos]
    return {
        "howto100m/raw_caption.json": json.dumps(captions) + "\n",
        "howto100m/HowTo100M_v1.csv": table(
            [("video_id", "category_1", "category_2", "rank", "task_id"), *rows]
        ),
        "howto100m/task_ids.csv": table(((t.task_id, t.title) for t in world.tasks), "\t"),
        "howto100m/how2_s3d_train.lst": lines(v.video_id for v in train),
        "howto100m/how2_s3d_val.lst": lines(v.video_id for v in test),
    }
