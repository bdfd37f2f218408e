"""Annotations of a world in the file formats of the benchmarks, for their readers.

    steps.csv      every step with all its properties; also a plain `video,start,end,text`
    train.csv, test.csv                 the same rows by split
    train_list.txt, test_list.txt       video ids by split
    youcook2/  msrvtt/  msrvtt_mc/  didemo/  coin/  crosstask/  howto100m/     as published

All of it follows from the scenarios. Training videos are "training" or "train" everywhere, test
videos "validation", "testing" or "test" as each benchmark has it.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from videoclip.synthetic.narrate import describe, label, narrate
from videoclip.synthetic.world import ShownStep, SyntheticVideo, SyntheticWorld, generator

Row = Sequence[object]

_CHUNK_SECONDS = 5
_NUM_CHUNKS = 6
_NUM_ANNOTATORS = 4
_LEAST_SECONDS = 2.0  # of a step within one chunk, or no annotator marks it
_NUM_CAPTIONS = 20
_NUM_CHOICES = 5
_CAPTIONED_SECONDS = 30.0  # described by captions: models of MSR-VTT see the first 32 s
_NUM_DECOY_VIDEOS = 10_000
_DECOY_TRIES = 100


def annotation_files(world: SyntheticWorld, videos: Sequence[SyntheticVideo]) -> dict[str, str]:
    """Return every annotation file of some videos: path below `annotations/` -> text."""
    train = [v for v in videos if v.split == "train"]
    test = [v for v in videos if v.split == "test"]
    return {
        "steps.csv": _steps(world, videos),
        "train.csv": _steps(world, train),
        "test.csv": _steps(world, test),
        "train_list.txt": _lines(v.video_id for v in train),
        "test_list.txt": _lines(v.video_id for v in test),
        **_youcook2(world, train, test),
        **_msrvtt(world, train, test),
        "didemo/train_data.json": _didemo(world, train),
        "didemo/test_data.json": _didemo(world, test),
        "coin/COIN.json": _coin(videos),
        **_crosstask(world, videos, train),
        **_howto100m(world, videos, train, test),
    }


def descriptions(world: SyntheticWorld, video: SyntheticVideo) -> tuple[str, ...]:
    """Return a description of each shown step, worded independently of the narration."""
    rng = generator(world.config.seed, "sentences", video.index)
    return tuple(describe(s.step, rng, s.size, video.task.place) for s in video.shown)


def _steps(world: SyntheticWorld, videos: Sequence[SyntheticVideo]) -> str:
    header = (
        "video", "start", "end", "text", "split", "label", "opposite", "action", "colour",
        "pattern", "shape", "size", "place", "held_out", "step", "task", "new_task", "twin_of",
    )  # fmt: skip
    rows: list[Row] = [header]
    for video in videos:
        task = video.task
        for shown, text in zip(video.shown, descriptions(world, video), strict=True):
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
    return _table(rows)


def _youcook2(
    world: SyntheticWorld, train: Sequence[SyntheticVideo], test: Sequence[SyntheticVideo]
) -> dict[str, str]:
    database = {}
    rows: list[Row] = [("end", "start", "task", "text", "video_id")]
    for video in (*train, *test):
        recipe = str(video.task.task_id)
        annotations: list[dict[str, Any]] = []
        for shown, sentence in zip(video.shown, descriptions(world, video), strict=True):
            start, number = int(shown.start), len(annotations)
            end = max(start + 1, min(round(shown.end), int(video.duration)))
            annotations.append({"segment": [start, end], "id": number, "sentence": sentence})
            if video.split == "test":
                rows.append((end, start, recipe, sentence, video.video_id))
        database[video.video_id] = {
            "duration": video.duration,
            "subset": "training" if video.split == "train" else "validation",
            "recipe_type": recipe,
            "annotations": annotations,
            "video_url": video.file,
        }
    return {
        "youcook2/youcookii_annotations_trainval.json": _json_text({"database": database}),
        "youcook2/validation_youcook.csv": _table(rows),
    }


def _captioned(video: SyntheticVideo) -> tuple[ShownStep, ...]:
    """Return the steps at the beginning, which captions of the whole video describe."""
    early = tuple(s for s in video.shown if s.start + 3 <= _CAPTIONED_SECONDS)
    return early or video.shown[:1]


def _caption(video: SyntheticVideo, steps: Sequence[ShownStep], rng: np.random.Generator) -> str:
    return " and then ".join(describe(s.step, rng, s.size, video.task.place) for s in steps)


def _msrvtt(
    world: SyntheticWorld, train: Sequence[SyntheticVideo], test: Sequence[SyntheticVideo]
) -> dict[str, str]:
    """Return captions, retrieval pairs and multiple-choice questions of whole videos."""
    entries, captions = [], []
    pairs: list[Row] = [("key", "vid_key", "video_id", "sentence")]
    choices: list[Row] = [("key", "vid_key", "a1", "a2", "a3", "a4", "a5", "answer")]
    questions: list[dict[str, Any]] = []
    for video in (*train, *test):
        rng = generator(world.config.seed, "msrvtt", video.index)
        steps = _captioned(video)
        entries.append(
            {
                "category": video.task.task_id % 20,
                "url": video.file,
                "video_id": video.video_id,
                "start time": 0.0,
                "end time": video.duration,
                "split": video.split,
                "id": video.index,
            }
        )
        for number in range(_NUM_CAPTIONS):
            sen_id = video.index * _NUM_CAPTIONS + number
            caption = _caption(video, steps, rng)
            captions.append({"caption": caption, "video_id": video.video_id, "sen_id": sen_id})
        if video.split == "train":
            continue
        key = video.video_id.replace("video", "msr")
        pairs.append((f"ret{len(pairs) - 1}", key, video.video_id, _caption(video, steps, rng)))
        options = [_caption(video, steps, rng), *_decoys(world, video, rng)]
        order = rng.permutation(_NUM_CHOICES).tolist()
        question = {
            "qid": f"mc{len(questions)}",
            "clip_name": video.video_id,
            "title": f"msr{video.index * _NUM_CAPTIONS}",
            "answer": str(order.index(0)),
            "options": [options[i] for i in order],
        }
        questions.append(question)
        choices.append((question["qid"], key, *question["options"], question["answer"]))
    info = {"description": "a synthetic world", "version": "1.0"}
    return {
        "msrvtt/MSRVTT_data.json": _json_text(
            {"info": info, "videos": entries, "sentences": captions}
        ),
        "msrvtt/MSRVTT_train.9k.csv": _lines(["video_id", *(v.video_id for v in train)]),
        "msrvtt/MSRVTT_JSFUSION_test.csv": _table(pairs),
        "msrvtt_mc/MSR_MC_test.csv": _table(choices, delimiter="\t"),
        "msrvtt_mc/msrvtt_multi_choice_qa.jsonl": _lines(json.dumps(q) for q in questions),
    }


def _decoys(world: SyntheticWorld, video: SyntheticVideo, rng: np.random.Generator) -> list[str]:
    """Return captions of other test videos of the world, written or not, that share no step.

    Where a small world has too few, steps that the video does not show fill up.
    """
    own = {s.step.step_id for s in video.shown}
    found: list[str] = []
    for index in rng.integers(_NUM_DECOY_VIDEOS, size=_DECOY_TRIES).tolist():
        other = world.video(index)
        if other.split == "test" and not own & {s.step.step_id for s in other.shown}:
            found.append(_caption(other, _captioned(other), rng))
        if len(found) == _NUM_CHOICES - 1:
            return found
    absent = [step for step in world.steps if step.step_id not in own]
    missing = rng.choice(len(absent), _NUM_CHOICES - 1 - len(found), replace=False)
    return found + [describe(absent[i], rng) for i in missing]


def _didemo(world: SyntheticWorld, videos: Sequence[SyntheticVideo]) -> str:
    """Describe moments of the first 30 seconds, as four annotators mark them."""
    records: list[dict[str, Any]] = []
    for video in videos:
        rng = generator(world.config.seed, "didemo", video.index)
        chunks = min(_NUM_CHUNKS, int(np.ceil(video.duration / _CHUNK_SECONDS)))
        for shown, sentence in zip(video.shown, descriptions(world, video), strict=True):
            edges = np.arange(chunks) * _CHUNK_SECONDS
            inside = np.minimum(shown.end, edges + _CHUNK_SECONDS) - np.maximum(shown.start, edges)
            if inside.max() < _LEAST_SECONDS:
                continue
            covered = np.flatnonzero(inside >= min(inside.max(), _CHUNK_SECONDS / 2))
            slips = rng.choice([-1, 0, 1], size=(_NUM_ANNOTATORS, 2), p=[0.1, 0.8, 0.1])
            marked = np.clip(covered[[0, -1]] + slips, 0, chunks - 1)
            records.append(
                {
                    "num_segments": chunks,
                    "description": sentence,
                    "dl_link": video.file,
                    "times": [[int(a), int(max(a, b))] for a, b in marked],
                    "video": f"{video.video_id}.mp4",
                    "annotation_id": len(records),
                }
            )
    return _json_text(records)


def _coin(videos: Sequence[SyntheticVideo]) -> str:
    """Label every step; ids run from 1 without holes over the steps that occur."""
    steps = {s.step.step_id: s.step for v in videos for s in v.shown}
    ids = {step_id: str(i) for i, step_id in enumerate(sorted(steps), start=1)}
    database = {
        video.video_id: {
            "duration": video.duration,
            "class": video.task.title.title().replace(" ", ""),
            "video_url": video.file,
            "start": 0.0,
            "annotation": [
                {"id": ids[s.step.step_id], "segment": [s.start, s.end], "label": label(s.step)}
                for s in video.shown
            ],
            "subset": "training" if video.split == "train" else "testing",
            "end": video.duration,
            "recipe_type": video.task.task_id,
        }
        for video in videos
    }
    return _json_text({"database": database})


def _crosstask(
    world: SyntheticWorld, videos: Sequence[SyntheticVideo], train: Sequence[SyntheticVideo]
) -> dict[str, str]:
    """List steps by task. The protocol leaves validation videos out: here, those of training."""
    present = {video.task.task_id for video in videos}
    primary, related = "", ""
    for task in world.tasks:
        number, steps = task.task_id, [label(step) for step in task.steps]
        block = _lines([number, task.title, f"tasks/{number}", len(steps), ",".join(steps), ""])
        if number in present:
            primary += block
        else:
            related += block
    rows = {v.video_id: (v.task.task_id, v.video_id, v.file) for v in videos}
    files = {
        "crosstask/tasks_primary.txt": primary,
        "crosstask/tasks_related.txt": related,
        "crosstask/videos.csv": _table(rows.values()),
        "crosstask/videos_val.csv": _table(rows[v.video_id] for v in train),
    }
    for video in videos:
        name = f"crosstask/annotations/{video.task.task_id}_{video.video_id}.csv"
        numbers = {step.step_id: i for i, step in enumerate(video.task.steps, start=1)}
        files[name] = _table((numbers[s.step.step_id], s.start, s.end) for s in video.shown)
    return files


def _howto100m(
    world: SyntheticWorld,
    videos: Sequence[SyntheticVideo],
    train: Sequence[SyntheticVideo],
    test: Sequence[SyntheticVideo],
) -> dict[str, str]:
    captions = {
        video.video_id: {
            key: [getattr(cue, key) for cue in cues] for key in ("start", "end", "text")
        }
        for video in videos
        for cues in [narrate(video, world)]
    }
    header = ("video_id", "category_1", "category_2", "rank", "task_id")
    rows = [(v.video_id, "Toys", v.task.place, v.index, v.task.task_id) for v in videos]
    return {
        "howto100m/raw_caption.json": json.dumps(captions) + "\n",
        "howto100m/HowTo100M_v1.csv": _table([header, *rows]),
        "howto100m/task_ids.csv": _table(((t.task_id, t.title) for t in world.tasks), "\t"),
        "howto100m/how2_s3d_train.lst": _lines(v.video_id for v in train),
        "howto100m/how2_s3d_val.lst": _lines(v.video_id for v in test),
    }


def _table(rows: Iterable[Row], delimiter: str = ",") -> str:
    """Return rows as CSV, or separated by something else."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _lines(values: Iterable[object]) -> str:
    """Return one value a line."""
    return "".join(f"{value}\n" for value in values)


def _json_text(value: Any) -> str:
    """Return a value as JSON a person can read."""
    return json.dumps(value, indent=1) + "\n"
