"""The truth about a world, in the formats of the benchmarks, so that their readers evaluate it.

Formats: YouCook2, MSR-VTT (captions and multiple choice), DiDeMo, COIN, CrossTask and
HowTo100M, as published; and one plain table with everything. All is text made from the scenario
alone, byte for byte the same every time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from videoclip.synthetic.alphabet import OPPOSITE
from videoclip.synthetic.phrases import describe, label
from videoclip.synthetic.world import World, WorldVideo, generator

__all__ = ["truth"]


def truth(world: World, videos: Sequence[WorldVideo]) -> dict[str, str]:
    """Return every annotation file of these videos: path below `annotations/` -> text."""
    return {"steps.csv": _steps(world, videos)}


def _table(rows: Iterable[Sequence[object]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _steps(world: World, videos: Sequence[WorldVideo]) -> str:
    header = (
        "video", "start", "end", "text", "split", "label", "opposite", "action", "colour",
        "pattern", "shape", "size", "place", "held_out", "step", "task", "new_task",
    )  # fmt: skip
    rows: list[Sequence[object]] = [header]
    for video in videos:
        rng = generator(world.config.seed, "steps.csv", video.index)
        for shown in video.shown:
            step, task = shown.step, video.task
            text = describe(step, rng, shown.size, task.place)
            rows.append(
                (
                    video.video_id, shown.start, shown.end, text, video.split, label(step),
                    OPPOSITE[step.action], step.action, step.colour, step.pattern, step.shape,
                    shown.size, task.place, int(step.held_out), step.step_id, task.task_id,
                    int(task.new),
                )
            )  # fmt: skip
    return _table(rows)
