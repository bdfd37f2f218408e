"""The configuration of a world, and where its random numbers come from."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from videoclip.errors import ConfigError
from videoclip.synthetic.alphabet import ACTIONS, COLOURS, PATTERNS, SHAPES

__all__ = ["WorldConfig", "generator"]

_MAX_SHARE_OF_STEPS = 0.5  # beyond this, drawing distinct steps at random would crawl


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return the stream of random numbers that belongs to one purpose and one video."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Everything that decides a world. Two worlds of the same configuration are the same world."""

    seed: int = 0
    """Another seed is another world: other tasks, scenes, words and held-out combinations."""
    num_tasks: int = 120
    """Tasks of the training videos, even: each comes with its undoing, the opposite steps in
    reverse order. Few tasks make many videos alike; many make near-misses."""
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
    scene, other narration and slightly other timing. The knob for near-duplicates."""
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
    """How long speech runs ahead of the picture on average, in seconds."""
    lead_sd_seconds: float = 4.0
    """Standard deviation of that, in seconds."""
    unspoken_share: float = 0.2
    """Share of the shown steps that nobody mentions."""
    off_topic_share: float = 0.2
    """Share of cues about nothing shown: chatter, or a step that does not happen."""
    rolling_captions: bool = True
    """Write .vtt as video sites do: two lines that roll, each said twice, with word timings."""

    pixels: int = 128
    """Width and height of the picture; even."""
    frames_per_second: int = 10
    """Nominal frame rate; most files have 1000/1001 of it, as cameras do."""

    def __post_init__(self) -> None:
        most = int(len(ACTIONS) * len(COLOURS) * len(SHAPES) * len(PATTERNS) * _MAX_SHARE_OF_STEPS)
        for name in ("steps_per_task", "steps_per_video", "step_seconds", "gap_seconds"):
            low, high = getattr(self, name)
            _check(0 < low <= high, f"world.{name} must be a positive range, got {low} to {high}")
        for name in ("twin_share", "test_share", "new_task_share", "unspoken_share"):
            _check(0 <= getattr(self, name) <= 1, f"world.{name} must be in [0, 1]")
        _check(0 <= self.off_topic_share < 1, "world.off_topic_share must be in [0, 1)")
        _check(self.seed >= 0, "world.seed must not be negative")
        for name in ("num_tasks", "num_new_tasks", "num_steps"):
            number = getattr(self, name)
            _check(
                number > 0 and number % 2 == 0,
                f"world.{name} must be even and positive, got {number}: opposites come in pairs",
            )
        least = 2 * self.steps_per_task[1]
        _check(least <= self.num_steps <= most, f"world.num_steps must be in [{least}, {most}]")
        _check(self.lead_sd_seconds >= 0, "world.lead_sd_seconds must not be negative")
        _check(1 <= self.max_distractors <= 20, "world.max_distractors must be in [1, 20]")
        _check(
            self.pixels >= 32 and self.pixels % 2 == 0,
            f"world.pixels must be even and at least 32, got {self.pixels}",
        )
        _check(self.frames_per_second > 0, "world.frames_per_second must be positive")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
