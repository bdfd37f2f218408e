"""What exists and what happens: objects, actions, steps, tasks, and the scenario of every video.

A world is a pure function of its configuration, and video `i` of it a pure function of the
configuration and `i`: how many videos are made, in which order and by how many processes, changes
nothing. Nothing here is drawn or said; `render` and `narrate` do that from these facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from videoclip.synthetic.alphabet import ACTIONS, COLOURS, OPPOSITE, PATTERNS, PLACES, SHAPES
from videoclip.synthetic.settings import WorldConfig, generator

__all__ = [
    "Distractor",
    "ShownStep",
    "Split",
    "Step",
    "Task",
    "World",
    "WorldConfig",
    "WorldVideo",
]

T = TypeVar("T")
Split = Literal["train", "test"]

_TWIN_TRIES = 64  # draws of an earlier video before a video without a like becomes its own
_MAX_NEW_STEPS = 200


@dataclass(frozen=True)
class Step:
    """An action on an object: what a label names and a video shows."""

    step_id: int
    """Position in `World.steps`."""
    action: str
    colour: str
    pattern: str
    shape: str
    held_out: bool
    """Whether its (action, shape) or (colour, shape) never occurs in a training video."""


@dataclass(frozen=True)
class Task:
    """An ordered list of steps, usually done in one place."""

    task_id: int
    title: str
    place: str
    steps: tuple[Step, ...]
    new: bool
    """Whether only test videos follow it."""


@dataclass(frozen=True)
class ShownStep:
    """A step as one video shows it, from `start` to `end` seconds, half open."""

    step: Step
    size: str
    """"small" or "big"."""
    start: float
    end: float


@dataclass(frozen=True)
class Distractor:
    """An idle object of the scene, at a place given as shares of the picture."""

    colour: str
    pattern: str
    shape: str
    x: float
    y: float


@dataclass(frozen=True)
class WorldVideo:
    """The scenario of one video: everything true about it."""

    index: int
    video_id: str
    split: Split
    task: Task
    shown: tuple[ShownStep, ...]
    """In order, without overlap."""
    duration: float
    """Seconds."""
    distractors: tuple[Distractor, ...]
    root: int
    """Index of the video whose scenario this is: its own, or the one it is a twin of."""


class World:
    """Steps, tasks and scenarios of one configuration.

    Attributes:
        config: What decides it.
        steps: Every step; those from `config.num_steps` on are held-out combinations.
        tasks: Every task; those from `config.num_tasks` on occur in test videos alone.
        held_out_actions: (action, shape) pairs no training video shows.
        held_out_colours: (colour, shape) pairs no training video shows.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        rng = generator(config.seed, "world")
        # One path and one colour per shape: every path, colour and shape is still seen often.
        paths = rng.permutation(sorted({path for path, _ in ACTIONS.values()})).tolist()
        colours = rng.permutation(list(COLOURS)).tolist()
        unseen_paths = set(zip(paths, SHAPES, strict=True))
        self.held_out_actions = frozenset(
            (action, shape)
            for action, (path, _) in ACTIONS.items()
            for shape in SHAPES
            if (path, shape) in unseen_paths
        )
        self.held_out_colours = frozenset(zip(colours, SHAPES, strict=True))
        num_new = min(config.num_new_tasks * config.steps_per_task[1] // 2, _MAX_NEW_STEPS)
        seen = self._draw_steps(rng, config.num_steps, held_out=False, first_id=0)
        new = self._draw_steps(rng, num_new, held_out=True, first_id=config.num_steps)
        self.steps: tuple[Step, ...] = (*seen, *new)
        tasks: list[Task] = []
        while len(tasks) < config.num_tasks + config.num_new_tasks:
            tasks += self._draw_tasks(rng, len(tasks), seen, new)
        self.tasks: tuple[Task, ...] = tuple(tasks)
        self._videos: dict[int, WorldVideo] = {}

    def video(self, index: int) -> WorldVideo:
        """Return the scenario of video `index`; there is no last one."""
        if index not in self._videos:
            self._videos[index] = self._draw_video(index)
        return self._videos[index]

    def _is_held_out(self, action: str, colour: str, shape: str) -> bool:
        return (action, shape) in self.held_out_actions or (colour, shape) in self.held_out_colours

    def _draw_steps(
        self, rng: np.random.Generator, count: int, held_out: bool, first_id: int
    ) -> list[Step]:
        """Draw `count` steps; each of an even id is followed by its opposite."""
        steps: dict[tuple[str, str, str, str], Step] = {}
        while len(steps) < count:
            action, colour = _pick(rng, list(ACTIONS)), _pick(rng, COLOURS)
            shape, pattern = _pick(rng, SHAPES), _pick_pattern(rng)
            if self._is_held_out(action, colour, shape) == held_out:
                for way in (action, OPPOSITE[action]):
                    step = Step(first_id + len(steps), way, colour, pattern, shape, held_out)
                    steps.setdefault((way, colour, pattern, shape), step)
        return list(steps.values())

    def opposite(self, step: Step) -> Step:
        """Return the step that undoes a step."""
        return self.steps[step.step_id ^ 1]

    def _draw_tasks(
        self, rng: np.random.Generator, task_id: int, seen: list[Step], new: list[Step]
    ) -> tuple[Task, Task]:
        """Draw a task and its undoing, so that no object, place or neighbour tells which it is."""
        is_new = task_id >= self.config.num_tasks
        low, high = self.config.steps_per_task
        steps = _sample_ways(rng, seen, int(rng.integers(low, high + 1)))
        if is_new:  # every other step becomes a combination nobody has seen
            steps[::2] = _sample_ways(rng, new, len(steps[::2]))
        place = _pick(rng, PLACES)
        hero = f"the {steps[0].colour} {steps[0].shape} on the {place}"
        undoing = tuple(self.opposite(step) for step in reversed(steps))
        return (
            Task(task_id, f"Set up {hero} {task_id}", place, tuple(steps), is_new),
            Task(task_id + 1, f"Put away {hero} {task_id + 1}", place, undoing, is_new),
        )

    def split(self, index: int) -> Split:
        """Return the split of video `index`; test videos are spread evenly."""
        share = self.config.test_share
        return "test" if int((index + 1) * share + 1e-9) > int(index * share + 1e-9) else "train"

    def _root(self, index: int) -> int:
        rng = generator(self.config.seed, "twin", index)
        if index > 0 and rng.random() < self.config.twin_share:
            for other in rng.integers(index, size=_TWIN_TRIES).tolist():
                if self.split(other) == self.split(index):
                    return self._root(other)
        return index

    def _draw_video(self, index: int) -> WorldVideo:
        root = self._root(index)
        config, split = self.config, self.split(index)
        rng = generator(config.seed, "scenario", root)
        new = split == "test" and rng.random() < config.new_task_share
        first, count = (config.num_tasks, config.num_new_tasks) if new else (0, config.num_tasks)
        task = self.tasks[first + int(rng.integers(count))]
        low, high = config.steps_per_video
        number = min(int(rng.integers(low, high + 1)), len(task.steps))
        chosen = np.sort(rng.choice(len(task.steps), size=number, replace=False))
        steps = [task.steps[i] for i in chosen]
        sizes = [_pick(rng, ("small", "big")) for _ in steps]
        lengths = np.clip(rng.lognormal(np.log(8.0), 0.45, number), *config.step_seconds)
        gaps = rng.uniform(*config.gap_seconds, number + 1)
        distractors = self._draw_distractors(rng, steps)

        jitter = generator(config.seed, "jitter", index)
        lengths = np.clip(lengths * jitter.uniform(0.9, 1.1, number), *config.step_seconds)
        gaps = np.clip(gaps * jitter.uniform(0.9, 1.1, number + 1), *config.gap_seconds)
        starts = np.cumsum(gaps[:-1]) + np.cumsum(lengths) - lengths
        shown = tuple(
            ShownStep(step, size, round(float(start), 2), round(float(start + length), 2))
            for step, size, start, length in zip(steps, sizes, starts, lengths, strict=True)
        )
        duration = round(float(gaps.sum() + lengths.sum()), 2)
        video_id = f"video{index:05d}"
        return WorldVideo(index, video_id, split, task, shown, duration, distractors, root)

    def _draw_distractors(
        self, rng: np.random.Generator, steps: Sequence[Step]
    ) -> tuple[Distractor, ...]:
        """Draw idle objects that are neither the heroes of the video nor held-out ones."""
        taken = {(s.colour, s.shape) for s in steps} | self.held_out_colours
        free = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in taken]
        number = int(rng.integers(1, self.config.max_distractors + 1))
        found = []
        for colour, shape in _sample(rng, free, number):
            x, y = rng.uniform(0.08, 0.92), _pick(rng, (0.12, 0.88))
            found.append(Distractor(colour, _pick_pattern(rng), shape, x, y))
        return tuple(found)


def _pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


def _sample(rng: np.random.Generator, values: Sequence[T], count: int) -> list[T]:
    return [values[i] for i in rng.choice(len(values), size=count, replace=False)]


def _sample_ways(rng: np.random.Generator, steps: Sequence[Step], count: int) -> list[Step]:
    """Draw steps no two of which are equal or opposite."""
    pairs = rng.choice(len(steps) // 2, size=count, replace=False)
    return [steps[2 * pair + int(rng.integers(2))] for pair in pairs.tolist()]


def _pick_pattern(rng: np.random.Generator) -> str:
    return PATTERNS[int(rng.choice(len(PATTERNS), p=(0.5, 0.25, 0.25)))]
