"""What exists and what happens: objects, actions, steps, tasks, and the scenario of every video.

A world is a pure function of its configuration, and video `i` of it a pure function of the
configuration and `i`: how many videos are made, in which order and by how many processes, changes
nothing. Nothing here is drawn or spoken; `render` and `narrate` do that from these facts.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from videoclip.config.codec import NotNegative, Positive, check_numbers, require

SHAPES = ("ball", "box", "triangle", "star", "ring", "cross", "heart", "moon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
PATTERNS = ("plain", "striped", "spotted")
PLACES = ("table", "grass", "wall", "sand", "water", "snow", "night", "tiles")

ACTIONS: dict[str, tuple[str, bool]] = {
    "push right": ("across", True),
    "push left": ("across", False),
    "lift": ("upward", True),
    "lower": ("upward", False),
    "inflate": ("size", True),
    "deflate": ("size", False),
    "swing clockwise": ("circle", True),
    "swing counterclockwise": ("circle", False),
    "join": ("distance", False),
    "part": ("distance", True),
    "gather": ("spread", False),
    "scatter": ("spread", True),
    "fill": ("level", True),
    "drain": ("level", False),
    "cover": ("lid", True),
    "uncover": ("lid", False),
}
"""Action -> (path, forwards). An action and its opposite are one path run forwards and backwards,
so their frames have the same distribution: only the order of frames distinguishes them."""

_NAMES = tuple(ACTIONS)
OPPOSITE: dict[str, str] = {name: _NAMES[i ^ 1] for i, name in enumerate(_NAMES)}
"""Action -> the same path run the other way, its neighbour in `ACTIONS`."""

_MAX_SHARE_OF_STEPS = 0.5  # beyond this, drawing distinct steps at random takes too long


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return the random number generator of one purpose and one video."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Everything that determines a world: equal configurations give equal worlds."""

    seed: NotNegative[int] = 0
    """Another seed is another world: other tasks, scenes, words and held-out combinations."""
    num_tasks: int = 120
    """Tasks of the training videos, even: each comes with its undoing, the opposite steps in
    reverse order. With few tasks many videos are alike; with many they are nearly alike."""
    num_new_tasks: int = 30
    """Tasks of test videos alone, even; half of their steps are held-out combinations."""
    num_steps: int = 300
    """Steps that the tasks draw from, and so share; even: each comes with its opposite."""
    steps_per_task: tuple[int, int] = (5, 9)
    """Fewest and most steps of a task."""
    steps_per_video: tuple[int, int] = (3, 6)
    """Fewest and most steps of its task that a video shows, always in the task's order."""
    twin_share: float = 0.0
    """Share of videos that repeat the scenario of an earlier one of their split: same steps and
    scene, other narration and slightly other timing. It controls near-duplicates."""
    test_share: float = 0.2
    """Share of videos in the test split; they are spread evenly over the indices."""
    new_task_share: float = 0.5
    """Share of test videos that follow a task never seen in training."""
    step_seconds: tuple[float, float] = (4.0, 20.0)
    """Shortest and longest step, in seconds; log-normal between them, median about 8."""
    gap_seconds: tuple[float, float] = (1.0, 8.0)
    """Shortest and longest background stretch before, between and after steps, in seconds."""
    max_distractors: int = 3
    """Idle objects in a scene, 1 to this many."""

    lead_seconds: float = 2.0
    """How far speech precedes what it describes on average, in seconds."""
    lead_sd_seconds: NotNegative[float] = 4.0
    """Standard deviation of the lead, in seconds."""
    unspoken_share: float = 0.2
    """Share of the shown steps that nobody mentions."""
    off_topic_share: float = 0.2
    """Share of cues unrelated to what is shown: chatter, or a step that does not happen."""
    rolling_captions: bool = True
    """Write .vtt as video sites do: two rolling lines, each repeated once, with word times."""

    pixels: int = 128
    """Width and height of a frame; even."""
    frames_per_second: Positive[int] = 10
    """Nominal frame rate; most files have 1000/1001 of it, as from a camera."""

    def __post_init__(self) -> None:
        check_numbers(self, "world.")
        most = int(len(ACTIONS) * len(COLOURS) * len(SHAPES) * len(PATTERNS) * _MAX_SHARE_OF_STEPS)
        for name in ("steps_per_task", "steps_per_video", "step_seconds", "gap_seconds"):
            low, high = getattr(self, name)
            require(0 < low <= high, f"world.{name} must be a positive range, got {low} to {high}")
        for name in ("twin_share", "test_share", "new_task_share", "unspoken_share"):
            require(0 <= getattr(self, name) <= 1, f"world.{name} must be in [0, 1]")
        require(0 <= self.off_topic_share < 1, "world.off_topic_share must be in [0, 1)")
        for name in ("num_tasks", "num_new_tasks", "num_steps"):
            number = getattr(self, name)
            require(
                number > 0 and number % 2 == 0,
                f"world.{name} must be even and positive, got {number}: opposites come in pairs",
            )
        least = 2 * self.steps_per_task[1]
        require(least <= self.num_steps <= most, f"world.num_steps must be in [{least}, {most}]")
        require(1 <= self.max_distractors <= 20, "world.max_distractors must be in [1, 20]")
        require(
            self.pixels >= 32 and self.pixels % 2 == 0,
            f"world.pixels must be even and at least 32, got {self.pixels}",
        )


