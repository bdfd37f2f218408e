"""Captions of whole videos and questions about them, as MSR-VTT has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from videoclip.synthetic.phrases import describe
from videoclip.synthetic.settings import generator
from videoclip.synthetic.text_files import Row, json_text, lines, table, video_url
from videoclip.synthetic.world import ShownStep, World, WorldVideo

__all__ = ["msrvtt"]

_NUM_CAPTIONS = 20
_NUM_CHOICES = 5
_CAPTIONED_SECONDS = 30.0  # captions speak of this much: models of MSR-VTT see the first 32 s
_NUM_DECOY_VIDEOS = 10_000
_DECOY_TRIES = 100


def _captioned(video: WorldVideo) -> tuple[ShownStep, ...]:
    """Return the steps of the beginning, which captions of the whole video speak of."""
    early = tuple(s for s in video.shown if s.start + 3 <= _CAPTIONED_SECONDS)
    return early or video.shown[:1]


def _caption(video: WorldVideo, steps: Sequence[ShownStep], rng: np.random.Generator) -> str:
    return " and then ".join(describe(s.step, rng, s.size, video.task.place) for s in steps)


def msrvtt(world: World, train: Sequence[WorldVideo], test: Sequence[WorldVideo]) -> dict[str, str]:
    """Return captions, retrieval pairs and multiple-choice questions of whole videos."""
    entries, captions = [], []
    pairs: list[Row] = [("key", "vid_key", "video_id", "sentence")]
    choices: list[Row] = [("key", "vid_key", *(f"a{i + 1}" for i in range(_NUM_CHOICES)), "answer")]
    questions: list[dict[str, Any]] = []
    for video in (*train, *test):
        rng = generator(world.config.seed, "msrvtt", video.index)
        steps = _captioned(video)
        entries.append(
            {
                "category": video.task.task_id % 20,
                "url": video_url(video),
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
        answer, mixed = order.index(0), [options[i] for i in order]
        question = f"mc{len(questions)}"
        choices.append((question, key, *mixed, answer))
        questions.append(
            {
                "qid": question,
                "clip_name": video.video_id,
                "title": f"msr{video.index * _NUM_CAPTIONS}",
                "answer": str(answer),
                "options": mixed,
            }
        )
    info = {"description": "a synthetic world", "version": "1.0"}
    everything = {"info": info, "videos": entries, "sentences": captions}
    return {
        "msrvtt/MSRVTT_data.json": json_text(everything),
        "msrvtt/MSRVTT_train.9k.csv": lines(["video_id", *(v.video_id for v in train)]),
        "msrvtt/MSRVTT_JSFUSION_test.csv": table(pairs),
        "msrvtt_mc/MSR_MC_test.csv": table(choices, delimiter="\t"),
        "msrvtt_mc/msrvtt_multi_choice_qa.jsonl": lines(json.dumps(q) for q in questions),
    }


def _decoys(world: World, video: WorldVideo, rng: np.random.Generator) -> list[str]:
    """Return captions of other test videos of the world, written or not, that share no step.

    A world so small that there are too few of them gives steps that the video does not show.
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