T = TypeVar("T")
Split = Literal["train", "test"]

_TWIN_TRIES = 64  # draws of an earlier video of the same split before a video is no twin
_MAX_NEW_STEPS = 200


@dataclass(frozen=True)
class SyntheticStep:
    """An action on an object, with one label."""

    step_id: int
    """Position in `SyntheticWorld.steps`."""
    action: str
    colour: str
    pattern: str
    shape: str
    held_out: bool
    """Whether its (action, shape) or (colour, shape) never occurs in a training video."""


@dataclass(frozen=True)
class SyntheticTask:
    """An ordered list of steps, usually done in one place."""

    task_id: int
    title: str
    place: str
    steps: tuple[SyntheticStep, ...]
    new: bool
    """Whether it occurs in test videos only."""


@dataclass(frozen=True)
class ShownStep:
    """A step as one video shows it, from `start` to `end` seconds, half open."""

    step: SyntheticStep
    size: str
    """"small" or "big"."""
    start: float
    end: float


@dataclass(frozen=True)
class Distractor:
    """An idle object of the scene, at (x, y) in shares of the frame."""

    colour: str
    pattern: str
    shape: str
    x: float
    y: float


@dataclass(frozen=True)
class SyntheticVideo:
    """The scenario of one video: every fact about it."""

    index: int
    video_id: str
    split: Split
    task: SyntheticTask
    shown: tuple[ShownStep, ...]
    """In order, without overlap."""
    duration: float
    """Seconds."""
    distractors: tuple[Distractor, ...]
    root: int
    """Index of the video whose scenario this is: its own, or that of the video it is a twin of."""

    @property
    def file(self) -> str:
        """Path of the video below the folder of its world."""
        return f"videos/{self.video_id}.mp4"


class SyntheticWorld:
    """Steps, tasks and scenarios of one configuration.

    Attributes:
        config: The configuration.
        steps: Every step; those from `config.num_steps` on are held-out combinations.
        tasks: Every task; those from `config.num_tasks` on occur in test videos only.
        held_out_actions: (action, shape) pairs that no training video shows.
        held_out_colours: (colour, shape) pairs that no training video shows.
    """

    def __init__(self, config: SyntheticConfig) -> None:
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
        self.steps: tuple[SyntheticStep, ...] = (*seen, *new)
        tasks: list[SyntheticTask] = []
        while len(tasks) < config.num_tasks + config.num_new_tasks:
            tasks += self._draw_tasks(rng, len(tasks), seen, new)
        self.tasks: tuple[SyntheticTask, ...] = tuple(tasks)
        self._videos: dict[int, SyntheticVideo] = {}

    def video(self, index: int) -> SyntheticVideo:
        """Return the scenario of video `index`, any number from 0."""
        if index not in self._videos:
            self._videos[index] = self._draw_video(index)
        return self._videos[index]

    def _draw_steps(
        self, rng: np.random.Generator, count: int, held_out: bool, first_id: int
    ) -> list[SyntheticStep]:
        """Draw `count` steps; each of an even id is followed by its opposite."""
        steps: dict[tuple[str, str, str, str], SyntheticStep] = {}
        while len(steps) < count:
            action, colour = pick(rng, list(ACTIONS)), pick(rng, COLOURS)
            shape, pattern = pick(rng, SHAPES), _pick_pattern(rng)
            is_held_out = (action, shape) in self.held_out_actions
            is_held_out |= (colour, shape) in self.held_out_colours
            if is_held_out == held_out:
                for way in (action, OPPOSITE[action]):
                    step = SyntheticStep(
                        first_id + len(steps), way, colour, pattern, shape, held_out
                    )
                    steps.setdefault((way, colour, pattern, shape), step)
        return list(steps.values())

    def opposite(self, step: SyntheticStep) -> SyntheticStep:
        """Return the step that undoes a step."""
        return self.steps[step.step_id ^ 1]

    def _draw_tasks(
        self,
        rng: np.random.Generator,
        task_id: int,
        seen: list[SyntheticStep],
        new: list[SyntheticStep],
    ) -> tuple[SyntheticTask, SyntheticTask]:
        """Draw a task and its undoing: both have the same objects, place and pairs of steps."""
        is_new = task_id >= self.config.num_tasks
        low, high = self.config.steps_per_task
        steps = _sample_ways(rng, seen, int(rng.integers(low, high + 1)))
        if is_new:  # every other step becomes a held-out combination
            steps[::2] = _sample_ways(rng, new, len(steps[::2]))
        place = pick(rng, PLACES)
        hero = f"the {steps[0].colour} {steps[0].shape} on the {place}"
        undoing = tuple(self.opposite(step) for step in reversed(steps))
        return (
            SyntheticTask(task_id, f"Set up {hero} {task_id}", place, tuple(steps), is_new),
            SyntheticTask(task_id + 1, f"Put away {hero} {task_id + 1}", place, undoing, is_new),
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

    def _draw_video(self, index: int) -> SyntheticVideo:
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
        sizes = [pick(rng, ("small", "big")) for _ in steps]
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
        return SyntheticVideo(index, video_id, split, task, shown, duration, distractors, root)

    def _draw_distractors(
        self, rng: np.random.Generator, steps: Sequence[SyntheticStep]
    ) -> tuple[Distractor, ...]:
        """Draw idle objects other than those of the steps and the held-out ones."""
        taken = {(s.colour, s.shape) for s in steps} | self.held_out_colours
        free = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in taken]
        number = int(rng.integers(1, self.config.max_distractors + 1))
        found = []
        for i in rng.choice(len(free), size=number, replace=False):
            colour, shape = free[i]
            x, y = rng.uniform(0.08, 0.92), pick(rng, (0.12, 0.88))
            found.append(Distractor(colour, _pick_pattern(rng), shape, x, y))
        return tuple(found)


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """Return one of some values, all equally likely."""
    return values[int(rng.integers(len(values)))]


def _sample_ways(
    rng: np.random.Generator, steps: Sequence[SyntheticStep], count: int
) -> list[SyntheticStep]:
    """Draw steps no two of which are equal or opposite."""
    pairs = rng.choice(len(steps) // 2, size=count, replace=False)
    return [steps[2 * pair + int(rng.integers(2))] for pair in pairs.tolist()]


def _pick_pattern(rng: np.random.Generator) -> str:
    return PATTERNS[int(rng.choice(len(PATTERNS), p=(0.5, 0.25, 0.25)))]
